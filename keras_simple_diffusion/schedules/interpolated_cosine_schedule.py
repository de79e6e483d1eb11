import math

import keras
from keras import ops

from keras_simple_diffusion.ops.diffusion import to_float32
from keras_simple_diffusion.schedules.cosine_schedule import TruncatedCosine
from keras_simple_diffusion.schedules.noise_schedule import NoiseSchedule
from keras_simple_diffusion.schedules.noise_schedule import check_image_size
from keras_simple_diffusion.schedules.noise_schedule import check_limits
from keras_simple_diffusion.schedules.noise_schedule import log_size_ratio
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number

# Halvings of a bracket as wide as the slope. A slope of up to 2 pi is halved to
# less than the resolution of float32.
_NUM_BISECTIONS = 26


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class InterpolatedCosineSchedule(NoiseSchedule):
    """Cosine noise schedule whose shift changes along time.

    A shifted schedule spends little time on fine detail. Interpolation from
    `noise_size_high` at the clean end to `noise_size_low` at the noisy end
    spreads time over all frequencies:

    ```
    log_snr(t) = t shifted_low(t) + (1 - t) shifted_high(t)
    ```

    This is the broad orientation: the range of log-SNR is wider than that of
    the plain cosine, as the paper intends and as the authors' later code
    does. Eq. 6 as printed is the opposite, narrow orientation. To get it,
    exchange the two sizes, as in
    `InterpolatedCosineSchedule(512, noise_size_low=256, noise_size_high=32)`.
    (Transcriptions of SiD2's appendix add `log(image_size / noise_size)`
    instead of `2 log(noise_size / image_size)`. With that sign large images
    would get less noise, so it is not used here.)

    Args:
        image_size: int, or `(height, width)` whose shorter side counts. The
            size of the images in pixels.
        noise_size_low: float. The noise size at `t = 1`. Defaults to `32`.
        noise_size_high: float. The noise size at `t = 0`. Defaults to `256`.
        log_snr_min: float. Log-SNR at `t = 1` before the shift. Defaults to
            `-15.0`.
        log_snr_max: float. Log-SNR at `t = 0` before the shift. Defaults to
            `15.0`.

    Call arguments:
        t: float or tensor of any shape, in `[0, 1]`.

    Returns:
        The log-SNR, a float32 tensor shaped like `t`.

    Raises:
        InputError: if a size is not positive; if the limits are not
            increasing or, with the shift, outside of `[-80, 80]`; or if
            log-SNR would not decrease along time, which happens in the narrow
            orientation when the sizes differ by too large a factor (23.1 with
            the default limits).

    Example:
    >>> schedule = keras_simple_diffusion.schedules.InterpolatedCosineSchedule(
    ...     image_size=512, noise_size_low=32, noise_size_high=256)

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), eq. 6
        - [Hoogeboom et al., 2024](https://arxiv.org/abs/2410.19324), app. B
    """

    def __init__(
        self,
        image_size,
        noise_size_low=32,
        noise_size_high=256,
        log_snr_min=-15.0,
        log_snr_max=15.0,
    ):
        self.image_size = check_image_size(image_size)
        self.noise_size_low = check_number(
            "noise_size_low", noise_size_low, above=0
        )
        self.noise_size_high = check_number(
            "noise_size_high", noise_size_high, above=0
        )
        low = log_size_ratio(self.noise_size_low, self.image_size)
        high = log_size_ratio(self.noise_size_high, self.image_size)
        self.log_snr_min, self.log_snr_max = check_limits(
            log_snr_min, log_snr_max, low, high
        )
        self._cosine = TruncatedCosine(self.log_snr_min, self.log_snr_max)
        self._shift = high
        self._slope = low - high
        # The cosine is flattest where its log-SNR is nearest to 0.
        flattest = min(max(0.0, self.log_snr_min), self.log_snr_max)
        largest_slope = 4.0 * self._cosine.angle_range
        largest_slope *= math.cosh(0.5 * flattest)
        if self._slope >= largest_slope:
            factor = math.exp(0.5 * largest_slope)
            raise InputError(
                "With these sizes and limits log-SNR would not decrease along "
                f"time. `noise_size_low` must be less than {factor:.3g} times "
                f"`noise_size_high`. Received: noise_size_low={noise_size_low}"
                f", noise_size_high={noise_size_high}"
            )

    def __call__(self, t):
        t = to_float32(t)
        return self._cosine(t) + self._shift + t * self._slope

    def time(self, log_snr):
        # Solve u + slope * t(u) = target for the cosine's own log-SNR u. The
        # left side increases with u and lies within |slope| of it.
        target = to_float32(log_snr) - self._shift
        low = target - max(self._slope, 0.0)
        high = target - min(self._slope, 0.0)
        for _ in range(_NUM_BISECTIONS):
            middle = 0.5 * (low + high)
            above = middle + self._slope * self._cosine.time(middle) > target
            low = ops.where(above, low, middle)
            high = ops.where(above, middle, high)
        return self._cosine.time(0.5 * (low + high))

    def derivative(self, t):
        return self._cosine.derivative(t) + self._slope
