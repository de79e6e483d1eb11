import functools

import keras
import numpy as np

from keras_simple_diffusion.distribution import native
from keras_simple_diffusion.distribution.batches import num_batch_parts
from keras_simple_diffusion.distribution.batches import split_batch
from keras_simple_diffusion.utils.errors import InputError


def run_batches(function, rows, shared, batch_size, fixed=False):
    """Call a compiled function batch by batch, always of one size.

    Args:
        function: function of a dict of tensors that returns tensors.
        rows: nested dict of arrays, or `None`s, with as many rows each.
        shared: dict of tensors that all batches have.
        batch_size: int. It is made a multiple of the devices.
        fixed: bool. Whether fewer rows than that fill a whole batch too, so
            that the results do not depend on their number. Defaults to
            `False`.

    Returns:
        A NumPy array with a row for each, or a tuple of such.
    """
    if batch_size < 1:
        raise InputError(
            f"`batch_size` must be at least 1. Received: {batch_size}"
        )
    count = max(len(v) for v in keras.tree.flatten(rows) if v is not None)
    parts = num_batch_parts()
    if not fixed:
        batch_size = min(batch_size, count)
    batch_size = -(-batch_size // parts) * parts
    batches = []
    for start in range(0, count, batch_size):
        # The last batch is filled up: one size, one program.
        taken = np.arange(start, start + batch_size).clip(max=count - 1)
        inputs = keras.tree.map_structure(functools.partial(_take, taken), rows)
        batch = function({**inputs, **shared})
        if not isinstance(batch, tuple):
            batch = (batch,)
        batches.append([native.to_numpy(part) for part in batch])
    results = [
        np.concatenate(parts)[:count] for parts in zip(*batches, strict=True)
    ]
    return results[0] if len(results) == 1 else tuple(results)


def _take(taken, values):
    return None if values is None else split_batch(np.asarray(values)[taken])
