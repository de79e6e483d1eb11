import keras
from keras import ops

from keras_simple_diffusion.losses.multiscale_mse import multiscale_mse
from keras_simple_diffusion.ops.diffusion import check_prediction_type
from keras_simple_diffusion.ops.diffusion import error_scale
from keras_simple_diffusion.ops.diffusion import expand_like


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DiffusionLoss:
    """Squared error of a diffusion model's prediction.

    The error is measured in a space of its own, whatever the network
    predicts: for one output, the error in epsilon is `alpha` times the error
    in `v`, and `alpha / sigma` times the error in `x`.

    Args:
        error_type: string. The space of the error: `"epsilon"` (the text of
            the paper and its U-Nets), `"v"` (its U-ViT) or `"x"`. Defaults to
            `"epsilon"`.
        weighting: a `keras_simple_diffusion.losses.LossWeighting`, or `None`
            for a weight of 1 on the error in `error_type`. A weighting is
            converted to `error_type`, so that it means the same in each.
        base_size: int or `None`. The smallest resolution of the multiscale
            loss, see `keras_simple_diffusion.losses.multiscale_mse`. `None`
            turns it off. Defaults to `None`.

    Call arguments:
        target: float tensor of shape `(B, H, W, C)`.
        prediction: float tensor shaped like `target`, in the same space.
        log_snr: float tensor of shape `(B,)`.
        prediction_type: string. The space of `target` and `prediction`.
            Defaults to `"v"`.
        log_snr_derivative: float tensor of shape `(B,)`, `d log_snr / dt`.
            Needed by weightings that are densities over log-SNR.

    Returns:
        The loss of each picture, float32 of shape `(B,)`.

    Example:
    >>> loss = keras_simple_diffusion.losses.DiffusionLoss(error_type="v")

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093),
          sections 2 and 3.2
    """

    def __init__(self, error_type="epsilon", weighting=None, base_size=None):
        check_prediction_type("error_type", error_type)
        if base_size is not None and not base_size >= 1:
            raise ValueError(
                "`base_size` must be a size in pixels, or `None` for no "
                f"multiscale loss. Received: base_size={base_size}"
            )
        self.error_type = error_type
        self.weighting = weighting
        self.base_size = base_size

    def __call__(
        self,
        target,
        prediction,
        log_snr,
        prediction_type="v",
        log_snr_derivative=None,
    ):
        error = ops.cast(prediction, "float32") - ops.cast(target, "float32")
        scale = error_scale(log_snr, prediction_type, self.error_type)
        error = expand_like(scale, error) * error
        if self.base_size is None:
            loss = ops.mean(ops.square(error), axis=(1, 2, 3))
        else:
            loss = multiscale_mse(error, self.base_size)
        if self.weighting is None:
            return loss
        loss = self.weighting(log_snr, self.error_type) * loss
        if self.weighting.density:
            if log_snr_derivative is None:
                raise ValueError(
                    f"{type(self.weighting).__name__} is a density over "
                    "log-SNR: pass `log_snr_derivative=schedule.derivative(t)`."
                    " Received: log_snr_derivative=None"
                )
            loss = -0.5 * ops.cast(log_snr_derivative, "float32") * loss
        return loss

    def get_config(self):
        return {
            "error_type": self.error_type,
            "weighting": keras.saving.serialize_keras_object(self.weighting),
            "base_size": self.base_size,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["weighting"] = keras.saving.deserialize_keras_object(
            config["weighting"]
        )
        return cls(**config)
