import keras
from keras import ops

from keras_simple_diffusion.optimizers.adam import Adam
from keras_simple_diffusion.optimizers.adam import AdamW
from keras_simple_diffusion.optimizers.adam import Muon
from keras_simple_diffusion.optimizers.averaged_optimizer import (
    AveragedOptimizer,
)
from keras_simple_diffusion.optimizers.watched_optimizer import WatchedOptimizer
from keras_simple_diffusion.optimizers.wrapper import unwrap
from keras_simple_diffusion.utils.errors import InputError


def make_optimizer(
    name="adam",
    learning_rate=1e-4,
    warmup_steps=0,
    beta_1=0.9,
    beta_2=0.99,
    epsilon=1e-12,
    weight_decay=0.0,
    clip_norm=1.0,
    gradient_accumulation_steps=None,
):
    """Make one of the optimizers that training offers.

    The paths of its variables are the same in every process.

    Args:
        name: string. `"adam"`, `"adamw"`, or `"muon"`, see
            `keras_simple_diffusion.optimizers.Muon`. Defaults to `"adam"`.
        learning_rate: float, after the warm-up. Defaults to `1e-4`.
        warmup_steps: int. Updates of linear warm-up. Defaults to `0`.
        beta_1: float. First-moment decay of Adam. Defaults to `0.9`.
        beta_2: float. Second-moment decay of Adam. Defaults to `0.99`.
        epsilon: float. Adam's epsilon. Defaults to `1e-12`.
        weight_decay: float. Share of a kernel that an update takes away,
            times the learning rate; for `"adamw"` and `"muon"`. Defaults to
            `0.0`.
        clip_norm: float or `None`. Largest norm of the whole gradient.
            Defaults to `1.0`.
        gradient_accumulation_steps: int or `None`. Micro-batches an update.
            Defaults to `None`.

    Returns:
        A `keras.optimizers.Optimizer`.
    """
    if gradient_accumulation_steps == 1:
        gradient_accumulation_steps = None
    if warmup_steps:
        # Keras counts micro-batches.
        warmup_steps *= gradient_accumulation_steps or 1
        learning_rate = WarmUp(learning_rate, warmup_steps)
    arguments = {
        "learning_rate": learning_rate,
        "epsilon": epsilon,
        "global_clipnorm": clip_norm,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "name": name,
    }
    betas = {"beta_1": beta_1, "beta_2": beta_2}
    if name == "adamw":
        return AdamW(**arguments, **betas, weight_decay=weight_decay)
    if name == "muon":
        return Muon(
            **arguments,
            adam_beta_1=beta_1,
            adam_beta_2=beta_2,
            weight_decay=weight_decay,
            adam_weight_decay=weight_decay,
        )
    if name != "adam":
        raise InputError(
            f"The optimizers are 'adam', 'adamw' and 'muon'. Received: {name!r}"
        )
    if weight_decay:
        raise InputError(
            "'adam' has no weight decay; 'adamw' and 'muon' have. Received: "
            f"weight_decay={weight_decay}"
        )
    return Adam(**arguments, **betas)


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly to its value and stays there.

    Args:
        learning_rate: float. The final value.
        warmup_steps: int. Number of steps until it is reached.
    """

    def __init__(self, learning_rate, warmup_steps):
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32") + 1.0
        return self.learning_rate * ops.minimum(step / self.warmup_steps, 1.0)

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
        }


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
