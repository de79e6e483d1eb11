"""Fréchet distance of features, its error and its limit."""

import warnings

import numpy as np

from keras_simple_diffusion.utils.errors import InputError

# With fewer images a distance is reported with a warning about its bias.
FEW_IMAGES = 10_000


class FeatureStatistics:
    """Mean and covariance of features, accumulated batch by batch.

    The sums are float64 and centered (Chan's update), so that the result does
    not depend on the batches apart from rounding.

    Args:
        size: int. Number of features.

    Attributes:
        count: int. Number of images so far.
        mean: float64 array of shape `(size,)`.
        covariance: float64 array of shape `(size, size)`, unbiased.

    References:
        - [Chan et al., 1983](https://doi.org/10.1080/00031305.1983.10483115)
    """

    def __init__(self, size):
        self.count = 0
        self.mean = np.zeros(size)
        self._scatter = np.zeros((size, size))

    @property
    def covariance(self):
        if self.count < 2:
            raise InputError(
                f"A covariance needs at least 2 images. Received: {self.count}"
            )
        return self._scatter / (self.count - 1)

    def add(self, features):
        """Add a batch.

        Args:
            features: float array of shape `(N, size)`.
        """
        features = np.asarray(features, "float64")
        if not len(features):
            return
        if not np.isfinite(features).all():
            raise InputError(
                "Features must be finite. Received NaN or infinity: check the "
                "images, and the weights of the network."
            )
        mean = features.mean(0)
        centred = features - mean
        count = self.count + len(features)
        shift = mean - self.mean
        self._scatter += centred.T @ centred
        share = self.count * len(features) / count
        self._scatter += np.outer(shift, shift * share)
        self.mean = self.mean + shift * (len(features) / count)
        self.count = count

    def save(self, path):
        """Write the statistics to a `.npz` file.

        Args:
            path: path, or a binary file.
        """
        np.savez(path, count=self.count, mean=self.mean, scatter=self._scatter)

    @classmethod
    def load(cls, path):
        """Read the statistics from a `.npz` file.

        Args:
            path: path, or a binary file.
        """
        with np.load(path) as file:
            statistics = cls(len(file["mean"]))
            statistics.count = int(file["count"])
            statistics.mean = file["mean"]
            statistics._scatter = file["scatter"]
        return statistics


def feature_statistics(images, features):
    """Compute mean and covariance of the features of images.

    Args:
        images: `uint8` array of shape `(N, H, W, C)`, or an iterable of such
            batches.
        features: function of such an array that returns features of shape
            `(N, F)`, such as `InceptionFeatures`.

    Returns:
        `FeatureStatistics`.

    Example:
    >>> # `features` may be an `InceptionFeatures`.
    >>> statistics = keras_simple_diffusion.metrics.feature_statistics(
    ...     images, features
    ... )
    >>> statistics.count
    16
    """
    if isinstance(images, np.ndarray):
        images = [images]
    statistics = None
    for batch in images:
        for start in range(0, len(batch), 1024):
            values = features(batch[start : start + 1024])
            if statistics is None:
                statistics = FeatureStatistics(values.shape[1])
            statistics.add(values)
    if statistics is None:
        raise InputError(
            "Statistics need at least one image. Received: no images"
        )
    return statistics


def frechet_distance(a, b):
    """Compute the Fréchet distance between two sets of features.

    With the features of Inception it is the FID:
    `|mean_a - mean_b|^2 + trace(A + B - 2 sqrt(A B))`. The trace of the root
    is computed as the sum of the singular values of `sqrt(A) sqrt(B)`, which
    is accurate even for fewer images than features.

    Args:
        a: `FeatureStatistics`.
        b: `FeatureStatistics` of the same features.

    Returns:
        A float of at least 0. With fewer than 10,000 images it is biased
        upwards, and a warning says so.

    Raises:
        InputError: if the features differ in number.

    References:
        - [Heusel et al., 2017](https://arxiv.org/abs/1706.08500)
    """
    return FrechetReference(b).distance(a)


class FrechetReference:
    """One side of several Fréchet distances; its root is computed once.

    Args:
        statistics: `FeatureStatistics`.

    Example:
    >>> real = keras_simple_diffusion.metrics.feature_statistics(
    ...     images, features
    ... )
    >>> reference = keras_simple_diffusion.metrics.FrechetReference(real)
    >>> round(abs(reference.distance(real)), 3)
    0.0
    """

    def __init__(self, statistics):
        covariance = statistics.covariance
        self.count = statistics.count
        self._mean = statistics.mean
        self._root = _root(covariance)
        self._trace = np.trace(covariance)

    def distance(self, statistics, warn=True):
        """Compute the distance to other statistics.

        Args:
            statistics: `FeatureStatistics` of the same features.
            warn: bool. Whether to warn of few images. Defaults to `True`.

        Returns:
            A float, see `frechet_distance`.

        Raises:
            InputError: if the features differ in number.
        """
        if statistics.mean.shape != self._mean.shape:
            raise InputError(
                "The statistics must be of the same features. Received: "
                f"{len(statistics.mean)} and {len(self._mean)} features"
            )
        few = min(self.count, statistics.count)
        if warn and few < FEW_IMAGES:
            warnings.warn(
                f"A Fréchet distance of {few:,} images is biased upwards. Use "
                f"at least {FEW_IMAGES:,}, or compare it only with distances "
                "of as many images.",
                stacklevel=3,
            )
        covariance = statistics.covariance
        product = _root(covariance).T @ self._root
        overlap = np.linalg.svd(product, compute_uv=False).sum()
        return self._join(statistics.mean, np.trace(covariance), overlap)

    def distance_of_chosen(self, features, times):
        """Compute the distance of a resample, with a relative error of 1e-6.

        This is faster than `distance`.

        Args:
            features: float array of shape `(N, F)`, or an iterable of batches
                of it that has the length `N`. Only one batch is held in
                memory, unless fewer samples are chosen than there are feature
                dimensions.
            times: int array of shape `(N,)`, how often to take each sample.

        Returns:
            A float.
        """
        count, size = int(times.sum()), len(self._mean)
        batches = _repeated(features, times)
        if count < size:
            chosen = np.concatenate(list(batches))
            mean = chosen.mean(0, "float64")
            centred = (chosen - mean) / np.sqrt(count - 1)
            product = centred @ self._root
            overlap = np.linalg.svd(product, compute_uv=False).sum()
            return self._join(mean, np.square(centred).sum(), overlap)
        statistics = FeatureStatistics(size)
        for batch in batches:
            statistics.add(batch)
        covariance = statistics.covariance
        squares = np.linalg.eigvalsh(self._root.T @ covariance @ self._root)
        overlap = np.sqrt(np.maximum(squares, 0.0)).sum()
        return self._join(statistics.mean, np.trace(covariance), overlap)

    def _join(self, mean, trace, overlap):
        shift = mean - self._mean
        spread = trace + self._trace - 2.0 * overlap
        return float(max(shift @ shift + spread, 0.0))


def _root(covariance):
    """Compute the narrowest matrix `R` with `R R^T` the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    smallest = values[-1] * len(values) * np.finfo("float64").eps
    kept = values > max(smallest, 0.0)
    return vectors[:, kept] * np.sqrt(values[kept])


def _repeated(features, times):
    """Yield batches of features, each sample repeated as often as asked."""
    batches = features
    if isinstance(features, np.ndarray):
        batches = np.array_split(features, -(-len(features) // 1024))
    start = 0
    for batch in batches:
        stop = start + len(batch)
        yield np.repeat(batch, times[start:stop], axis=0)
        start = stop


def bootstrap_frechet_distance(features, reference, num_resamples=20, seed=0):
    """Estimate the standard error of the Fréchet distance by bootstrap.

    It is the standard deviation of the distances of resamples of the generated
    images, with replacement. Their mean is not an estimate of the distance:
    repeated images make it larger.

    Args:
        features: float array of shape `(N, F)`, or an iterable of batches of
            it that has the length `N`.
        reference: `FeatureStatistics`, or a `FrechetReference` of them.
        num_resamples: int. Defaults to `20`.
        seed: int. Chooses the resamples. Defaults to `0`.

    Returns:
        A float.

    References:
        - [Efron, 1979](https://doi.org/10.1214/aos/1176344552)
    """
    if len(features) < 2 or num_resamples < 2:
        raise InputError(
            "A bootstrap needs at least 2 images and 2 resamples. Received: "
            f"{len(features)} and {num_resamples}"
        )
    rng = np.random.default_rng(seed)
    if isinstance(reference, FeatureStatistics):
        reference = FrechetReference(reference)
    count = len(features)
    distances = []
    for _ in range(num_resamples):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        distances.append(reference.distance_of_chosen(features, times))
    return float(np.std(distances, ddof=1))


def extrapolated_frechet_distance(features, reference, num_points=8, seed=0):
    """Extrapolate the Fréchet distance to infinitely many images.

    The bias of the distance of `n` images is about `c / n`. A line in `1 / n`
    is fitted to the distances of random subsets of several sizes.

    Args:
        features: float array of shape `(N, F)`, or an iterable of batches of
            it that has the length `N`.
        reference: `FeatureStatistics`, or a `FrechetReference` of them.
        num_points: int. Number of sizes, from `N / 2` to `N`. Defaults to `8`.
        seed: int. Chooses the subsets. Defaults to `0`.

    Returns:
        A float.

    References:
        - [Chong and Forsyth, 2020](https://arxiv.org/abs/1911.07023)
    """
    if len(features) < 4 or num_points < 2:
        raise InputError(
            "Extrapolation needs at least 4 images and 2 points. Received: "
            f"{len(features)} and {num_points}"
        )
    rng = np.random.default_rng(seed)
    if isinstance(reference, FeatureStatistics):
        reference = FrechetReference(reference)
    # Evenly spaced in 1 / n.
    inverse = np.linspace(2.0, 1.0, num_points) / len(features)
    sizes = np.round(1.0 / inverse).astype("int64")
    distances = []
    for size in sizes:
        times = np.zeros(len(features), "int64")
        times[rng.choice(len(features), size, replace=False)] = 1
        distances.append(reference.distance_of_chosen(features, times))
    _, intercept = np.polyfit(1.0 / sizes, distances, 1)
    return float(intercept)
