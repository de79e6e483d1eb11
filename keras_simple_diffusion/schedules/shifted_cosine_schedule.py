import keras

from keras_simple_diffusion.ops.diffusion import to_float32
from keras_simple_diffusion.schedules.cosine_schedule import TruncatedCosine
from keras_simple_diffusion.schedules.noise_schedule import NoiseSchedule
from keras_simple_diffusion.schedules.noise_schedule import check_image_size
from keras_simple_diffusion.schedules.noise_schedule import check_limits
from keras_simple_diffusion.schedules.noise_schedule import log_size_ratio
from keras_simple_diffusion.utils.errors import check_number


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class ShiftedCosineSchedule(NoiseSchedule):
    """Cosine noise schedule shifted for the size of the images.

    Average pooling by `s` multiplies the SNR by `s^2`, so a larger image needs
    more noise to lose the same coarse structure:

    ```
    log_snr(t) = cosine(t) + 2 log(noise_size / image_size)
    ```

    The whole range shifts, ends included.

    Args:
        image_size: int, or `(height, width)` whose shorter side counts. The
            size of the images in pixels.
        noise_size: float. The image size at which the plain cosine schedule
            applies, in pixels: "shift 64" of the paper. Defaults to `64`.
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
    >>> schedule = keras_simple_diffusion.schedules.ShiftedCosineSchedule(256)
    >>> schedule(0.5)  # 2 log(64 / 256) = -2.77

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), eq. 4, 5
    """

    def __init__(
        self, image_size, noise_size=64, log_snr_min=-15.0, log_snr_max=15.0
    ):
        self.image_size = check_image_size(image_size)
        self.noise_size = check_number("noise_size", noise_size, above=0)
        self._shift = log_size_ratio(self.noise_size, self.image_size)
        self.log_snr_min, self.log_snr_max = check_limits(
            log_snr_min, log_snr_max, self._shift, self._shift
        )
        self._cosine = TruncatedCosine(self.log_snr_min, self.log_snr_max)

    def __call__(self, t):
        return self._cosine(t) + self._shift

    def time(self, log_snr):
        return self._cosine.time(to_float32(log_snr) - self._shift)

    def derivative(self, t):
        return self._cosine.derivative(t)
