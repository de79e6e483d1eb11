import warnings

import numpy as np

from keras_simple_diffusion.metrics.statistics import FeatureStatistics
from keras_simple_diffusion.utils.errors import InputError

_FEW = 10_000


def frechet_distance(a, b):
    """Fréchet distance between two sets of features: FID for Inception's.

    `|mean_a - mean_b|^2 + trace(A + B - 2 sqrt(A B))`, where the trace of the
    root is the sum of the singular values of `sqrt(A) sqrt(B)`. So it is real
    and accurate also where there are fewer pictures than features.

    Args:
        a: `FeatureStatistics`.
        b: `FeatureStatistics`, of the same features.

    Returns:
        A float. With fewer than 10,000 pictures it is too large by much, and
        a warning says so.

    References:
        - [Heusel et al., 2017](https://arxiv.org/abs/1706.08500)
    """
    _check(a, b)
    few = min(a.count, b.count)
    if few < _FEW:
        warnings.warn(
            f"A Fréchet distance of {few:,} pictures is too large by much; "
            f"compare only ones of as many, and use at least {_FEW:,}.",
            stacklevel=2,
        )
    return distance_to(b)(a)


def distance_to(reference):
    """The Fréchet distance to one reference, whose root is computed once.

    Args:
        reference: `FeatureStatistics`.

    Returns:
        A function of `FeatureStatistics` that returns a float.
    """
    covariance = reference.covariance
    root = _root(covariance)
    trace = np.trace(covariance)

    def distance(statistics):
        covariance = statistics.covariance
        shift = statistics.mean - reference.mean
        product = _root(covariance).T @ root
        overlap = np.linalg.svd(product, compute_uv=False).sum()
        spread = np.trace(covariance) + trace - 2.0 * overlap
        return float(max(shift @ shift + spread, 0.0))

    return distance


def _root(covariance):
    """A matrix `R`, as narrow as possible, with `R R^T` the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    smallest = values[-1] * len(values) * np.finfo("float64").eps
    kept = values > max(smallest, 0.0)
    return vectors[:, kept] * np.sqrt(values[kept])


def extrapolated_frechet_distance(features, reference, num_points=8, seed=0):
    """The Fréchet distance that infinitely many pictures would have.

    The distance of `n` pictures is too large by about `c / n`. It is taken of
    random subsets of several sizes, and a line in `1 / n` is fitted.

    Args:
        features: float array of shape `(N, F)`.
        reference: `FeatureStatistics`.
        num_points: int. Number of sizes, from `N / 2` to `N`. Defaults to `8`.
        seed: int. Chooses the subsets. Defaults to `0`.

    Returns:
        A float.

    References:
        - [Chong and Forsyth, 2020](https://arxiv.org/abs/1911.07023)
    """
    if len(features) < 4 or num_points < 2:
        raise InputError(
            "Extrapolation needs at least 4 pictures and 2 points. Received: "
            f"{len(features)} and {num_points}"
        )
    rng = np.random.default_rng(seed)
    distance = distance_to(reference)
    # Evenly spaced in 1 / n.
    inverse = np.linspace(2.0, 1.0, num_points) / len(features)
    sizes = np.round(1.0 / inverse).astype("int64")
    distances = []
    for size in sizes:
        chosen = np.sort(rng.choice(len(features), size, replace=False))
        statistics = FeatureStatistics(features.shape[1])
        for start in range(0, size, 1024):
            statistics.add(features[chosen[start : start + 1024]])
        distances.append(distance(statistics))
    _, intercept = np.polyfit(1.0 / sizes, distances, 1)
    return float(intercept)


def _check(a, b):
    if a.mean.shape != b.mean.shape:
        raise InputError(
            "The statistics must be of the same features. Received: "
            f"{len(a.mean)} and {len(b.mean)} features"
        )
