"""Plots of a run's history."""

import csv
import importlib.util
import pathlib
import time

import keras
from keras import ops
from matplotlib import colormaps
from matplotlib import figure as matplotlib_figure
from matplotlib import ticker
from rich import console
from rich import progress

from keras_simple_diffusion.training.lifecycle import StepCallback
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file


class Progress(StepCallback):
    """Show steps, loss, images per second and the time left.

    On a terminal this is a bar, elsewhere a line an interval.

    Args:
        position: the run's `Position`.
        steps: int. Steps of the whole run.
        batch_size: int. Images a step.
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
            f"{self.rate():.0f} images/s  {_clock(left)} left"
        )

    def on_train_end(self, logs=None):
        if self.bar is not None and self.position.step >= self.steps:
            self.bar.stop()

    def rate(self):
        """Images per second since the first step."""
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
            progress.TextColumn("{task.fields[rate]} images/s"),
            progress.TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task("", total=self.steps, loss="-", rate="-")
        self.bar.start()


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


class History(keras.callbacks.Callback):
    """Append a line to `history.csv` after each interval.

    Lines of steps that the run has to do again are dropped at the start.

    Args:
        position: the run's `Position`.
        path: path of the file.
        fields: list of strings, the names in the logs to write down.
    """

    def __init__(self, position, path, fields):
        super().__init__()
        self.position = position
        self.path = pathlib.Path(path)
        self.fields = ["step", "seconds", *fields]
        rows = read_history(self.path) if self.path.exists() else []
        with whole_file(self.path) as draft:
            with draft.open("w", newline="") as file:
                writer = csv.DictWriter(file, self.fields, restval="")
                writer.writeheader()
                for row in rows:
                    if int(row["step"]) <= position.step:
                        writer.writerow({f: row.get(f) for f in self.fields})

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "step": self.position.step,
            "seconds": f"{self.position.seconds():.1f}",
        }
        for name, value in (logs or {}).items():
            if name in self.fields:
                row[name] = f"{value:.6g}"
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.fields, restval="").writerow(row)


def read_history(path):
    """Rows of a `history.csv` as dicts of strings, without a torn last one."""
    with pathlib.Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if None not in row.values()]


# Peak of dense bfloat16 matrix products of one device, FLOP/s, from the
# makers' data sheets. The first name that the device's contains counts.
_PEAKS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "TPU v6 lite": 918e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
}


class Measurements(keras.callbacks.Callback):
    """Add to the logs of each interval how fast it was.

    `images_per_second`; `waiting`, the share of the time spent waiting for
    images; `learning_rate`; and, in bfloat16 on a device whose peak is
    known, `utilization`: the arithmetic of the network, three times that of a
    forward pass, over what the devices could have done in the time.

    Args:
        position: the run's `Position`.
        batch_size: int. Images a step.
        macs: int. Multiply-accumulates of one forward pass of one image.
        device: string, the name of the devices, or `None` if their peak does
            not apply.
        num_devices: int. Defaults to `1`.
    """

    def __init__(self, position, batch_size, macs, device=None, num_devices=1):
        super().__init__()
        self.position = position
        self.batch_size = batch_size
        self.flops = 3 * 2 * macs
        peaks = [v for k, v in _PEAKS.items() if k in (device or "")]
        self.peak = peaks[0] * num_devices if peaks else None
        self.batches = None

    def follow(self, batches):
        """Take the time waited from the `Batches` of the coming `fit`."""
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()
        self.first_step = self.position.step
        self.waited = self.batches.seconds_waited

    def on_train_batch_end(self, batch, logs=None):
        # Validation and drawing at the interval's end do not count.
        self.seconds = time.perf_counter() - self.started

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        steps = self.position.step - self.first_step
        rate = steps * self.batch_size / self.seconds
        waited = self.batches.seconds_waited - self.waited
        logs["images_per_second"] = rate
        logs["waiting"] = min(waited / self.seconds, 1.0)
        logs["learning_rate"] = float(
            ops.convert_to_numpy(self.model.optimizer.learning_rate)
        )
        if self.peak is not None:
            logs["utilization"] = rate * self.flops / self.peak


_NEEDED = {"tensorboard": ("tensorboard", "tensorflow"), "wandb": ("wandb",)}


def check_loggers(names):
    """Raise an `InputError` unless there are such loggers, installed."""
    for name in names:
        if name not in _NEEDED:
            raise InputError(
                "The loggers are 'tensorboard' and 'wandb'. Received: "
                f"'{name}'. `history.csv` is always written."
            )
        for package in _NEEDED[name]:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"Logging to {name} needs the package {package}: run `pip "
                    f"install {package}`."
                )


def make_loggers(names, folder):
    """Callbacks that send a run's logs elsewhere, from their own makers.

    Args:
        names: list of strings, `"tensorboard"` or `"wandb"`.
        folder: path of the run.

    Returns:
        A list of `keras.callbacks.Callback`s.
    """
    return [_make_logger(name, pathlib.Path(folder)) for name in names]


def _make_logger(name, folder):
    if name == "tensorboard":
        return keras.callbacks.TensorBoard(
            str(folder / "tensorboard"), write_graph=False
        )
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    if wandb.run is None:
        wandb.init(dir=str(folder), name=folder.name)
    return WandbMetricsLogger()


def draw_loss(history, path):
    """Draw training and held-out loss against steps.

    Args:
        history: path of a `history.csv`.
        path: path of the `.png` file to write.
    """
    rows = read_history(history)
    figure = matplotlib_figure.Figure(figsize=(6, 4), layout="tight")
    axes = figure.subplots()
    for field, label in (("loss", "training"), ("val_loss", "held out")):
        points = [
            (int(row["step"]), float(row[field])) for row in rows if row[field]
        ]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    _finish(axes, "loss")
    figure.savefig(path, dpi=120)


def draw_levels(history, path, num_levels):
    """Draw the training loss of each range of noise levels against steps.

    Args:
        history: path of a `history.csv`.
        path: path of the `.png` file to write.
        num_levels: int.
    """
    rows = read_history(history)
    figure = matplotlib_figure.Figure(figsize=(6, 4), layout="tight")
    axes = figure.subplots()
    colours = colormaps["viridis"]
    for level in range(num_levels):
        points = [
            (int(row["step"]), float(row[f"level_loss_{level}"]))
            for row in rows
            if float(row[f"level_loss_{level}"] or 0.0) > 0.0
        ]
        if points:
            low, high = level / num_levels, (level + 1) / num_levels
            axes.plot(
                *zip(*points, strict=True),
                color=colours(low),
                label=f"t in [{low:g}, {high:g}]",
            )
    _finish(axes, "loss by noise level, 0 is clean")
    figure.savefig(path, dpi=120)


def _label_some(value, _):
    """Labels of 2, 3 and 5 times a power of ten: more would overlap."""
    text = f"{value:g}"
    return text if text.strip("0.")[:1] in ("2", "3", "5") else ""


def _finish(axes, label):
    axes.set(xlabel="step", ylabel=label, yscale="log")
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(_label_some)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
