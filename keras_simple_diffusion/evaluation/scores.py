import numpy as np

from keras_simple_diffusion.metrics.frechet import FrechetReference
from keras_simple_diffusion.metrics.frechet import extrapolated_frechet_distance
from keras_simple_diffusion.metrics.kernel_distance import kernel_distance
from keras_simple_diffusion.metrics.manifolds import density_coverage
from keras_simple_diffusion.metrics.manifolds import nearest_distances
from keras_simple_diffusion.metrics.manifolds import precision_recall

METRICS = (
    "fid",
    "fid_infinity",
    "kid",
    "precision_recall",
    "density_coverage",
    "nearest",
)
_MAX_POINTS = 10_000  # Of the metrics that compare all pairs.


def compute_scores(shards, reference, statistics, metrics, num_resamples=20):
    """Scores of generated pictures against one set of real ones.

    Args:
        shards: `FeatureShards` of the generated pictures.
        reference: `FeatureShards` of the real ones.
        statistics: `FeatureStatistics` of the real ones.
        metrics: list of names, of `METRICS`. Those that compare all pairs of
            pictures take at most 10,000 of each.
        num_resamples: int. Bootstrap resamples for the standard error of the
            Fréchet distance; `0` leaves it out. Defaults to `20`.

    Returns:
        A dict of floats, and of lists for intervals.
    """
    scores = {}
    if {"fid", "fid_infinity"} & set(metrics):
        target = FrechetReference(statistics)
    if "fid" in metrics:
        scores["fid"] = target.distance(shards.statistics())
        if num_resamples > 1:
            error = _bootstrap(shards, target, num_resamples)
            scores["fid_standard_error"] = error
            scores["fid_interval_95"] = [
                scores["fid"] - 1.96 * error,
                scores["fid"] + 1.96 * error,
            ]
    if "fid_infinity" in metrics:
        scores["fid_infinity"] = extrapolated_frechet_distance(
            shards.take(len(shards)), target
        )
    if set(metrics) <= {"fid", "fid_infinity"}:
        return scores
    x, y = shards.take(_MAX_POINTS), reference.take(_MAX_POINTS)
    if "kid" in metrics:
        scores["kid"], scores["kid_standard_error"] = kernel_distance(x, y)
    if "precision_recall" in metrics:
        scores["precision"], scores["recall"] = precision_recall(x, y)
    if "density_coverage" in metrics:
        scores["density"], scores["coverage"] = density_coverage(x, y)
    if "nearest" in metrics:
        distances, _ = nearest_distances(x, y)
        scores["nearest_distance_median"] = float(np.median(distances))
        scores["nearest_distance_smallest"] = float(distances.min())
    return scores


def _bootstrap(shards, target, num_resamples):
    """Standard error of the Fréchet distance over the generated pictures.

    A resample repeats pictures, so its distance is larger; its spread is what
    counts.
    """
    features = shards.take(len(shards))
    rng = np.random.default_rng(0)
    values = []
    for _ in range(num_resamples):
        chosen = np.sort(rng.integers(0, len(features), len(features)))
        values.append(target.distance_of_features(features[chosen]))
    return float(np.std(values, ddof=1))
