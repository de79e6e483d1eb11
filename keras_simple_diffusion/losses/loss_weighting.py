"""Weights of the loss as functions of log-SNR."""

import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import check_prediction_type


class LossWeighting:
    """Weight of a squared error as a function of log-SNR.

    Subclasses define `epsilon_log_weight`, the logarithm of the weight on the
    squared error in epsilon; the weights in the other two spaces follow from
    it, so that the loss is the same wherever its error is measured.

    `density` says what the weight multiplies. `True`: the integral over
    log-SNR, as in the evidence lower bound; the loss then multiplies it by
    `-1/2 d log_snr / dt`, since times are drawn uniformly. `False`: the mean
    over uniform times.

    Call arguments:
        log_snr: float tensor of any shape.
        error_type: string. The space of the error: `"epsilon"`, `"v"` or
            `"x"`. Defaults to `"epsilon"`.

    Returns:
        The weight, a float32 tensor shaped like `log_snr`.
    """

    density = False

    def epsilon_log_weight(self, log_snr):
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def __call__(self, log_snr, error_type="epsilon"):
        check_prediction_type("error_type", error_type)
        log_snr = ops.cast(ops.convert_to_tensor(log_snr), "float32")
        log_weight = self.epsilon_log_weight(log_snr)
        # eps_error^2 = alpha^2 v_error^2 = (alpha^2 / sigma^2) x_error^2.
        # Logarithms add where the factors alone would under- or overflow.
        if error_type == "v":
            log_weight = log_weight + ops.log_sigmoid(log_snr)
        if error_type == "x":
            log_weight = log_weight + log_snr
        return ops.exp(log_weight)

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class SigmoidWeighting(LossWeighting):
    """Sigmoid loss weighting of SiD2.

    The weight on the error in epsilon is `sigmoid(bias - log_snr)`, a density
    over log-SNR: the loss is `-1/2 (d log_snr / dt) sigmoid(bias - log_snr)
    ||eps - eps_hat||^2`. In x it is `exp(bias) sigmoid(log_snr - bias)`.

    Args:
        bias: float. The log-SNR at which the weight is one half. The paper
            uses 0 at 128 pixels, -1 at 256 and -3 at 512. Defaults to `-1.0`.

    Call arguments:
        log_snr: float tensor of any shape.
        error_type: string. `"epsilon"`, `"v"` or `"x"`. Defaults to
            `"epsilon"`.

    Returns:
        The weight, a float32 tensor shaped like `log_snr`.

    Example:
    >>> loss = keras_simple_diffusion.losses.DiffusionLoss(
    ...     weighting=keras_simple_diffusion.losses.SigmoidWeighting(bias=0.0))

    References:
        - [Hoogeboom et al., 2024](https://arxiv.org/abs/2410.19324)
        - [Kingma & Gao, 2023](https://arxiv.org/abs/2303.00848)
    """

    density = True

    def __init__(self, bias=-1.0):
        self.bias = bias

    def epsilon_log_weight(self, log_snr):
        return ops.log_sigmoid(self.bias - log_snr)

    def get_config(self):
        return {"bias": self.bias}


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class MinSNRWeighting(LossWeighting):
    """Min-SNR loss weighting.

    The weight on the error in x is `min(SNR, gamma)`, so on the error in
    epsilon it is `min(1, gamma / SNR)`.

    Args:
        gamma: float. The SNR at which the weight stops growing, positive.
            Defaults to `5.0`.

    Call arguments:
        log_snr: float tensor of any shape.
        error_type: string. `"epsilon"`, `"v"` or `"x"`. Defaults to
            `"epsilon"`.

    Returns:
        The weight, a float32 tensor shaped like `log_snr`.

    References:
        - [Hang et al., 2023](https://arxiv.org/abs/2303.09556)
    """

    def __init__(self, gamma=5.0):
        if not gamma > 0:
            raise ValueError(
                f"`gamma` must be positive. Received: gamma={gamma}"
            )
        self.gamma = gamma

    def epsilon_log_weight(self, log_snr):
        log_gamma = ops.log(ops.convert_to_tensor(self.gamma, dtype="float32"))
        return ops.minimum(log_gamma - log_snr, 0.0)

    def get_config(self):
        return {"gamma": self.gamma}
