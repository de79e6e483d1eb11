"""Names and places of presets; nothing here imports Keras."""

import difflib
import json
import pathlib

from keras_simple_diffusion.utils.errors import InputError

WEIGHTS = "model.weights.h5"
SHARDED_WEIGHTS = "model.weights.json"
# Patterns of the files that a preset's weights are stored in.
NETWORK_WEIGHT_FILES = "model*.weights.*"
WEIGHT_FILES = "*.weights.*"

_BUILTIN = pathlib.Path(__file__).resolve().parent.parent / "presets"


def builtin_presets():
    """List the names of the presets inside the package, sorted."""
    return sorted(path.parent.name for path in _BUILTIN.glob("*/config.json"))


def preset_folder(name):
    """Return the folder of a built-in preset as a `pathlib.Path`."""
    return _BUILTIN / name


def has_weights(folder):
    """Return `True` if a preset folder holds the weights of its network."""
    folder = pathlib.Path(folder)
    return any((folder / name).exists() for name in (WEIGHTS, SHARDED_WEIGHTS))


def read_json(path):
    """Read a JSON file that holds an object.

    Args:
        path: path of the file.

    Returns:
        A dict.

    Raises:
        InputError: if the file cannot be read, or holds anything else.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"'{path}' cannot be read as JSON: {error}. Restore it from a copy."
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"'{path}' must hold a JSON object. Received: "
            f"{type(content).__name__}"
        )
    return content


def locate_preset(name):
    """Turn the name of a preset into the folder or handle that holds it.

    Args:
        name: string or path. A built-in name, a preset folder, the folder of
            a run, or an `hf://` or `kaggle://` handle.

    Returns:
        A folder or handle as a string.

    Raises:
        InputError: if there is no such preset.
    """
    name = str(name)
    if "://" in name:
        return name
    names = builtin_presets()
    if name in names:
        return str(preset_folder(name))
    for folder in (pathlib.Path(name) / "preset", pathlib.Path(name)):
        if (folder / "config.json").exists():
            return str(folder)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    raise InputError(
        f"There is no preset named '{name}', nor a preset folder of that "
        f"path. {hint}Built-in: {', '.join(names)}."
    )
