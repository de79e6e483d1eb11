import math

import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import to_float32
from keras_simple_diffusion.schedules.flow_schedule import FlowSchedule
from keras_simple_diffusion.schedules.noise_schedule import NoiseSchedule
from keras_simple_diffusion.schedules.noise_schedule import check_limits
from keras_simple_diffusion.schedules.noise_schedule import check_shift
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number

# erfinv(1 - 2^-23), which belongs to the smallest time above 0 that is drawn.
_MAX_QUANTILE = 3.74


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class NormalSchedule(NoiseSchedule):
    """Noise schedule of normally distributed log-SNR.

    With times drawn uniformly, log-SNR is normal with the given mean and
    standard deviation, truncated to the limits:

    ```
    log_snr(t) = mean - std ndtri(t) + 2 log(noise_size / image_size)
    ```

    with the quantile function `ndtri` of the normal distribution. It is the
    logit-normal distribution of time of rectified flow: where the logit of
    the flow's time is normal, log-SNR has twice its mean (with the sign of
    log-SNR) and standard deviation. The defaults are those of JiT at 256
    pixels. With an image size the distribution and the limits are shifted;
    the doubled noise of JiT at 512 pixels is `NormalSchedule(image_size=512)`.

    Hardly any time is spent near the ends, so the steps of samplers are
    uniform in the time of a `FlowSchedule` with the same ends, which is its
    `sampling_schedule`.

    Args:
        mean: float. The mean of log-SNR before the shift, between the limits.
            Defaults to `-1.6`.
        std: float. The standard deviation of log-SNR, positive. Defaults to
            `1.6`.
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
        InputError: if `std` or a size is not positive, if the mean is not
            between the limits, or if the limits are not increasing or, with
            the shift, outside of `[-80, 80]`.

    Example:
    >>> schedule = keras_simple_diffusion.schedules.NormalSchedule()
    >>> [round(float(log_snr), 3) for log_snr in schedule([0.0, 0.5, 1.0])]
    [15.0, -1.6, -15.0]

    References:
        - [Li & He, 2025](https://arxiv.org/abs/2511.13720), JiT
        - [Esser et al., 2024](https://arxiv.org/abs/2403.03206), section 3.1
        - [Karras et al., 2022](https://arxiv.org/abs/2206.00364), table 1
    """

    def __init__(
        self,
        mean=-1.6,
        std=1.6,
        image_size=None,
        noise_size=256,
        log_snr_min=-15.0,
        log_snr_max=15.0,
    ):
        self.mean = check_number("mean", mean)
        self.std = check_number("std", std, above=0)
        self.image_size, self.noise_size, self._shift = check_shift(
            image_size, noise_size
        )
        self.log_snr_min, self.log_snr_max = check_limits(
            log_snr_min, log_snr_max, self._shift, self._shift
        )
        if not self.log_snr_min < self.mean < self.log_snr_max:
            raise InputError(
                "`mean` must be between `log_snr_min` and `log_snr_max`. "
                f"Received: mean={mean}, log_snr_min={log_snr_min}, "
                f"log_snr_max={log_snr_max}"
            )
        # log_snr = mean + scale erfinv(y), and y falls from start to end.
        self._scale = math.sqrt(2.0) * self.std
        self._start = math.erf((self.log_snr_max - self.mean) / self._scale)
        self._end = math.erf((self.log_snr_min - self.mean) / self._scale)

    @property
    def sampling_schedule(self):
        return FlowSchedule(
            self.image_size, self.noise_size, self.log_snr_min, self.log_snr_max
        )

    def _quantile(self, t):
        return ops.erfinv(self._start + t * (self._end - self._start))

    def __call__(self, t):
        t = to_float32(t)
        log_snr = self.mean + self._scale * self._quantile(t)
        # Very near the ends, rounding leaves quantiles of infinity.
        log_snr = ops.clip(log_snr, self.log_snr_min, self.log_snr_max)
        log_snr = ops.where(t <= 0.0, self.log_snr_max, log_snr)
        log_snr = ops.where(t >= 1.0, self.log_snr_min, log_snr)
        return ops.cast(log_snr + self._shift, "float32")

    def time(self, log_snr):
        log_snr = to_float32(log_snr) - self._shift
        y = ops.erf((log_snr - self.mean) / self._scale)
        t = (self._start - y) / (self._start - self._end)
        t = ops.where(log_snr >= self.log_snr_max, 0.0, t)
        t = ops.where(log_snr <= self.log_snr_min, 1.0, t)
        return ops.cast(ops.clip(t, 0.0, 1.0), "float32")

    def derivative(self, t):
        # It grows without bounds towards the ends. A drawn time of 0 stands
        # for all below the smallest other one, and gets the derivative there.
        quantile = self._quantile(to_float32(t))
        quantile = ops.clip(quantile, -_MAX_QUANTILE, _MAX_QUANTILE)
        slope = 0.5 * math.sqrt(math.pi) * ops.exp(ops.square(quantile))
        return self._scale * (self._end - self._start) * slope
