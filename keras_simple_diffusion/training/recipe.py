import dataclasses

import keras
from keras import ops


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


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a preset is trained; `recipe.json` of its folder.

    Args:
        steps: int. Number of training steps.
        batch_size: int. Pictures a step.
        learning_rate: float. Learning rate of Adam, after the warm-up.
        beta_1: float. First-moment decay of Adam.
        beta_2: float. Second-moment decay of Adam.
        epsilon: float. Adam's epsilon.
        warmup_steps: int. Steps of linear warm-up.
        clip_norm: float. Largest norm of the whole gradient.
        ema_decay: float. Decay of the average of the weights.
        flip: bool. Whether half of the pictures are mirrored.
    """

    steps: int = 100_000
    batch_size: int = 64
    learning_rate: float = 1e-4
    beta_1: float = 0.9
    beta_2: float = 0.99
    epsilon: float = 1e-12
    warmup_steps: int = 1000
    clip_norm: float = 1.0
    ema_decay: float = 0.9999
    flip: bool = False

    def optimizer(self):
        """A new `keras.optimizers.Adam` as the recipe says."""
        return keras.optimizers.Adam(
            WarmUp(self.learning_rate, max(self.warmup_steps, 1)),
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
            global_clipnorm=self.clip_norm,
        )
