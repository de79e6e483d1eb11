import math

from keras_simple_diffusion.utils.configurable import Configurable
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number

# Largest log-SNR limit. Beyond +-87 alpha^2 or sigma^2 underflows in float32.
_MAX_LOG_SNR = 80.0


class NoiseSchedule(Configurable):
    """Log-SNR as a strictly decreasing function of time.

    Time `t` runs from 0 (clean) to 1 (noise). A schedule is immutable and
    holds no tensors; everything it returns is float32. A subclass defines
    `__call__`, `time` and `derivative`, and keeps the arguments of its
    constructor as attributes of the same names.

    Call arguments:
        t: float or tensor of any shape, in `[0, 1]`.

    Returns:
        The log-SNR, a float32 tensor shaped like `t`.

    Example:
    ```python
    class LinearSchedule(keras_simple_diffusion.schedules.NoiseSchedule):
        def __init__(self, limit=10.0):
            self.limit = limit

        def __call__(self, t):
            t = keras.ops.convert_to_tensor(t, "float32")
            return self.limit * (1.0 - 2.0 * t)

        def time(self, log_snr):
            log_snr = keras.ops.convert_to_tensor(log_snr, "float32")
            t = 0.5 - 0.5 * log_snr / self.limit
            return keras.ops.clip(t, 0.0, 1.0)

        def derivative(self, t):
            t = keras.ops.convert_to_tensor(t, "float32")
            return keras.ops.full_like(t, -2.0 * self.limit)
    ```
    """

    def __call__(self, t):
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def time(self, log_snr):
        """Compute the time of a log-SNR, the inverse of the schedule.

        Args:
            log_snr: float or tensor of any shape.

        Returns:
            A float32 tensor shaped like `log_snr`, in `[0, 1]`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def derivative(self, t):
        """Compute the derivative of log-SNR with respect to time.

        Args:
            t: float or tensor of any shape, in `[0, 1]`.

        Returns:
            A float32 tensor shaped like `t`, negative.
        """
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    @property
    def sampling_schedule(self):
        """The schedule in whose time the steps of a sampler are uniform.

        It has the same ends. By default it is the schedule itself; those that
        spend hardly any time near their ends have another one.
        """
        return self

    def for_image_size(self, image_size):
        """Make the same schedule for images of another size.

        Args:
            image_size: int, or `(height, width)`, in pixels.

        Returns:
            A schedule of the same class. A schedule that does not depend on
            the image size returns itself.
        """
        if self.get_config().get("image_size") is None:
            return self
        if isinstance(self.image_size, tuple) and isinstance(image_size, int):
            image_size = (image_size, image_size)
        config = {**self.get_config(), "image_size": image_size}
        return type(self).from_config(config)


def check_image_size(image_size):
    """Check the size of images.

    Args:
        image_size: int, or a pair `(height, width)`, in pixels.

    Returns:
        An int, or a tuple of two ints.

    Raises:
        InputError: if the size is not positive.
    """
    if isinstance(image_size, (tuple, list)):
        if len(image_size) != 2:
            raise InputError(
                "`image_size` must be an integer or a pair (height, width). "
                f"Received: image_size={image_size}"
            )
        return tuple(
            check_number("image_size", size, at_least=1, whole=True)
            for size in image_size
        )
    return check_number("image_size", image_size, at_least=1, whole=True)


def check_limits(log_snr_min, log_snr_max, shift_min=0.0, shift_max=0.0):
    """Check the ends of a schedule.

    Args:
        log_snr_min: float. Log-SNR at `t = 1` before the shift.
        log_snr_max: float. Log-SNR at `t = 0` before the shift.
        shift_min: float. Shift at `t = 1`. Defaults to `0.0`.
        shift_max: float. Shift at `t = 0`. Defaults to `0.0`.

    Returns:
        The limits before the shift, two Python numbers.

    Raises:
        InputError: if the ends are not increasing, or if float32 cannot
            represent their noise levels.
    """
    low = check_number("log_snr_min", log_snr_min)
    high = check_number("log_snr_max", log_snr_max)
    if not low < high:
        raise InputError(
            "`log_snr_min` must be below `log_snr_max`. Received: "
            f"log_snr_min={low}, log_snr_max={high}"
        )
    ends = low + shift_min, high + shift_max
    if max(map(abs, ends)) > _MAX_LOG_SNR:
        raise InputError(
            f"The log-SNR of a schedule must stay within +-{_MAX_LOG_SNR}, so "
            "that float32 can represent signal and noise. Received: "
            f"log_snr_min={low}, log_snr_max={high}"
            + (
                f", which become {ends} after the shift"
                if any((shift_min, shift_max))
                else ""
            )
        )
    return low, high


def resolution(image_size):
    """Return the shorter side of an image, which the paper's rules refer to.

    Args:
        image_size: int, or `(height, width)`.

    Returns:
        int, in pixels.
    """
    size = check_image_size(image_size)
    return min(size) if isinstance(size, tuple) else size


def check_shift(image_size, noise_size):
    """Check the sizes of a schedule that is shifted if it has an image size.

    Args:
        image_size: int, or `(height, width)`, in pixels, or `None`.
        noise_size: float. The image size without a shift, in pixels.

    Returns:
        A tuple `(image_size, noise_size, shift)` of the checked sizes and the
        shift of log-SNR, a float.

    Raises:
        InputError: if a size is not positive.
    """
    noise_size = check_number("noise_size", noise_size, above=0)
    if image_size is None:
        return None, noise_size, 0.0
    image_size = check_image_size(image_size)
    return image_size, noise_size, log_size_ratio(noise_size, image_size)


def log_size_ratio(noise_size, image_size):
    """Compute `2 log(noise_size / image_size)`, the shift of eq. 5.

    Args:
        noise_size: float, in pixels.
        image_size: int, or `(height, width)` whose shorter side counts.

    Returns:
        A float.
    """
    return 2.0 * math.log(noise_size / resolution(image_size))
