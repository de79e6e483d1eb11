import pathlib

import numpy as np
from rich import progress

from keras_simple_diffusion.metrics.statistics import FeatureStatistics
from keras_simple_diffusion.utils.files import whole_file


class FeatureShards:
    """Features of many pictures, in files that an interruption does not lose.

    Args:
        folder: path of the files.
        count: int. Number of pictures.
        shard_size: int. Pictures a file. Defaults to `256`.
    """

    def __init__(self, folder, count, shard_size=256):
        self.folder = pathlib.Path(folder)
        self.count = count
        self.starts = range(0, count, shard_size)

    def __len__(self):
        return self.count

    def fill(self, read, features, title="features"):
        """Compute the features that are not there yet.

        Args:
            read: function of a list of picture numbers that returns a `uint8`
                array of shape `(N, H, W, C)`.
            features: function of such an array that returns `(N, F)`.
            title: string, shown while it works. Defaults to `"features"`.

        Returns:
            Itself.
        """
        missing = [s for s in self.starts if not self._path(s).exists()]
        for start in progress.track(missing, title, disable=not missing):
            stop = min(start + self.starts.step, self.count)
            values = features(read(list(range(start, stop))))
            with whole_file(self._path(start)) as draft:
                np.save(draft, values)
        return self

    def __iter__(self):
        """The features, one array a file."""
        for start in self.starts:
            yield np.load(self._path(start))

    def statistics(self):
        """`FeatureStatistics` of all, with one file in memory at a time."""
        statistics = None
        for features in self:
            statistics = statistics or FeatureStatistics(features.shape[1])
            statistics.add(features)
        return statistics

    def take(self, count, seed=0):
        """A random choice of at most `count` of the features.

        Returns:
            A float32 array, in the order of the pictures.
        """
        rng = np.random.default_rng(seed)
        chosen = np.zeros(self.count, bool)
        chosen[rng.permutation(self.count)[:count]] = True
        parts = [
            features[chosen[start : start + self.starts.step]]
            for start, features in zip(self.starts, self, strict=True)
        ]
        return np.concatenate(parts)

    def _path(self, start):
        return self.folder / f"{start:08d}.npy"
