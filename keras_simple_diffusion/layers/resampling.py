import keras
from keras import layers
from keras import ops

from keras_simple_diffusion.backend.compilation import inner
from keras_simple_diffusion.layers.fused_layers import Dense
from keras_simple_diffusion.ops.wavelet import dwt2
from keras_simple_diffusion.ops.wavelet import idwt2


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class Downsample2D(layers.Layer):
    """Halve a feature map by averaging, then change its width.

    Args:
        channels: int. The new width.
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C)`, with even `H` and `W`.

    Output shape:
        `(B, H / 2, W / 2, channels)`.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.dense = Dense(channels, dtype=self.dtype_policy, name="dense")

    def build(self, x_shape):
        self.dense.build(x_shape)

    def call(self, x):
        return inner(self.dense)(
            ops.average_pool(
                x, (2, 2), strides=(2, 2), data_format="channels_last"
            )
        )

    def compute_output_shape(self, x_shape):
        batch, height, width, _ = x_shape
        return (batch, height // 2, width // 2, self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class Upsample2D(layers.Layer):
    """Change the width of a feature map, then repeat each pixel 2 x 2.

    Args:
        channels: int. The new width.
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        `(B, 2 H, 2 W, channels)`.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.dense = Dense(channels, dtype=self.dtype_policy, name="dense")

    def build(self, x_shape):
        self.dense.build(x_shape)

    def call(self, x):
        x = inner(self.dense)(x)
        height, width = x.shape[1:3]
        x = ops.reshape(x, (-1, height, 1, width, 1, self.channels))
        x = ops.tile(x, (1, 1, 2, 1, 2, 1))
        return ops.reshape(x, (-1, 2 * height, 2 * width, self.channels))

    def compute_output_shape(self, x_shape):
        batch, height, width, _ = x_shape
        return (batch, 2 * height, 2 * width, self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class WaveletTransform2D(keras.layers.Layer):
    """5/3 wavelet transform, see `keras_simple_diffusion.ops.dwt2`.

    Args:
        levels: int. Defaults to `1`.
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C)`.

    Output shape:
        `(B, H / 2^levels, W / 2^levels, C * 4^levels)`, float32.
    """

    def __init__(self, levels=1, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.levels = levels

    def call(self, images):
        return dwt2(images, self.levels)

    def get_config(self):
        return {**super().get_config(), "levels": self.levels}


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class InverseWaveletTransform2D(keras.layers.Layer):
    """Inverse wavelet transform, see `keras_simple_diffusion.ops.idwt2`.

    Args:
        levels: int. Defaults to `1`.
        **kwargs: base layer keyword arguments.

    Input shape:
        `(B, H, W, C * 4^levels)`.

    Output shape:
        `(B, H * 2^levels, W * 2^levels, C)`, float32.
    """

    def __init__(self, levels=1, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.levels = levels

    def call(self, coefficients):
        return idwt2(coefficients, self.levels)

    def get_config(self):
        return {**super().get_config(), "levels": self.levels}
