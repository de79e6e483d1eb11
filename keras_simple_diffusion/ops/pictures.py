"""Pictures at the boundary (`uint8`) and inside (float32 in [-1, 1])."""

from keras import ops


def from_uint8(images):
    """Scale `uint8` pictures to float32 in `[-1, 1]`.

    Pictures that are floating point already are taken to be in `[-1, 1]` and
    only cast.

    Args:
        images: tensor of shape `(B, H, W, C)`, integer in `[0, 255]` or float
            in `[-1, 1]`.

    Returns:
        A float32 tensor of the same shape.
    """
    images = ops.convert_to_tensor(images)
    if "float" in str(images.dtype):
        return ops.cast(images, "float32")
    return ops.cast(images, "float32") / 127.5 - 1.0


def to_uint8(images):
    """Round pictures in `[-1, 1]` to `uint8`, clipping what lies outside.

    Args:
        images: float tensor of shape `(B, H, W, C)`.

    Returns:
        A `uint8` tensor of the same shape.
    """
    images = (ops.cast(images, "float32") + 1.0) * 127.5
    return ops.cast(ops.clip(ops.round(images), 0, 255), "uint8")
