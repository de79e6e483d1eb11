"""Kernel distance of features (KID)."""

import numpy as np

from keras_simple_diffusion.utils.errors import InputError


def kernel_distance(
    features, reference, num_subsets=100, subset_size=1000, seed=0
):
    """Compute the kernel distance between two sets of features.

    With the features of Inception it is the KID: the squared maximum mean
    discrepancy with the kernel `(x y / F + 1)^3`, estimated without bias on
    random subsets.

    Args:
        features: float array of shape `(N, F)`.
        reference: float array of shape `(M, F)`.
        num_subsets: int. Defaults to `100`.
        subset_size: int, at most the size of the smaller set. Defaults to
            `1000`.
        seed: int. Chooses the subsets. Defaults to `0`.

    Returns:
        A tuple of floats, the mean over the subsets and their standard
        deviation. The deviation is that of `subset_size` images, and so larger
        than the error of the mean; it is 0 if each subset has all images.

    References:
        - [Binkowski et al., 2018](https://arxiv.org/abs/1801.01401)
    """
    subset_size = min(subset_size, len(features), len(reference))
    if subset_size < 2 or num_subsets < 2:
        raise InputError(
            "The kernel distance needs at least 2 images of each, and 2 "
            f"subsets. Received: {len(features)} and {len(reference)} "
            f"images, num_subsets={num_subsets}"
        )
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(num_subsets):
        x, y = (
            np.asarray(
                each[rng.choice(len(each), subset_size, replace=False)],
                "float64",
            )
            for each in (features, reference)
        )
        values.append(squared_discrepancy(x, y))
    return float(np.mean(values)), float(np.std(values, ddof=1))


def squared_discrepancy(x, y):
    """Estimate the squared maximum mean discrepancy without bias.

    Args:
        x: float64 array of shape `(N, F)`.
        y: float64 array of shape `(M, F)`.

    Returns:
        A float; it can be negative.
    """
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2.0 * _kernel(x, y).mean()


def _mean_of_pairs(x):
    kernel = _kernel(x, x)
    return (kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1))


def _kernel(x, y):
    return (x @ y.T / x.shape[1] + 1.0) ** 3
