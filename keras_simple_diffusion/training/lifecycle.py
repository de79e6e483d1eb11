"""The life of a run: its position, its end, interruptions and saving.

Keras calls each hook of all callbacks in the order of their list. In that of
a run `Counter` is first and `Saving` last, see `run.py`.
"""

import contextlib
import dataclasses
import os
import signal
import threading
import time
import warnings

import keras
import numpy as np

from keras_simple_diffusion.backend.native import from_main_process
from keras_simple_diffusion.backend.native import num_processes
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.terminal import say

_NOTICE = "saving after this step; again to leave at once"


@dataclasses.dataclass
class Position:
    """Progress of a run, which its callbacks share.

    A step is one update of the weights. It takes several batches where
    gradients are accumulated. `Counter` alone changes the position during
    training.

    Args:
        step: int. Number of steps done since the run began.
        batches_per_step: int.
        earlier_seconds: float. Training time before this process.
        signal: int or `None`. The signal that asked this process to end.
        batches: int. Number of batches done of the current step, 0 between
            steps.
        started: float or `None`. `time.monotonic()` after this process's
            first batch, which includes the compilation.
    """

    step: int = 0
    batches_per_step: int = 1
    earlier_seconds: float = 0.0
    signal: int | None = None
    batches: int = 0
    started: float | None = None

    @property
    def is_between_steps(self):
        """`True` if the last batch completed a step."""
        return self.batches == 0

    def count_batch(self):
        """Count one more batch, and the step if the batch completes it."""
        if self.started is None:
            self.started = time.monotonic()
        self.batches = (self.batches + 1) % self.batches_per_step
        if self.is_between_steps:
            self.step += 1

    def last_boundary(self, interval):
        """Return the last step, at most the present one, that ends an interval.

        A checkpoint is written after everything that an interval makes at its
        end, so a resumed run has all of that up to this step.

        Args:
            interval: int. Steps between lines of the log.
        """
        return self.step - self.step % interval

    def seconds(self):
        """Return the training time of the run, without compilation."""
        if self.started is None:
            return self.earlier_seconds
        return self.earlier_seconds + time.monotonic() - self.started


@contextlib.contextmanager
def result_warnings(path):
    """Turn errors of writing a result of a run into warnings.

    A full disk stops nothing but the result concerned.

    Args:
        path: path of the file or folder.

    Example:
    ```python
    with result_warnings(path), whole_file(path) as draft:
        image.save(draft)
    ```
    """
    try:
        yield
    except OSError as error:
        warnings.warn(
            f"'{path}' could not be written ({error.strerror or error}). The "
            "training continues.",
            stacklevel=3,
        )


class StepCallback(keras.callbacks.Callback):
    """Callback that acts after each step, not after each batch.

    It must come after `Counter` in the list of callbacks.

    Args:
        position: the run's `Position`.
    """

    def __init__(self, position):
        super().__init__()
        self.position = position

    def on_train_batch_end(self, batch, logs=None):
        if self.position.is_between_steps:
            self.on_step_end()

    def on_step_end(self):
        """Act after a step; called by Keras's hook of batches."""


class Counter(keras.callbacks.Callback):
    """Count steps, and stop the training at the end of the run.

    Clocks of several processes differ, so the main one decides for all of them
    at the end of an interval that the time is up.

    Args:
        position: a `Position`, which is kept up to date.
        steps: int. Number of steps of the whole run.
        minutes: float or `None`. Maximum training time of the whole run.
    """

    def __init__(self, position, steps, minutes=None):
        super().__init__()
        self.position = position
        self.steps = steps
        self.max_seconds = float("inf") if minutes is None else 60 * minutes

    @property
    def is_at_end(self):
        """`True` if all steps are done, or the time is up."""
        return self.position.step >= self.steps or self._is_time_up()

    def describe_end(self):
        """Say which limit of the run is reached, and how to change it."""
        if self.position.step >= self.steps:
            return (
                f"all {self.steps} steps are done (--steps N of `train "
                "--resume` for more)"
            )
        return (
            f"the {self.max_seconds / 60:g} minutes of the run are over, at "
            f"step {self.position.step} of {self.steps} (--minutes N for more)"
        )

    def on_train_batch_end(self, batch, logs=None):
        self.position.count_batch()
        if not self.position.is_between_steps:
            return
        is_alone = num_processes() == 1
        if self.position.step >= self.steps or (
            is_alone and self._is_time_up()
        ):
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        if from_main_process(np.array(self._is_time_up())):
            self.model.stop_training = True

    def _is_time_up(self):
        return self.position.seconds() > self.max_seconds


class Pace(keras.callbacks.Callback):
    """Stop a training that is slower than planned when it should cool down.

    The learning rate falls over the last steps of a run. A run whose minutes
    end before its steps would never get there. So when the share of the
    minutes that belongs to these steps begins, and the training is late, it
    stops, and `shortened` holds a recipe whose last steps begin now and fit
    into the rest of the time.

    Args:
        position: the run's `Position`.
        recipe: the run's `Recipe`, with `cooldown_steps`.
        minutes: float. Maximum training time of the whole run.
    """

    # A run that lacks less than a tenth of its steps goes on as planned.
    _TOLERANCE = 0.9
    _SHARE_OF_STEPS = 0.95  # The rest of the time is for a slower machine.

    def __init__(self, position, recipe, minutes):
        super().__init__()
        self.position = position
        self.recipe = recipe
        self.seconds = 60 * minutes
        self.shortened = None

    def on_epoch_end(self, epoch, logs=None):
        recipe, step = self.recipe, self.position.step
        before = recipe.steps - recipe.cooldown_steps
        spent = float(from_main_process(np.array(self.position.seconds())))
        is_due = spent >= self.seconds * before / recipe.steps
        if not is_due or step >= self._TOLERANCE * before:
            return
        left = self._SHARE_OF_STEPS * (self.seconds - spent)
        steps = max(int(left * step / spent), 1)
        self.shortened = dataclasses.replace(
            recipe, steps=step + steps, cooldown_steps=steps
        )
        self.model.stop_training = True


class RestoringMetrics(keras.callbacks.Callback):
    """Restore the metrics of an interval that a checkpoint divides.

    `fit` resets the metrics when it begins, so they are assigned after that.

    Args:
        values: list of tuples of a `keras.Variable` and its value.
    """

    def __init__(self, values):
        super().__init__()
        self.values = list(values)

    def on_epoch_begin(self, epoch, logs=None):
        for variable, value in self.values:
            variable.assign(value)
        self.values = []


class Interrupted(Exception):
    """Exception of a training that a signal ended, after it was saved.

    Args:
        signal: int. Number of the signal.
        step: int. Step of the checkpoint.
    """

    def __init__(self, signal, step):
        super().__init__(f"interrupted by signal {signal} at step {step}")
        self.signal = signal
        self.step = step


@contextlib.contextmanager
def _told_at_once(signals):
    """Print a notice from a thread as soon as one of the signals arrives."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(writer)

    def wait():
        notices = [_NOTICE]
        with open(reader, "rb", buffering=0) as numbers:
            while number := numbers.read(1):
                if number[0] in signals and notices:
                    say(notices.pop())

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writer)


class Interruption(StepCallback):
    """Stop the training at SIGTERM and Ctrl-C.

    The first signal stops it after the current step, and `Saving` then saves
    the run; a second one ends the process at once. A thread says so at the
    first one: Python's handlers wait until the compiled step returns.

    With several processes the main one decides, at the end of an interval, so
    that all of them stop at the same step.

    Args:
        position: the run's `Position`.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, position):
        super().__init__(position)
        self.previous = {}
        self.received = None
        self.told = contextlib.ExitStack()

    def on_train_begin(self, logs=None):
        if threading.current_thread() is threading.main_thread():
            for number in self._SIGNALS:
                self.previous[number] = signal.signal(number, self._note)
            self.told.enter_context(_told_at_once(self._SIGNALS))

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
        """Restore the previous handlers of the signals."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}
        self.told.close()

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
    """Save the run at intervals, at an interruption and at the end.

    A checkpoint that cannot be written, for example on a full disk, causes a
    warning and the training continues; the one at the end is an error.

    Args:
        position: the run's `Position`.
        save: function without arguments that writes a checkpoint.
        interval: int. Steps between lines of the log. Where an interval ends,
            the checkpoint is written after the line.
        every: int or `None`. Steps between checkpoints. `None` saves by time:
            after 2 minutes, then every 10.
        clock: function without arguments that returns seconds. Defaults to
            `time.monotonic`.
    """

    FIRST_SECONDS = 120.0
    SECONDS = 600.0

    def __init__(
        self, position, save, interval, every=None, clock=time.monotonic
    ):
        super().__init__(position)
        self.save = save
        self.interval = interval
        self.every = every
        self.clock = clock
        self.saved = position.step
        self.next_time = None

    def on_train_begin(self, logs=None):
        if self.next_time is None:
            self.next_time = self.clock() + self.FIRST_SECONDS

    def on_step_end(self):
        if self.position.step % self.interval:
            self._save_if_due(is_time=num_processes() == 1 and self._is_time())

    def on_epoch_end(self, epoch, logs=None):
        # Several processes save at the same step: the main one decides.
        is_time = from_main_process(np.array(self._is_time()))
        self._save_if_due(bool(is_time))

    def on_train_end(self, logs=None):
        self._save_or_fail()

    def seconds_left(self, steps_per_second):
        """Estimate the time until the next checkpoint, in seconds."""
        if self.every is None:
            return max(self.next_time - self.clock(), 0.0)
        left = self.every - self.position.step % self.every
        return left / max(steps_per_second, 1e-9)

    def _is_time(self):
        return self.every is None and self.clock() >= self.next_time

    def _save_if_due(self, is_time):
        step = self.position.step
        if self.position.signal is not None:
            self._save_or_fail()
        elif is_time or (self.every and step % self.every == 0):
            self.next_time = self.clock() + self.SECONDS
            try:
                self._save()
            except OSError as error:
                warnings.warn(
                    f"The checkpoint of step {step} could not be written "
                    f"({error.strerror or error}). Training continues; the "
                    f"last checkpoint is that of step {self.saved}.",
                    stacklevel=2,
                )

    def _save(self):
        if self.saved == self.position.step:
            return
        self.model  # noqa: B018 - On JAX this updates the variables.
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
