import keras

from keras_simple_diffusion.optimizers.averaged_optimizer import (
    AveragedOptimizer,
)
from keras_simple_diffusion.optimizers.watched_optimizer import WatchedOptimizer
from keras_simple_diffusion.optimizers.wrapper import unwrap


def wrap_optimizer(optimizer, decay=None, watch=False, scale_loss=False):
    """Add what is watched, averages of the weights, and loss scaling.

    Loss scaling comes outermost: steps that it skips reach nothing else.

    Args:
        optimizer: a `keras.optimizers.Optimizer`, wrapped already or not.
        decay: see `AveragedOptimizer`, or `None` for no average.
        watch: bool. Whether there is a `WatchedOptimizer`.
        scale_loss: bool. Whether the loss must be scaled.

    Returns:
        A `keras.optimizers.Optimizer`.
    """
    kinds = {type(each): each for each in unwrap(optimizer)}
    scaling = kinds.get(keras.optimizers.LossScaleOptimizer)
    if scaling is not None:
        optimizer = scaling.inner_optimizer
    if watch and WatchedOptimizer not in kinds:
        optimizer = WatchedOptimizer(optimizer)
    if decay is not None and AveragedOptimizer not in kinds:
        optimizer = AveragedOptimizer(optimizer, decay=decay)
    if scaling is None and not scale_loss:
        return optimizer
    options = {}
    if scaling is not None:
        options = {
            "initial_scale": scaling.initial_scale,
            "dynamic_growth_steps": scaling.dynamic_growth_steps,
        }
    return keras.optimizers.LossScaleOptimizer(
        optimizer, name="loss_scale_optimizer", **options
    )


def find_optimizer(optimizer, kind):
    """Find the optimizer of a kind among an optimizer and those it wraps.

    Args:
        optimizer: a `keras.optimizers.Optimizer`.
        kind: class.

    Returns:
        An optimizer, or `None` if there is none of that kind.
    """
    return next((o for o in unwrap(optimizer) if isinstance(o, kind)), None)
