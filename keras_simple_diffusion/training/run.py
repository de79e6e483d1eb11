import csv
import dataclasses
import json
import pathlib
import platform

import keras
import numpy as np
from matplotlib import figure as matplotlib_figure
from matplotlib import ticker

from keras_simple_diffusion.data.listing import MissingSplitError
from keras_simple_diffusion.data.named import open_data
from keras_simple_diffusion.data.pipeline import training_batches
from keras_simple_diffusion.data.sources import stack
from keras_simple_diffusion.data.sources import take
from keras_simple_diffusion.models.backbone import DiffusionBackbone
from keras_simple_diffusion.models.diffusion_model import DiffusionModel
from keras_simple_diffusion.models.transfer import transfer_weights
from keras_simple_diffusion.training.callbacks import Checkpoint
from keras_simple_diffusion.training.callbacks import History
from keras_simple_diffusion.training.callbacks import Limit
from keras_simple_diffusion.training.callbacks import Progress
from keras_simple_diffusion.training.recipe import Recipe
from keras_simple_diffusion.utils.backend import device_name
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.presets import read_json
from keras_simple_diffusion.utils.presets import resolve_preset
from keras_simple_diffusion.utils.sheets import draw_sheet
from keras_simple_diffusion.version import __version__

_NUM_INTERVALS = 50
_NUM_VALIDATION = 512


def train_run(
    data,
    preset,
    output,
    image_size=None,
    seed=0,
    initialize_from=None,
    minutes=None,
    checkpoint_every=None,
    **overrides,
):
    """Train a preset's network on pictures, into a run folder.

    The folder receives `config.json`, `history.csv`, `checkpoint.keras`
    (weights, their average and the optimizer), `preset/` (what
    `DiffusionModel.from_preset` loads), `loss.png` and `samples.png`.

    Args:
        data: string. `"digits"`, or the path of a folder or zip.
        preset: string. Name or folder of the preset that gives network and
            recipe; only its configuration is used.
        output: path of the run folder, which must not hold anything.
        image_size: int or `None`. Defaults to the preset's.
        seed: int. Defaults to `0`.
        initialize_from: string or `None`. Preset or run whose weights to start
            from, see `keras_simple_diffusion.models.transfer_weights`.
        minutes: float or `None`. Time limit of the training.
        checkpoint_every: int or `None`. Steps between checkpoints.
        **overrides: fields of the recipe, `None` for the preset's.

    Returns:
        The trained `DiffusionModel`.
    """
    output = pathlib.Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(
            f"'{output}' holds something already, perhaps another run. Choose "
            "another --output, or remove it first."
        )
    folder = resolve_preset(preset, load_weights=False)
    recipe = _recipe(folder, overrides)
    keras.utils.set_random_seed(seed)
    shape = read_json(folder, "config.json")["config"]["image_shape"]
    image_size = image_size or tuple(shape[:2])
    source = open_data(data, image_size, "train", shape[2])
    validation = _validation(data, image_size, shape[2])
    model = _build_model(folder, source)
    if initialize_from is not None:
        transfer_weights(initialize_from, model.backbone)
    model.compile(recipe.optimizer(), ema_decay=recipe.ema_decay)

    output.mkdir(parents=True, exist_ok=True)
    config = {
        "data": str(data),
        "preset": str(preset),
        "image_size": image_size,
        "num_pictures": len(source),
        "seed": seed,
        "initialize_from": initialize_from and str(initialize_from),
        "minutes": minutes,
        "recipe": dataclasses.asdict(recipe),
        "parameters": model.backbone.count_params(),
        "versions": {
            "keras_simple_diffusion": __version__,
            "keras": keras.__version__,
            "backend": keras.config.backend(),
            "python": platform.python_version(),
        },
    }
    _write_text(output / "config.json", json.dumps(config, indent=2))
    format = " x ".join(str(n) for n in source.image_shape)
    print(
        f"{len(source)} pictures of {format}, "
        f"{len(source.class_names or [])} classes; "
        f"{config['parameters']:,} parameters; {keras.config.backend()} on "
        f"{device_name()}"
    )

    steps_per_epoch = max(1, recipe.steps // _NUM_INTERVALS)
    callbacks = [
        Progress(recipe.steps, recipe.batch_size, minutes),
        Limit(recipe.steps, minutes),
        History(output / "history.csv"),
        Checkpoint(lambda: _save(model, output), checkpoint_every),
    ]
    batches = training_batches(source, recipe.batch_size, seed, recipe.flip)
    with batches.errors_as_raised():
        model.fit(
            batches,
            steps_per_epoch=steps_per_epoch,
            epochs=-(-recipe.steps // steps_per_epoch),
            validation_data=validation,
            validation_freq=5,
            shuffle=False,  # Grain has shuffled already.
            callbacks=callbacks,
            verbose=0,
        )
    _draw_loss(output)
    print("drawing samples ...")
    draw_samples(model, seed).save(output / "samples.png")
    return model


def draw_samples(model, seed=0, per_class=10):
    """A sheet of generated pictures, one class a row for up to 10 classes.

    Args:
        model: a `DiffusionModel`, whose defaults of sampling are used.
        seed: int. Defaults to `0`.
        per_class: int. Number of columns. Defaults to `10`.

    Returns:
        A `PIL.Image.Image`.
    """
    num_classes = model.backbone.num_classes
    if num_classes is None:
        return draw_sheet(model.generate(per_class**2, seed=seed), per_class)
    classes = np.linspace(0, num_classes - 1, min(num_classes, 10))
    classes = classes.round().astype("int32")
    images = model.generate(labels=np.repeat(classes, per_class), seed=seed)
    names = model.class_names or [str(i) for i in range(num_classes)]
    return draw_sheet(images, per_class, row_names=[names[i] for i in classes])


def _recipe(folder, overrides):
    fields = read_json(folder, "recipe.json")
    fields.update({k: v for k, v in overrides.items() if v is not None})
    return Recipe(**fields)


def _build_model(folder, source):
    num_classes = source.class_names and len(source.class_names)
    backbone = DiffusionBackbone.from_preset(
        folder,
        load_weights=False,
        image_shape=source.image_shape,
        num_classes=num_classes,
    )
    overrides = {}
    if num_classes is None:
        overrides["guidance_scale"] = 1.0
    task = read_json(folder, "task.json").get("config", {})
    schedule = task.get("schedule", {})
    size = min(source.image_shape[:2])
    if schedule.get("config", {}).get("image_size", size) != size:
        schedule["config"]["image_size"] = size
        overrides["schedule"] = keras.saving.deserialize_keras_object(schedule)
    return DiffusionModel.from_preset(
        folder,
        load_weights=False,
        backbone=backbone,
        class_names=source.class_names,
        **overrides,
    )


def _validation(data, image_size, num_channels):
    try:
        source = open_data(data, image_size, "test", num_channels)
    except MissingSplitError:
        return None
    source = take(source, _NUM_VALIDATION)
    examples = [source[index] for index in range(len(source))]
    return stack(examples, ("images", "labels"))


def _save(model, output):
    model.save_to_preset(output / "preset")
    with whole_file(output / "checkpoint.keras") as draft:
        model.save(draft)


def _write_text(path, text):
    with whole_file(path) as draft:
        draft.write_text(text + "\n")


def _draw_loss(output):
    with (output / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    figure = matplotlib_figure.Figure(figsize=(6, 4), layout="tight")
    axes = figure.subplots()
    for field, label in (("loss", "training"), ("val_loss", "held out")):
        points = [
            (int(row["step"]), float(row[field])) for row in rows if row[field]
        ]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    for axis_formatter in (
        axes.yaxis.set_major_formatter,
        axes.yaxis.set_minor_formatter,
    ):
        axis_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(output / "loss.png", dpi=120)
