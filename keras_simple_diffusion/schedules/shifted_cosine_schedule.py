import keras

from keras_simple_diffusion.schedules.cosine_schedule import CosineSchedule
from keras_simple_diffusion.schedules.noise_schedule import NoiseSchedule
from keras_simple_diffusion.schedules.noise_schedule import log_size_ratio
from keras_simple_diffusion.schedules.noise_schedule import to_float32


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class ShiftedCosineSchedule(NoiseSchedule):
    """Cosine noise schedule shifted for the size of the images.

    Average pooling by `s` multiplies the SNR by `s^2`, so large images need
    more noise for the same corruption of what can be seen:

    ```
    log_snr(t) = cosine(t) + 2 log(noise_size / image_size)
    ```

    The whole range shifts, ends included.

    Args:
        image_size: int, or `(height, width)` whose shorter side counts. The
            size of the images in pixels.
        noise_size: int. The size at which the noise looks like that of the
            plain cosine schedule; "shift 64" of the paper. Defaults to `64`.
        log_snr_min: float. Log-SNR at `t = 1` before the shift. Defaults to
            `-15.0`.
        log_snr_max: float. Log-SNR at `t = 0` before the shift. Defaults to
            `15.0`.

    Call arguments:
        t: float or tensor of any shape, in `[0, 1]`.

    Returns:
        The log-SNR, a float32 tensor shaped like `t`.

    Example:
    >>> schedule = keras_simple_diffusion.schedules.ShiftedCosineSchedule(256)
    >>> schedule(0.5)  # 2 log(64 / 256) = -2.77

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), eq. 4, 5
    """

    def __init__(
        self, image_size, noise_size=64, log_snr_min=-15.0, log_snr_max=15.0
    ):
        self.image_size = image_size
        self.noise_size = noise_size
        self._shift = log_size_ratio("noise_size", noise_size, image_size)
        self._cosine = CosineSchedule(log_snr_min, log_snr_max)

    def __call__(self, t):
        return self._cosine(t) + self._shift

    def time(self, log_snr):
        return self._cosine.time(to_float32(log_snr) - self._shift)

    def derivative(self, t):
        return self._cosine.derivative(t)

    def get_config(self):
        return {
            "image_size": self.image_size,
            "noise_size": self.noise_size,
            **self._cosine.get_config(),
        }
