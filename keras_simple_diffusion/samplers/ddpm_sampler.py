import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.samplers.sampler import Sampler


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DDPMSampler(Sampler):
    """Ancestral sampler with interpolated variance.

    Each step draws from the posterior given the predicted clean images. Its
    variance lies between the two extremes that are right for data of one
    point and for white noise, interpolated in the logarithm.

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
        if not 0.0 <= variance_interpolation <= 1.0:
            raise ValueError(
                "`variance_interpolation` must be in [0, 1]. Received: "
                f"variance_interpolation={variance_interpolation}"
            )
        self.variance_interpolation = variance_interpolation

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
        # sigma_ts^2 sigma_s^2 / sigma_t^2 and sigma_ts^2 alike have the
        # factor 1 - ratio; they differ in sigma_s^2 against sigma_t^2.
        log_variance = (
            ops.log(one_minus_ratio)
            + self.variance_interpolation * ops.log_sigmoid(-log_snr)
            + (1.0 - self.variance_interpolation)
            * ops.log_sigmoid(-next_log_snr)
        )
        return mean + ops.exp(0.5 * log_variance) * draw_noise(), clean

    def get_config(self):
        return {"variance_interpolation": self.variance_interpolation}
