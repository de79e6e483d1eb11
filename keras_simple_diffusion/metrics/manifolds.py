"""Metrics of nearest neighbours in the space of features."""

import numpy as np

from keras_simple_diffusion.utils.errors import InputError

_ROWS = 512


def precision_recall(features, reference, num_neighbors=3):
    """Compute improved precision and recall.

    The manifold of a set is the union of balls around its points, each with
    the distance to the point's `k`-th neighbour as radius. Precision is the
    fraction of the features in the manifold of the reference; recall is the
    fraction of the reference in the manifold of the features.

    Args:
        features: float array of shape `(N, F)`, of generated images.
        reference: float array of shape `(M, F)`, of real images.
        num_neighbors: int, the `k`. Defaults to `3`.

    Returns:
        A tuple of precision and recall, floats in [0, 1].

    Raises:
        InputError: if `num_neighbors` is not smaller than the number of
            images.

    References:
        - [Kynkäänniemi et al., 2019](https://arxiv.org/abs/1904.06991)
    """
    real_radii = _radii(reference, num_neighbors)
    radii = _radii(features, num_neighbors)
    is_precise = np.zeros(len(features), bool)
    is_recalled = np.zeros(len(reference), bool)
    for start, squares in squared_distances(features, reference):
        rows = slice(start, start + len(squares))
        is_precise[rows] = (squares <= real_radii).any(1)
        is_recalled |= (squares <= radii[rows, None]).any(0)
    return float(is_precise.mean()), float(is_recalled.mean())


def density_coverage(features, reference, num_neighbors=5):
    """Compute density and coverage, which are robust against outliers.

    Around each point of the reference lies a ball with the distance to its
    `k`-th neighbour as radius. Density is the mean number of balls that
    contain a feature, divided by `k`; coverage is the fraction of balls that
    contain any. As in the authors' code, points at exactly the radius are
    outside, so that a set has density 1 and coverage 1 against itself.

    Args:
        features: float array of shape `(N, F)`, of generated images.
        reference: float array of shape `(M, F)`, of real images.
        num_neighbors: int, the `k`. Defaults to `5`.

    Returns:
        A tuple of density, a float of at least 0, and coverage, in [0, 1].

    Raises:
        InputError: if `num_neighbors` is not smaller than the number of
            images.

    References:
        - [Naeem et al., 2020](https://arxiv.org/abs/2002.09797)
    """
    radii = _radii(reference, num_neighbors)
    count, is_covered = 0, np.zeros(len(reference), bool)
    # In the order of `_radii`, so that equal distances are equal to the bit.
    for start, squares in squared_distances(reference, features):
        rows = slice(start, start + len(squares))
        inside = squares < radii[rows, None]
        count += inside.sum()
        is_covered[rows] = inside.any(1)
    density = count / (num_neighbors * len(features))
    return float(density), float(is_covered.mean())


def nearest_distances(features, reference):
    """Compute the distance of each feature to the nearest of a reference.

    Small distances of generated images to the training data reveal copies:
    compare them with the distances of held-out images.

    Args:
        features: float array of shape `(N, F)`.
        reference: float array of shape `(M, F)`.

    Returns:
        A tuple of a float64 array of shape `(N,)`, the distances, and an int64
        array of the same shape, the indices of the nearest features.
    """
    distances, numbers = [], []
    for _, squares in squared_distances(features, reference):
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
    for start, squares in squared_distances(features, features):
        rows = np.arange(len(squares))
        squares[rows, start + rows] = -1.0  # The point itself comes first.
        radii.append(np.partition(squares, num_neighbors, 1)[:, num_neighbors])
    return np.concatenate(radii)


def squared_distances(x, y):
    """Compute the matrix of squared distances, some rows at a time.

    Args:
        x: float array of shape `(N, F)`.
        y: float array of shape `(M, F)`.

    Yields:
        Tuples of the number of the first row, an int, and rows of the matrix,
        a float64 array of shape `(_, M)`.
    """
    norms = np.concatenate([np.square(part).sum(1) for part in _parts(y)])
    start = 0
    for rows in _parts(x):
        products = np.concatenate([rows @ part.T for part in _parts(y)], axis=1)
        squares = np.square(rows).sum(1)[:, None] + norms - 2.0 * products
        yield start, np.maximum(squares, 0.0)
        start += len(rows)


def _parts(features):
    """Yield some rows at a time in float64, to bound the memory."""
    for start in range(0, len(features), _ROWS):
        yield np.asarray(features[start : start + _ROWS], "float64")
