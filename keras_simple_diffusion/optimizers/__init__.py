"""Optimizers, and wrappers that observe the steps of an optimizer.

`make_optimizer` makes an `Adam`, `AdamW` or `Muon` with the paper's settings.
`AveragedOptimizer` keeps moving averages of the weights, each weighted by an
`AverageProfile`; `WatchedOptimizer` records norms of gradients and weights.
`reconstruction` computes averages afterwards from stored ones.
"""

from keras_simple_diffusion.optimizers import reconstruction
from keras_simple_diffusion.optimizers.adam import Adam
from keras_simple_diffusion.optimizers.adam import AdamW
from keras_simple_diffusion.optimizers.adam import Muon
from keras_simple_diffusion.optimizers.averaged_optimizer import (
    AveragedOptimizer,
)
from keras_simple_diffusion.optimizers.construction import WarmUp
from keras_simple_diffusion.optimizers.construction import make_optimizer
from keras_simple_diffusion.optimizers.profiles import AverageProfile
from keras_simple_diffusion.optimizers.profiles import ExponentialProfile
from keras_simple_diffusion.optimizers.profiles import PowerProfile
from keras_simple_diffusion.optimizers.watched_optimizer import WatchedOptimizer
from keras_simple_diffusion.optimizers.wrapper import OptimizerWrapper
from keras_simple_diffusion.optimizers.wrapper import find_optimizer

__all__ = [
    "Adam",
    "AdamW",
    "AverageProfile",
    "AveragedOptimizer",
    "ExponentialProfile",
    "Muon",
    "OptimizerWrapper",
    "PowerProfile",
    "WarmUp",
    "WatchedOptimizer",
    "find_optimizer",
    "make_optimizer",
    "reconstruction",
]


def __dir__():
    return __all__
