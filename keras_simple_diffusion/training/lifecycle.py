import dataclasses
import signal
import threading
import time
import warnings

import keras
import numpy as np

from keras_simple_diffusion.backend.native import from_main_process
from keras_simple_diffusion.backend.native import num_processes
from keras_simple_diffusion.utils.errors import InputError


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


class Interrupted(Exception):
    """A signal ended the training, and the run was saved.

    Args:
        signal: int, the signal's number.
        step: int, the step of the checkpoint.
    """

    def __init__(self, signal, step):
        super().__init__(f"interrupted by signal {signal} at step {step}")
        self.signal = signal
        self.step = step


class Interruption(StepCallback):
    """Save the run and leave when the process is asked to end.

    SIGTERM, as schedulers and preempted machines send it, and the first
    Ctrl-C end the training after the step under way; a second one ends the
    process at once.

    Of several processes the main one decides, at the end of an interval, so
    that all of them leave at the same step.

    Args:
        position: the run's `Position`.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, position):
        super().__init__(position)
        self.previous = {}
        self.received = None

    def on_train_begin(self, logs=None):
        if threading.current_thread() is threading.main_thread():
            for number in self._SIGNALS:
                self.previous[number] = signal.signal(number, self._note)

    def on_step_end(self):
        if num_processes() == 1:
            self._follow(self.received)

    def on_epoch_end(self, epoch, logs=None):
        if num_processes() > 1:
            received = np.array(self.received or 0, "int32")
            self._follow(int(from_main_process(received)) or None)

    def on_train_end(self, logs=None):
        self.restore()

    def restore(self):
        """Give the signals back to whoever had them before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def _follow(self, received):
        if received is not None:
            self.position.signal = received
            self.model.stop_training = True

    def _note(self, number, frame):
        if self.received is not None:
            self.restore()
            signal.raise_signal(number)
        self.received = number


class Saving(StepCallback):
    """Save the run every so many steps, when it is interrupted, at its end.

    A checkpoint that cannot be written, on a full disk say, is told in a
    warning, and the training goes on; the one at the end is an error.

    Args:
        position: the run's `Position`.
        save: function without arguments that writes the checkpoint.
        interval: int. Steps between lines of the log. Where one ends, the
            checkpoint is written after its line.
        every: int or `None`. Steps between checkpoints.
    """

    def __init__(self, position, save, interval, every=None):
        super().__init__(position)
        self.save = save
        self.interval = interval
        self.every = every
        self.saved = position.step

    def on_step_end(self):
        if self.position.step % self.interval:
            self._save_if_due()

    def on_epoch_end(self, epoch, logs=None):
        self._save_if_due()

    def on_train_end(self, logs=None):
        self._save_or_fail()

    def _save_if_due(self):
        step = self.position.step
        if self.position.signal is not None:
            self._save_or_fail()
        elif self.every and step % self.every == 0:
            try:
                self._save()
            except OSError as error:
                warnings.warn(
                    f"The checkpoint of step {step} could not be written "
                    f"({error.strerror or error}). The training goes on; the "
                    f"last checkpoint is that of step {self.saved}.",
                    stacklevel=2,
                )

    def _save(self):
        if self.saved == self.position.step:
            return
        self.model  # noqa: B018 - On JAX this brings the weights up to date.
        self.save()
        self.saved = self.position.step

    def _save_or_fail(self):
        try:
            self._save()
        except OSError as error:
            raise InputError(
                f"The checkpoint of step {self.position.step} could not be "
                f"written ({error.strerror or error}). The last one is that of "
                f"step {self.saved}: make room, then continue from it with "
                "`train --resume`."
            ) from error
