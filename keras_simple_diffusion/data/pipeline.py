"""Batches for `fit`, each a function of its number."""

import bisect
import concurrent.futures
import contextlib
import functools
import itertools
import os
import sys
import time
import warnings

import grain
import numpy as np

from keras_simple_diffusion.backend.keras_internals import is_killed_worker
from keras_simple_diffusion.backend.keras_internals import prepare_grain_workers
from keras_simple_diffusion.backend.native import reuse_freed_memory
from keras_simple_diffusion.data.sources import stack
from keras_simple_diffusion.utils.errors import InputError

_BATCHES_AHEAD = 2


def training_batches(
    source,
    batch_size,
    seed=0,
    flip=False,
    start_step=0,
    process_index=0,
    process_count=1,
    num_workers=0,
    keys=("images", "labels"),
):
    """Return endless, shuffled batches for `fit`, the same in every run.

    Each epoch has its own permutation of the images; the epochs form one
    endless stream. Batch `s` consists of its elements `s * batch_size` to
    `(s + 1) * batch_size - 1`. Crops, flips and captions of an element depend
    on the seed and its position in the stream. So a run resumes at
    `start_step` with the batches of an uninterrupted run, at no cost and with
    any number of processes and workers.

    Of a `BucketedSource` each batch has images of one size, the same in all
    processes. Each bucket has a stream of its own. Those images of a bucket
    that fill no batch come in one of its next epoch, so that all images come
    equally often in the long run.

    Args:
        source: an `ImageSource`, see `keras_simple_diffusion.data.open_data`.
        batch_size: int. Images per step, over all processes.
        seed: int. Seed of permutations, flips and crops. Defaults to `0`.
        flip: bool. Whether to mirror half of the images left to right.
            Defaults to `False`.
        start_step: int. Number of the first batch. Defaults to `0`.
        process_index: int. Share of each batch to read, `0` to
            `process_count - 1`. Defaults to `0`.
        process_count: int. Number of shares; concatenated in order they are
            the whole batch. Defaults to `1`.
        num_workers: int. Number of processes that read and decode; `0` uses
            threads of this process. Defaults to `0`.
        keys: names of the entries of each example to keep, as far as they
            exist. Defaults to `("images", "labels")`.

    Returns:
        `Batches`, a `grain.IterDataset` of dicts of stacked arrays.

    Example:
    >>> digits = keras_simple_diffusion.data.open_data("digits", 16)
    >>> batches = keras_simple_diffusion.data.training_batches(digits, 64)
    >>> history = model.fit(batches, steps_per_epoch=2, epochs=1)
    """
    if batch_size % process_count:
        raise InputError(
            "`batch_size` must be divisible by `process_count`. Received: "
            f"batch_size={batch_size}, process_count={process_count}"
        )
    if source.has_captions and not {"captions", "context"} & set(keys):
        warnings.warn(
            "The captions of the data are not used. A preset of text to images "
            "uses them, such as uvit_emoji_64; in Python, add 'captions' to "
            "`keys`.",
            stacklevel=2,
        )
    num_threads = 1 if num_workers else min(16, os.cpu_count() or 1)
    share = batch_size // process_count
    orders = _Orders(len(source), share, seed)
    if source.mixture is not None:
        orders = _MixedOrders(*source.mixture, share, seed)
    if source.buckets is not None:
        orders = _BucketOrders(source.buckets, share, process_count, seed)
    shares = grain.MapDataset.source(orders)
    ours = shares[start_step * process_count + process_index :: process_count]
    batches = ours.map(_Load(source, seed, flip, keys, num_threads))
    batches = batches.to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=_BATCHES_AHEAD)
    )
    if num_workers:
        prepare_grain_workers()
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers, per_worker_buffer_size=_BATCHES_AHEAD
            )
        ).map(_out_of_shared_memory)
    return Batches(batches, source.buckets is not None)


def _out_of_shared_memory(batch):
    return {key: np.array(array) for key, array in batch.items()}


class Batches(grain.IterDataset):
    """Dataset that records the time spent waiting for its batches.

    Attributes:
        seconds_waited: float. Total time spent in the iterator. On TensorFlow
            Keras prefetches, so training waited less than this.
        error: the exception that ended the iteration, or `None`.
        is_checked: `True`. Images come from a decoder, labels from the data,
            so that `fit` need not look at a first batch.
        has_sizes: bool. `True` if batches differ in the size of their images.
    """

    is_checked = True

    def __init__(self, batches, has_sizes=False):
        super().__init__(batches)
        self._batches = batches
        self.has_sizes = has_sizes
        self.seconds_waited = 0.0
        self.error = None

    def __iter__(self):
        return _BatchIterator(iter(self._batches), self)

    @contextlib.contextmanager
    def errors_as_raised(self):
        """Re-raise the original exception of the data pipeline.

        TensorFlow would replace it with an error of its own.
        """
        try:
            yield
        except Exception:
            if self.error is not None:
                raise self.error from None
            raise


class _BatchIterator(grain.DatasetIterator):
    def __init__(self, batches, owner):
        super().__init__(batches)
        self._batches = batches
        self._owner = owner

    def __next__(self):
        started = time.perf_counter()
        reuse_freed_memory()  # Keras has made a dataset of these batches.
        try:
            return next(self._batches)
        except Exception as error:
            if is_killed_worker(error):
                error = InputError(
                    "A process that reads images was killed, perhaps for "
                    "lack of memory. Use fewer workers, and resume from the "
                    "last checkpoint."
                )
            # Keep the first error: TensorFlow may request more batches.
            self._owner.error = self._owner.error or error
            raise error
        finally:
            self._owner.seconds_waited += time.perf_counter() - started

    def get_state(self):
        return self._batches.get_state()

    def set_state(self, state):
        self._batches.set_state(state)


class _Orders:
    """Positions in the stream and image numbers of each share of a batch.

    Grain's own shuffle computes each index separately. It needs no memory,
    but takes 0.15 ms per image in a set of 300.

    Args:
        length: int. Number of images.
        size: int. Number of images of a share.
        seed: int.
    """

    def __init__(self, length, size, seed):
        self.length = length
        self.size = size
        self.seed = seed

    def __len__(self):
        return sys.maxsize // self.size

    def __getitem__(self, number):
        places = range(number * self.size, (number + 1) * self.size)
        return [(place, self._index(place)) for place in places]

    def _index(self, place):
        epoch, index = divmod(place, self.length)
        return int(_permutation(self.length, self.seed, epoch)[index])


class _MixedOrders(_Orders):
    """The same of a mixture with weights.

    Each block of the stream holds each source as often as its share says, in
    an order of its own. The images of a source, block after block, are a
    stream of their own, which has a permutation for each of its epochs.

    Args:
        lengths: list of ints. Numbers of images of the sources.
        shares: list of ints. Number of images of each in a block.
        size: int. Number of images of a share of a batch.
        seed: int.
    """

    def __init__(self, lengths, shares, size, seed):
        super().__init__(sum(lengths), size, seed)
        self.lengths = lengths
        self.shares = shares
        self.starts = [0, *itertools.accumulate(lengths)]

    def _index(self, place):
        block, inside = divmod(place, sum(self.shares))
        parts, ranks = _schedule(tuple(self.shares), self.seed, block)
        part = parts[inside]
        turn = block * self.shares[part] + int(ranks[inside])
        length = self.lengths[part]
        epoch, index = divmod(turn, length)
        order = _permutation(length, self.seed, int(part), epoch)
        return self.starts[part] + int(order[index])


class _BucketOrders(_Orders):
    """The same of images in buckets, one bucket a batch.

    The images of a bucket, epoch after epoch, are a stream of their own, which
    is cut into batches. In epoch `e` come the batches that end within the
    bucket's own epoch `e`, those of all buckets in random order.

    Args:
        buckets: list of int arrays, the images of each.
        size: int. Number of images of a share of a batch.
        count: int. Number of shares of a batch.
        seed: int.
    """

    def __init__(self, buckets, size, count, seed):
        super().__init__(sum(map(len, buckets)), size, seed)
        self.buckets = buckets
        self.count = count

    def __getitem__(self, number):
        step, part = divmod(number, self.count)
        bucket, rank = self._batch(step)
        images = self.buckets[bucket]
        first = (rank * self.count + part) * self.size
        found = []
        for offset in range(self.size):
            epoch, index = divmod(first + offset, len(images))
            order = _permutation(len(images), self.seed, bucket, epoch)
            place = number * self.size + offset
            found.append((place, int(images[order[index]])))
        return found

    def _batch(self, step):
        """Return the bucket of a step, and the number of its batch there."""
        batch_size = self.size * self.count
        # Of each bucket less than one batch is missing before an epoch.
        most = (step + len(self.buckets)) * batch_size // self.length + 1
        epochs = range(most + 1)
        epoch = bisect.bisect_right(epochs, step, key=self._steps_before) - 1
        before, after = self._counts(epoch), self._counts(epoch + 1)
        counts = tuple(b - a for a, b in zip(before, after, strict=True))
        parts, ranks = _schedule(counts, self.seed, epoch)
        inside = step - sum(before)
        bucket = int(parts[inside])
        return bucket, before[bucket] + int(ranks[inside])

    def _steps_before(self, epoch):
        return sum(self._counts(epoch))

    def _counts(self, epoch):
        """Number of batches of each bucket before an epoch."""
        batch_size = self.size * self.count
        return [epoch * len(images) // batch_size for images in self.buckets]


@functools.lru_cache(maxsize=4)
def _schedule(shares, seed, block):
    """Return the source of each place of a block, and its rank within it."""
    parts = np.repeat(np.arange(len(shares)), shares)
    sequence = np.random.SeedSequence(seed, spawn_key=(block, 0, 0))
    parts = np.random.default_rng(sequence).permutation(parts)
    ranks = np.empty(len(parts), int)
    for part, share in enumerate(shares):
        ranks[parts == part] = np.arange(share)
    return parts, ranks


@functools.lru_cache(maxsize=16)
def _permutation(length, seed, *key):
    # A stream of its own: elements are seeded by `(seed, place)`.
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    order = np.random.default_rng(sequence).permutation(length)
    return order.astype("uint32")  # Several are kept, half as large.


class _Load:
    """Loads the examples of a batch in threads."""

    def __init__(self, source, seed, flip, keys, num_threads):
        self.source = source
        self.seed = seed
        self.flip = flip
        self.keys = keys
        self.num_threads = num_threads

    def __getstate__(self):
        state = dict(self.__dict__)
        state.pop("_pool", None)
        return state

    @functools.cached_property
    def _pool(self):
        return concurrent.futures.ThreadPoolExecutor(self.num_threads)

    def __call__(self, orders):
        if self.num_threads == 1:
            return stack(self._load(orders), self.keys)
        size = -(-len(orders) // self.num_threads)
        parts = [orders[i : i + size] for i in range(0, len(orders), size)]
        loaded = self._pool.map(self._load, parts)
        return stack(list(itertools.chain(*loaded)), self.keys)

    def _load(self, orders):
        examples = []
        for place, index in orders:
            rng = np.random.default_rng((self.seed, place))
            flip = self.flip and rng.random() < 0.5
            example = self.source.example(index, rng)
            if flip:
                # The left and right of a turned portrait are up and down.
                axis = 0 if example.get("portrait") else 1
                example["images"] = _mirror(example["images"], axis)
            examples.append(example)
        return examples


def _mirror(image, axis):
    """Reverse an axis as `np.flip`; a copy is four times as fast by channels.

    Args:
        image: `uint8` array of shape `(H, W, C)`.
        axis: int, 0 or 1.
    """
    mirrored = np.empty_like(image)
    for channel in range(image.shape[2]):
        mirrored[..., channel] = np.flip(image[..., channel], axis)
    return mirrored
