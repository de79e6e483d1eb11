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
