"""Models by the name of their preset, of whatever class they are."""

import keras

from keras_simple_diffusion.backend.keras_internals import check_file_exists
from keras_simple_diffusion.backend.keras_internals import load_json
from keras_simple_diffusion.models.diffusion_model import DiffusionModel
from keras_simple_diffusion.utils.presets import resolve_preset

_TASK = "task.json"


def task_class(preset):
    """The class of a preset's task, `DiffusionModel` if it has none.

    Args:
        preset: string, see `load_model`.

    Returns:
        `DiffusionModel` or `TextToImage`.
    """
    preset = resolve_preset(preset, load_weights=False)
    if not check_file_exists(preset, _TASK):
        return DiffusionModel
    name = load_json(preset, _TASK)["registered_name"]
    return keras.saving.get_registered_object(name)


def load_model(preset, **kwargs):
    """Load the model of a preset or run, whether of classes or of texts.

    Args:
        preset: string. The name of a built-in preset, a folder, or an
            `hf://` or `kaggle://` handle.
        **kwargs: further arguments of `from_preset`.

    Returns:
        A `DiffusionModel` or a `TextToImage`.

    Example:
    >>> model = keras_simple_diffusion.models.load_model("runs/emoji")
    """
    return task_class(preset).from_preset(preset, **kwargs)
