"""Training losses and their weighting over noise levels.

`DiffusionLoss` measures the error of a prediction. A `LossWeighting` weighs
noise levels, and the metric `LevelLoss` shows the loss at each of them.
"""

import functools

from keras_simple_diffusion.losses.diffusion_loss import DiffusionLoss
from keras_simple_diffusion.losses.diffusion_loss import multiscale_mse
from keras_simple_diffusion.losses.level_loss import LevelLoss
from keras_simple_diffusion.losses.loss_weighting import FlowWeighting
from keras_simple_diffusion.losses.loss_weighting import LossWeighting
from keras_simple_diffusion.losses.loss_weighting import MinSNRWeighting
from keras_simple_diffusion.losses.loss_weighting import SigmoidWeighting
from keras_simple_diffusion.ops.diffusion import PREDICTION_SPACES
from keras_simple_diffusion.utils.configurable import resolve

__all__ = [
    "DiffusionLoss",
    "FlowWeighting",
    "LevelLoss",
    "LossWeighting",
    "MinSNRWeighting",
    "SigmoidWeighting",
    "get",
    "multiscale_mse",
]


def __dir__():
    return __all__


def get(identifier):
    """Return the loss that an identifier stands for.

    Args:
        identifier: a `DiffusionLoss`; `None`; the space of the error,
            `"epsilon"`, `"v"`, `"x"` or `"flow"`, which may be followed by
            arguments, as in `"epsilon:base_size=32"`; or a serialized
            configuration.

    Returns:
        A `DiffusionLoss`, or `None` for `None`.

    Raises:
        InputError: if there is no such loss, or an argument is not valid.

    Example:
    >>> keras_simple_diffusion.losses.get("v")
    DiffusionLoss(error_type='v')
    """
    spaces = {
        space: functools.partial(DiffusionLoss, space)
        for space in PREDICTION_SPACES
    }
    return resolve(DiffusionLoss, identifier, spaces)
