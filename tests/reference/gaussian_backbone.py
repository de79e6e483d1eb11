"""A network that denoises images of correlated normal pixels exactly."""

import keras
import keras_hub
import numpy as np
from keras import ops


class GaussianBackbone(keras_hub.models.Backbone):
    """Backbone whose data are normal, with one mean per class.

    Its one weight is added to what it predicts: at zero it is exact.

    Args:
        image_shape: tuple of ints.
        means: float array of shape `(num_classes, size)`; of an unconditional
            one, `(1, size)`.
        covariance: float array of shape `(size, size)`.
        prediction_type: string, `"v"`, `"epsilon"` or `"x"`.
        num_classes: int or `None`.
    """

    context_dim = None
    portrait_flag = False
    guidance_range = None

    def __init__(
        self, image_shape, means, covariance, prediction_type, num_classes=None
    ):
        self.image_shape = tuple(image_shape)
        self.num_classes = num_classes
        inputs = {
            "noisy_images": keras.Input(image_shape, name="noisy_images"),
            "log_snr": keras.Input((), name="log_snr"),
        }
        if num_classes is not None:
            inputs["labels"] = keras.Input((), dtype="int32", name="labels")
        exact = _Exact(means, covariance, prediction_type)
        super().__init__(inputs=inputs, outputs=exact(**inputs))


class _Exact(keras.layers.Layer):
    def __init__(self, means, covariance, prediction_type):
        super().__init__(dtype="float32", autocast=False)
        variances, axes = np.linalg.eigh(covariance)
        self.means = np.asarray(means, "float32")
        self.variances = variances.astype("float32")
        self.axes = axes.astype("float32")
        self.prediction_type = prediction_type
        self.error = self.add_weight(shape=(), initializer="zeros")

    def call(self, noisy_images, log_snr, labels=None):
        shape = ops.shape(noisy_images)
        if labels is None:
            labels = ops.zeros_like(log_snr, dtype="int32")
        z = ops.reshape(noisy_images, (shape[0], -1))
        mean = ops.take(ops.convert_to_tensor(self.means), labels, axis=0)
        signal = ops.sigmoid(log_snr)[:, None]
        noise = ops.sigmoid(-log_snr)[:, None]
        alpha, sigma = ops.sqrt(signal), ops.sqrt(noise)
        axes = ops.convert_to_tensor(self.axes)
        variances = ops.convert_to_tensor(self.variances)
        total = signal * variances + noise
        centred = ops.matmul(z - alpha * mean, axes) / total
        # E[x | z] and E[eps | z]: the joint distribution is normal.
        x = mean + ops.matmul(alpha * variances * centred, ops.transpose(axes))
        epsilon = ops.matmul(sigma * centred, ops.transpose(axes))
        predictions = {"x": x, "epsilon": epsilon}
        predictions["v"] = alpha * epsilon - sigma * x
        prediction = predictions[self.prediction_type] + self.error
        return ops.reshape(prediction, shape)

    def compute_output_shape(self, noisy_images_shape, **kwargs):
        return noisy_images_shape
