import math

import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import to_float32
from keras_simple_diffusion.schedules.noise_schedule import NoiseSchedule
from keras_simple_diffusion.schedules.noise_schedule import check_limits
from keras_simple_diffusion.schedules.noise_schedule import check_shift


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class FlowSchedule(NoiseSchedule):
    """Noise schedule of rectified flow: uniform along straight lines.

    A flow's state `(1 - t) x + t eps` has a log-SNR of `2 log((1 - t) / t)`.
    The schedule truncates the time of the flow to the range between
    `log_snr_max` and `log_snr_min`, which are its ends exactly.

    With an image size, log-SNR is shifted by `2 log(noise_size / image_size)`.
    This is the resolution-dependent shift of flows, `t -> s t / (1 + (s - 1)
    t)` with `s = image_size / noise_size`.

    Args:
        image_size: int, `(height, width)` whose shorter side counts, or
            `None` for no shift. The size of the images in pixels. Defaults to
            `None`.
        noise_size: float. The image size without a shift, in pixels.
            Defaults to `256`.
        log_snr_min: float. Log-SNR at `t = 1` before the shift. Defaults to
            `-15.0`.
        log_snr_max: float. Log-SNR at `t = 0` before the shift. Defaults to
            `15.0`.

    Call arguments:
        t: float or tensor of any shape, in `[0, 1]`.

    Returns:
        The log-SNR, a float32 tensor shaped like `t`.

    Raises:
        InputError: if a size is not positive, or if the limits are not
            increasing or, with the shift, outside of `[-80, 80]`.

    Example:
    >>> schedule = keras_simple_diffusion.schedules.FlowSchedule()
    >>> [round(float(log_snr), 3) for log_snr in schedule([0.0, 0.5, 1.0])]
    [15.0, 0.0, -15.0]

    References:
        - [Liu et al., 2022](https://arxiv.org/abs/2209.03003)
        - [Esser et al., 2024](https://arxiv.org/abs/2403.03206), section 5.3.2,
          for the shift
    """

    def __init__(
        self,
        image_size=None,
        noise_size=256,
        log_snr_min=-15.0,
        log_snr_max=15.0,
    ):
        self.image_size, self.noise_size, self._shift = check_shift(
            image_size, noise_size
        )
        self.log_snr_min, self.log_snr_max = check_limits(
            log_snr_min, log_snr_max, self._shift, self._shift
        )
        # The flow's time at t = 0, and its complement at t = 1.
        self._start = 1.0 / (1.0 + math.exp(0.5 * self.log_snr_max))
        self._end = 1.0 / (1.0 + math.exp(-0.5 * self.log_snr_min))
        self._range = 1.0 - self._start - self._end

    def _shares(self, t):
        """Compute the shares of noise and signal, accurate near zero."""
        return (
            self._start + t * self._range,
            self._end + (1.0 - t) * self._range,
        )

    def __call__(self, t):
        t = to_float32(t)
        noise, signal = self._shares(t)
        log_snr = 2.0 * (ops.log(signal) - ops.log(noise))
        log_snr = ops.where(t <= 0.0, self.log_snr_max, log_snr)
        log_snr = ops.where(t >= 1.0, self.log_snr_min, log_snr)
        return ops.cast(log_snr + self._shift, "float32")

    def time(self, log_snr):
        log_snr = to_float32(log_snr) - self._shift
        noise, signal = ops.sigmoid(-0.5 * log_snr), ops.sigmoid(0.5 * log_snr)
        # Each end is measured from its own side.
        t = ops.where(
            log_snr > 0.0,
            (noise - self._start) / self._range,
            1.0 - (signal - self._end) / self._range,
        )
        t = ops.where(log_snr >= self.log_snr_max, 0.0, t)
        t = ops.where(log_snr <= self.log_snr_min, 1.0, t)
        return ops.cast(ops.clip(t, 0.0, 1.0), "float32")

    def derivative(self, t):
        noise, signal = self._shares(to_float32(t))
        return -2.0 * self._range / (noise * signal)
