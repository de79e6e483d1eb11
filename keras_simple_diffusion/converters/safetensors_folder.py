"""Models as folders of safetensors and JSON files, like those of diffusers."""

import json
import pathlib

from keras import ops

from keras_simple_diffusion.converters.name_map import assign_weights
from keras_simple_diffusion.converters.name_map import same
from keras_simple_diffusion.models import Preset
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_folder
from keras_simple_diffusion.utils.tensor_files import UNREADABLE
from keras_simple_diffusion.utils.tensor_files import read_safetensors
from keras_simple_diffusion.utils.tensor_files import write_safetensors
from keras_simple_diffusion.version import __version__

_INDEX = "model_index.json"


def to_safetensors(model, folder):
    """Write a model as a folder of safetensors and JSON files.

    `model_index.json` names the parts and their classes, as in the folders of
    diffusers. The weights of each part are `PART.safetensors`, where tensors
    have the paths and layouts of Keras's weights: kernels of dense layers are
    `(inputs, outputs)`, those of convolutions `(rows, columns, inputs,
    outputs)`.

    Args:
        model: a `keras_simple_diffusion.models.DiffusionModel` or
            `TextToImage`, whose averaged weights are written.
        folder: path of the new folder.

    Example:
    ```python
    keras_simple_diffusion.converters.to_safetensors(model, "files")
    again = keras_simple_diffusion.converters.from_safetensors("files")
    ```
    """
    model.save_to_preset(folder)
    with model.averaged_weights(), whole_folder(folder, "*.h5") as draft:
        index = {
            "_class_name": type(model).__name__,
            "_library_name": "keras_simple_diffusion",
            "_library_version": __version__,
        }
        for name, part in _parts_of(model).items():
            library = type(part).__module__.partition(".")[0]
            index[name] = [library, type(part).__name__]
            arrays = {
                weight.path: ops.convert_to_numpy(weight)
                for weight in part.weights
            }
            write_safetensors(
                draft / f"{name}.safetensors", arrays, {"format": "keras"}
            )
        (draft / _INDEX).write_text(json.dumps(index, indent=2) + "\n")


def from_safetensors(folder):
    """Read a folder of `to_safetensors`.

    Args:
        folder: path of the folder.

    Returns:
        A `keras_simple_diffusion.models.DiffusionModel` or `TextToImage`.

    Raises:
        InputError: if a file is missing or damaged, or does not fit.
    """
    folder = pathlib.Path(folder)
    if not (folder / _INDEX).is_file():
        raise InputError(
            f"'{folder}' holds no {_INDEX}. Pass a folder that "
            "`to_safetensors` (convert --to safetensors) has written."
        )
    preset = Preset.open(folder)
    model = preset.load(load_weights=False, **preset.guide())
    for name, part in _parts_of(model).items():
        path = folder / f"{name}.safetensors"
        try:
            arrays, _ = read_safetensors(path)
        except InputError:
            raise
        except UNREADABLE as error:
            raise InputError(
                f"'{path}' cannot be read: {error}. Restore it from a copy."
            ) from error
        name_map = {w.path: (w.path, same) for w in part.weights}
        assign_weights(part, arrays, name_map, source=f"'{path}'")
    return model


def _parts_of(model):
    """The parts of a model that have weights, by name."""
    parts = {"network": model.backbone}
    if model.guidance_model is not None:
        parts["guidance_model"] = model.guidance_model.backbone
    elif model.has_task_weights():
        parts["text_encoder"] = model.text_encoder
    return parts
