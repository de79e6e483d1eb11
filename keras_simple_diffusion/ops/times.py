from keras import ops


def stratify(uniform, shift):
    """Spread times evenly over the noise levels, one to a range of its own.

    `(0, 1)` is split into as many ranges as there are times, and each time
    falls at random within one of them. Which range comes first is random too,
    so that every time on its own is uniform on `(0, 1)`.

    Args:
        uniform: float32 tensor of shape `(B,)`, uniform on `[0, 1)`.
        shift: float32 tensor of shape `(1,)`, uniform on `[0, 1)`.

    Returns:
        A float32 tensor of shape `(B,)`.
    """
    indices = ops.arange(ops.shape(uniform)[0], dtype="float32")
    count = ops.cast(ops.shape(uniform)[0], "float32")
    ranges = ops.mod(indices + ops.floor(shift * count), count)
    return (ranges + uniform) / count
