import math

import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import alpha_sigma
from keras_simple_diffusion.ops.diffusion import convert_prediction
from keras_simple_diffusion.samplers.sampler import Sampler

# A step may raise the noise by this factor at most.
_MAX_CHURN = math.sqrt(2.0) - 1.0


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class HeunSampler(Sampler):
    """Heun's second-order solver of the probability flow, with churn.

    In the variables `z / alpha` and `sigma / alpha` the flow's slope is the
    noise in the images. A step takes it at both ends and goes along their
    mean, which costs two network evaluations. The first and the last step are
    of first order: images of nothing but noise make the slope too steep to
    extrapolate, and nearly clean ones show no noise to measure.

    With churn each step first adds fresh noise, which lets the sampler forget
    the errors that it made.

    Args:
        churn: float, at least 0. How much noise the whole walk adds; a step
            raises the noise level by the factor `1 + churn / num_steps`, at
            most by `sqrt(2)`. Defaults to `0.0`, which is deterministic.
        churn_interval: tuple of floats, the log-SNRs between which noise is
            added. Defaults to `(-8.0, 6.0)`.
        churn_scale: float. Standard deviation of the added noise, slightly
            above 1 to make up for detail that the network smooths away.
            Defaults to `1.0`.

    Example:
    ```python
    model.compile(sampler=keras_simple_diffusion.samplers.HeunSampler())
    ```

    References:
        - [Karras et al., 2022](https://arxiv.org/abs/2206.00364), alg. 1, 2
    """

    def __init__(self, churn=0.0, churn_interval=(-8.0, 6.0), churn_scale=1.0):
        if not churn >= 0.0:
            raise ValueError(
                f"`churn` must be at least 0. Received: churn={churn}"
            )
        low, high = churn_interval
        if not low < high:
            raise ValueError(
                "`churn_interval` must be two increasing log-SNRs. Received: "
                f"churn_interval={churn_interval}"
            )
        self.churn = churn
        self.churn_interval = (low, high)
        self.churn_scale = churn_scale

    def step(self, denoise, at, draw_noise):
        noisy, log_snr = at.noisy_images, at.log_snr
        if self.churn > 0.0:
            noisy, log_snr = self._add_noise(at, draw_noise())
        alpha, sigma = alpha_sigma(log_snr)
        next_alpha, next_sigma = alpha_sigma(at.next_log_snr)

        def move(noise):
            clean = (noisy - sigma * noise) / alpha
            return next_alpha * clean + next_sigma * noise

        clean = denoise(noisy, log_snr)
        noise = convert_prediction(clean, noisy, log_snr, "x", "epsilon")
        ahead = move(noise)
        noise_ahead = convert_prediction(
            denoise(ahead, at.next_log_snr),
            ahead,
            at.next_log_snr,
            "x",
            "epsilon",
        )
        corrected = move(0.5 * (noise + noise_ahead))
        is_end = ops.logical_or(at.is_first, at.is_last)
        return ops.where(is_end, ahead, corrected), clean

    def _add_noise(self, at, fresh):
        low, high = self.churn_interval
        share = min(self.churn / at.num_steps, _MAX_CHURN)
        is_inside = ops.logical_and(at.log_snr >= low, at.log_snr <= high)
        is_on = ops.logical_and(is_inside, ops.logical_not(at.is_last))
        factor = ops.where(is_on, 1.0 + share, 1.0)
        log_snr = at.log_snr - 2.0 * ops.log(factor)
        before, sigma_before = alpha_sigma(at.log_snr)
        alpha, _ = alpha_sigma(log_snr)
        level = sigma_before / before
        added = level * ops.sqrt(factor**2 - 1.0) * self.churn_scale
        return alpha * (at.noisy_images / before + added * fresh), log_snr

    def get_config(self):
        return {
            "churn": self.churn,
            "churn_interval": self.churn_interval,
            "churn_scale": self.churn_scale,
        }
