"""Reports of a run: history, speed, loggers and samples."""

import contextlib
import csv
import functools
import importlib.util
import io
import math
import pathlib
import time

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion import samplers
from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.generation.arguments import is_guided
from keras_simple_diffusion.training.lifecycle import StepCallback
from keras_simple_diffusion.training.lifecycle import result_warnings
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.image_files import save_image
from keras_simple_diffusion.utils.image_sizes import read_size
from keras_simple_diffusion.utils.sheets import show

_ROW = 10  # Images in a row of the largest sheet of samples.
LARGEST_SHEET = _ROW**2


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
      networks, divided by the peak FLOPs of the devices in the same time.

    Args:
        position: the run's `Position`.
        batch_size: int. Number of images per step.
        flops: int. FLOPs of training on one image.
        device: string, the name of the devices, or `None` in a precision
            other than bfloat16.
        num_devices: int. Defaults to `1`.
    """

    def __init__(self, position, batch_size, flops, device=None, num_devices=1):
        super().__init__()
        self.position = position
        self.batch_size = batch_size
        self.flops = flops
        peaks = [v for k, v in _PEAKS.items() if k in (device or "")]
        self.peak = peaks[0] * num_devices if peaks else None
        self.batches = None
        self.paused_seconds = 0.0

    def follow(self, batches):
        """Read the waiting time from the `Batches` of the next `fit`."""
        self.batches = batches

    @contextlib.contextmanager
    def paused(self):
        """Context of work that is no training, such as sampling."""
        started = time.perf_counter()
        yield
        self.paused_seconds += time.perf_counter() - started

    def share_waited(self):
        """Return the share of this interval's time spent waiting for images."""
        seconds = self._seconds()
        waited = self.batches.seconds_waited - self.waited
        return min(waited / max(seconds, 1e-9), 1.0)

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()
        self.paused_seconds = 0.0
        self.first_step = self.position.step
        self.waited = self.batches.seconds_waited

    def on_train_batch_end(self, batch, logs=None):
        # Excludes validation at the end of the interval.
        self.seconds = self._seconds()

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

    def _seconds(self):
        return time.perf_counter() - self.started - self.paused_seconds


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


class Samples(StepCallback):
    """Draw sheets of images while training.

    Args:
        position: the run's `Position`.
        folder: path of the folder of sheets, named after their steps.
        steps: collection of ints. Steps after which a sheet is drawn.
        draw: function of a model that returns a function which saves a sheet
            to a path.
    """

    def __init__(self, position, folder, steps, draw):
        super().__init__(position)
        self.folder = pathlib.Path(folder)
        self.steps = steps
        self.draw = draw

    def on_step_end(self):
        if self.position.step not in self.steps:
            return
        save = self.draw(self.model.finished_model())
        if is_main_process():
            path = self.folder / f"{self.position.step:08d}.png"
            with result_warnings(path), whole_file(path) as draft:
                save(draft)


def count_samples(model, num_passes, share, most):
    """Count the images whose drawing takes a share of the training's time.

    Drawing an image costs a forward pass per step of the sampler, and two with
    guidance.

    Args:
        model: a `DiffusionModel` or `TextToImage`.
        num_passes: int. Cost of the training in forward passes of an image.
        share: float.
        most: int. The largest count.

    Returns:
        int, at most `most`.
    """
    is_doubled = is_guided(model, model.guidance_scale)
    passes = model.num_steps * (2 if is_doubled else 1)
    return min(int(share * num_passes / passes), most)


def _largest_square(count):
    """Return the largest square number up to a count, which fills a sheet."""
    return math.isqrt(count) ** 2


def _spread(count, total):
    """Choose evenly spaced numbers below a total."""
    return np.linspace(0, total - 1, count).round().astype("int64")


def _draw_sizes(model, seed, prompts, count, sizes):
    """Draw a row of images of each size, with the same conditions.

    Returns:
        A tuple of the images, on white squares of one size, and of a list of
        their prompts or classes, or `None`.
    """
    columns = min(max(count // len(sizes), 1), _ROW)
    given, captions = {"num_images": columns}, None
    if prompts is not None:
        captions = [prompts[i] for i in _spread(columns, len(prompts))]
        given = {"prompts": captions}
    elif model.backbone.num_classes is not None:
        total, names = model.backbone.num_classes, model.class_names
        classes = _spread(min(columns, total), total)
        labels = np.resize(classes, columns)
        captions = [names[i] if names else str(i) for i in labels]
        given = {"labels": labels}
    sizes = [read_size(size) for size in sizes]
    side = max(max(size) for size in sizes)
    rows = []
    for height, width in sizes:
        images = model.generate(**given, seed=seed, image_size=(height, width))
        top, left = (side - height) // 2, (side - width) // 2
        square = np.full((columns, side, side, images.shape[3]), 255, "uint8")
        square[:, top : top + height, left : left + width] = images
        rows.append(square)
    return np.concatenate(rows), captions and captions * len(sizes)


def draw_samples(
    model,
    seed=0,
    prompts=None,
    count=100,
    step=None,
    folder=".",
    sizes=None,
):
    """Generate a sheet of images, one class per row for up to 10 classes.

    Args:
        model: a `DiffusionModel` or `TextToImage`, whose sampling defaults
            are used.
        seed: int. Defaults to `0`.
        prompts: list of strings, of which `count` are drawn, for a
            `TextToImage`.
        count: int. Largest number of images, at most `LARGEST_SHEET`; a sheet
            without classes is square. Defaults to `100`.
        step: int. Step of the training, for the file.
        folder: path of the run or preset, whose name is for the file.
        sizes: list of sizes as texts, such as `48x88`, for a row each.
            Defaults to the model's size.

    Returns:
        A function that saves the sheet, with its settings, to a path.
    """
    num_classes, layout = model.backbone.num_classes, {}
    if sizes is not None:
        images, captions = _draw_sizes(model, seed, prompts, count, sizes)
        columns = len(images) // len(sizes)
        layout = {"columns": columns, "row_names": list(sizes)}
    elif prompts is not None:
        # A smaller sheet has some images of the largest, of the same noise.
        most = _largest_square(min(LARGEST_SHEET, len(prompts)))
        indices = _spread(_largest_square(min(count, most)), most)
        chosen = _spread(most, len(prompts))[indices]
        captions = [prompts[index] for index in chosen]
        images = model.generate(captions, seed=seed, indices=indices)
        layout = {"captions": captions}
    elif num_classes is None:
        captions = None
        images = model.generate(_largest_square(count), seed=seed)
    else:
        classes = _spread(min(num_classes, _ROW, count), num_classes)
        columns = min(max(count // len(classes), 1), _ROW)
        # Another number of columns has the same images in the first ones.
        first = _ROW * np.arange(len(classes))
        images = model.generate(
            labels=np.repeat(classes, columns),
            seed=seed,
            indices=(first[:, None] + np.arange(columns)).ravel(),
        )
        names = model.class_names or [str(i) for i in range(num_classes)]
        names = [names[i] for i in classes]
        captions = np.repeat(names, columns).tolist()
        layout = {"columns": columns, "row_names": names}
    settings = {
        "command": "train",
        "model": pathlib.Path(folder).resolve().name,
        "training_step": step,
        "captions": captions,
        "seed": seed,
        "steps": model.num_steps,
        "guidance": model.guidance_scale,
        "sampler": samplers.identify(model.sampler),
    }
    sheet = show(images, **layout)
    return functools.partial(save_image, sheet, settings=settings)
