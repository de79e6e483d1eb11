import keras
from keras import ops

from keras_simple_diffusion.losses.loss_weighting import LossWeighting
from keras_simple_diffusion.ops.diffusion import check_prediction_type
from keras_simple_diffusion.ops.diffusion import error_scale
from keras_simple_diffusion.utils.configurable import Configurable
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DiffusionLoss(Configurable):
    """Squared error of a diffusion model's prediction.

    The error is converted from the space of the prediction to `error_type`.
    For the same network output, the error in epsilon is `alpha` times the
    error in `v`, and `alpha / sigma` times the error in `x`.

    Args:
        error_type: string. The space of the error: `"epsilon"` (the text of
            the paper and its U-Nets), `"v"` (its U-ViT), `"x"` or `"flow"`
            (rectified flow). It has no effect if there is a weighting.
            Defaults to `"epsilon"`.
        weighting: a `keras_simple_diffusion.losses.LossWeighting`, which
            defines the same loss in every space; or `None` for a weight of 1
            on the squared error in `error_type`. Defaults to `None`.
        base_size: int or `None`. The smallest resolution of the multiscale
            loss in pixels, see
            `keras_simple_diffusion.losses.multiscale_mse`. Defaults to `None`,
            the plain mean squared error.

    Call arguments:
        target: float tensor of shape `(B, H, W, C)`.
        prediction: float tensor shaped like `target`, in the same space.
        log_snr: float tensor of shape `(B,)`.
        prediction_type: string. The space of `target` and `prediction`.
            Defaults to `"v"`.
        log_snr_derivative: float tensor of shape `(B,)`, `d log_snr / dt`.
            Required by weightings that are densities over log-SNR.

    Returns:
        The loss of each image, float32 of shape `(B,)`.

    Raises:
        InputError: if an argument is not valid, or if a weighting that is a
            density is called without `log_snr_derivative`.

    Example:
    >>> loss = keras_simple_diffusion.losses.DiffusionLoss(error_type="v")

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093),
          sections 2 and 3.2
    """

    def __init__(self, error_type="epsilon", weighting=None, base_size=None):
        check_prediction_type("error_type", error_type)
        if not isinstance(weighting, LossWeighting | None):
            raise InputError(
                "`weighting` must be a LossWeighting, such as "
                "SigmoidWeighting(bias=-1.0), or None. Received: "
                f"weighting={weighting!r}"
            )
        if base_size is not None:
            base_size = check_number(
                "base_size", base_size, at_least=1, whole=True
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
        if self.base_size is None:
            loss = _mse(error)
        else:
            loss = multiscale_mse(error, self.base_size)
        if self.weighting is None:
            scale = error_scale(log_snr, prediction_type, self.error_type)
            return ops.square(scale) * loss
        loss = self.weighting(log_snr, prediction_type) * loss
        if self.weighting.density:
            if log_snr_derivative is None:
                raise InputError(
                    f"{type(self.weighting).__name__} is a density over "
                    "log-SNR: pass `log_snr_derivative=schedule.derivative(t)`."
                    " Received: log_snr_derivative=None"
                )
            loss = -0.5 * ops.cast(log_snr_derivative, "float32") * loss
        return loss


def multiscale_mse(error, base_size=32):
    """Mean squared error summed over average-pooled resolutions.

    ```
    sum over s in {base_size, ..., size / 2, size} of 1/s mean(pool_s(error)^2)
    ```

    Pooling is linear, so the minimizer is that of the plain error; only the
    balance between coarse and fine structure changes. The sum starts at the
    full resolution, which is halved as long as both sides are even and the
    shorter side does not fall below `base_size`.

    Args:
        error: float tensor of shape `(B, H, W, C)`, usually in epsilon.
        base_size: int. The smallest resolution, in pixels of the shorter
            side. Defaults to `32`.

    Returns:
        A float32 tensor of shape `(B,)`.

    Example:
    >>> error = keras.random.normal((4, 128, 128, 3))
    >>> loss = keras_simple_diffusion.losses.multiscale_mse(error)  # (4,)

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), sec. 3.2
    """
    error = ops.cast(ops.convert_to_tensor(error), "float32")
    height, width = error.shape[1:3]
    total = _mse(error) / min(height, width)
    while height % 2 == width % 2 == 0 and min(height, width) // 2 >= base_size:
        height, width = height // 2, width // 2
        error = ops.average_pool(
            error, (2, 2), strides=(2, 2), data_format="channels_last"
        )
        total = total + _mse(error) / min(height, width)
    return total


def _mse(error):
    return ops.mean(ops.square(error), axis=(1, 2, 3))
