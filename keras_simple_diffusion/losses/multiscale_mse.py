from keras import ops


def multiscale_mse(error, base_size=32):
    """Mean squared error summed over average-pooled resolutions.

    ```
    sum over s in {base_size, ..., size / 2, size} of 1/s mean(pool_s(error)^2)
    ```

    Pooling is linear, so the minimiser is the same as that of the plain error;
    only the balance between coarse and fine structure changes. The full
    resolution is always part of the sum, and it is halved as long as both
    sides are even and the shorter one stays at `base_size` or above.

    Args:
        error: float tensor of shape `(B, H, W, C)`, usually in epsilon.
        base_size: int. The smallest resolution, in pixels of the shorter
            side. Defaults to `32`.

    Returns:
        A float32 tensor of shape `(B,)`.

    Example:
    >>> error = keras.random.normal((4, 128, 128, 3))
    >>> loss = keras_simple_diffusion.losses.multiscale_mse(error)  # (4,)

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), sec. 3.2
    """
    error = ops.cast(ops.convert_to_tensor(error), "float32")
    height, width = error.shape[1:3]
    total = _mse(error) / min(height, width)
    while height % 2 == width % 2 == 0 and min(height, width) // 2 >= base_size:
        height, width = height // 2, width // 2
        error = ops.average_pool(
            error, (2, 2), strides=(2, 2), data_format="channels_last"
        )
        total = total + _mse(error) / min(height, width)
    return total


def _mse(error):
    return ops.mean(ops.square(error), axis=(1, 2, 3))
