import math

import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import to_float32
from keras_simple_diffusion.schedules.noise_schedule import NoiseSchedule
from keras_simple_diffusion.schedules.noise_schedule import check_limits


class TruncatedCosine:
    """Formulas of `CosineSchedule`, also for limits that a shift brings back.

    Args:
        log_snr_min: float. Log-SNR at `t = 1`.
        log_snr_max: float. Log-SNR at `t = 0`, above `log_snr_min`.
    """

    def __init__(self, log_snr_min, log_snr_max):
        self.log_snr_min, self.log_snr_max = log_snr_min, log_snr_max
        # The angle at t = 0, and the complement of the angle at t = 1: near
        # pi / 2 the complement keeps more digits.
        self._start = math.atan(math.exp(-0.5 * self.log_snr_max))
        self._end = math.atan(math.exp(0.5 * self.log_snr_min))
        self.angle_range = math.pi / 2 - self._start - self._end

    def _sines(self, t):
        """Compute sine and cosine of the angle, both accurate near zero."""
        return (
            ops.sin(self._start + t * self.angle_range),
            ops.sin(self._end + (1.0 - t) * self.angle_range),
        )

    def __call__(self, t):
        t = to_float32(t)
        sine, cosine = self._sines(t)
        log_snr = 2.0 * (ops.log(cosine) - ops.log(sine))
        log_snr = ops.where(t <= 0.0, self.log_snr_max, log_snr)
        log_snr = ops.where(t >= 1.0, self.log_snr_min, log_snr)
        return ops.cast(log_snr, "float32")

    def time(self, log_snr):
        log_snr = to_float32(log_snr)
        # Each end is measured from its own side, where the angle is small.
        from_start = ops.arctan(ops.exp(-0.5 * log_snr)) - self._start
        from_end = ops.arctan(ops.exp(0.5 * log_snr)) - self._end
        t = ops.where(
            log_snr > 0.0,
            from_start / self.angle_range,
            1.0 - from_end / self.angle_range,
        )
        t = ops.where(log_snr >= self.log_snr_max, 0.0, t)
        t = ops.where(log_snr <= self.log_snr_min, 1.0, t)
        return ops.cast(t, "float32")

    def derivative(self, t):
        sine, cosine = self._sines(to_float32(t))
        return -2.0 * self.angle_range / (sine * cosine)


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class CosineSchedule(TruncatedCosine, NoiseSchedule):
    """Cosine noise schedule, truncated to a range of log-SNR.

    `log_snr(t) = -2 log tan(a + t (pi / 2 - a - b))`, where `a` and `b` place
    the ends at `log_snr_max` and `log_snr_min` exactly. Without truncation it
    is `alpha = cos(pi t / 2)`, `sigma = sin(pi t / 2)`.

    Args:
        log_snr_min: float. Log-SNR at `t = 1`, at least -80. Defaults to
            `-15.0`.
        log_snr_max: float. Log-SNR at `t = 0`, at most 80. Defaults to
            `15.0`.

    Call arguments:
        t: float or tensor of any shape, in `[0, 1]`.

    Returns:
        The log-SNR, a float32 tensor shaped like `t`.

    Raises:
        InputError: if the limits are not increasing, or outside of
            `[-80, 80]`.

    Example:
    >>> schedule = keras_simple_diffusion.schedules.CosineSchedule()
    >>> [round(float(log_snr), 3) for log_snr in schedule([0.0, 0.5, 1.0])]
    [15.0, 0.0, -15.0]

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093),
          section 3.1 and appendix
    """

    def __init__(self, log_snr_min=-15.0, log_snr_max=15.0):
        super().__init__(*check_limits(log_snr_min, log_snr_max))
