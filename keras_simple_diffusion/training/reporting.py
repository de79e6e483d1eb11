"""Reports of a run: progress, history, speed, loggers, samples and plots."""

import csv
import importlib.util
import io
import pathlib
import time

import keras
import numpy as np
from keras import ops
from matplotlib import colormaps
from matplotlib import figure as matplotlib_figure
from matplotlib import ticker
from rich import console
from rich import progress

from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.training.lifecycle import StepCallback
from keras_simple_diffusion.training.lifecycle import result_warnings
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.sheets import draw_sheet


class Progress(StepCallback):
    """Show steps, loss, images per second and the remaining time.

    On a terminal this is a bar, elsewhere one line per interval.

    Args:
        position: the run's `Position`.
        steps: int. Steps of the whole run.
        batch_size: int. Number of images per step.
        minutes: float or `None`. Maximum training time of the whole run.
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
            # The first step includes compilation, so timing starts after it.
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
        """Return the images per second since the first step."""
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
    """Add a line to `history.csv` after each interval.

    Lines of steps after the checkpoint that the run resumes from are dropped.

    Args:
        position: the run's `Position`.
        path: path of the file.
        fields: list of strings. Names of the logged values to write.
        is_divided: bool. `True` if the run resumes within an interval and has
            its metrics. The line of the interval's first part is then dropped:
            that of the whole interval replaces it. Defaults to `False`.
    """

    def __init__(self, position, path, fields, is_divided=False):
        super().__init__()
        self.position = position
        self.path = pathlib.Path(path)
        self.fields = ["step", "seconds", *fields]
        last = position.step - is_divided
        rows = read_history(self.path) if self.path.exists() else []
        text = io.StringIO(newline="")
        self._writer = csv.DictWriter(text, self.fields, restval="")
        self._writer.writeheader()
        for row in rows:
            if int(row["step"]) <= last:
                self._writer.writerow({f: row.get(f) for f in self.fields})
        self._text = text
        self._write()

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "step": self.position.step,
            "seconds": f"{self.position.seconds():.1f}",
        }
        for name, value in (logs or {}).items():
            if name in self.fields:
                row[name] = f"{value:.6g}"
        self._writer.writerow(row)
        self._write()

    def _write(self):
        # Written whole, so a failure loses no line: the next write has it.
        with result_warnings(self.path), whole_file(self.path) as draft:
            draft.write_text(self._text.getvalue(), newline="")


def read_history(path):
    """Read the rows of a `history.csv` as dicts of strings.

    Args:
        path: path of the file.

    Returns:
        A list of dicts. An incomplete last row is dropped.

    Raises:
        InputError: if the file holds anything else.
    """
    try:
        with pathlib.Path(path).open(newline="") as file:
            rows = list(csv.DictReader(file))
        rows = [row for row in rows if None not in row.values()]
        for row in rows:
            int(row["step"])
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(
            f"'{path}' is not the history of a run: {error}. Restore it from "
            "a copy, or remove it."
        ) from error
    return rows


# Peak of dense bfloat16 matrix products of one device in FLOP/s, from the
# manufacturers' data sheets. The first key that the device's name contains
# applies, so longer names come first.
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
    """Add speed and learning rate to the logs of each interval.

    - `images_per_second`.
    - `waiting`: fraction of the time spent waiting for images.
    - `learning_rate`.
    - `utilization`, in bfloat16 on a device whose peak is known: FLOPs of the
      network, three times those of a forward pass, divided by the peak FLOPs
      of the devices in the same time.

    Args:
        position: the run's `Position`.
        batch_size: int. Number of images per step.
        macs: int. Multiply-accumulates of one forward pass of one image.
        device: string, the name of the devices, or `None` in a precision
            other than bfloat16.
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
        """Read the waiting time from the `Batches` of the next `fit`."""
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()
        self.first_step = self.position.step
        self.waited = self.batches.seconds_waited

    def on_train_batch_end(self, batch, logs=None):
        # Excludes validation and sampling at the end of the interval.
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
    """Raise an `InputError` unless all loggers are known and installed."""
    for name in names:
        if name not in _NEEDED:
            raise InputError(
                "The loggers are 'tensorboard' and 'wandb'. Received: "
                f"log={names}. `history.csv` is always written."
            )
        for package in _NEEDED[name]:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"Logging to {name} needs the package {package}: run `pip "
                    f"install {package}`."
                )


def make_loggers(names, folder):
    """Create the callbacks that log to TensorBoard and Weights & Biases.

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


class Samples(keras.callbacks.Callback):
    """Draw a sheet of images from the same noise at regular steps.

    Args:
        position: the run's `Position`.
        folder: path of the folder of sheets, named after their steps.
        every: int. Steps between sheets. A sheet is drawn at the end of the
            interval that reaches its step.
        interval: int. Steps between lines of the log.
        seed: int. Seed of the noise. Defaults to `0`.
        prompts: list of strings for a `TextToImage`, else `None`.
    """

    def __init__(self, position, folder, every, interval, seed=0, prompts=None):
        super().__init__()
        self.position = position
        self.folder = pathlib.Path(folder)
        self.every = every
        self.seed = seed
        self.prompts = prompts
        self.drawn = position.last_boundary(interval) // every

    def on_epoch_end(self, epoch, logs=None):
        step = self.position.step
        if step // self.every == self.drawn:
            return
        self.drawn = step // self.every
        sheet = draw_samples(self.model, self.seed, self.prompts)
        if is_main_process():
            path = self.folder / f"{step:08d}.png"
            with result_warnings(path), whole_file(path) as draft:
                sheet.save(draft)


def draw_samples(model, seed=0, prompts=None, per_class=10):
    """Generate a sheet of images, one class per row for up to 10 classes.

    Args:
        model: a `DiffusionModel` or `TextToImage`, whose sampling defaults
            are used.
        seed: int. Defaults to `0`.
        prompts: list of strings, one per image, for a `TextToImage`.
        per_class: int. Number of columns. Defaults to `10`.

    Returns:
        A `PIL.Image.Image`.
    """
    if prompts is not None:
        return draw_sheet(model.generate(prompts, seed=seed), captions=prompts)
    num_classes = model.backbone.num_classes
    if num_classes is None:
        return draw_sheet(model.generate(per_class**2, seed=seed), per_class)
    classes = np.linspace(0, num_classes - 1, min(num_classes, 10))
    classes = classes.round().astype("int32")
    images = model.generate(labels=np.repeat(classes, per_class), seed=seed)
    names = model.class_names or [str(i) for i in range(num_classes)]
    return draw_sheet(images, per_class, row_names=[names[i] for i in classes])


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
    """Label only 2, 3 and 5 times a power of ten; more would overlap."""
    text = f"{value:g}"
    return text if text.strip("0.")[:1] in ("2", "3", "5") else ""


def _finish(axes, label):
    axes.set(xlabel="step", ylabel=label, yscale="log")
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(_label_some)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
