import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.samplers.sampler import Sampler
from keras_simple_diffusion.utils.errors import check_number


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DDPMSampler(Sampler):
    """Ancestral sampler with interpolated variance.

    Each step draws from the posterior given the predicted clean images. The
    logarithm of its variance is interpolated between two extremes: the one
    that is exact for a data set of a single image, and the one that is exact
    for white noise.

    Args:
        variance_interpolation: float in `[0, 1]`. 0 is the smaller variance,
            1 the larger. The paper uses 0.2 for ImageNet and 1 for text to
            image. Defaults to `0.2`.

    Example:
    ```python
    model.compile(sampler=keras_simple_diffusion.samplers.DDPMSampler())
    ```

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093),
          eq. 3 and appendix
    """

    def __init__(self, variance_interpolation=0.2):
        self.variance_interpolation = check_number(
            "variance_interpolation",
            variance_interpolation,
            at_least=0,
            at_most=1,
        )

    def step(self, denoise, at, draw_noise):
        clean = denoise(at.noisy_images, at.log_snr)
        log_snr, next_log_snr = at.log_snr, at.next_log_snr
        alpha, _ = alpha_sigma(log_snr)
        next_alpha, _ = alpha_sigma(next_log_snr)
        # Eq. 3: alpha_ts sigma_s^2 / sigma_t^2 = ratio alpha_s / alpha_t.
        ratio = ops.exp(log_snr - next_log_snr)
        one_minus_ratio = -ops.expm1(log_snr - next_log_snr)
        mean = (
            ratio * (next_alpha / alpha) * at.noisy_images
            + one_minus_ratio * next_alpha * clean
        )
        # The smaller variance is (1 - ratio) sigma_s^2, the larger one
        # (1 - ratio) sigma_t^2.
        log_variance = (
            ops.log(one_minus_ratio)
            + self.variance_interpolation * ops.log_sigmoid(-log_snr)
            + (1.0 - self.variance_interpolation)
            * ops.log_sigmoid(-next_log_snr)
        )
        return mean + ops.exp(0.5 * log_variance) * draw_noise(), clean
