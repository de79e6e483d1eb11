import keras
from keras import ops

from keras_simple_diffusion.schedules.cosine_schedule import CosineSchedule
from keras_simple_diffusion.schedules.noise_schedule import NoiseSchedule
from keras_simple_diffusion.schedules.noise_schedule import log_size_ratio
from keras_simple_diffusion.schedules.noise_schedule import to_float32

# Halvings of a bracket of at most 2 pi: below the resolution of float32.
_NUM_BISECTIONS = 26


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class InterpolatedCosineSchedule(NoiseSchedule):
    """Cosine noise schedule whose shift changes along time.

    A shifted schedule spends little time on fine detail. Interpolating from
    `noise_size_high` at the clean end to `noise_size_low` at the noisy end
    spreads time over all frequencies:

    ```
    log_snr(t) = t shifted_low(t) + (1 - t) shifted_high(t)
    ```

    This is the broad orientation: the range of log-SNR between the ends is
    wider than the plain cosine's, which is the stated motive, and it is how
    the authors' later code reads. Eq. 6 as printed is the opposite, narrow
    one; write it by exchanging the two sizes, as in
    `InterpolatedCosineSchedule(512, noise_size_low=256, noise_size_high=32)`.
    (Transcriptions of SiD2's appendix add `log(image_size / noise_size)`
    instead of `2 log(noise_size / image_size)`: with that sign large images
    would get less noise, so it is not followed here.)

    Args:
        image_size: int, or `(height, width)` whose shorter side counts. The
            size of the images in pixels.
        noise_size_low: int. The noise size at `t = 1`. Defaults to `32`.
        noise_size_high: int. The noise size at `t = 0`. Defaults to `256`.
        log_snr_min: float. Log-SNR at `t = 1` before the shift. Defaults to
            `-15.0`.
        log_snr_max: float. Log-SNR at `t = 0` before the shift. Defaults to
            `15.0`.

    Call arguments:
        t: float or tensor of any shape, in `[0, 1]`.

    Returns:
        The log-SNR, a float32 tensor shaped like `t`.

    Raises:
        ValueError: if log-SNR would not decrease along time, which happens in
            the narrow orientation when the sizes are more than a factor of
            about 23 apart.

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
        self.image_size = image_size
        self.noise_size_low = noise_size_low
        self.noise_size_high = noise_size_high
        low = log_size_ratio("noise_size_low", noise_size_low, image_size)
        high = log_size_ratio("noise_size_high", noise_size_high, image_size)
        self._cosine = CosineSchedule(log_snr_min, log_snr_max)
        self._shift = high
        self._slope = low - high
        steepest_slope = 4.0 * self._cosine._range
        if self._slope >= steepest_slope:
            raise ValueError(
                "With these sizes log-SNR would not decrease along time: "
                "`noise_size_low` may be at most a factor of about 23 above "
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

    def get_config(self):
        return {
            "image_size": self.image_size,
            "noise_size_low": self.noise_size_low,
            "noise_size_high": self.noise_size_high,
            **self._cosine.get_config(),
        }
