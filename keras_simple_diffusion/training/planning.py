"""Plan of a training: everything that `train` chooses by itself."""

import dataclasses
import functools
import math
import os
import pathlib
import re
import statistics
import time

import numpy as np

from keras_simple_diffusion.backend.native import backend_name
from keras_simple_diffusion.backend.native import device_name
from keras_simple_diffusion.backend.native import from_main_process
from keras_simple_diffusion.backend.native import num_devices
from keras_simple_diffusion.data.encoded_source import EncodedSource
from keras_simple_diffusion.data.inspection import examine
from keras_simple_diffusion.data.inspection import share_of_drawings
from keras_simple_diffusion.data.loading import open_splits
from keras_simple_diffusion.data.sources import take
from keras_simple_diffusion.models.cost import count_macs
from keras_simple_diffusion.models.diffusion_model import DiffusionModel
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.training.settings import Recipe
from keras_simple_diffusion.training.settings import check_names
from keras_simple_diffusion.training.settings import check_schedule
from keras_simple_diffusion.training.settings import field_names
from keras_simple_diffusion.training.settings import names_of_options
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number
from keras_simple_diffusion.utils.user_text import printable

DEFAULT_MINUTES = 15.0
_MAX_MINUTES = 1e7  # 19 years.
# Share of the time for steps; the rest is for samples, checkpoints, and a
# machine that becomes slower.
_SHARE_OF_STEPS = 0.85
_MIN_STEPS, _MAX_STEPS = 20, 10_000_000
_NUM_EXAMINED = 200
_SIZES = (16, 32, 64)
# Number of images that finetuning takes at least. 40 steps of 16 made faces and
# motorbikes that can be recognised, and 7 skies and textures; in the same time
# a small network from random weights made blobs.
_MIN_FINETUNING = 8 * 16
# Presets without weights that a plan starts from those of another network.
_STARTS = {"uvit_photos_text_64": "photos_64"}


# === The data ===


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """Properties of the data that a plan depends on.

    Args:
        count: int. Number of images to train on.
        held_out: int. Number of held-out images.
        width: float. Median width in pixels.
        height: float. Median height.
        side: float. Median of the shorter side.
        is_gray: bool. `True` if the images have no color.
        is_flat: bool. `True` if most images are drawings, see
            `share_of_drawings`.
        class_names: list of strings, or `None`.
        has_captions: bool.
    """

    count: int
    held_out: int
    width: float
    height: float
    side: float
    is_gray: bool
    is_flat: bool
    class_names: list | None
    has_captions: bool

    @property
    def has_glyphs(self):
        """`True` if mirroring would change a meaning: letters and digits."""
        names = self.class_names or ["none"]
        return all(re.fullmatch(r"\d+|\w", name.strip()) for name in names)


def collect_facts(data):
    """Look at a sample of the images.

    Args:
        data: string, see `keras_simple_diffusion.data.open_data`.

    Returns:
        `DataFacts`.

    Raises:
        InputError: if the data do not exist or cannot be read.
    """
    sources = open_splits(data, 32)
    source = sources.get("train")
    if source is None:
        raise InputError(
            f"'{data}' has no split to train on, only a held-out one. Expected "
            "a folder `train` beside it."
        )
    native = source
    if not isinstance(source, EncodedSource):  # Arrays have the size asked for.
        native = open_splits(data, 8)["train"]
    found = [each for each in examine(native, _NUM_EXAMINED) if each.size]
    if not found:
        raise InputError(f"None of the images of '{data}' can be read.")
    sizes = np.array([each.size for each in found])
    sample = take(source, _NUM_EXAMINED // 4)
    images = np.stack([sample[i]["images"] for i in range(len(sample))])
    colors = np.ptp(images, axis=-1).mean(axis=(1, 2))
    return DataFacts(
        count=len(source),
        held_out=len(sources.get("test", ())),
        width=float(np.median(sizes[:, 0])),
        height=float(np.median(sizes[:, 1])),
        side=float(np.median(sizes.min(axis=1))),
        is_gray=float(np.quantile(colors, 0.95)) < 2.0,
        is_flat=share_of_drawings(images) > 0.5,
        class_names=source.class_names,
        has_captions=source.has_captions,
    )


# === The speed ===


def measure_speed(preset, image_size, batch_size, dtype=None):
    """Measure how fast a network is trained on this device.

    A network with the same layers, but with one block per level, takes a few
    steps. It compiles in a fraction of the time; the speed per
    multiply-accumulate is that of the whole network, within a few percent.

    Args:
        preset: a `keras_simple_diffusion.models.Preset`.
        image_size: `(height, width)`.
        batch_size: int.
        dtype: dtype policy. Defaults to the preset's.

    Returns:
        float. Images per second.
    """
    config = {
        "image_shape": (
            *image_size,
            preset.backbone_config["image_shape"][2],
        ),
        "dtype": dtype or preset.backbone_config.get("dtype"),
        "num_classes": None,
        "context_dim": None,
        "portrait_flag": False,
    }
    whole = preset.load_backbone(load_weights=False, **config)
    for name in ("blocks", "up_blocks"):
        if name in preset.backbone_config:
            blocks = preset.backbone_config[name]
            config[name] = tuple(min(count, 1) for count in blocks)
    probe = preset.load_backbone(load_weights=False, **config)
    model = DiffusionModel(probe, compile=False)
    model.compile(Recipe().make_optimizer(), ema_decay=0.99)
    batch = {"images": np.zeros((batch_size, *probe.image_shape), "uint8")}
    model.train_on_batch(batch)  # It compiles.
    seconds = []
    while len(seconds) < 3 or sum(seconds) < 1.0:
        start = time.perf_counter()
        model.train_on_batch(batch)
        seconds.append(time.perf_counter() - start)
    share = sum(count_macs(probe).values()) / sum(count_macs(whole).values())
    rate = share * batch_size / statistics.median(seconds)
    return float(from_main_process(np.array(rate, "float32")))


# === The plan ===


@dataclasses.dataclass(frozen=True)
class Plan:
    """Plan of a training with some data on this machine.

    `str(plan)` is a text of six lines that name the options to change it.

    Args:
        settings: dict. Arguments of `keras_simple_diffusion.training.train_run`
            that give the same training.
        lines: list of six strings.
        images_per_second: float.
        minutes: float. Estimated time of the training.
    """

    settings: dict
    lines: list = dataclasses.field(repr=False)
    images_per_second: float
    minutes: float

    def __str__(self):
        return "\n".join(self.lines)


def plan(data, minutes=None, from_scratch=False, **options):
    """Plan a training: network, recipe and time for the data at hand.

    The network is one of the built-in presets. Where it has weights, the
    training starts from them. The number of steps follows from the measured
    speed and `minutes`, and the schedule of the learning rate and the average
    of the weights from the number of steps.

    Args:
        data: string, see `keras_simple_diffusion.data.open_data`.
        minutes: float or `None`. Time of the training. Defaults to 15 minutes,
            or to that of `steps` if they are given.
        from_scratch: bool. Start from random weights. Defaults to `False`.
        **options: further arguments of
            `keras_simple_diffusion.training.train_run` that are not to be
            chosen.

    Returns:
        A `Plan`.

    Raises:
        InputError: if the data or the options are invalid.

    Example:
    ```python
    plan = keras_simple_diffusion.training.plan("digits", minutes=1)
    print(plan)
    ```
    """
    check_names(options, names_of_options(), "`plan`")
    options = {"data": data, "minutes": minutes, **options}
    options = {k: v for k, v in options.items() if v is not None}
    check_options(options)
    facts = collect_facts(data)
    measure = functools.partial(measure_with, options=options)
    return choose(facts, measure, is_on_cpu(), from_scratch, options)


def check_options(options):
    """Raise an `InputError` for invalid values before anything is measured.

    Args:
        options: dict of the settings that are given.
    """
    given = {k: options[k] for k in field_names(Recipe) if k in options}
    Recipe(**{"batch_size": options.get("accumulate", 1), **given})
    if "schedule" in options:
        check_schedule("schedule", options["schedule"])
    if "minutes" in options:
        minutes = options["minutes"]
        check_number("minutes", minutes, at_least=0, at_most=_MAX_MINUTES)


def is_on_cpu():
    """Tell if the training has no accelerator."""
    return device_name().endswith("cpu")


def measure_with(preset, size, options):
    """Measure the speed of a training with options, see `measure_speed`.

    Args:
        preset: a `keras_simple_diffusion.models.Preset`.
        size: `(height, width)`.
        options: dict of the settings that are given.

    Returns:
        float. Images per second on all devices of the run.
    """
    batch = options.get("batch_size") or preset.recipe.get("batch_size", 16)
    batch = min(batch, 8 if is_on_cpu() else 128)
    devices = num_devices() if options.get("distribution") else 1
    return devices * measure_speed(preset, size, batch, options.get("dtype"))


def choose(facts, measure, is_cpu, from_scratch, options):
    """Choose all settings of a training.

    Args:
        facts: `DataFacts`.
        measure: function of a `Preset` and `(height, width)` that returns
            images per second.
        is_cpu: bool.
        from_scratch: bool. Start from random weights.
        options: dict of the settings that are given; `None` stands for those
            that are not.

    Returns:
        A `Plan`.
    """
    given = {name: v for name, v in options.items() if v is not None}
    if "minutes" not in given and "steps" not in given:
        given["minutes"] = DEFAULT_MINUTES
    minutes = given.get("minutes")
    # Network and speed depend on each other.
    name = given.get("preset") or given.get("initialize_from")
    preset = Preset.open(name or _choose_preset(facts, from_scratch, is_cpu))
    size = given.get("image_size") or _choose_size(facts, name and preset)
    size = (size, size) if isinstance(size, int) else tuple(size)
    speed = measure(preset, size)
    images = images_within(minutes or 0.0, speed)
    is_slow = minutes is not None and images < _MIN_FINETUNING
    if name is None and preset.name == "photos_64" and is_slow:
        preset = Preset.open(_choose_preset(facts, True, is_cpu))
        slow, speed = speed, measure(preset, size)
        images *= speed / slow
    start = given.get("initialize_from")
    if start is None and not from_scratch:
        start = preset.name if preset.has_weights else None
        if name is None:
            start = _STARTS.get(preset.name, start)
    if minutes is None:
        images = math.inf
    elif "preset" in given and start is None:
        recipe = Recipe.from_dict(preset.recipe)
        images = min(images, recipe.steps * recipe.batch_size)
    chosen = {
        "initialize_from": start,
        **choose_recipe(preset, facts, images, start, given),
        **given,
        "preset": preset.name,
        "image_size": list(size),
    }
    chosen = {k: v for k, v in chosen.items() if v is not None}
    estimate = minutes_of(chosen, speed)
    lines = _describe(facts, preset, chosen, speed, estimate)
    return Plan(chosen, lines, speed, estimate)


def _choose_size(facts, preset):
    if preset is not None:
        return preset.backbone_config["image_shape"][:2]
    sizes = [size for size in _SIZES if size <= facts.side * 1.25]
    size = max(sizes, default=_SIZES[0])
    return min(size, 32) if _is_small_gray(facts) else size


def _is_small_gray(facts):
    return facts.is_gray and facts.side < 48 and not facts.has_captions


def _choose_preset(facts, from_scratch, is_cpu):
    if _is_small_gray(facts):
        return "uvit_digits_16"
    if facts.has_captions and not facts.is_flat:
        return "uvit_photos_text_64"
    if facts.has_captions:
        return "uvit_emoji_64" if from_scratch else "emoji_teacher"
    if not from_scratch:
        return "photos_64"
    return "uvit_mini_64" if is_cpu else "uvit_small_64"


def images_within(minutes, speed):
    """Number of images that a training of some minutes can take."""
    return 60 * _SHARE_OF_STEPS * speed * minutes


def minutes_of(chosen, speed):
    """Estimate the minutes of a training with chosen settings."""
    total = chosen["steps"] * chosen["batch_size"]
    return total / speed / 60 / _SHARE_OF_STEPS


def choose_recipe(preset, facts, images, start, given):
    """Choose what a training changes of the recipe of its preset.

    Args:
        preset: a `keras_simple_diffusion.models.Preset`.
        facts: `DataFacts`.
        images: float. Number of images of all steps, at most.
        start: string or `None`. What gives the weights.
        given: dict of the settings that are given.

    Returns:
        A dict of fields of `Recipe`.
    """
    recipe = Recipe.from_dict(preset.recipe, f"the recipe of '{preset.name}'")
    steps, batch = given.get("steps"), given.get("batch_size")
    if steps is not None:
        images = min(images, steps * (batch or recipe.batch_size))
    if batch is None:
        # Some 400 steps, if the preset's batch leaves fewer.
        batch = 2 ** round(np.log2(max(images / 400, 16)))
        batch = min(batch, recipe.batch_size)
    accumulate = given.get("accumulate", 1)
    batch = -(-batch // accumulate) * accumulate
    if steps is None:
        steps = min(max(int(images / batch), _MIN_STEPS), _MAX_STEPS)
    rate = recipe.learning_rate
    if start is not None:
        # That of the preset's batch would forget at a small one.
        rate *= min(1.0, (batch / recipe.batch_size) ** 0.5)
    return {
        "steps": steps,
        "batch_size": batch,
        "learning_rate": float(f"{rate:.2g}"),
        "warmup_steps": max(1, min(recipe.warmup_steps, steps // 20)),
        "cooldown_steps": steps * 3 // 10,
        "ema_decay": round(float(np.clip(1 - 10 / steps, 0.9, 0.9999)), 5),
        "flip": recipe.flip and not _why_not_flip(facts),
    }


def _why_not_flip(facts):
    """Return why mirrored images would be wrong, or an empty string."""
    if facts.has_captions:
        return "captions may name sides"
    if facts.has_glyphs:
        return "the classes are letters or digits"
    if _is_small_gray(facts):
        return "small gray images may be letters or digits"
    if facts.is_flat:
        return "flat colors, so perhaps drawings with letters"
    return ""


# === The text ===


def _describe(facts, preset, chosen, speed, estimate):
    height, width = chosen["image_size"]
    buckets = chosen.get("aspect_buckets")
    shapes = f" in up to {buckets} shapes" if buckets else ""
    return [
        f"data       {describe_data(facts)} (see `inspect-data`)",
        f"network    {_describe_network(preset, chosen)}",
        f"size       {height} x {width} pixels{shapes}, "
        f"{chosen.get('crop', 'center')} crop (--image-size, --crop)",
        f"schedule   {chosen['steps']:,} steps of {chosen['batch_size']} "
        f"images; learning rate {chosen['learning_rate']:g}, rising in the "
        f"first {chosen['warmup_steps']} and falling in the last "
        f"{chosen['cooldown_steps']}; average {chosen['ema_decay']:.4g} "
        "(--steps, --batch-size, ...)",
        f"mirroring  {describe_flip(facts, chosen)}",
        f"time       {describe_time(chosen, speed, estimate)}",
    ]


def describe_data(facts):
    """Describe the images in a line of a plan."""
    parts = [
        f"{facts.count:,} {'gray' if facts.is_gray else 'color'} images",
        f"{facts.width:.0f} x {facts.height:.0f} pixels in the median",
    ]
    if facts.has_captions:
        parts.append("captions")
    elif facts.class_names:
        names = [printable(name) for name in facts.class_names]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        parts.append(f"{count_classes(names)} ({shown})")
    else:
        parts.append(count_classes(None))
    if facts.held_out:
        parts.append(f"{facts.held_out:,} held out")
    return ", ".join(parts)


def count_classes(names):
    """Return "10 classes", "1 class", or "no classes" for `None`."""
    if not names:
        return "no classes"
    return f"{len(names):,} class{'es' if len(names) > 1 else ''}"


def _describe_network(preset, chosen):
    count = preset.metadata.get("parameter_count")
    size = f", {count / 1e6:.1f} M parameters" if count else ""
    start = chosen.get("initialize_from")
    if start is None:
        return f"{preset.name}{size}, from random weights (--preset)"
    return (
        f"{preset.name}{size}, starting from the weights of '{start}' "
        "(--preset, --from-scratch)"
    )


def describe_flip(facts, chosen):
    """Describe mirroring in a line of a plan."""
    if chosen["flip"]:
        return "half of the images are mirrored (--no-flip)"
    reason = _why_not_flip(facts)
    return f"none{reason and ': '}{reason} (--flip)"


def describe_time(chosen, speed, estimate):
    """Describe the time of a training in a line of a plan."""
    cores = f", {os.cpu_count()} cores" if device_name().endswith("cpu") else ""
    change = "--minutes for more" if chosen.get("minutes") else "--steps"
    return (
        f"about {_duration(estimate)}: {speed:.3g} images/s, measured with a "
        f"part of this network on {backend_name()} ({device_name()}{cores}) "
        f"({change})"
    )


def _duration(minutes):
    if minutes < 2:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def output_for(data):
    """Choose a free folder `runs/NAME` for a run on some data.

    Args:
        data: string, see `keras_simple_diffusion.data.open_data`.

    Returns:
        A string.
    """
    name = _short_name(str(data))
    number = 1
    while pathlib.Path(_numbered(name, number)).exists():
        number += 1
    return _numbered(name, int(from_main_process(np.array(number))))


def _short_name(data):
    """Name data after its last folder or file that is no pattern."""
    if data.startswith("tfds:"):
        return re.split("[/:]", data)[1]
    if data.startswith("mix:"):
        return "mix"
    for part in reversed(pathlib.Path(data).resolve().parts):
        part = re.split(r"\.(?:zip|tar|parquet|array_record)|[=*{]", part)[0]
        part = part.strip("/-_.")
        if part:
            return part
    return "run"


def _numbered(name, number):
    return f"runs/{name}" if number == 1 else f"runs/{name}-{number}"
