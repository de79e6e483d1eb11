import numpy as np
from keras import ops

from keras_simple_diffusion.utils.errors import InputError


def log_snr_grid(schedule, num_steps):
    """Log-SNR at which a sampler stops, uniform in time as in the paper.

    Args:
        schedule: a `keras_simple_diffusion.schedules.NoiseSchedule`.
        num_steps: int. Number of steps, at least 1.

    Returns:
        A float32 tensor of shape `(num_steps + 1,)`, from the noisy end of
        the schedule to the clean one, both included exactly.

    Example:
    >>> schedule = keras_simple_diffusion.schedules.CosineSchedule()
    >>> keras_simple_diffusion.samplers.log_snr_grid(schedule, 2)  # -15, 0, 15
    """
    if num_steps != int(num_steps) or num_steps < 1:
        raise InputError(
            "`num_steps` must be a whole number of at least 1. "
            f"Received: num_steps={num_steps}"
        )
    t = np.linspace(1.0, 0.0, int(num_steps) + 1, dtype="float32")
    return ops.cast(schedule(t), "float32")
