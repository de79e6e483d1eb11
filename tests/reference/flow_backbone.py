"""A network of rectified flow: it takes the flow's state and time."""

import keras
import keras_hub
from keras import ops

import keras_simple_diffusion as ksd


def velocity(state, time, math=ops):
    """Some velocity `eps - x`, of Keras tensors or with `math=numpy`.

    Args:
        state: array of shape `(B, H, W, C)`, `(1 - t) x + t eps`.
        time: array that broadcasts with it, 0 for clean images.
        math: module with `tanh`, `cos` and `flip`.
    """
    other = math.flip(state, axis=2)
    return 1.2 * math.tanh(2.0 * state) + 0.5 * other * math.cos(3.0 * time)


class FlowBackbone(keras_hub.models.Backbone):
    """Backbone that predicts `velocity`, as a network from elsewhere would.

    Args:
        noise_scale: float, of the flow. Its velocity is `n eps - x`.
        prediction_type: string. `"flow"`, for a scale of 1, or `"x"`.
    """

    num_classes = None
    context_dim = None
    portrait_flag = False
    guidance_range = None
    image_shape = (4, 4, 1)

    def __init__(self, noise_scale=1.0, prediction_type="flow"):
        inputs = {
            "noisy_images": keras.Input(self.image_shape, name="noisy_images"),
            "log_snr": keras.Input((), name="log_snr"),
        }
        layer = _Velocity(noise_scale, prediction_type)
        super().__init__(inputs=inputs, outputs=layer(**inputs))


class _Velocity(keras.layers.Layer):
    def __init__(self, noise_scale, prediction_type):
        super().__init__(dtype="float32", autocast=False)
        self.noise_scale = noise_scale
        self.prediction_type = prediction_type

    def call(self, noisy_images, log_snr):
        state, time = ksd.ops.to_flow(noisy_images, log_snr, self.noise_scale)
        time = ops.reshape(time, (-1, 1, 1, 1))
        predicted = velocity(state, time)
        if self.prediction_type == "x":
            return state - time * predicted
        return predicted

    def compute_output_shape(self, noisy_images_shape, **kwargs):
        return noisy_images_shape
