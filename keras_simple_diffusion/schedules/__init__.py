"""Noise schedules: the log-SNR as a function of time.

Time is 0 for clean images and 1 for noise. Every `NoiseSchedule` also has an
exact inverse and derivative.
"""

from keras_simple_diffusion.schedules.cosine_schedule import CosineSchedule
from keras_simple_diffusion.schedules.interpolated_cosine_schedule import (
    InterpolatedCosineSchedule,
)
from keras_simple_diffusion.schedules.noise_schedule import NoiseSchedule
from keras_simple_diffusion.schedules.shifted_cosine_schedule import (
    ShiftedCosineSchedule,
)

__all__ = [
    "CosineSchedule",
    "InterpolatedCosineSchedule",
    "NoiseSchedule",
    "ShiftedCosineSchedule",
]


def __dir__():
    return __all__
