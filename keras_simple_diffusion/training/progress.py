"""The line on the terminal that shows where a training stands."""

import time

from rich import console
from rich import progress
from rich import text

from keras_simple_diffusion.training.lifecycle import StepCallback

_WIDE = 100  # Columns of a terminal that leave room for a bar.
_SECONDS = 1.0  # Between readings of the loss, which wait for the device.


class Progress(StepCallback):
    """Show step, loss, speed, time left and time of the next checkpoint.

    On a terminal this is one live line, elsewhere a line per interval.

    Args:
        position: the run's `Position`.
        steps: int. Steps of the whole run.
        batch_size: int. Number of images per step.
        minutes: float or `None`. Maximum training time of the whole run.
        waiting: function without arguments that returns the share of the time
            spent waiting for images. Defaults to none.
        saving: the run's `Saving`. Defaults to none.
    """

    def __init__(
        self,
        position,
        steps,
        batch_size,
        minutes=None,
        waiting=None,
        saving=None,
    ):
        super().__init__(position)
        self.steps = steps
        self.batch_size = batch_size
        self.minutes = minutes
        self.waiting = waiting
        self.saving = saving
        self.started = None
        self.loss = None
        self.read_at = 0.0
        self.line = None
        self.console = console.Console(highlight=False)

    def on_train_begin(self, logs=None):
        if self.started is None:
            self.console.print("compiling the training step ...")

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        now = time.monotonic()
        if self.line is not None and now - self.read_at > _SECONDS:
            self.read_at = now
            self.loss = float(logs["loss"])

    def on_step_end(self):
        if self.started is None:
            # The first step includes compilation, so timing starts after it.
            self.started = time.monotonic()
            self.first_step = self.position.step
        if self.line is None and self.console.is_terminal:
            columns = [_Status(self.describe)]
            if self.console.width >= _WIDE:
                columns.insert(0, progress.BarColumn(bar_width=None))
            self.line = progress.Progress(
                *columns, console=self.console, expand=True
            )
            self.task = self.line.add_task("", total=self.steps)
            self.line.start()
        if self.line is not None:
            self.line.update(self.task, completed=self.position.step)

    def on_epoch_end(self, epoch, logs=None):
        self.loss = (logs or {}).get("loss", self.loss)
        if self.line is None:
            self.console.print(f"step {self.describe()}", soft_wrap=True)

    def close(self):
        """End the live line, however the training ended."""
        if self.line is not None:
            self.line.refresh()
            self.line.stop()
            self.line = None

    def describe(self):
        """Return the line as a string of at most 80 characters, mostly."""
        step, rate = self.position.step, self.rate()
        parts = [f"{step}/{self.steps}"]
        if self.loss is not None:
            parts.append(f"loss {_short_loss(self.loss)}")
        if rate == 0.0 and step < self.steps:  # The next step is timed first.
            return "  ".join(parts)
        parts.append(f"{_short(rate)} images/s")
        if self.waiting is not None:
            parts.append(f"{self.waiting():.0%} waiting")
        left = 0.0
        if step < self.steps:
            left = (self.steps - step) * self.batch_size / rate
        if self.minutes is not None:
            end = 60 * self.minutes - self.position.seconds()
            left = min(left, max(end, 0.0))
        parts.append(f"{_clock(left)} left")
        if self.saving is not None and left > 0:
            until = self.saving.seconds_left(rate / self.batch_size)
            parts.append(f"saves in {_clock(min(until, left))}")
        return "  ".join(parts)

    def rate(self):
        """Return the images per second since the first step."""
        seconds = time.monotonic() - self.started
        steps = self.position.step - self.first_step
        return steps * self.batch_size / max(seconds, 1e-9)


class _Status(progress.ProgressColumn):
    """Text that is made anew whenever the line is drawn."""

    def __init__(self, describe):
        super().__init__()
        self.describe = describe

    def render(self, task):
        return text.Text(self.describe(), overflow="ellipsis", no_wrap=True)


def _short_loss(loss):
    # Those of a distillation are small.
    return f"{loss:.1e}" if 0 < loss < 1e-3 else f"{loss:.4f}"


def _short(number):
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"
