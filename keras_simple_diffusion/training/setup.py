"""From the settings of a run to its model and its pictures."""

import keras

from keras_simple_diffusion.data.listing import MissingSplitError
from keras_simple_diffusion.data.named import open_data
from keras_simple_diffusion.data.sources import stack
from keras_simple_diffusion.data.sources import take
from keras_simple_diffusion.models.backbone import DiffusionBackbone
from keras_simple_diffusion.models.diffusion_model import DiffusionModel
from keras_simple_diffusion.training.recipe import Recipe
from keras_simple_diffusion.utils.presets import read_json

_NUM_VALIDATION = 512


def read_recipe(folder, overrides):
    """The recipe of a preset, changed where the user wishes."""
    fields = read_json(folder, "recipe.json")
    fields.update({k: v for k, v in overrides.items() if v is not None})
    return Recipe(**fields)


def network_class(folder):
    """The class of a preset's network."""
    name = read_json(folder, "config.json")["registered_name"]
    return keras.saving.get_registered_object(name)


def build_model(folder, image_shape, class_names, settings):
    """A new model of a preset's configuration, for certain pictures.

    Args:
        folder: path of the preset.
        image_shape: tuple `(height, width, channels)`.
        class_names: list of strings, or `None` for an unconditional model.
        settings: a `RunSettings`.

    Returns:
        A `DiffusionModel` that is not compiled for training yet.
    """
    num_classes = class_names and len(class_names)
    backbone = DiffusionBackbone.from_preset(
        folder,
        load_weights=False,
        image_shape=image_shape,
        num_classes=num_classes,
        dtype=settings.dtype,
        rematerialize=settings.rematerialize,
    )
    overrides = {}
    if num_classes is None:
        overrides["guidance_scale"] = 1.0
    task = read_json(folder, "task.json").get("config", {})
    schedule = task.get("schedule", {})
    size = min(image_shape[:2])
    if schedule.get("config", {}).get("image_size", size) != size:
        schedule["config"]["image_size"] = size
        overrides["schedule"] = keras.saving.deserialize_keras_object(schedule)
    return DiffusionModel.from_preset(
        folder,
        load_weights=False,
        backbone=backbone,
        class_names=class_names,
        stratified=settings.recipe.stratified,
        **overrides,
    )


def held_out(data, image_size, num_channels):
    """Pictures to measure the loss on, or `None` if there is no such split."""
    try:
        source = open_data(data, image_size, "test", num_channels)
    except MissingSplitError:
        return None
    source = take(source, _NUM_VALIDATION)
    examples = [source[index] for index in range(len(source))]
    return stack(examples, ("images", "labels"))
