import keras
from keras import layers
from keras import ops

from keras_simple_diffusion.backend.compilation import inner
from keras_simple_diffusion.layers.fused_layers import Dense
from keras_simple_diffusion.layers.protocol import SPLIT_OUTPUTS
from keras_simple_diffusion.layers.protocol import dense_product
from keras_simple_diffusion.ops.wavelet import dwt2
from keras_simple_diffusion.ops.wavelet import idwt2
from keras_simple_diffusion.utils.errors import check_integer


class _Resampling2D(layers.Layer):
    """Base class of the layers between two levels of a network.

    They change the number of channels by a dense layer, which runs at the
    lower of the two resolutions.
    """

    weight_layouts = {"dense/kernel": SPLIT_OUTPUTS}

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = check_integer("channels", channels)
        self.dense = Dense(self.channels, dtype=self.dtype_policy, name="dense")

    def build(self, x_shape):
        self.dense.build(x_shape)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class Downsample2D(_Resampling2D):
    """Average pooling of 2 x 2 pixels, then a dense layer.

    Args:
        channels: int. Number of channels of the output.
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C)`, with even `H` and `W`.

    Output shape:
        `(B, H / 2, W / 2, channels)`.
    """

    def call(self, x):
        x = ops.average_pool(x, 2, strides=2, data_format="channels_last")
        return inner(self.dense)(x)

    def compute_output_shape(self, x_shape):
        batch, height, width, _ = x_shape
        return (batch, height // 2, width // 2, self.channels)

    def matrix_products(self, x_shape, context_length):
        return [dense_product(self.dense, self.compute_output_shape(x_shape))]


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class Upsample2D(_Resampling2D):
    """A dense layer, then each pixel repeated to 2 x 2 pixels.

    Args:
        channels: int. Number of channels of the output.
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        `(B, 2 H, 2 W, channels)`.
    """

    def call(self, x):
        x = inner(self.dense)(x)
        height, width = x.shape[1:3]
        x = ops.reshape(x, (-1, height, 1, width, 1, self.channels))
        x = ops.tile(x, (1, 1, 2, 1, 2, 1))
        return ops.reshape(x, (-1, 2 * height, 2 * width, self.channels))

    def compute_output_shape(self, x_shape):
        batch, height, width, _ = x_shape
        return (batch, 2 * height, 2 * width, self.channels)

    def matrix_products(self, x_shape, context_length):
        return [dense_product(self.dense, x_shape)]


class _Wavelet2D(layers.Layer):
    """Base class of the wavelet transform and its inverse, in float32."""

    def __init__(self, levels=1, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.levels = check_integer("levels", levels)

    def get_config(self):
        return {**super().get_config(), "levels": self.levels}


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class WaveletTransform2D(_Wavelet2D):
    """5/3 wavelet transform, see `keras_simple_diffusion.ops.dwt2`.

    Args:
        levels: int. Number of times that the low band is split; each halves
            the resolution. Defaults to `1`.
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        `(B, H / 2^levels, W / 2^levels, C * 4^levels)`, float32.
    """

    def call(self, images):
        return dwt2(images, self.levels)


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class InverseWaveletTransform2D(_Wavelet2D):
    """Inverse of `WaveletTransform2D`, see `keras_simple_diffusion.ops.idwt2`.

    Args:
        levels: int. The `levels` of the transform. Defaults to `1`.
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C * 4^levels)`.

    Output shape:
        `(B, H * 2^levels, W * 2^levels, C)`, float32.
    """

    def call(self, coefficients):
        return idwt2(coefficients, self.levels)
