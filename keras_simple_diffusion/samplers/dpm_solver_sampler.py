import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.samplers.sampler import Sampler


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DPMSolverSampler(Sampler):
    """DPM-Solver++, a multistep solver with one evaluation a step.

    It solves the flow exactly for clean images that are predicted to change
    linearly in half the log-SNR `l`, along the line through this and the
    step before. With `h` the change of `l`, and `r` that of the step before
    over `h`:

    ```
    clean = x + (x - previous_x) / (2 r)
    z = (sigma_next / sigma) z + alpha_next (1 - exp(-h)) clean
    ```

    The first and the last step are of first order: there is no step before,
    or `h` is so large that the line would lead astray.

    Args:
        order: int. 1 or 2; 1 is DDIM. Defaults to `2`.
        stochastic: bool. Whether to solve the reverse diffusion instead of
            the flow, with fresh noise in each step. Defaults to `False`.

    Example:
    ```python
    model.compile(sampler=keras_simple_diffusion.samplers.DPMSolverSampler())
    ```

    References:
        - [Lu et al., 2022](https://arxiv.org/abs/2211.01095), algorithm 2
          and section 4.4
    """

    def __init__(self, order=2, stochastic=False):
        if order not in (1, 2):
            raise ValueError(f"`order` must be 1 or 2. Received: order={order}")
        self.order = order
        self.stochastic = stochastic

    def step(self, denoise, at, draw_noise):
        clean = denoise(at.noisy_images, at.log_snr)
        h = 0.5 * (at.next_log_snr - at.log_snr)
        change = 0.0
        if self.order == 2:
            before = 0.5 * (at.log_snr - at.previous_log_snr)
            is_end = ops.logical_or(at.is_first, at.is_last)
            # 1 / (2 r); the first step's own 0 / 0 is never used.
            slope = 0.5 * h / ops.where(is_end, h, before)
            slope = ops.where(is_end, 0.0, slope)
            change = slope * (clean - at.previous_clean_images)
        alpha, sigma = alpha_sigma(at.next_log_snr)
        _, sigma_before = alpha_sigma(at.log_snr)
        decay = sigma / sigma_before
        if self.stochastic:
            decay = decay * ops.exp(-h)
            gain = -ops.expm1(-2.0 * h)
            fresh = sigma * ops.sqrt(gain) * draw_noise()
        else:
            gain = -ops.expm1(-h)
            fresh = 0.0
        noisy = decay * at.noisy_images + alpha * gain * (clean + change)
        return noisy + fresh, clean

    def get_config(self):
        return {"order": self.order, "stochastic": self.stochastic}
