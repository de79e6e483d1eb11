import math

import keras
from keras import ops

from keras_simple_diffusion.backend.compilation import cond
from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.ops.diffusion import convert_prediction
from keras_simple_diffusion.samplers.sampler import Sampler
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number

# Largest relative increase of `sigma / alpha` in one step.
_MAX_CHURN = math.sqrt(2.0) - 1.0


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class HeunSampler(Sampler):
    """Heun's second-order solver of the probability flow, with churn.

    In the variables `z / alpha` and `sigma / alpha` the slope of the flow is
    the noise in the images. A step follows the mean of the slopes at its two
    ends, which costs two network evaluations. The first and the last step are
    of first order, with one evaluation: in pure noise the slope changes too
    fast, and near the clean end, division by `sigma` amplifies the network's
    error.

    With churn each step first adds fresh noise, which corrects errors of
    earlier steps.

    Args:
        churn: float, at least 0. Amount of fresh noise over all steps. Each
            step multiplies `sigma / alpha` by `1 + churn / num_steps`, at
            most by `sqrt(2)`. Defaults to `0.0`, which is deterministic.
        churn_interval: tuple of floats, the log-SNRs between which noise is
            added. Defaults to `(-8.0, 6.0)`.
        churn_scale: float, positive. Standard deviation of the added noise.
            A value slightly above 1 compensates for detail that the network
            smooths away. Defaults to `1.0`.

    Example:
    ```python
    model.compile(sampler=keras_simple_diffusion.samplers.HeunSampler())
    ```

    References:
        - [Karras et al., 2022](https://arxiv.org/abs/2206.00364), alg. 1, 2
    """

    def __init__(self, churn=0.0, churn_interval=(-8.0, 6.0), churn_scale=1.0):
        self.churn = check_number("churn", churn, at_least=0)
        self.churn_interval = _check_interval(churn_interval)
        self.churn_scale = check_number("churn_scale", churn_scale, above=0)

    def step(self, denoise, at, draw_noise):
        noisy, log_snr = at.noisy_images, at.log_snr
        if self.churn > 0.0:
            noisy, log_snr = self._add_noise(at, draw_noise())
        alpha, sigma = alpha_sigma(log_snr)
        next_alpha, next_sigma = alpha_sigma(at.next_log_snr)
        clean = denoise(noisy, log_snr)
        noise = convert_prediction(clean, noisy, log_snr, "x", "epsilon")
        euler = next_alpha * clean + next_sigma * noise

        def correct():
            noise_ahead = convert_prediction(
                denoise(euler, at.next_log_snr),
                euler,
                at.next_log_snr,
                "x",
                "epsilon",
            )
            mean = 0.5 * (noise + noise_ahead)
            ratio = next_alpha / alpha
            return ratio * (noisy - sigma * mean) + next_sigma * mean

        is_end = ops.logical_or(at.is_first, at.is_last)
        return cond(is_end, lambda: euler, correct), clean

    def _add_noise(self, at, fresh):
        low, high = self.churn_interval
        increase = min(self.churn / at.num_steps, _MAX_CHURN)
        is_inside = ops.logical_and(at.log_snr >= low, at.log_snr <= high)
        is_on = ops.logical_and(is_inside, ops.logical_not(at.is_last))
        factor = ops.where(is_on, 1.0 + increase, 1.0)
        log_snr = at.log_snr - 2.0 * ops.log(factor)
        before, sigma_before = alpha_sigma(at.log_snr)
        alpha, _ = alpha_sigma(log_snr)
        level = sigma_before / before
        added = level * ops.sqrt(factor**2 - 1.0) * self.churn_scale
        return alpha * (at.noisy_images / before + added * fresh), log_snr


def _check_interval(interval):
    if not isinstance(interval, (tuple, list)) or len(interval) != 2:
        raise InputError(
            "`churn_interval` must be two log-SNRs (low, high). Received: "
            f"churn_interval={interval!r}"
        )
    low, high = (check_number("churn_interval", each) for each in interval)
    if not low < high:
        raise InputError(
            "`churn_interval` must be two increasing log-SNRs. Received: "
            f"churn_interval={interval}"
        )
    return low, high
