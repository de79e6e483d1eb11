"""The 5/3 wavelet of JPEG 2000, by linear lifting without rounding.

One level splits a signal into even and odd samples and predicts the odd samples
from the even ones, with mirrored borders (whole-sample symmetric):

```
high[i] = odd[i] - (even[i] + even[i + 1]) / 2
low[i] = even[i] + (high[i - 1] + high[i]) / 4
```

Both bands are then scaled so that their analysis filters have unit norm. White
noise therefore has variance 1 in every band of the first level, and the inputs
of the network have comparable variance at every noise level. The low band of a
constant image `x` is `(64 / 46) x` in two dimensions. PyWavelets' `bior2.2` is
the same transform with the scales `sqrt(2)` and `-1 / sqrt(2)`: its high band
has the other sign.
"""

import math

from keras import ops

from keras_simple_diffusion.utils.errors import InputError

# One over the norms of (-1, 2, 6, 2, -1) / 8 and (-1, 2, -1) / 2.
LOW_SCALE = 8.0 / math.sqrt(46.0)
HIGH_SCALE = math.sqrt(2.0 / 3.0)


def dwt2(images, levels=1):
    """Compute the 5/3 wavelet transform of images, with bands as channels.

    Args:
        images: float tensor of shape `(B, H, W, C)`; `H` and `W` must be
            multiples of `2 ** levels`.
        levels: int, at least 0. Number of levels: each one splits the low
            band of the previous level. Defaults to `1`.

    Returns:
        A float32 tensor of shape `(B, H / 2^levels, W / 2^levels,
        C * 4^levels)`. The first `4 C` channels are the bands low-low,
        low-high, high-low and high-high (vertical direction first) of the
        last level. The three high bands of the earlier levels follow, with
        blocks of pixels moved to channels.

    Raises:
        InputError: if a side is not a multiple of `2 ** levels`.

    Example:
    >>> images = keras.random.normal((4, 32, 32, 3))
    >>> coefficients = keras_simple_diffusion.ops.dwt2(images, levels=2)
    >>> tuple(coefficients.shape)
    (4, 8, 8, 48)

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093),
          section 3.4
        - [Le Gall & Tabatabai, 1988](https://doi.org/10.1109/ICASSP.1988.196696)
    """
    images = ops.cast(ops.convert_to_tensor(images), "float32")
    height, width, channels = images.shape[1:]
    if height % 2**levels or width % 2**levels:
        raise InputError(
            f"`dwt2` with levels={levels} needs sides that are multiples of "
            f"{2**levels}. Received: images of shape {tuple(images.shape)}"
        )
    rest = []
    for level in reversed(range(levels)):
        bands = []
        for half in _split(images, axis=1):
            bands.extend(_split(half, axis=2))
        images = bands[0]
        high = ops.concatenate(bands[1:], axis=-1)
        rest.insert(0, _space_to_depth(high, 2**level))
    return ops.concatenate([images, *rest], axis=-1)


def idwt2(coefficients, levels=1):
    """Compute the inverse of `dwt2`.

    Args:
        coefficients: float tensor of shape `(B, H, W, C * 4^levels)`.
        levels: int. Defaults to `1`.

    Returns:
        A float32 tensor of shape `(B, H * 2^levels, W * 2^levels, C)`.

    Raises:
        InputError: if the channels are not a multiple of `4 ** levels`.
    """
    coefficients = ops.cast(ops.convert_to_tensor(coefficients), "float32")
    total = coefficients.shape[-1]
    if total % 4**levels:
        raise InputError(
            f"`idwt2` with levels={levels} needs channels that are a multiple "
            f"of {4**levels}. Received: coefficients of shape "
            f"{tuple(coefficients.shape)}"
        )
    channels = total // 4**levels
    images, used = coefficients[..., :channels], channels
    for level in range(levels):
        size = 3 * channels * 4**level
        high = _depth_to_space(coefficients[..., used : used + size], 2**level)
        used += size
        bands = [images, *ops.split(high, 3, axis=-1)]
        images = _join(
            _join(bands[0], bands[1], axis=2),
            _join(bands[2], bands[3], axis=2),
            axis=1,
        )
    return images


def _split(x, axis):
    even, odd = _every_second(x, axis)
    following = _shift(even, axis, -1)
    high = odd - 0.5 * (even + following)
    low = even + 0.25 * (_shift(high, axis, 1) + high)
    return LOW_SCALE * low, HIGH_SCALE * high


def _join(low, high, axis):
    low, high = low / LOW_SCALE, high / HIGH_SCALE
    even = low - 0.25 * (_shift(high, axis, 1) + high)
    odd = high + 0.5 * (even + _shift(even, axis, -1))
    shape = list(even.shape)
    shape[0], shape[axis] = -1, 2 * shape[axis]
    return ops.reshape(ops.stack([even, odd], axis=axis + 1), shape)


def _every_second(x, axis):
    shape = list(x.shape)
    shape[0] = -1
    shape[axis : axis + 1] = [shape[axis] // 2, 2]
    return ops.unstack(ops.reshape(x, shape), 2, axis=axis + 1)


def _shift(x, axis, by):
    """Shift by one sample and repeat the border, which mirrors the signal."""
    size = x.shape[axis]
    index = [slice(None)] * len(x.shape)
    border, inner = list(index), list(index)
    if by < 0:
        border[axis], inner[axis] = slice(size - 1, size), slice(1, size)
        parts = [x[tuple(inner)], x[tuple(border)]]
    else:
        border[axis], inner[axis] = slice(0, 1), slice(0, size - 1)
        parts = [x[tuple(border)], x[tuple(inner)]]
    return ops.concatenate(parts, axis=axis)


def _space_to_depth(x, size):
    height, width, channels = x.shape[1:]
    shape = (-1, height // size, size, width // size, size, channels)
    x = ops.transpose(ops.reshape(x, shape), (0, 1, 3, 2, 4, 5))
    shape = (-1, height // size, width // size, size * size * channels)
    return ops.reshape(x, shape)


def _depth_to_space(x, size):
    height, width, channels = x.shape[1:]
    channels //= size * size
    x = ops.reshape(x, (-1, height, width, size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height * size, width * size, channels))
