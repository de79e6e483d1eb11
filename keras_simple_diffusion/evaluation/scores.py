"""The networks that `evaluate` looks at images with."""

import numpy as np

from keras_simple_diffusion.metrics import ClassifierOutputs
from keras_simple_diffusion.metrics import CLIPFeatures
from keras_simple_diffusion.metrics import DINOFeatures
from keras_simple_diffusion.metrics import InceptionFeatures
from keras_simple_diffusion.metrics.clip import clip_score
from keras_simple_diffusion.metrics.discrepancy import kernel_distance
from keras_simple_diffusion.metrics.frechet import FrechetReference
from keras_simple_diffusion.metrics.frechet import bootstrap_frechet_distance
from keras_simple_diffusion.metrics.frechet import extrapolated_frechet_distance
from keras_simple_diffusion.metrics.inception import inception_score
from keras_simple_diffusion.metrics.manifolds import density_coverage
from keras_simple_diffusion.metrics.manifolds import nearest_distances
from keras_simple_diffusion.metrics.manifolds import precision_recall
from keras_simple_diffusion.utils.errors import InputError

# Each metric, and the network whose outputs it is of.
METRICS = {
    "fid": "inception",
    "fid_infinity": "inception",
    "kid": "inception",
    "precision_recall": "inception",
    "density_coverage": "inception",
    "nearest": "inception",
    "inception_score": "inception",
    "fd_dinov2": "dinov2",
    "clip_score": "clip",
    "class_accuracy": "classifier",
    "bits_per_dimension": "model",
}
# Those that compare generated images with real ones.
_COMPARING = {
    "inception": {
        "fid",
        "fid_infinity",
        "kid",
        "precision_recall",
        "density_coverage",
        "nearest",
    },
    "dinov2": {"fd_dinov2"},
}
_MAX_POINTS = 10_000  # Of the metrics that compare all pairs.


def networks_of(metrics, comparing=False):
    """Names of the networks that metrics are of.

    Args:
        metrics: list of names, of `METRICS`.
        comparing: bool. Whether only those count that compare with real
            images. Defaults to `False`.

    Returns:
        A list of strings.
    """
    names = {METRICS[name] for name in metrics}
    if comparing:
        names = {n for n in names if _COMPARING.get(n, set()) & set(metrics)}
    return sorted(names)


def compare_features(shards, reference, statistics, metrics, num_resamples=20):
    """Scores of generated images against one set of real ones.

    Args:
        shards: `FeatureShards` of the generated images.
        reference: `FeatureShards` of the real ones.
        statistics: `FeatureStatistics` of the real ones.
        metrics: list of names, of `METRICS`, all of one network; those that
            do not compare are passed over. Those that compare all pairs of
            images take at most 10,000 of each, `"compared"`; `nearest`
            takes all real ones.
        num_resamples: int. Bootstrap resamples for the standard error of a
            Fréchet distance; `0` leaves it out. Defaults to `20`.

    Returns:
        A dict of floats, and of lists for intervals.
    """
    scores = {}
    target = None
    if {"fid", "fid_infinity", "fd_dinov2"} & set(metrics):
        target = FrechetReference(statistics)
    for name in ("fid", "fd_dinov2"):
        if name not in metrics:
            continue
        value = scores[name] = target.distance(shards.statistics())
        if num_resamples > 1:
            error = bootstrap_frechet_distance(shards, target, num_resamples)
            scores[f"{name}_standard_error"] = error
            scores[f"{name}_interval_95"] = [
                value - 1.96 * error,
                value + 1.96 * error,
            ]
    if "fid_infinity" in metrics:
        scores["fid_infinity"] = extrapolated_frechet_distance(shards, target)
    if "nearest" in metrics:
        nearest = _nearest(shards.take(_MAX_POINTS), reference)
        scores["nearest_distance_median"] = float(np.median(nearest))
        scores["nearest_distance_smallest"] = float(nearest.min())
    if {"kid", "precision_recall", "density_coverage"} & set(metrics):
        x, y = shards.take(_MAX_POINTS), reference.take(_MAX_POINTS)
        scores.update(_compare_points(x, y, metrics))
        scores["compared"] = [len(x), len(y)]
    return scores


def _compare_points(x, y, metrics):
    scores = {}
    if "kid" in metrics:
        scores["kid"], scores["kid_deviation"] = kernel_distance(x, y)
    if "precision_recall" in metrics:
        scores["precision"], scores["recall"] = precision_recall(x, y)
    if "density_coverage" in metrics:
        scores["density"], scores["coverage"] = density_coverage(x, y)
    return scores


def _nearest(features, reference):
    """Distance of each to the nearest real image, of all there are."""
    nearest = np.full(len(features), np.inf)
    for batch in reference:
        distances, _ = nearest_distances(features, batch)
        nearest = np.minimum(nearest, distances)
    return nearest


def score_alone(drawn, networks, labels, text_features, metrics):
    """Scores of generated images that need no real ones.

    Args:
        drawn: dict from the name of a network to `FeatureShards`.
        networks: dict from the same names to the networks.
        labels: list of ints, the classes asked for, or `None`.
        text_features: float array of shape `(N, F)` of what CLIP makes of the
            captions asked for, or `None`.
        metrics: list of names, of `METRICS`.

    Returns:
        A dict of floats.
    """
    scores = {}
    if "inception_score" in metrics:
        value, deviation = inception_score(
            drawn["inception"], networks["inception"].logits_kernel
        )
        scores["inception_score"] = value
        scores["inception_score_deviation"] = deviation
    if "class_accuracy" in metrics:
        read = np.concatenate([x.argmax(1) for x in drawn["classifier"]])
        scores["class_accuracy"] = float(np.mean(read == np.array(labels)))
    if "clip_score" in metrics:
        features = np.concatenate(list(drawn["clip"]))
        scores["clip_score"] = clip_score(features, text_features)
    return scores


_BATCH_SIZE = 32


def load_networks(settings, files):
    """The networks that the metrics need.

    Args:
        settings: dict of the evaluation's settings.
        files: dict from a network's name to its file or preset, or `None`
            for the default.

    Returns:
        A dict from names to functions of images.
    """
    needed = networks_of(settings["metrics"])
    for name in ("dinov2", "clip", "classifier"):
        if files[name] is not None and name not in needed:
            raise InputError(
                f"No metric asked for is of `--{name}`. Received: --metrics "
                f"{','.join(settings['metrics'])}"
            )
    size = min(settings["batch_size"], _BATCH_SIZE)
    networks = {}
    for name in needed:
        chosen = {} if files.get(name) is None else {"preset": files[name]}
        if name == "inception":
            networks[name] = InceptionFeatures(
                files[name], settings["resize"], size
            )
        elif name == "dinov2":
            networks[name] = DINOFeatures(**chosen, batch_size=size)
        elif name == "clip":
            networks[name] = CLIPFeatures(**chosen, batch_size=size)
        elif name == "classifier":
            if not chosen:
                raise InputError(
                    "`class_accuracy` needs a classifier: pass --classifier "
                    "FILE.keras"
                )
            networks[name] = ClassifierOutputs(files[name], size)
    if "inception_score" in settings["metrics"]:
        if networks["inception"].logits_kernel is None:
            raise InputError(
                "`inception_score` needs logits, which the weights file "
                f"'{files['inception']}' does not have; the published one has "
                "them. Leave --feature-weights out to download it."
            )
    return networks
