"""Fixed positions of the patches of an image: added vectors, and rotations.

Both are computed from the row and the column of a patch, so that a network
with them can be built for any size of images.
"""

import keras
from keras import ops

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integer

_MAX_PERIOD = 10000.0


def _frequencies(count):
    exponents = ops.arange(count, dtype="float32") / count
    return ops.power(_MAX_PERIOD, -exponents)


def _grid_angles(height, width, count):
    """Return the angles of rows and columns, two of `(height * width, count)`.

    Angles are positions times `count` frequencies.
    """
    frequencies = _frequencies(count)
    rows, columns = (
        ops.arange(size, dtype="float32")[:, None] * frequencies
        for size in (height, width)
    )
    # `ops.repeat` would need values, which a meta device of PyTorch has not.
    rows = ops.reshape(ops.tile(rows, (1, width)), (height * width, count))
    return rows, ops.tile(columns, (height, 1))


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class SinusoidalPositions2D(keras.layers.Layer):
    """Addition of a fixed vector for each pixel of a feature map.

    The first half of the channels is `[sin, cos]` of the column times a
    quarter as many frequencies as channels, the second half that of the row.

    Args:
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C)`, with fixed `H` and `W`, and `C` a multiple of 4.

    Output shape:
        The shape of the input.

    References:
        - [Peebles & Xie, 2022](https://arxiv.org/abs/2212.09748)
    """

    def call(self, x):
        _, height, width, channels = x.shape
        rows, columns = _grid_angles(height, width, channels // 4)
        vectors = ops.concatenate(
            [ops.sin(columns), ops.cos(columns), ops.sin(rows), ops.cos(rows)],
            axis=-1,
        )
        vectors = ops.reshape(vectors, (1, height, width, channels))
        return x + ops.cast(vectors, x.dtype)

    def compute_output_shape(self, x_shape):
        return x_shape


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class RotaryPositions2D(keras.layers.Layer):
    """Rotations of queries and keys by the row and the column of a patch.

    Channels are rotated in pairs, those of the first half of a head by the row
    times a frequency, those of the second half by the column. Tokens before the
    patches are not rotated.

    Args:
        head_dim: int. Channels of one head, a multiple of 4.
        num_before: int. Number `n` of tokens before the patches. Defaults to
            `0`.
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C)`, the patches in rows and columns.

    Output shape:
        `(2, n + H * W, head_dim)`, float32: cosines and sines for `rotate`.

    References:
        - [Su et al., 2021](https://arxiv.org/abs/2104.09864)
    """

    def __init__(self, head_dim, num_before=0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.head_dim = check_integer("head_dim", head_dim)
        if self.head_dim % 4:
            raise InputError(
                "The channels of a head must be a multiple of 4, a pair for "
                f"rows and one for columns. Received: head_dim={head_dim}"
            )
        self.num_before = check_integer("num_before", num_before, minimum=0)

    def call(self, patches):
        angles = ops.concatenate(
            _grid_angles(*patches.shape[1:3], self.head_dim // 4), axis=-1
        )
        angles = ops.pad(angles, ((self.num_before, 0), (0, 0)))
        angles = ops.stack([angles, angles], axis=-1)
        angles = ops.reshape(angles, (-1, self.head_dim))
        return ops.stack([ops.cos(angles), ops.sin(angles)])

    def compute_output_shape(self, patches_shape):
        _, height, width, _ = patches_shape
        return (2, self.num_before + height * width, self.head_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "head_dim": self.head_dim,
            "num_before": self.num_before,
        }


def rotate(x, rotation):
    """Rotate pairs of neighboring channels.

    Args:
        x: float tensor of shape `(B, heads, N, d)`.
        rotation: float tensor of shape `(2, N, d)`, see `RotaryPositions2D`.

    Returns:
        A tensor of the shape and dtype of `x`.
    """
    cosine, sine = ops.unstack(ops.cast(rotation, x.dtype), 2, axis=0)
    pairs = ops.reshape(x, (-1, *x.shape[1:-1], x.shape[-1] // 2, 2))
    first, second = ops.unstack(pairs, 2, axis=-1)
    turned = ops.reshape(
        ops.stack([-second, first], axis=-1), (-1, *x.shape[1:])
    )
    return x * cosine + turned * sine
