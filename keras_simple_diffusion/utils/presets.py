"""Built-in preset names; everything else about presets is keras_hub's."""

import difflib
import json
import pathlib

from keras_simple_diffusion.utils.errors import InputError

_FOLDER = pathlib.Path(__file__).resolve().parent.parent / "presets"
_WEIGHTS = ("model.weights.h5", "model.weights.json")


def builtin_presets():
    """Names of the presets inside the package, in alphabetical order."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))


def preset_folder(name):
    """Folder of a built-in preset, as a `pathlib.Path`."""
    return _FOLDER / name


def has_weights(folder):
    """Whether a preset folder holds weights, or a configuration only."""
    return any((pathlib.Path(folder) / name).exists() for name in _WEIGHTS)


def read_json(folder, name):
    """Content of a JSON file of a preset folder, `{}` if it has none."""
    path = pathlib.Path(folder) / name
    return json.loads(path.read_text()) if path.exists() else {}


def resolve_preset(preset, load_weights):
    """Turn a preset's name into what keras_hub loads.

    Args:
        preset: string. A built-in name, a preset's folder, the folder of a
            run, or a `hf://` or `kaggle://` handle.
        load_weights: bool. Whether weights are wanted.

    Returns:
        A folder or handle, as a string.

    Raises:
        InputError: if there is no such preset, or it has no weights although
            they are wanted.
    """
    preset = str(preset)
    if (pathlib.Path(preset) / "preset" / "config.json").exists():
        preset = str(pathlib.Path(preset) / "preset")  # Of a run.
    names = builtin_presets()
    if preset in names:
        folder = preset_folder(preset)
        if load_weights and not has_weights(folder):
            raise InputError(
                f"The built-in preset '{preset}' is a configuration without "
                "weights. Pass `load_weights=False` to start from random ones, "
                f"or train it: keras-simple-diffusion train --preset {preset}"
            )
        return str(folder)
    if "://" in preset or "registered_name" in read_json(preset, "config.json"):
        return preset
    close = difflib.get_close_matches(preset, names, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    raise InputError(
        f"There is no preset named '{preset}', nor a preset folder of that "
        f"path. {hint}Built-in: {', '.join(names) or 'none'}."
    )
