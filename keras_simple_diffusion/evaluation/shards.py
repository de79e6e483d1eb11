import hashlib
import pathlib

import numpy as np
from rich import progress

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.distribution.processes import wait_for_all
from keras_simple_diffusion.metrics.frechet import FeatureStatistics
from keras_simple_diffusion.utils.files import whole_file


class FeatureShards:
    """Features of many images, in files that an interruption does not lose.

    Iterating gives one array a file.

    Args:
        folder: path of the files.
        count: int. Number of images.
        shard_size: int. Images a file. Defaults to `256`.
    """

    def __init__(self, folder, count, shard_size=256):
        self.folder = pathlib.Path(folder)
        self.count = count
        self.starts = range(0, count, shard_size)

    def __len__(self):
        return self.count

    def __iter__(self):
        for start in self.starts:
            yield np.load(self.path(start))

    def path(self, start):
        """Path of the file whose first image has the number `start`."""
        return self.folder / f"{start:08d}.npy"

    def is_missing(self, start):
        """Whether that file has yet to be computed."""
        return not self.path(start).exists()

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
            An array, in the order of the images.
        """
        rng = np.random.default_rng(seed)
        chosen = np.zeros(self.count, bool)
        chosen[rng.permutation(self.count)[:count]] = True
        taken, filled = None, 0
        for start, features in zip(self.starts, self, strict=True):
            part = features[chosen[start : start + self.starts.step]]
            if taken is None:
                shape = (int(chosen.sum()), *features.shape[1:])
                taken = np.empty(shape, features.dtype)
            taken[filled : filled + len(part)] = part
            filled += len(part)
        return taken


def fill_shards(read, outputs, title="features"):
    """Compute the features that are not there yet.

    All processes take part, and the main one writes.

    Args:
        read: function of a list of image numbers that returns these
            images. It is called once for all that is computed of them.
        outputs: list of tuples of `FeatureShards` and a function of images
            that returns `(N, F)`. All have the same files.
        title: string, shown while it works. Defaults to `"features"`.
    """
    first, _ = outputs[0]
    missing = np.array(
        [[s.is_missing(start) for s, _ in outputs] for start in first.starts]
    )
    # The same work in every process, whatever the others write meanwhile.
    missing = native.from_main_process(missing)
    rows = np.flatnonzero(missing.any(axis=1))
    hidden = not len(rows) or not is_main_process()
    for row in progress.track(rows, title, disable=hidden):
        start = first.starts[row]
        stop = min(start + first.starts.step, first.count)
        images = read(list(range(start, stop)))
        for (shards, function), is_missing in zip(
            outputs, missing[row], strict=True
        ):
            if not is_missing:
                continue
            features = function(images)
            if is_main_process():
                with whole_file(shards.path(start)) as draft:
                    np.save(draft, features)
    wait_for_all()


def image_digests(images):
    """The SHA-256 of each image's bytes.

    Args:
        images: `uint8` array of shape `(N, H, W, C)`.

    Returns:
        A `uint8` array of shape `(N, 32)`.
    """
    digests = b"".join(hashlib.sha256(p.tobytes()).digest() for p in images)
    return np.frombuffer(digests, "uint8").reshape(len(images), 32)


def digest_of(arrays):
    """One SHA-256 of several arrays in order, as a hexadecimal string."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
