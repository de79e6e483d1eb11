import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.samplers.sampler import Sampler
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class DPMSolverSampler(Sampler):
    """DPM-Solver++, a multistep solver with one network evaluation per step.

    It integrates the probability flow with the predicted clean images `x`,
    extrapolated linearly in `l = log_snr / 2` from this step and the previous
    one. Let `h` be the change of `l` in this step, and `r` the ratio of its
    change in the previous step to `h`. In the deterministic case:

    ```
    clean = x + (x - previous_x) / (2 r)
    z_next = (sigma_next / sigma) z + alpha_next (1 - exp(-h)) clean
    ```

    The first and the last step are of first order: the first has no previous
    step, and in the last one `h` is too large to extrapolate.

    Args:
        order: int, 1 or 2. Order 1 is DDIM. Defaults to `2`.
        stochastic: bool. If `True`, solve the reverse diffusion instead of
            the probability flow, with fresh noise in each step. Defaults to
            `False`.

    Example:
    ```python
    model.compile(sampler=keras_simple_diffusion.samplers.DPMSolverSampler())
    ```

    References:
        - [Lu et al., 2022](https://arxiv.org/abs/2211.01095), algorithm 2
          and section 4.4
    """

    def __init__(self, order=2, stochastic=False):
        self.order = check_number(
            "order", order, at_least=1, at_most=2, whole=True
        )
        if not isinstance(stochastic, bool):
            raise InputError(
                "`stochastic` must be True or False. Received: "
                f"stochastic={stochastic!r}"
            )
        self.stochastic = stochastic

    def initial_memory(self, noise):
        return ops.zeros_like(noise)

    def step(self, denoise, at, draw_noise):
        clean = denoise(at.noisy_images, at.log_snr)
        h = 0.5 * (at.next_log_snr - at.log_snr)
        change = 0.0
        if self.order == 2:
            previous_clean = at.memory
            previous_h = 0.5 * (at.log_snr - at.level(-1))
            is_end = ops.logical_or(at.is_first, at.is_last)
            # 1 / (2 r). In the first step previous_h is 0.
            slope = 0.5 * h / ops.where(is_end, h, previous_h)
            slope = ops.where(is_end, 0.0, slope)
            change = slope * (clean - previous_clean)
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
        return noisy + fresh, clean, clean
