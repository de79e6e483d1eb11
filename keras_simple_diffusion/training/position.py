import dataclasses
import time

import keras


@dataclasses.dataclass
class Position:
    """Where a run stands; its callbacks share one.

    A step is one update of the weights, of one batch, or of several where
    gradients are accumulated.

    Args:
        step: int. Steps done since the run began.
        batches_per_step: int.
        earlier_seconds: float. Time spent on training before this process.
        signal: int or `None`. The signal that asked this process to leave.
    """

    step: int = 0
    batches_per_step: int = 1
    earlier_seconds: float = 0.0
    signal: int | None = None
    started: float | None = None
    batches: int = 0  # Of the step under way.

    def seconds(self):
        """Time spent on training, without compiling the first step."""
        if self.started is None:
            return self.earlier_seconds
        return self.earlier_seconds + time.monotonic() - self.started


class StepCallback(keras.callbacks.Callback):
    """Callback that acts after each step.

    Args:
        position: the run's `Position`.
    """

    def __init__(self, position):
        super().__init__()
        self.position = position

    def on_train_batch_end(self, batch, logs=None):
        if self.position.batches == 0:
            self.on_step_end()

    def on_step_end(self):
        """Called after each step."""


class Counter(keras.callbacks.Callback):
    """Keep a position up to date; comes first among the callbacks.

    It stops the training after a number of steps, or of minutes.

    Args:
        position: a `Position`.
        steps: int. Steps of the whole run.
        minutes: float or `None`. Training time of the whole run.
    """

    def __init__(self, position, steps, minutes=None):
        super().__init__()
        self.position = position
        self.steps = steps
        self.seconds_allowed = float("inf") if minutes is None else 60 * minutes

    def on_train_batch_end(self, batch, logs=None):
        position = self.position
        if position.started is None:
            position.started = time.monotonic()
        position.batches = (position.batches + 1) % position.batches_per_step
        if position.batches:
            return
        position.step += 1
        if (
            position.step >= self.steps
            or position.seconds() > self.seconds_allowed
        ):
            self.model.stop_training = True
