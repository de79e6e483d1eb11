"""What the networks that measure pictures share."""

import numpy as np

from keras_simple_diffusion.distribution import native
from keras_simple_diffusion.distribution.batches import num_batch_parts
from keras_simple_diffusion.distribution.batches import split_batch
from keras_simple_diffusion.models.compilation import compile_function
from keras_simple_diffusion.utils.errors import InputError


class PictureFeatures:
    """Base class of the networks that turn pictures into features.

    All pictures go through the network in batches of one size, so that a
    picture has the same features whatever batches it comes in.

    Args:
        name: string.
        size: int. Number of features of a picture.
        batch_size: int. Pictures in one pass.
        function: function of a `uint8` tensor of shape
            `(batch_size, H, W, C)` that returns features.
        variables: list of the `keras.Variable`s that it reads.

    Attributes:
        name: string that changes whenever the features do.
        size: int. Number of features of a picture.
        batch_size: int. Pictures in one pass.

    Call arguments:
        pictures: `uint8` array of shape `(N, H, W, C)`, with 1 or 3 channels.

    Returns:
        A float32 array of shape `(N, size)`.
    """

    def __init__(self, name, size, batch_size, function, variables):
        if batch_size < 1:
            raise InputError(
                f"`batch_size` must be at least 1. Received: {batch_size}"
            )
        self.name = name
        self.size = size
        self.batch_size = batch_size
        self._compiled = compile_function(function, variables, False)

    def __call__(self, pictures):
        pictures = np.asarray(pictures)
        if (
            pictures.dtype != "uint8"
            or pictures.ndim != 4
            or pictures.shape[-1] not in (1, 3)
        ):
            raise InputError(
                "Pictures must be uint8 of shape (N, H, W, 1 or 3). Received: "
                f"{pictures.dtype} of shape {pictures.shape}"
            )
        if not len(pictures):
            return np.zeros((0, self.size), "float32")
        (features,) = in_batches(
            lambda batch: (self._compiled(batch),), [pictures], self.batch_size
        )
        return features


def in_batches(function, arrays, batch_size):
    """Apply a function to arrays, in batches of one size.

    The last batch is filled up: one size, one program. Each batch is split
    over the devices.

    Args:
        function: function of as many tensors as there are arrays, with
            `batch_size` rows, that returns a tuple of tensors with as many.
        arrays: list of arrays of at least one row, or of `None`s, which are
            handed on.
        batch_size: int. It is made a multiple of the devices.

    Returns:
        A list of arrays with as many rows as `arrays`.
    """
    count = max(len(array) for array in arrays if array is not None)
    parts = num_batch_parts()
    batch_size = -(-batch_size // parts) * parts
    batches = []
    for start in range(0, count, batch_size):
        taken = np.arange(start, start + batch_size).clip(max=count - 1)
        batch = function(
            *(
                None if array is None else split_batch(array[taken])
                for array in arrays
            )
        )
        batches.append([native.to_numpy(part) for part in batch])
    return [
        np.concatenate(parts)[:count] for parts in zip(*batches, strict=True)
    ]
