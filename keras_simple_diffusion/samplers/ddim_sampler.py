import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.ops.diffusion import convert_prediction
from keras_simple_diffusion.samplers.sampler import Sampler
from keras_simple_diffusion.utils.errors import check_number


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DDIMSampler(Sampler):
    """DDIM sampler: a first-order solver of the probability flow.

    Args:
        eta: float in `[0, 1]`. Standard deviation of the fresh noise,
            relative to that of `DDPMSampler(variance_interpolation=0)`. 0 is
            deterministic, 1 is the same as this DDPM sampler. Defaults to
            `0.0`.

    Example:
    ```python
    model.compile(sampler=keras_simple_diffusion.samplers.DDIMSampler())
    ```

    References:
        - [Song et al., 2021](https://arxiv.org/abs/2010.02502), eq. 12, 16
    """

    def __init__(self, eta=0.0):
        self.eta = check_number("eta", eta, at_least=0, at_most=1)

    def step(self, denoise, at, draw_noise):
        clean = denoise(at.noisy_images, at.log_snr)
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
