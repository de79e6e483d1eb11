"""The two ways in which pictures are made 299 pixels wide for Inception."""

import numpy as np
from keras import ops

RESIZINGS = ("original", "pytorch")


def bilinear_matrix(size, new_size, resize):
    """The matrix that resizes one axis.

    `"original"` puts pixel `i` of the result at `i * size / new_size`, as
    TensorFlow 1 did; `"pytorch"` puts its centre there. Neither smooths what
    it makes smaller.

    Args:
        size: int.
        new_size: int.
        resize: string, `"original"` or `"pytorch"`.

    Returns:
        A float32 array of shape `(new_size, size)`, whose rows sum to 1.
    """
    scale = np.float32(size) / np.float32(new_size)
    place = np.arange(new_size, dtype="float32")
    if resize == "pytorch":
        half = np.float32(0.5)
        place = np.maximum((place + half) * scale - half, np.float32(0.0))
    else:
        place = place * scale
    lower = np.minimum(place.astype("int64"), size - 1)
    upper = np.minimum(lower + 1, size - 1)
    share = place - lower.astype("float32")
    rows = np.arange(new_size)
    matrix = np.zeros((new_size, size), "float32")
    matrix[rows, lower] += 1.0 - share
    matrix[rows, upper] += share
    return matrix


def resize_pictures(pictures, new_size, resize):
    """Resize pictures and scale them as the network was fed.

    Args:
        pictures: tensor of shape `(B, H, W, C)` in [0, 255].
        new_size: int. Height and width of the result.
        resize: string, `"original"` or `"pytorch"`.

    Returns:
        A float32 tensor of shape `(B, new_size, new_size, C)`.
    """
    pictures = ops.cast(pictures, "float32")
    _, height, width, _ = pictures.shape
    down = ops.convert_to_tensor(bilinear_matrix(height, new_size, resize))
    across = ops.convert_to_tensor(bilinear_matrix(width, new_size, resize))
    pictures = ops.einsum("jw,bhwc->bhjc", across, pictures)
    pictures = ops.einsum("ih,bhjc->bijc", down, pictures)
    if resize == "original":
        return (pictures - 128.0) / 128.0
    return pictures * (2.0 / 255.0) - 1.0
