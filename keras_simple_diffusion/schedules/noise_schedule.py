import math

from keras import ops


class NoiseSchedule:
    """Log-SNR as a strictly decreasing function of time.

    Time `t` runs from 0 (clean) to 1 (noise). A schedule is immutable and
    holds no tensors; everything it returns is float32. Subclasses define the
    three methods and `get_config()`.

    Call arguments:
        t: float or tensor of any shape, in `[0, 1]`.

    Returns:
        The log-SNR, a float32 tensor shaped like `t`.
    """

    def __call__(self, t):
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def time(self, log_snr):
        """The time at which the schedule reaches a log-SNR (its inverse)."""
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def derivative(self, t):
        """The derivative of log-SNR with respect to time, negative."""
        raise NotImplementedError(f"{type(self).__name__} must define this.")

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def log_size_ratio(name, noise_size, image_size):
    """`2 log(noise_size / image_size)`, the shift of eq. 5."""
    size = resolution(image_size)
    if not noise_size > 0:
        raise ValueError(
            f"`{name}` must be a positive size in pixels. "
            f"Received: {name}={noise_size}"
        )
    return 2.0 * math.log(noise_size / size)


def resolution(image_size):
    """The one size that stands for an image: its shorter side.

    Args:
        image_size: int, or `(height, width)`.

    Returns:
        int, in pixels.
    """
    size = image_size
    if isinstance(size, (tuple, list)):
        size = min(size)
    if not size > 0:
        raise ValueError(
            "`image_size` must be a positive size in pixels or a "
            f"`(height, width)` pair. Received: image_size={image_size}"
        )
    return size


def to_float32(x):
    return ops.cast(ops.convert_to_tensor(x), "float32")
