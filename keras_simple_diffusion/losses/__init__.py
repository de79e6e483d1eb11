"""Training losses and their weighting over noise levels.

`DiffusionLoss` measures the error of a prediction. A `LossWeighting` weighs
noise levels, and the metric `LevelLoss` shows the loss at each of them.
"""

from keras_simple_diffusion.losses.diffusion_loss import DiffusionLoss
from keras_simple_diffusion.losses.diffusion_loss import multiscale_mse
from keras_simple_diffusion.losses.level_loss import LevelLoss
from keras_simple_diffusion.losses.loss_weighting import LossWeighting
from keras_simple_diffusion.losses.loss_weighting import MinSNRWeighting
from keras_simple_diffusion.losses.loss_weighting import SigmoidWeighting

__all__ = [
    "DiffusionLoss",
    "LevelLoss",
    "LossWeighting",
    "MinSNRWeighting",
    "SigmoidWeighting",
    "multiscale_mse",
]


def __dir__():
    return __all__
