"""Memorization: generated images that are too near to a training image."""

import dataclasses

import numpy as np

from keras_simple_diffusion.metrics.manifolds import nearest_distances
from keras_simple_diffusion.metrics.manifolds import squared_distances


@dataclasses.dataclass(frozen=True)
class TrainingNeighbors:
    """The nearest training image of each of `N` images.

    Attributes:
        distances: float64 array of shape `(N,)`.
        numbers: int64 array of shape `(N,)`, of training images.
        views: int64 array of shape `(N,)`, of the view that is nearest.
        ratios: float64 array of shape `(N,)`, the distances divided by the
            distance of the same training image to its nearest held-out image,
            or `None` without held-out images. Below 1 an image counts as
            memorized.
    """

    distances: np.ndarray
    numbers: np.ndarray
    views: np.ndarray
    ratios: np.ndarray | None = None

    @property
    def memorized(self):
        """The share of memorized images, a float in [0, 1]."""
        return float(np.mean(self.ratios < 1.0))


def find_training_neighbors(features, views, held_out=None, max_probes=2_000):
    """Find the nearest training images, and compare with held-out images.

    An image counts as memorized if it is nearer to its nearest training image
    than each held-out image is to the same training image. This is the
    opposite of authenticity (Alaa et al., 2022), with held-out images in place
    of the other training images: near duplicates among the training images
    then do not hide copies.

    Images of the same distribution are memorized at a rate above 0, which
    depends on the numbers of images: compare with the rate of the held-out
    images themselves, each of which is left out of those it is compared with.

    Args:
        features: float array of shape `(N, F)`, of generated images.
        views: list of iterables of float arrays `(_, F)`, each all training
            images in order: as they are, and for example mirrored. The
            distance to a training image is that to its nearest view.
        held_out: iterable of float arrays of shape `(_, F)`, or `None`.
        max_probes: int. Number of held-out images, evenly spaced, whose own
            rate is measured. Defaults to `2_000`.

    Returns:
        A tuple of the `TrainingNeighbors` of the generated and of the held-out
        images, the latter `None` without held-out images.

    References:
        - [Alaa et al., 2022](https://arxiv.org/abs/2102.08921), authenticity
        - [Meehan et al., 2020](https://arxiv.org/abs/2004.05675), held-out
          images as the standard of copying
    """
    found = _nearest_views(features, views)
    if held_out is None:
        return found, None
    real = np.concatenate(list(held_out))
    count = min(max_probes, len(real))
    probes = np.arange(count) * len(real) // count
    found_real = _nearest_views(real[probes], views)
    numbers = np.unique(np.concatenate([found.numbers, found_real.numbers]))
    first, second, nearest = _two_nearest(
        [_rows(view, numbers) for view in views], real
    )
    at = np.searchsorted(numbers, found.numbers)
    at_real = np.searchsorted(numbers, found_real.numbers)
    # A held-out image is not compared with itself.
    is_itself = nearest[at_real] == probes
    limits = np.where(is_itself, second[at_real], first[at_real])
    return (
        dataclasses.replace(found, ratios=_divide(found, first[at])),
        dataclasses.replace(found_real, ratios=_divide(found_real, limits)),
    )


def nearest_of_parts(features, parts):
    """Find the nearest of a reference that is given in parts.

    Args:
        features: float array of shape `(N, F)`.
        parts: iterable of float arrays of shape `(_, F)`.

    Returns:
        A tuple of the distances and the numbers in the whole reference, as
        `nearest_distances` returns them.
    """
    distances = np.full(len(features), np.inf)
    numbers = np.zeros(len(features), "int64")
    start = 0
    for part in parts:
        new, at = nearest_distances(features, part)
        is_nearer = new < distances
        distances[is_nearer] = new[is_nearer]
        numbers[is_nearer] = start + at[is_nearer]
        start += len(part)
    return distances, numbers


def _nearest_views(features, views):
    found = [nearest_of_parts(features, view) for view in views]
    distances = np.stack([each for each, _ in found])
    best = distances.argmin(0)
    rows = np.arange(len(features))
    numbers = np.stack([each for _, each in found])
    return TrainingNeighbors(distances[best, rows], numbers[best, rows], best)


def _rows(parts, numbers):
    """Take rows of an array that is given in parts, by increasing number."""
    taken, start = [], 0
    for part in parts:
        stop = start + len(part)
        inside = numbers[(start <= numbers) & (numbers < stop)]
        taken.append(np.asarray(part)[inside - start])
        start = stop
    return np.concatenate(taken)


def _two_nearest(views, real):
    """Find the two nearest real images of each training image.

    Args:
        views: list of arrays of shape `(N, F)`, the views of training images.
        real: array of shape `(M, F)`.

    Returns:
        A tuple of three arrays of shape `(N,)`: the smallest and the second
        smallest distance, and the number of the nearest.
    """
    smallest, nearest = [], []
    for blocks in zip(
        *(squared_distances(view, real) for view in views), strict=True
    ):
        squares = np.minimum.reduce([squares for _, squares in blocks])
        nearest.append(squares.argmin(1))
        two = np.partition(squares, min(1, len(real) - 1), axis=1)[:, :2]
        smallest.append(np.sqrt(two))
    smallest = np.concatenate(smallest)
    second = smallest[:, 1] if len(real) > 1 else np.full(len(smallest), np.inf)
    return smallest[:, 0], second, np.concatenate(nearest)


def _divide(found, limits):
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = found.distances / limits
    # A held-out image that equals the training image: nothing is nearer.
    return np.where(limits > 0.0, ratios, np.inf)
