"""Keras callbacks of a training run; an epoch is one interval of logging."""

import csv
import pathlib
import time

import keras
from rich import console
from rich import progress


class Limit(keras.callbacks.Callback):
    """Stop after a number of steps, or of minutes from the first step on.

    Args:
        steps: int.
        minutes: float or `None`.
    """

    def __init__(self, steps, minutes=None):
        super().__init__()
        self.steps = steps
        self.seconds = float("inf") if minutes is None else 60.0 * minutes
        self.done = 0
        self.started = None

    def on_train_batch_begin(self, batch, logs=None):
        if self.started is None:
            self.started = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        spent = time.monotonic() - self.started
        if self.done >= self.steps or spent > self.seconds:
            self.model.stop_training = True


class Progress(keras.callbacks.Callback):
    """Show steps, loss, pictures per second and the time left.

    On a terminal this is a bar, elsewhere a line an interval.

    Args:
        steps: int. Number of steps of the run.
        batch_size: int. Pictures a step.
        minutes: float or `None`. Time limit of the run.
    """

    def __init__(self, steps, batch_size, minutes=None):
        super().__init__()
        self.steps = steps
        self.batch_size = batch_size
        self.minutes = minutes
        self.done = 0
        self.bar = None
        self.console = console.Console()

    def on_train_begin(self, logs=None):
        self.compiling = True
        self.console.print("compiling the training step ...")

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if self.compiling:
            # The first step is spent on compiling: start to count after it.
            self.compiling = False
            self.started = time.monotonic()
            self._begin_bar()
        if self.bar is not None:
            self.bar.update(
                self.task, completed=self.done, rate=f"{self.rate():.0f}"
            )

    def on_epoch_end(self, epoch, logs=None):
        loss = (logs or {}).get("loss", float("nan"))
        if self.bar is not None:
            self.bar.update(self.task, loss=f"{loss:.4f}")
            return
        left = (self.steps - self.done) * self.batch_size / max(self.rate(), 1)
        if self.minutes is not None:
            spent = time.monotonic() - self.started
            left = min(left, max(0.0, 60 * self.minutes - spent))
        self.console.print(
            f"step {self.done}/{self.steps}  loss {loss:.4f}  "
            f"{self.rate():.0f} pictures/s  {_clock(left)} left"
        )

    def on_train_end(self, logs=None):
        if self.bar is not None:
            self.bar.stop()

    def rate(self):
        """Pictures per second since the first step."""
        seconds = time.monotonic() - self.started
        return (self.done - 1) * self.batch_size / max(seconds, 1e-9)

    def _begin_bar(self):
        if not self.console.is_terminal:
            return
        self.bar = progress.Progress(
            progress.TextColumn("training"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("loss {task.fields[loss]}"),
            progress.TextColumn("{task.fields[rate]} pictures/s"),
            progress.TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task("", total=self.steps, loss="-", rate="-")
        self.bar.start()


class History(keras.callbacks.Callback):
    """Append a line to `history.csv` after each interval.

    Args:
        path: path of the file.
    """

    FIELDS = ("step", "seconds", "loss", "val_loss")

    def __init__(self, path):
        super().__init__()
        self.path = pathlib.Path(path)
        self.done = 0

    def on_train_begin(self, logs=None):
        self.started = time.monotonic()
        self._append(self.FIELDS)

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "step": self.done,
            "seconds": f"{time.monotonic() - self.started:.1f}",
            **(logs or {}),
        }
        self._append([row.get(field, "") for field in self.FIELDS])

    def _append(self, row):
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(row)


class Checkpoint(keras.callbacks.Callback):
    """Save the run every so many steps, and at its end.

    Args:
        save: function without arguments that writes the checkpoint.
        every: int or `None`. Number of steps between checkpoints.
    """

    def __init__(self, save, every=None):
        super().__init__()
        self.save = save
        self.every = every
        self.done = 0

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if self.every and self.done % self.every == 0:
            self._save()

    def on_train_end(self, logs=None):
        self._save()

    def _save(self):
        self.model  # noqa: B018 - On JAX this brings the weights up to date.
        self.save()


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
