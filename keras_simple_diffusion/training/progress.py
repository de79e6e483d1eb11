import time

from rich import console
from rich import progress

from keras_simple_diffusion.training.position import StepCallback


class Progress(StepCallback):
    """Show steps, loss, pictures per second and the time left.

    On a terminal this is a bar, elsewhere a line an interval.

    Args:
        position: the run's `Position`.
        steps: int. Steps of the whole run.
        batch_size: int. Pictures a step.
        minutes: float or `None`. Training time of the whole run.
    """

    def __init__(self, position, steps, batch_size, minutes=None):
        super().__init__(position)
        self.steps = steps
        self.batch_size = batch_size
        self.minutes = minutes
        self.started = None
        self.bar = None
        self.console = console.Console()

    def on_train_begin(self, logs=None):
        if self.started is None:
            self.console.print("compiling the training step ...")

    def on_step_end(self):
        if self.started is None:
            # The first step is spent on compiling: start to count after it.
            self.started = time.monotonic()
            self.first_step = self.position.step
            self._begin_bar()
        if self.bar is not None:
            self.bar.update(
                self.task,
                completed=self.position.step,
                rate=f"{self.rate():.0f}",
            )

    def on_epoch_end(self, epoch, logs=None):
        loss = (logs or {}).get("loss", float("nan"))
        if self.bar is not None:
            self.bar.update(self.task, loss=f"{loss:.4f}")
            return
        step = self.position.step
        left = (self.steps - step) * self.batch_size / max(self.rate(), 1)
        if self.minutes is not None:
            spent = self.position.seconds()
            left = min(left, max(0.0, 60 * self.minutes - spent))
        self.console.print(
            f"step {step}/{self.steps}  loss {loss:.4f}  "
            f"{self.rate():.0f} pictures/s  {_clock(left)} left"
        )

    def on_train_end(self, logs=None):
        if self.bar is not None and self.position.step >= self.steps:
            self.bar.stop()

    def rate(self):
        """Pictures per second since the first step."""
        seconds = time.monotonic() - self.started
        steps = self.position.step - self.first_step
        return steps * self.batch_size / max(seconds, 1e-9)

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


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
