"""Metrics of who is whose neighbour in the space of features."""

import numpy as np

from keras_simple_diffusion.utils.errors import InputError

_ROWS = 512


def precision_recall(features, reference, num_neighbors=3):
    """Improved precision and recall.

    Precision is the share of the features inside the manifold of the
    reference, the union of balls around its points that reach to the `k`-th
    neighbour; recall is the same the other way round.

    Args:
        features: float array of shape `(N, F)`, of generated images.
        reference: float array of shape `(M, F)`, of real ones.
        num_neighbors: int, the `k`. Defaults to `3`.

    Returns:
        A tuple of two floats.

    References:
        - [Kynkäänniemi et al., 2019](https://arxiv.org/abs/1904.06991)
    """
    real_radii = _radii(reference, num_neighbors)
    radii = _radii(features, num_neighbors)
    is_precise = np.zeros(len(features), bool)
    is_recalled = np.zeros(len(reference), bool)
    for start, squares in _squared_distances(features, reference):
        rows = slice(start, start + len(squares))
        is_precise[rows] = (squares <= real_radii).any(1)
        is_recalled |= (squares <= radii[rows, None]).any(0)
    return float(is_precise.mean()), float(is_recalled.mean())


def density_coverage(features, reference, num_neighbors=5):
    """Density and coverage, which outliers of the reference disturb less.

    Density counts in how many of the reference's balls a feature lies, over
    `k`; coverage is the share of the balls with a feature in them.

    Args:
        features: float array of shape `(N, F)`, of generated images.
        reference: float array of shape `(M, F)`, of real ones.
        num_neighbors: int, the `k`. Defaults to `5`.

    Returns:
        A tuple of two floats.

    References:
        - [Naeem et al., 2020](https://arxiv.org/abs/2002.09797)
    """
    radii = _radii(reference, num_neighbors)
    count, is_covered = 0, np.zeros(len(reference), bool)
    for _, squares in _squared_distances(features, reference):
        inside = squares <= radii
        count += inside.sum()
        is_covered |= inside.any(0)
    density = count / (num_neighbors * len(features))
    return float(density), float(is_covered.mean())


def nearest_distances(features, reference):
    """Distance of each feature to the nearest one of a reference.

    For generated images and the training data it tells copies: compare it
    with that of held-out images.

    Args:
        features: float array of shape `(N, F)`.
        reference: float array of shape `(M, F)`.

    Returns:
        A tuple of a float64 array of shape `(N,)` with the distances, and an
        int64 array with the numbers of the nearest.
    """
    distances, numbers = [], []
    for _, squares in _squared_distances(features, reference):
        nearest = squares.argmin(1)
        numbers.append(nearest)
        distances.append(np.sqrt(squares[np.arange(len(nearest)), nearest]))
    return np.concatenate(distances), np.concatenate(numbers)


def _radii(features, num_neighbors):
    """Squared distance of each point to its `k`-th neighbour."""
    if not 1 <= num_neighbors < len(features):
        raise InputError(
            "`num_neighbors` must be at least 1, and less than the number of "
            f"images. Received: num_neighbors={num_neighbors} and "
            f"{len(features)} images"
        )
    radii = []
    for start, squares in _squared_distances(features, features):
        rows = np.arange(len(squares))
        squares[rows, start + rows] = -1.0  # The point itself comes first.
        radii.append(np.partition(squares, num_neighbors, 1)[:, num_neighbors])
    return np.concatenate(radii)


def _squared_distances(x, y):
    """Rows of the matrix of squared distances, some at a time."""
    norms = np.concatenate([np.square(part).sum(1) for part in _parts(y)])
    start = 0
    for rows in _parts(x):
        products = np.concatenate([rows @ part.T for part in _parts(y)], axis=1)
        squares = np.square(rows).sum(1)[:, None] + norms - 2.0 * products
        yield start, np.maximum(squares, 0.0)
        start += len(rows)


def _parts(features):
    """Some rows at a time, in float64: all of them need much memory."""
    for start in range(0, len(features), _ROWS):
        yield np.asarray(features[start : start + _ROWS], "float64")
