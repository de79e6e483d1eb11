"""Batches that are split over devices and processes."""

import functools

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.backend import replicas
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integer


def num_batch_parts():
    """Return the number of parts of a batch, 1 without a distribution."""
    distribution = keras.distribution.distribution()
    if distribution is not None:
        return distribution.num_model_replicas
    return replicas.replica()[1] if replicas.uses_torch_processes() else 1


def check_batch_size(batch_size):
    """Raise an `InputError` unless a batch of that size can be split evenly."""
    parts = num_batch_parts()
    if batch_size % parts:
        below = batch_size - batch_size % parts
        raise InputError(
            f"A batch is split over {parts} devices, so its size must be a "
            f"multiple of {parts}, such as {below or parts}. Received: "
            f"batch_size={batch_size}"
        )


def data_shard():
    """Return the share of every batch that this process provides.

    Share `i` of `n` is the `i`-th of `n` contiguous parts of the whole batch.
    Processes whose devices hold parts of the same copy of the network provide
    the same share.

    Returns:
        A tuple of ints `(index, count)`.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        is_split = replicas.uses_torch_processes()
        return replicas.replica() if is_split else (0, 1)
    count = min(distribution.num_processes, distribution.num_model_replicas)
    return distribution.data_shard_id, count


def own_share(arrays, batch_size):
    """Select this process's rows of arrays that all processes evaluate.

    Args:
        arrays: dict of arrays of equal length, the same in every process.
        batch_size: int. Rows in a whole batch, a multiple of
            `num_batch_parts()`.

    Returns:
        A tuple of the dict of this process's rows of all batches, and the
        number of its rows in a batch. The last rows are dropped if they cannot
        be split evenly.
    """
    index, count = data_shard()
    num_rows = len(next(iter(arrays.values())))
    rows = np.arange(num_rows - num_rows % num_batch_parts())
    batches = [
        np.split(rows[start : start + batch_size], count)[index]
        for start in range(0, len(rows), batch_size)
    ]
    own = np.concatenate(batches) if batches else rows
    shares = {key: array[own] for key, array in arrays.items()}
    return shares, batch_size // count


def split_batch(array):
    """Split a whole batch over the devices, along its first axis.

    Args:
        array: NumPy array, the same in every process; or, within a compiled
            function, a tensor.

    Returns:
        A tensor; on one device without a distribution.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        # Its own type: Keras's default is `floatx`, also for integers.
        dtype = keras.backend.standardize_dtype(array.dtype)
        return ops.convert_to_tensor(array, dtype)
    layout = distribution.get_data_layout(array.shape)
    return keras.distribution.distribute_tensor(array, layout)


def run_batches(function, rows, shared, batch_size, fixed=False):
    """Call a compiled function batch by batch, always of one size.

    Args:
        function: function of two dicts of tensors, a batch of the rows and
            what is shared, that returns tensors.
        rows: nested dict of arrays with the same number of rows.
        shared: nested dict of tensors that all batches have.
        batch_size: int. It is rounded up to a multiple of the devices.
        fixed: bool. Whether a smaller number of rows is padded to a whole
            batch as well, so that the results do not depend on it. Defaults
            to `False`.

    Returns:
        A NumPy array with a row for each, or a tuple of arrays.
    """
    batch_size = check_integer("batch_size", batch_size)
    count = len(keras.tree.flatten(rows)[0])
    parts = num_batch_parts()
    if not fixed:
        batch_size = min(batch_size, count)
    batch_size = -(-batch_size // parts) * parts
    batches = []
    for start in range(0, count, batch_size):
        # The last batch is padded: one size, one program.
        taken = np.arange(start, start + batch_size).clip(max=count - 1)
        inputs = keras.tree.map_structure(functools.partial(_take, taken), rows)
        batch = function(inputs, shared)
        if not isinstance(batch, tuple):
            batch = (batch,)
        batch = map(replicas.join_rows, batch)
        batches.append([native.to_numpy(part) for part in batch])
    results = [
        np.concatenate(parts)[:count] for parts in zip(*batches, strict=True)
    ]
    return results[0] if len(results) == 1 else tuple(results)


def _take(taken, values):
    return split_batch(replicas.own_part(np.asarray(values)[taken]))
