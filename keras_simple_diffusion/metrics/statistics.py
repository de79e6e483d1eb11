import numpy as np

from keras_simple_diffusion.utils.errors import InputError


class FeatureStatistics:
    """Mean and covariance of features, added up batch by batch.

    The sums are float64 and around the mean (Chan's update), so the result
    does not depend on the batches, and needs no more memory than one batch.

    Args:
        size: int. Number of features.

    Attributes:
        count: int. Number of pictures so far.
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
                "A covariance needs at least 2 pictures. Received: "
                f"{self.count}"
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
            raise InputError("There are features that are not finite.")
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
        """Write them to a `.npz` file."""
        np.savez(path, count=self.count, mean=self.mean, scatter=self._scatter)

    @classmethod
    def load(cls, path):
        """Read them from a `.npz` file."""
        with np.load(path) as file:
            statistics = cls(len(file["mean"]))
            statistics.count = int(file["count"])
            statistics.mean = file["mean"]
            statistics._scatter = file["scatter"]
        return statistics


def feature_statistics(pictures, features):
    """Mean and covariance of the features of pictures.

    Args:
        pictures: `uint8` array of shape `(N, H, W, C)`, or an iterable of such
            batches.
        features: function of such an array that returns features of shape
            `(N, F)`, such as `InceptionFeatures`.

    Returns:
        `FeatureStatistics`.

    Example:
    >>> features = keras_simple_diffusion.metrics.InceptionFeatures()
    >>> a = keras_simple_diffusion.metrics.feature_statistics(real, features)
    >>> b = keras_simple_diffusion.metrics.feature_statistics(fake, features)
    >>> keras_simple_diffusion.metrics.frechet_distance(a, b)
    """
    if isinstance(pictures, np.ndarray):
        pictures = [pictures]
    statistics = None
    for batch in pictures:
        for start in range(0, len(batch), 1024):
            values = features(batch[start : start + 1024])
            if statistics is None:
                statistics = FeatureStatistics(values.shape[1])
            statistics.add(values)
    if statistics is None:
        raise InputError("There are no pictures to compute statistics of.")
    return statistics
