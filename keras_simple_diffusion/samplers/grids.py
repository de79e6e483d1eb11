import numbers

import numpy as np
from keras import ops

from keras_simple_diffusion.utils.errors import InputError

SPACINGS = ("time", "log_snr", "power")
# Of the "power" spacing: how much denser it is at the clean end.
_POWER = 7.0


def log_snr_grid(schedule, num_steps, spacing="time"):
    """Log-SNR at which a sampler stops, from the noisy to the clean end.

    Args:
        schedule: a `keras_simple_diffusion.schedules.NoiseSchedule`.
        num_steps: int. Number of steps, at least 1.
        spacing: string. `"time"`: uniform in time, as in the paper;
            `"log_snr"`: uniform in log-SNR; `"power"`: uniform in the seventh
            root of `sigma / alpha`, as in EDM. Defaults to `"time"`.

    Returns:
        A float32 tensor of shape `(num_steps + 1,)`, from the noisy end of
        the schedule to the clean one, both included exactly.

    Example:
    >>> schedule = keras_simple_diffusion.schedules.CosineSchedule()
    >>> keras_simple_diffusion.samplers.log_snr_grid(schedule, 2)  # -15, 0, 15

    References:
        - [Karras et al., 2022](https://arxiv.org/abs/2206.00364), eq. 5
    """
    if not isinstance(num_steps, numbers.Real) or not (
        num_steps == int(num_steps) >= 1
    ):
        raise InputError(
            "`num_steps` must be a whole number of at least 1. "
            f"Received: num_steps={num_steps}"
        )
    if spacing not in SPACINGS:
        raise InputError(
            f"`spacing` must be one of {SPACINGS}. Received: "
            f"spacing={spacing!r}"
        )
    t = np.linspace(1.0, 0.0, int(num_steps) + 1, dtype="float32")
    if spacing == "time":
        return ops.cast(schedule(t), "float32")
    ends = ops.convert_to_numpy(schedule(np.array([1.0, 0.0], "float32")))
    low, high = ends.astype("float64")
    share = 1.0 - t.astype("float64")
    if spacing == "log_snr":
        grid = low + share * (high - low)
    else:
        # sigma / alpha is exp(-log_snr / 2).
        first, last = (np.exp(-0.5 * end / _POWER) for end in (low, high))
        grid = -2.0 * _POWER * np.log(first + share * (last - first))
    grid[0], grid[-1] = low, high
    return ops.convert_to_tensor(grid, dtype="float32")
