"""Making optimizers: the paper's settings, and the wrappers of training."""

import contextlib

import keras
import ml_dtypes
from keras import ops

from keras_simple_diffusion.backend.keras_internals import trained_variables
from keras_simple_diffusion.optimizers.adam import Adam
from keras_simple_diffusion.optimizers.adam import AdamW
from keras_simple_diffusion.optimizers.adam import Muon
from keras_simple_diffusion.optimizers.averaged_optimizer import (
    AveragedOptimizer,
)
from keras_simple_diffusion.optimizers.watched_optimizer import WatchedOptimizer
from keras_simple_diffusion.optimizers.wrapper import unwrap
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number


def find_optimizer(optimizer):
    """Return the optimizer that `compile` is given.

    Args:
        optimizer: a `keras.optimizers.Optimizer`, its configuration, the name
            of one of Keras's, or `"auto"` for that of `make_optimizer()`.

    Returns:
        A `keras.optimizers.Optimizer`.

    Raises:
        InputError: if it is none of these.
    """
    if isinstance(optimizer, str) and optimizer == "auto":
        return make_optimizer()
    with contextlib.suppress(ValueError, TypeError, KeyError):
        found = keras.optimizers.get(optimizer)
        if found is not None:
            return found
    raise InputError(
        "`optimizer` must be a keras.optimizers.Optimizer, the name of one, "
        f'such as "adam", or "auto". Received: optimizer={optimizer!r}'
    )


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
    steps=None,
    cooldown_steps=0,
):
    """Make an optimizer with the settings of simple diffusion.

    The paths of its variables are the same in every process.

    Args:
        name: string. `"adam"`, `"adamw"` or `"muon"`. Defaults to `"adam"`.
        learning_rate: float. Learning rate after the warm-up. Defaults to
            `1e-4`.
        warmup_steps: int. Number of updates of linear warm-up. Defaults to
            `0`.
        beta_1: float in `[0, 1)`. Decay of Adam's first moment. Defaults to
            `0.9`.
        beta_2: float in `[0, 1)`. Decay of Adam's second moment. Defaults to
            `0.99`.
        epsilon: float. Adam's epsilon. Defaults to `1e-12`.
        weight_decay: float. An update multiplies kernels by `1 - learning_rate
            * weight_decay`; for `"adamw"` and `"muon"`. Defaults to `0.0`.
        clip_norm: float or `None`. Largest norm of the whole gradient.
            Defaults to `1.0`.
        gradient_accumulation_steps: int or `None`. Number of micro-batches an
            update. Defaults to `None`.
        steps: int or `None`. Number of updates of the whole training, needed
            for `cooldown_steps`. Defaults to `None`.
        cooldown_steps: int. Number of the last updates, in which the learning
            rate falls linearly to zero. Defaults to `0`.

    Returns:
        A `keras.optimizers.Optimizer`.

    Raises:
        InputError: if `name` is unknown, a number is out of range, or
            `weight_decay` is given for Adam.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093)
    """
    check_number("warmup_steps", warmup_steps, at_least=0, whole=True)
    check_number("weight_decay", weight_decay, at_least=0)
    if gradient_accumulation_steps is not None:
        check_number(
            "gradient_accumulation_steps",
            gradient_accumulation_steps,
            at_least=1,
            whole=True,
        )
    if gradient_accumulation_steps == 1:
        gradient_accumulation_steps = None
    if warmup_steps or cooldown_steps:
        each = gradient_accumulation_steps or 1  # Keras counts micro-batches.
        learning_rate = WarmUp(
            learning_rate,
            max(warmup_steps, 1) * each,
            steps and steps * each,
            cooldown_steps * each,
        )
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
            f"`name` must be 'adam', 'adamw' or 'muon'. Received: name={name!r}"
        )
    if weight_decay:
        raise InputError(
            "'adam' has no weight decay. Received: "
            f"weight_decay={weight_decay}. Use 'adamw' or 'muon'."
        )
    return Adam(**arguments, **betas)


@keras.saving.register_keras_serializable("keras_simple_diffusion")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly, stays constant, and may fall to zero.

    Args:
        learning_rate: float. Learning rate after the warm-up.
        warmup_steps: int. Number of steps after which it is reached.
        steps: int or `None`. Number of steps of the whole training, needed
            for `cooldown_steps`. Defaults to `None`.
        cooldown_steps: int. Number of the last steps, in which the learning
            rate falls linearly. It is zero from step `steps` on. Defaults to
            `0`, for none.
    """

    def __init__(
        self, learning_rate, warmup_steps, steps=None, cooldown_steps=0
    ):
        self.learning_rate = check_number(
            "learning_rate", learning_rate, at_least=0
        )
        self.warmup_steps = check_number(
            "warmup_steps", warmup_steps, at_least=1, whole=True
        )
        self.cooldown_steps = check_number(
            "cooldown_steps", cooldown_steps, at_least=0, whole=True
        )
        if self.cooldown_steps:
            check_number("steps", steps, at_least=1, whole=True)
        self.steps = steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = ops.minimum((step + 1.0) / self.warmup_steps, 1.0)
        if self.cooldown_steps:
            left = (self.steps - step) / self.cooldown_steps
            rate = rate * ops.clip(left, 0.0, 1.0)
        return self.learning_rate * rate

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "steps": self.steps,
            "cooldown_steps": self.cooldown_steps,
        }


def check_trainable(optimizer, variables):
    """Check that an optimizer can train variables, or has trained the same.

    Args:
        optimizer: a `keras.optimizers.Optimizer` or `None`.
        variables: list of the trainable variables of a model.

    Raises:
        InputError: if there are none, or others than it was built for, or if
            the optimizer cannot train their type.
    """
    if not variables:
        raise InputError(
            "The model has nothing to train: all of its layers are frozen. Set "
            "`trainable = True` for some of them."
        )
    if any(variable.dtype == "float16" for variable in variables):
        raise InputError(
            "Weights of type float16 cannot be trained, because Adam's moments "
            "underflow. Use `keras.config.set_floatx('float32')` and "
            "`keras.config.set_dtype_policy('mixed_float16')`, or bfloat16."
        )
    # Keras computes in the type of the variable, where 0.999 may be 1.
    betas = [getattr(o, "beta_2", None) for o in unwrap(optimizer)]
    for beta in filter(None, betas):
        if any(v.dtype == "bfloat16" for v in variables) and (
            float(ml_dtypes.bfloat16(beta)) >= 1.0
        ):
            raise InputError(
                f"beta_2={beta} is 1 in bfloat16, the type of the weights, so "
                "the optimizer would change nothing. Use beta_2=0.99, or keep "
                "the weights in float32 with the policy 'mixed_bfloat16'."
            )
    if optimizer is None or not optimizer.built:
        return
    trained = trained_variables(optimizer)
    if [*map(id, trained)] != [*map(id, variables)]:
        raise InputError(
            "The trainable weights are not those that the optimizer was made "
            "for; LoRA, quantization or `trainable` have changed them. Call "
            "`compile` again, with a new optimizer."
        )


def wrap_optimizer(optimizer, decay=None, watch=False, scale_loss=False):
    """Wrap an optimizer with monitoring, weight averaging and loss scaling.

    Wrappers that the optimizer already has are kept. Loss scaling is the
    outermost: the others do not see the steps that it skips.

    Args:
        optimizer: a `keras.optimizers.Optimizer`.
        decay: see `AveragedOptimizer`, or `None` for no average. Defaults to
            `None`.
        watch: bool. Whether to add a `WatchedOptimizer`. Defaults to `False`.
        scale_loss: bool. Whether to add a
            `keras.optimizers.LossScaleOptimizer`. Defaults to `False`.

    Returns:
        A `keras.optimizers.Optimizer`.
    """
    if any(getattr(each, "use_ema", False) for each in unwrap(optimizer)):
        raise InputError(
            "`use_ema` of Keras's optimizers overwrites the weights with their "
            "average at the end of `fit`. Leave it out: `compile(ema_decay=...)"
            "` keeps averages beside the weights. Received: use_ema=True"
        )
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
