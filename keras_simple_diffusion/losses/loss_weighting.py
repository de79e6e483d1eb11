"""Weights of the loss over noise levels."""

import math

import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import log_error_scale
from keras_simple_diffusion.ops.diffusion import to_float32
from keras_simple_diffusion.utils.configurable import Configurable
from keras_simple_diffusion.utils.errors import check_number


class LossWeighting(Configurable):
    """Weight of a squared error as a function of log-SNR.

    A subclass defines `epsilon_log_weight`, the logarithm of the weight on the
    squared error in epsilon. The weights in the other spaces follow from it,
    so the loss does not depend on the space in which the error is measured.

    The class attribute `density` selects the measure of the weight. `True`:
    the weight is a density over log-SNR, as in the evidence lower bound, and
    the loss multiplies it by `-1/2 d log_snr / dt`, because times are drawn
    uniformly. `False`: the weight applies to the mean over uniform times.

    Call arguments:
        log_snr: float tensor of any shape.
        error_type: string. The space of the error: `"epsilon"`, `"v"`, `"x"`
            or `"flow"`. Defaults to `"epsilon"`.

    Returns:
        The weight, a float32 tensor shaped like `log_snr`.
    """

    density = False

    def epsilon_log_weight(self, log_snr):
        """Compute the logarithm of the weight on the error in epsilon.

        Args:
            log_snr: float32 tensor of any shape.

        Returns:
            A float32 tensor shaped like `log_snr`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def __call__(self, log_snr, error_type="epsilon"):
        log_snr = to_float32(log_snr)
        # Logarithms add where a product of the weights would overflow.
        return ops.exp(
            self.epsilon_log_weight(log_snr)
            + 2.0 * log_error_scale(log_snr, error_type, "epsilon")
        )


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
        error_type: string. `"epsilon"`, `"v"`, `"x"` or `"flow"`. Defaults to
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
        self.bias = check_number("bias", bias)

    def epsilon_log_weight(self, log_snr):
        return ops.log_sigmoid(self.bias - log_snr)


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
        error_type: string. `"epsilon"`, `"v"`, `"x"` or `"flow"`. Defaults to
            `"epsilon"`.

    Returns:
        The weight, a float32 tensor shaped like `log_snr`.

    References:
        - [Hang et al., 2023](https://arxiv.org/abs/2303.09556)
    """

    def __init__(self, gamma=5.0):
        self.gamma = check_number("gamma", gamma, above=0)

    def epsilon_log_weight(self, log_snr):
        return ops.minimum(math.log(self.gamma) - log_snr, 0.0)


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class FlowWeighting(LossWeighting):
    """Weighting of the velocity of rectified flow, limited near clean images.

    The error of the velocity `eps - x` is that of x divided by the time `t`
    of the flow (0 for clean images). The weight on the squared error in x is
    therefore `1 / t^2`. It is limited to `1 / min_time^2`, which is the loss
    of JiT for networks that predict x. Without a limit it is
    `DiffusionLoss("flow")`.

    Args:
        min_time: float in `(0, 1]`. The time below which the weight stops
            growing. Defaults to `0.05`.
        noise_scale: float. Standard deviation of the flow's noise, see
            `keras_simple_diffusion.ops.to_flow`. JiT has 2 at 512 pixels and
            4 at 1024. Defaults to `1.0`.

    Call arguments:
        log_snr: float tensor of any shape.
        error_type: string. `"epsilon"`, `"v"`, `"x"` or `"flow"`. Defaults to
            `"epsilon"`.

    Returns:
        The weight, a float32 tensor shaped like `log_snr`.

    Example:
    >>> loss = keras_simple_diffusion.losses.DiffusionLoss(
    ...     weighting=keras_simple_diffusion.losses.FlowWeighting())

    References:
        - [Li & He, 2025](https://arxiv.org/abs/2511.13720)
        - [Liu et al., 2022](https://arxiv.org/abs/2209.03003)
    """

    def __init__(self, min_time=0.05, noise_scale=1.0):
        self.min_time = check_number("min_time", min_time, above=0, at_most=1)
        self.noise_scale = check_number("noise_scale", noise_scale, above=0)

    def epsilon_log_weight(self, log_snr):
        log_time = ops.log_sigmoid(-0.5 * log_snr - math.log(self.noise_scale))
        log_time = ops.maximum(log_time, math.log(self.min_time))
        # The squared error in x is that in epsilon divided by the SNR.
        return -2.0 * log_time - log_snr
