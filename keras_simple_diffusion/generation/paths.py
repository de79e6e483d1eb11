"""Paths between two noises."""

import numpy as np


def great_circle(first, second, count):
    """Interpolate on the great circle through two noises, ends included.

    Args:
        first: float array.
        second: float array shaped like it.
        count: int.

    Returns:
        A float32 array of shape `(count, ...)`.

    References:
        - [Shoemake, 1985](https://doi.org/10.1145/325165.325242)
    """
    a, b = (np.asarray(end, "float64") for end in (first, second))
    cosine = (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    share = np.linspace(0.0, 1.0, count).reshape(-1, *[1] * a.ndim)
    if np.sin(angle) < 1e-6:  # Parallel: no circle, or the line itself.
        return ((1.0 - share) * a + share * b).astype("float32")
    points = np.sin((1.0 - share) * angle) * a + np.sin(share * angle) * b
    return (points / np.sin(angle)).astype("float32")


def is_seed(end):
    """Tell if an end of a path is given by a seed, not by an image."""
    return isinstance(end, (int, np.integer)) and not isinstance(end, bool)
