import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.ops.diffusion import convert_prediction
from keras_simple_diffusion.samplers.sampler import Sampler


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DDIMSampler(Sampler):
    """DDIM sampler: a first-order solver of the probability flow.

    Args:
        eta: float in `[0, 1]`. Share of the ancestral step's smaller noise
            that is added back. 0 is deterministic, 1 is the ancestral step
            with `variance_interpolation=0`. Defaults to `0.0`.

    Example:
    ```python
    model.compile(sampler=keras_simple_diffusion.samplers.DDIMSampler())
    ```

    References:
        - [Song et al., 2021](https://arxiv.org/abs/2010.02502), eq. 12, 16
    """

    def __init__(self, eta=0.0):
        if not 0.0 <= eta <= 1.0:
            raise ValueError(f"`eta` must be in [0, 1]. Received: eta={eta}")
        self.eta = eta

    def step(self, denoise, at, draw_noise):
        clean = denoise(at.noisy_images, at.log_snr)
        epsilon = convert_prediction(
            clean, at.noisy_images, at.log_snr, "x", "epsilon"
        )
        alpha, sigma = alpha_sigma(at.next_log_snr)
        if self.eta == 0.0:
            return alpha * clean + sigma * epsilon, clean
        # The share of sigma^2 that is fresh noise.
        fresh = -ops.expm1(at.log_snr - at.next_log_snr) * self.eta**2
        noise = ops.sqrt(1.0 - fresh) * epsilon
        noise = noise + ops.sqrt(fresh) * draw_noise()
        return alpha * clean + sigma * noise, clean

    def get_config(self):
        return {"eta": self.eta}
