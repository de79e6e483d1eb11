"""Resizing of images, by matrices: the same result on every backend.

Bilinear as Inception needs it, bicubic with antialiasing for DINOv2 and CLIP.
"""

import numpy as np
from keras import ops

RESIZINGS = ("original", "pytorch")


def bilinear_matrix(size, new_size, resize):
    """Compute the matrix of bilinear resizing along one axis.

    `"original"` places pixel `i` of the result at `i * size / new_size`, as
    TensorFlow 1 did; `"pytorch"` aligns the centers of pixels. Neither is
    antialiased.

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


def resize_bilinear(images, size, resize):
    """Resize images to a square by bilinear interpolation.

    Args:
        images: tensor of shape `(B, H, W, C)` in [0, 255].
        size: int. Height and width of the result.
        resize: string, `"original"` or `"pytorch"`.

    Returns:
        A float32 tensor of shape `(B, size, size, C)` in [0, 255].
    """
    _, height, width, _ = images.shape
    return _multiply(
        images,
        bilinear_matrix(height, size, resize),
        bilinear_matrix(width, size, resize),
    )


def cubic_matrix(size, new_size):
    """Compute the matrix of antialiased bicubic resizing along one axis.

    Args:
        size: int.
        new_size: int.

    Returns:
        A float32 array of shape `(new_size, size)`, whose rows sum to 1.

    References:
        - [Keys, 1981](https://doi.org/10.1109/TASSP.1981.1163711), a = -1/2
    """
    scale = size / new_size
    centres = (np.arange(new_size) + 0.5) * scale
    width = max(scale, 1.0)
    # Pixels beyond the edges have no weight.
    distances = (np.arange(size) + 0.5 - centres[:, None]) / width
    matrix = cubic_kernel(distances, -0.5)
    matrix /= matrix.sum(1, keepdims=True)
    return matrix.astype("float32")


def cubic_kernel(distances, a):
    """Evaluate the cubic convolution kernel.

    Args:
        distances: float array, in pixels.
        a: float. Slope of the kernel at a distance of 1.

    Returns:
        A float array of the same shape.
    """
    x = np.abs(distances)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = a * (((x - 5.0) * x + 8.0) * x - 4.0)
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def resize_cubic(images, size, crop=False):
    """Resize images to a square by antialiased bicubic interpolation.

    Args:
        images: tensor of shape `(B, H, W, C)` in [0, 255].
        size: int. Height and width of the result.
        crop: bool. `True` resizes the shorter side and crops the longer one at
            the center; `False` resizes both. Defaults to `False`.

    Returns:
        A float32 tensor of shape `(B, size, size, C)` in [0, 255].
    """
    sides = images.shape[1:3]
    matrices = (_side_matrix(side, min(sides), size, crop) for side in sides)
    return ops.clip(_multiply(images, *matrices), 0.0, 255.0)


def _side_matrix(side, shorter, size, crop):
    if not crop:
        return cubic_matrix(side, size)
    length = int(size * side / shorter)
    start = (length - size) // 2
    return cubic_matrix(side, length)[start : start + size]


def _multiply(images, down, across):
    """Multiply both axes of images by the matrices that resize them."""
    images = ops.cast(images, "float32")
    across, down = ops.convert_to_tensor(across), ops.convert_to_tensor(down)
    images = ops.einsum("jw,bhwc->bhjc", across, images)
    return ops.einsum("ih,bhjc->bijc", down, images)


def normalize_images(images, mean, deviation):
    """Subtract the mean and divide by the deviation of each channel.

    Args:
        images: float32 tensor of shape `(B, H, W, C)` in [0, 255], of 1 or 3
            channels.
        mean: tuple of 3 floats, of images in [0, 1].
        deviation: tuple of 3 floats.

    Returns:
        A float32 tensor of shape `(B, H, W, 3)`.
    """
    mean = ops.convert_to_tensor(mean, "float32")
    deviation = ops.convert_to_tensor(deviation, "float32")
    return (images / 255.0 - mean) / deviation
