"""Features in checked files, so that an evaluation can be resumed."""

import hashlib
import json
import os
import pathlib

import numpy as np

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.distribution.processes import wait_for_all
from keras_simple_diffusion.metrics.frechet import FeatureStatistics
from keras_simple_diffusion.utils.bars import Bar
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import is_intact
from keras_simple_diffusion.utils.files import remove_drafts
from keras_simple_diffusion.utils.files import seal
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.files import whole_file


class FeatureShards:
    """Features of many images, in `.npy` files of some images each.

    Each file ends with a SHA-256 digest of its content and of `key`. A
    damaged file, or one that was computed from anything else, counts as
    missing. Iterating yields the array of one file after the other.

    Args:
        folder: path of the files.
        count: int. Number of images.
        shard_size: int. Images per file. Defaults to `256`.
        key: string. All that the features depend on, such as digests of the
            images and of the network. Defaults to `""`.
    """

    def __init__(self, folder, count, shard_size=256, key=""):
        self.folder = pathlib.Path(folder)
        self.count = count
        self.starts = range(0, count, shard_size)
        self.key = key

    def __len__(self):
        return self.count

    def __iter__(self):
        for start in self.starts:
            features = self.load(start)
            if features is None:  # It was removed or damaged meanwhile.
                raise InputError(
                    f"'{self.path(start)}' is missing or damaged. Evaluate "
                    "again, with --resume (in Python `resume=True`)."
                )
            yield features

    def path(self, start):
        """Return the path of the file whose first image is number `start`."""
        return self.folder / f"{start:08d}.npy"

    def load(self, start):
        """Read the features of one file.

        Args:
            start: int. Number of its first image.

        Returns:
            An array, or `None` if the file is missing or damaged.
        """
        features = _load(self.path(start), self._key_of(start))
        expected = min(self.starts.step, self.count - start)
        is_whole = isinstance(features, np.ndarray) and features.ndim > 0
        return features if is_whole and len(features) == expected else None

    def save(self, start, features):
        """Write the features of one file.

        Args:
            start: int. Number of its first image.
            features: array with one row per image.
        """
        with whole_file(self.path(start)) as draft:
            np.save(draft, features)
            seal(draft, self._key_of(start))

    def spread(self, count):
        """Take at most `count` evenly spaced images.

        Args:
            count: int.

        Returns:
            A tuple of int64 numbers of images, and the array of features.
        """
        count = min(count, self.count)
        numbers = np.arange(count) * self.count // count
        parts = []
        for start, features in zip(self.starts, self, strict=True):
            is_inside = (start <= numbers) & (numbers < start + len(features))
            parts.append(features[numbers[is_inside] - start])
        return numbers, np.concatenate(parts)

    def _key_of(self, start):
        return f"{self.key} {start}"

    def statistics(self):
        """Compute `FeatureStatistics` of all, with one file in memory."""
        statistics = None
        for features in self:
            statistics = statistics or FeatureStatistics(features.shape[1])
            statistics.add(features)
        return statistics

    def take(self, count, seed=0):
        """Choose at most `count` of the features at random.

        Args:
            count: int.
            seed: int. Defaults to `0`.

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
    """Compute the features that are missing.

    All processes take part, and the main one writes.

    Args:
        read: function of a list of image numbers that returns these images.
            It is called once per file, whatever is computed from them.
        outputs: list of tuples of `FeatureShards` and a function of images
            that returns `(N, F)`. All must be divided into the same files.
        title: string. Label of the progress bar. Defaults to `"features"`.
    """
    first, _ = outputs[0]
    if is_main_process():
        for shards, _ in outputs:
            remove_drafts(shards.folder)
    missing = np.array(
        [[s.load(start) is None for s, _ in outputs] for start in first.starts]
    )
    # The main process decides: it may already write while others look.
    missing = native.from_main_process(missing)
    rows = np.flatnonzero(missing.any(axis=1))
    stops = [min(s + first.starts.step, first.count) for s in first.starts]
    sizes = [stops[row] - first.starts[row] for row in rows]
    done = np.cumsum(sizes)
    with Bar(title, sum(sizes), is_hidden=not is_main_process()) as bar:
        for row, so_far in zip(rows, done, strict=True):
            start = first.starts[row]
            images = read(list(range(start, stops[row])))
            for (shards, function), is_missing in zip(
                outputs, missing[row], strict=True
            ):
                if not is_missing:
                    continue
                features = function(images)
                if is_main_process():
                    shards.save(start, features)
            bar.reach(so_far)
    wait_for_all()


def image_digests(images):
    """Compute the SHA-256 digest of each image.

    Args:
        images: `uint8` array of shape `(N, H, W, C)`.

    Returns:
        A `uint8` array of shape `(N, 32)`.
    """
    digests = b"".join(hashlib.sha256(p.tobytes()).digest() for p in images)
    return np.frombuffer(digests, "uint8").reshape(len(images), 32)


def _load(path, key):
    """Load a file of NumPy's that was sealed; `None` if it is not intact."""
    if not is_intact(path, key):
        return None
    try:
        with path.open("rb") as file:
            return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # It never was one of NumPy's.
        return None


def reference_shards(source, features, cache=None, title="reference"):
    """Compute features of real images, or find them in a cache.

    Their place in the cache is a digest of the data, the shape of the images,
    and the network with its resizing.

    Args:
        source: a `keras_simple_diffusion.data.ImageSource`.
        features: function with a `name`, such as
            `keras_simple_diffusion.metrics.InceptionFeatures`.
        cache: path of a folder. Defaults to `KSD_CACHE`, or
            `~/.cache/keras_simple_diffusion`.
        title: string. Label of the progress bar. Defaults to `"reference"`.

    Returns:
        `FeatureShards`.
    """
    if cache is None:
        default = "~/.cache/keras_simple_diffusion"
        cache = pathlib.Path(os.environ.get("KSD_CACHE", default)).expanduser()
    key = {
        "data": source.content_digest(),
        "count": len(source),
        "image_shape": list(source.image_shape),
        "crop": getattr(source, "crop", "none"),
        "features": features.name,
    }
    text = json.dumps(key, indent=2)
    digest = sha256(text)
    folder = pathlib.Path(cache) / f"reference-{digest[:16]}"
    shards = FeatureShards(folder, len(source), key=digest)

    def read(numbers):
        return np.stack([source[i]["images"] for i in numbers])

    fill_shards(read, [(shards, features)], title)
    if is_main_process() and not (folder / "key.json").exists():
        with whole_file(folder / "key.json") as draft:
            draft.write_text(text + "\n")
    return shards


def reference_features(source, features, cache=None, title="reference"):
    """Compute features of real images and their statistics, or find them.

    Args:
        source, features, cache, title: see `reference_shards`.

    Returns:
        A tuple of `FeatureShards` and `FeatureStatistics`.
    """
    shards = reference_shards(source, features, cache, title)
    path = shards.folder / "statistics.npz"
    if is_main_process() and not is_intact(path, shards.key):
        with whole_file(path) as draft:
            shards.statistics().save(draft)
            seal(draft, shards.key)
    wait_for_all()
    return shards, FeatureStatistics.load(path)
