"""Inputs of a network that was trained on the path of rectified flow."""

import keras
from keras import ops

from keras_simple_diffusion.layers.conditioning import Conditioning
from keras_simple_diffusion.ops.diffusion import to_flow
from keras_simple_diffusion.utils.errors import check_number

_MAX_PERIOD = 10000.0


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class FlowState(keras.layers.Layer):
    """Scaling of noisy images to the straight path of rectified flow.

    See `keras_simple_diffusion.ops.to_flow`.

    Args:
        noise_scale: float. Standard deviation of the noise at the end of the
            path. Defaults to `1.0`.
        **kwargs: base layer keyword arguments.

    Call arguments:
        noisy_images: float tensor of shape `(B, H, W, C)`.
        log_snr: float tensor of shape `(B,)`.

    Output shape:
        The shape of `noisy_images`, float32.

    References:
        - [Liu et al., 2022](https://arxiv.org/abs/2209.03003)
    """

    def __init__(self, noise_scale=1.0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.noise_scale = check_number("noise_scale", noise_scale, above=0)

    def call(self, noisy_images, log_snr):
        return to_flow(noisy_images, log_snr, self.noise_scale)[0]

    def compute_output_shape(self, noisy_images_shape, log_snr_shape):
        return noisy_images_shape

    def get_config(self):
        return {**super().get_config(), "noise_scale": self.noise_scale}


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class FlowConditioning(Conditioning):
    """Embedding of all conditions, with the time of a flow as noise level.

    It differs from `Conditioning` in the features of the noise level, and in
    the initial vectors of classes, which are small:

    ```
    s = 1 - time                                # 0 for noise, 1 for images
    sinusoid = [cos(f s), sin(f s)]             # 256 features
    ```

    Args:
        embedding_dim: int. Width of the embedding, an even number.
        num_classes: int or `None`. Number of classes, see `Conditioning`.
            Defaults to `None`.
        noise_scale: float. Standard deviation of the noise at the end of the
            path, see `FlowState`. Defaults to `1.0`.
        **kwargs: base layer keyword arguments.

    Call arguments:
        see `Conditioning`.

    Output shape:
        `(B, embedding_dim)`, float32.

    References:
        - [Li & He, 2025](https://arxiv.org/abs/2511.13720)
    """

    num_features = 256
    vector_stddev = 0.02

    def __init__(
        self, embedding_dim, num_classes=None, noise_scale=1.0, **kwargs
    ):
        super().__init__(embedding_dim, num_classes, **kwargs)
        self.noise_scale = check_number("noise_scale", noise_scale, above=0)

    def noise_features(self, log_snr):
        _, time = to_flow(log_snr, log_snr, self.noise_scale)
        half = self.num_features // 2
        exponents = ops.arange(half, dtype="float32") / half
        frequencies = ops.power(_MAX_PERIOD, -exponents)
        angles = ops.expand_dims(1.0 - time, -1) * frequencies
        return ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)

    def get_config(self):
        return {**super().get_config(), "noise_scale": self.noise_scale}
