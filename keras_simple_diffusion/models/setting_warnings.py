"""Warnings where schedule or loss do not suit the images or each other."""

import math
import warnings

from keras_simple_diffusion.losses.loss_weighting import SigmoidWeighting
from keras_simple_diffusion.schedules.cosine_schedule import CosineSchedule
from keras_simple_diffusion.schedules.noise_schedule import resolution
from keras_simple_diffusion.schedules.normal_schedule import NormalSchedule

# SiD2's bias at each size of the images.
_PAPER_BIASES = {128: 0.0, 256: -1.0, 512: -3.0, 1024: -4.0}
_BIAS_TOLERANCE = 1.5


class UnusualSettingWarning(UserWarning):
    """A setting that the papers would not use here."""


def warn_unusual(schedule, loss, image_shape, stacklevel):
    """Warn once for each setting that does not fit the images.

    Args:
        schedule: a `keras_simple_diffusion.schedules.NoiseSchedule`.
        loss: a `keras_simple_diffusion.losses.DiffusionLoss`.
        image_shape: tuple of ints, `(height, width, channels)`.
        stacklevel: int. How many callers up the user's line is.
    """
    size = min(image_shape[:2])
    for message in (
        _schedule_message(schedule, size),
        _base_size_message(loss, size),
        _bias_message(loss, size),
        _density_message(schedule, loss),
    ):
        if message is not None:
            warnings.warn(
                message, UnusualSettingWarning, stacklevel=stacklevel + 1
            )


def _schedule_message(schedule, size):
    if isinstance(schedule, CosineSchedule) and size > 64:
        return (
            f"The plain cosine schedule leaves images of {size} pixels with "
            "too little noise. The paper would use ShiftedCosineSchedule("
            f"{size}, noise_size=64) or noise_size=32."
        )
    image_size = getattr(schedule, "image_size", None)
    if image_size is None or resolution(image_size) == size:
        return None
    return (
        f"The noise schedule is for images of {resolution(image_size)} "
        f"pixels, and those of the backbone have {size}. The paper would use "
        f"{type(schedule).__name__}(image_size={size}, ...)."
    )


def _base_size_message(loss, size):
    if loss.base_size is None or 2 * loss.base_size <= size:
        return None
    return (
        f"The multiscale loss with base_size={loss.base_size} adds no coarser "
        f"scale for images of {size} pixels. The paper would use base_size=32 "
        "for images of 512 pixels or more, and no multiscale loss below."
    )


def _bias_message(loss, size):
    if not isinstance(loss.weighting, SigmoidWeighting):
        return None
    expected = _paper_bias(size)
    if abs(loss.weighting.bias - expected) <= _BIAS_TOLERANCE:
        return None
    return (
        f"SigmoidWeighting(bias={loss.weighting.bias:g}) is far from what the "
        f"paper would use for images of {size} pixels: bias={expected:g}."
    )


def _density_message(schedule, loss):
    weighting = loss.weighting
    is_density = weighting is not None and weighting.density
    if not (is_density and isinstance(schedule, NormalSchedule)):
        return None
    return (
        f"{type(weighting).__name__} divides the loss by the density of the "
        "noise levels, which is tiny in the tails of NormalSchedule, so single "
        "images can dominate it. Use a cosine schedule, or a loss without a "
        "weighting or with FlowWeighting."
    )


def _paper_bias(size):
    """SiD2's bias for a size, interpolated in its logarithm."""
    sizes = sorted(_PAPER_BIASES)
    size = min(max(size, sizes[0]), sizes[-1])
    for low, high in zip(sizes, sizes[1:], strict=False):
        if size <= high:
            weight = math.log2(size / low) / math.log2(high / low)
            low, high = _PAPER_BIASES[low], _PAPER_BIASES[high]
            return round((1 - weight) * low + weight * high, 2)
