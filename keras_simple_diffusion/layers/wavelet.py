import keras

from keras_simple_diffusion.ops.wavelet import dwt2
from keras_simple_diffusion.ops.wavelet import idwt2


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
