"""A network that multiplies noisy images by one number per noise level."""

import keras
import keras_hub
import numpy as np
from keras import ops

import keras_simple_diffusion as ksd


class LinearBackbone(keras_hub.models.Backbone):
    """Backbone that predicts clean images `factor(t) z`, and is exact at first.

    At first it denoises normal pixels of mean 0 and standard deviation 0.5.
    Its weights are one factor for each time `0, 1 / num_levels, ..., 1`, and
    a number that is added to all predictions.

    Args:
        num_levels: int.
    """

    num_classes = None
    context_dim = None
    portrait_flag = False
    guidance_range = None
    image_shape = (4, 4, 1)

    def __init__(self, num_levels=64, **kwargs):
        self.num_levels = num_levels
        inputs = {
            "noisy_images": keras.Input(self.image_shape, name="noisy_images"),
            "log_snr": keras.Input((), name="log_snr"),
        }
        factors = _Factors(num_levels)
        super().__init__(inputs=inputs, outputs=factors(**inputs), **kwargs)
        self.factors = factors

    def get_config(self):
        return {"num_levels": self.num_levels}


class _Factors(keras.layers.Layer):
    def __init__(self, num_levels):
        super().__init__(dtype="float32", autocast=False)
        self.schedule = ksd.schedules.CosineSchedule()
        self.num_levels = num_levels
        times = np.linspace(0.0, 1.0, num_levels + 1).astype("float32")
        signal = ops.convert_to_numpy(ops.sigmoid(self.schedule(times)))
        factors = np.sqrt(signal) * 0.25 / (0.25 * signal + 1.0 - signal)
        self.factors = self.add_weight(shape=(num_levels + 1,))
        self.factors.assign(factors.astype("float32"))
        self.bias = self.add_weight(shape=(), initializer="zeros")

    def call(self, noisy_images, log_snr):
        level = ops.round(self.schedule.time(log_snr) * self.num_levels)
        factor = ops.take(self.factors, ops.cast(level, "int32"))
        return ops.reshape(factor, (-1, 1, 1, 1)) * noisy_images + self.bias

    def compute_output_shape(self, noisy_images_shape, **kwargs):
        return noisy_images_shape
