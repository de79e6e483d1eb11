import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.ops.diffusion import convert_prediction
from keras_simple_diffusion.ops.diffusion import expand_like
from keras_simple_diffusion.samplers.sampler import Sampler
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DDIMSampler(Sampler):
    """DDIM sampler: a first-order solver of the probability flow.

    The network predicts the mean of the clean images, so that a long step of
    DDIM ends with too little variance. The adjusted sampler, aDDIM, makes up
    for it with an estimate of the variance that the mean lacks,
    `0.1 / (2 + exp(log_snr))`. It remains deterministic, and tends to DDIM as
    the number of steps grows.

    Args:
        eta: float in `[0, 1]`. Standard deviation of the fresh noise,
            relative to that of `DDPMSampler(variance_interpolation=0)`. 0 is
            deterministic, 1 is the same as this DDPM sampler. Defaults to
            `0.0`.
        adjusted: bool. Whether to restore the variance of the noisy images,
            for 8 to 64 steps without fresh noise. Defaults to `False`.

    Example:
    ```python
    model.compile(sampler=keras_simple_diffusion.samplers.DDIMSampler())
    ```

    References:
        - [Song et al., 2021](https://arxiv.org/abs/2010.02502), eq. 12, 16
        - [Heek et al., 2024](https://arxiv.org/abs/2403.06807), section 4,
          for aDDIM
    """

    def __init__(self, eta=0.0, adjusted=False):
        self.eta = check_number("eta", eta, at_least=0, at_most=1)
        if adjusted not in (True, False):
            raise InputError(
                "`adjusted` must be True or False. Received: "
                f"adjusted={adjusted!r}"
            )
        self.adjusted = bool(adjusted)
        if self.adjusted and self.eta:
            raise InputError(
                "`adjusted` replaces the fresh noise of `eta`: leave one of "
                f"them out. Received: eta={eta}, adjusted={adjusted}"
            )

    def step(self, denoise, at, draw_noise):
        clean = denoise(at.noisy_images, at.log_snr)
        if self.adjusted:
            noisy = ddim_step(
                clean,
                at.noisy_images,
                at.log_snr,
                at.next_log_snr,
                0.1 / (2.0 + ops.exp(at.log_snr)),
            )
            return noisy, clean
        epsilon = convert_prediction(
            clean, at.noisy_images, at.log_snr, "x", "epsilon"
        )
        alpha, sigma = alpha_sigma(at.next_log_snr)
        if self.eta == 0.0:
            return alpha * clean + sigma * epsilon, clean
        # Fraction of the variance sigma^2 that is fresh noise.
        fresh = -ops.expm1(at.log_snr - at.next_log_snr) * self.eta**2
        noise = ops.sqrt(1.0 - fresh) * epsilon
        noise = noise + ops.sqrt(fresh) * draw_noise()
        return alpha * clean + sigma * noise, clean


def ddim_step(clean_images, noisy_images, log_snr, next_log_snr, variance=None):
    """Take one deterministic step, of DDIM or of aDDIM.

    Args:
        clean_images: float32 tensor of shape `(B, H, W, C)`, the predicted
            mean of the clean images.
        noisy_images: float32 tensor of the same shape, at `log_snr`.
        log_snr: float32 tensor of shape `()` or `(B,)`.
        next_log_snr: float32 tensor of shape `()` or `(B,)`.
        variance: optional float32 tensor of shape `()` or `(B,)`, the mean
            squared error per pixel of `clean_images`. With it the step is
            that of aDDIM. Defaults to `None`.

    Returns:
        The noisy images at `next_log_snr`, a float32 tensor.

    References:
        - [Heek et al., 2024](https://arxiv.org/abs/2403.06807), section 4
    """
    ratio, gain = _coefficients(log_snr, next_log_snr, noisy_images)
    if variance is None:
        return ratio * noisy_images + gain * clean_images
    epsilon = convert_prediction(
        clean_images, noisy_images, log_snr, "x", "epsilon"
    )
    alpha, sigma = alpha_sigma(expand_like(next_log_snr, noisy_images))
    lacking = ops.square(gain) * expand_like(variance, noisy_images)
    power = ops.mean(ops.square(epsilon), axis=(1, 2, 3), keepdims=True)
    scale = ops.sqrt(ops.square(sigma) + lacking / ops.maximum(power, 1e-8))
    return alpha * clean_images + scale * epsilon


def invert_ddim_step(next_noisy_images, noisy_images, log_snr, next_log_snr):
    """Find the clean images with which DDIM steps between two noisy ones.

    Args:
        next_noisy_images: float32 tensor of shape `(B, H, W, C)`, at
            `next_log_snr`.
        noisy_images: float32 tensor of the same shape, at `log_snr`.
        log_snr: float32 tensor of shape `()` or `(B,)`.
        next_log_snr: float32 tensor of shape `()` or `(B,)`, different from
            `log_snr`.

    Returns:
        The clean images, a float32 tensor of the same shape.

    References:
        - [Salimans & Ho, 2022](https://arxiv.org/abs/2202.00512), appendix G
        - [Heek et al., 2024](https://arxiv.org/abs/2403.06807), eq. 5
    """
    ratio, gain = _coefficients(log_snr, next_log_snr, noisy_images)
    return (next_noisy_images - ratio * noisy_images) / gain


def _coefficients(log_snr, next_log_snr, images):
    """Factors of the noisy and of the clean images in a step of DDIM.

    They are `sigma_s / sigma_t` and `alpha_s - alpha_t sigma_s / sigma_t`,
    written so that nothing cancels in a short step.
    """
    log_snr = expand_like(log_snr, images)
    next_log_snr = expand_like(next_log_snr, images)
    ratio = ops.exp(
        0.5 * (ops.log_sigmoid(-next_log_snr) - ops.log_sigmoid(-log_snr))
    )
    alpha, _ = alpha_sigma(next_log_snr)
    return ratio, -alpha * ops.expm1(0.5 * (log_snr - next_log_snr))
