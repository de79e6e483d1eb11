"""Noise schedules: the log-SNR as a function of time.

Time is 0 for clean images and 1 for noise. Every `NoiseSchedule` also has an
exact inverse and derivative.
"""

import functools

from keras_simple_diffusion.schedules.cosine_schedule import CosineSchedule
from keras_simple_diffusion.schedules.flow_schedule import FlowSchedule
from keras_simple_diffusion.schedules.interpolated_cosine_schedule import (
    InterpolatedCosineSchedule,
)
from keras_simple_diffusion.schedules.noise_schedule import NoiseSchedule
from keras_simple_diffusion.schedules.normal_schedule import NormalSchedule
from keras_simple_diffusion.schedules.shifted_cosine_schedule import (
    ShiftedCosineSchedule,
)
from keras_simple_diffusion.utils.configurable import resolve

__all__ = [
    "CosineSchedule",
    "FlowSchedule",
    "InterpolatedCosineSchedule",
    "NoiseSchedule",
    "NormalSchedule",
    "ShiftedCosineSchedule",
    "get",
]


def __dir__():
    return __all__


def get(identifier, image_size=None):
    """Return the noise schedule that an identifier stands for.

    Args:
        identifier: a `NoiseSchedule`; `None`; a name, `"cosine"`,
            `"shifted_cosine"`, `"interpolated_cosine"`, `"normal"` or `"flow"`,
            which may be followed by arguments, as in
            `"shifted_cosine:image_size=256,noise_size=32"`; or a serialized
            configuration.
        image_size: int, or `(height, width)`. The image size for a name
            without one. Defaults to `None`, for which a name that needs an
            image size must state it.

    Returns:
        A `NoiseSchedule`, or `None` for `None`.

    Raises:
        InputError: if there is no such schedule, or an argument is not valid.

    Example:
    >>> keras_simple_diffusion.schedules.get("shifted_cosine", image_size=64)
    ShiftedCosineSchedule(image_size=64)
    """
    size = {} if image_size is None else {"image_size": image_size}
    return resolve(
        NoiseSchedule,
        identifier,
        {
            "cosine": CosineSchedule,
            "shifted_cosine": functools.partial(ShiftedCosineSchedule, **size),
            "interpolated_cosine": functools.partial(
                InterpolatedCosineSchedule, **size
            ),
            "normal": functools.partial(NormalSchedule, **size),
            "flow": functools.partial(FlowSchedule, **size),
        },
    )
