"""The metrics of an evaluation, and the networks that they are based on."""

import numpy as np

from keras_simple_diffusion.metrics.classifier import ClassifierOutputs
from keras_simple_diffusion.metrics.clip import CLIPFeatures
from keras_simple_diffusion.metrics.clip import clip_score
from keras_simple_diffusion.metrics.dino import DINOFeatures
from keras_simple_diffusion.metrics.discrepancy import kernel_distance
from keras_simple_diffusion.metrics.efficientnet import EfficientNetFeatures
from keras_simple_diffusion.metrics.frechet import FrechetReference
from keras_simple_diffusion.metrics.frechet import bootstrap_frechet_distance
from keras_simple_diffusion.metrics.frechet import extrapolated_frechet_distance
from keras_simple_diffusion.metrics.inception import InceptionFeatures
from keras_simple_diffusion.metrics.inception import inception_score
from keras_simple_diffusion.metrics.manifolds import density_coverage
from keras_simple_diffusion.metrics.manifolds import precision_recall
from keras_simple_diffusion.metrics.pixels import PixelFeatures
from keras_simple_diffusion.utils.errors import InputError

# Each metric, and the network whose outputs it is computed from.
METRICS = {
    "fid": "inception",
    "fid_infinity": "inception",
    "kid": "inception",
    "precision_recall": "inception",
    "density_coverage": "inception",
    "inception_score": "inception",
    "fd_efficientnet": "efficientnet",
    "fd_dinov2": "dinov2",
    "clip_score": "clip",
    "class_accuracy": "classifier",
    "bits_per_dimension": "model",
    # In the features of EfficientNet if its weights are given.
    "nearest": "inception",
    "conditioning": "inception",
}
FRECHET_DISTANCES = {"fid", "fid_infinity", "fd_efficientnet", "fd_dinov2"}
# Metrics of a network that is given, by default.
_OF_GIVEN = {
    "efficientnet": "fd_efficientnet",
    "dinov2": "fd_dinov2",
    "clip": "clip_score",
    "classifier": "class_accuracy",
}
# Metrics that compare generated images with real ones.
_COMPARING = FRECHET_DISTANCES | {
    "kid",
    "precision_recall",
    "density_coverage",
}
_MAX_POINTS = 10_000  # Of the metrics that compare all pairs.


def default_metrics(choices):
    """Return the metrics that are measured unless others are asked for.

    Args:
        choices: see `load_networks`.

    Returns:
        A list of names, of `METRICS`.
    """
    given = [
        metric
        for network, metric in _OF_GIVEN.items()
        if choices[network] is not None
    ]
    return ["fid", "kid", "precision_recall", *given, "nearest", "conditioning"]


def network_of(metric, networks):
    """Return the name of the network that a metric needs.

    Args:
        metric: string, of `METRICS`.
        networks: dict or set with the names of the networks that are given.

    Returns:
        A string.
    """
    if metric in ("nearest", "conditioning") and "efficientnet" in networks:
        return "efficientnet"
    return METRICS[metric]


def check_metrics(metrics):
    """Raise an `InputError` unless metrics are names of `METRICS`."""
    unknown = [name for name in metrics if name not in METRICS]
    if isinstance(metrics, str) or unknown or not metrics:
        raise InputError(
            f"`metrics` must be a list of {', '.join(METRICS)}. Received: "
            f"metrics={metrics!r}"
        )


def check_choices(metrics, choices):
    """Raise an `InputError` if a network is not used, or is missing.

    Args:
        metrics: list of names, of `METRICS`.
        choices: see `load_networks`.
    """
    needed = _needed(metrics, choices)
    for name in _OF_GIVEN:
        if choices[name] is not None and name not in needed:
            raise InputError(
                f"`{name}` is not used by any of the requested metrics: "
                f"{', '.join(metrics)}."
            )
    for name, kind in (("classifier", ".keras"), ("efficientnet", ".npz")):
        if name in needed and choices[name] is None:
            raise InputError(
                f"`{_OF_GIVEN[name]}` needs a network: pass `{name}`, a {kind} "
                "file."
            )


def _needed(metrics, choices):
    given = {name for name, choice in choices.items() if choice is not None}
    return {network_of(name, given) for name in metrics} - {"model"}


def load_networks(metrics, choices, resize):
    """Load the networks that metrics need.

    Args:
        metrics: list of names, of `METRICS`.
        choices: dict from `"inception"`, `"efficientnet"`, `"dinov2"`,
            `"clip"` and `"classifier"` to a file or preset, to a network that
            is loaded already, or to `None` for the default.
        resize: string. Resizing of Inception's images.

    Returns:
        A dict from the names of networks to functions of images.
    """
    networks = {
        name: _load_network(name, choices[name], resize)
        for name in sorted(_needed(metrics, choices))
    }
    if "nearest" in metrics:
        networks["pixels"] = PixelFeatures()
    if "inception_score" in metrics:
        if getattr(networks["inception"], "logits_kernel", None) is None:
            raise InputError(
                "`inception_score` needs logits, which the weights of "
                f"'{choices['inception']}' do not have; the published file has "
                "them. Leave out `feature_weights` to download it."
            )
    return networks


def _load_network(name, choice, resize):
    if callable(choice):
        return choice
    if name == "inception":
        return InceptionFeatures(choice, resize)
    if name == "classifier":
        return ClassifierOutputs(choice)
    if name == "efficientnet":
        return EfficientNetFeatures(choice)
    kind = DINOFeatures if name == "dinov2" else CLIPFeatures
    return kind() if choice is None else kind(choice)


def compared_networks(metrics):
    """Return the names of the networks that real images pass through, too."""
    return sorted({METRICS[name] for name in _COMPARING & set(metrics)})


def compare_features(shards, reference, statistics, metrics, num_resamples=20):
    """Compute the metrics between generated and real images.

    Metrics that compare all pairs of images take at most 10,000 of each set,
    reported as `"compared"`.

    Args:
        shards: `FeatureShards` of the generated images.
        reference: `FeatureShards` of the real ones.
        statistics: `FeatureStatistics` of the real ones.
        metrics: list of names of `METRICS`, all of one network. Those that
            need no real images are ignored.
        num_resamples: int. Bootstrap resamples for the standard error of a
            Fréchet distance; `0` leaves it out. Defaults to `20`.

    Returns:
        A dict of floats, and of lists for intervals.
    """
    scores = {}
    target = None
    if FRECHET_DISTANCES & set(metrics):
        target = FrechetReference(statistics)
    for name in ("fid", "fd_efficientnet", "fd_dinov2"):
        if name not in metrics:
            continue
        value = target.distance(shards.statistics(), warn=False)
        scores[name] = value
        if num_resamples > 1:
            error = bootstrap_frechet_distance(shards, target, num_resamples)
            scores[f"{name}_standard_error"] = error
            scores[f"{name}_interval_95"] = [
                value - 1.96 * error,
                value + 1.96 * error,
            ]
    if "fid_infinity" in metrics:
        scores["fid_infinity"] = extrapolated_frechet_distance(shards, target)
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


def score_alone(drawn, networks, labels, text_features, metrics):
    """Compute the metrics of generated images that need no real ones.

    Args:
        drawn: dict from the names of networks to `FeatureShards`.
        networks: dict from the same names to the networks.
        labels: list of ints, the classes asked for, or `None`.
        text_features: float array of shape `(N, F)`, CLIP's embeddings of the
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
