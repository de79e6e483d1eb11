"""Names, places and files of presets; nothing here imports Keras.

A preset may come from a stranger. Its files are read only if they are regular
files of its folder, and hold what a preset holds.
"""

import difflib
import json
import pathlib

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import decode_text

WEIGHTS = "model.weights.h5"
SHARDED_WEIGHTS = "model.weights.json"
# Patterns of the files that a preset's weights are stored in.
NETWORK_WEIGHT_FILES = "model*.weights.*"
WEIGHT_FILES = "*.weights.*"

_MAX_DEPTH = 64  # Of nested JSON. Configurations have less than 10 levels.

_BUILTIN = pathlib.Path(__file__).resolve().parent.parent / "presets"


def builtin_presets():
    """List the names of the presets inside the package, sorted."""
    return sorted(path.parent.name for path in _BUILTIN.glob("*/config.json"))


def preset_folder(name):
    """Return the folder of a built-in preset as a `pathlib.Path`."""
    return _BUILTIN / name


def is_builtin(folder):
    """Return `True` if a folder is that of a preset inside the package."""
    return pathlib.Path(folder).resolve().parent == _BUILTIN


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
    path = pathlib.Path(path)
    try:
        if not path.is_file():
            raise OSError("it is no regular file")
        content = json.loads(decode_text(path.read_bytes(), f"'{path}'"))
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"'{path}' cannot be read as JSON: {error}. Restore it from a copy."
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"'{path}' must hold a JSON object. Received: "
            f"{type(content).__name__}"
        )
    if any(depth > _MAX_DEPTH for depth, _ in walk_json(content)):
        raise InputError(
            f"'{path}' is nested in more than {_MAX_DEPTH} levels, which no "
            "configuration is. Restore it from a copy."
        )
    return content


def walk_json(content):
    """Yield all values of nested dicts and lists.

    Args:
        content: a JSON value.

    Yields:
        Tuples of the depth, 0 for `content` itself, and the value.
    """
    rest = [(0, content)]
    while rest:
        depth, value = rest.pop()
        yield depth, value
        if isinstance(value, dict):
            value = value.values()
        elif not isinstance(value, list):
            continue
        rest += [(depth + 1, each) for each in value]


def find_inside(folder, name):
    """Find a file of a preset's folder.

    Args:
        folder: path of the folder.
        name: string. Name of the file.

    Returns:
        The `pathlib.Path` of the file, `None` if there is none.

    Raises:
        InputError: if it is no regular file, or a link that leads out of the
            folder. A link within the cache of Hugging Face is allowed.
    """
    path = pathlib.Path(folder) / name
    if not path.exists() and not path.is_symlink():
        return None
    real, root = path.resolve(), pathlib.Path(folder).resolve()
    if root.parent.name == "snapshots" and path.is_symlink():
        root = root.parent.parent  # Its `blobs` hold the files.
    if not real.is_relative_to(root) or not real.is_file():
        raise InputError(
            f"'{path}' is no regular file of its folder. Replace it by a copy "
            "of the file that is meant, if you trust it."
        )
    return path


def check_folder(folder):
    """Check the files of a folder that keras_hub is going to read.

    Args:
        folder: path.

    Raises:
        InputError: see `find_inside` and `check_weights`.
    """
    for path in sorted(pathlib.Path(folder).iterdir()):
        if not path.is_dir() and find_inside(folder, path.name):
            if path.suffix == ".h5":
                check_weights(path)
            if path.name == SHARDED_WEIGHTS:
                shards_of(path)


def check_weights(path):
    """Check that a file of weights holds all of its arrays itself.

    An HDF5 file can refer to other files, whose content would be read as if it
    were its own.

    Args:
        path: path of an HDF5 file.

    Raises:
        InputError: if it cannot be read, or refers to other files.
    """
    import h5py

    # Errors must not be raised through h5py: the first name returned ends it.
    def find_link(name, link):
        return None if isinstance(link, h5py.HardLink) else name

    def find_reference(name, value):
        is_array = isinstance(value, h5py.Dataset)
        is_outside = is_array and (value.external or value.is_virtual)
        return name if is_outside else None

    try:
        with h5py.File(path, "r") as file:
            found = file.visititems_links(find_link)
            found = found or file.visititems(find_reference)
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(
            f"'{path}' cannot be read as weights: {error}. Restore it from a "
            "copy."
        ) from error
    if found:
        raise InputError(
            f"'{path}' refers to data outside of it at '{found}', which is not "
            "read. Use weights that `save_to_preset` wrote."
        )


def shards_of(index):
    """List the files of weights that an index names.

    Args:
        index: path of a `model.weights.json`.

    Returns:
        A sorted list of names.

    Raises:
        InputError: if the index is damaged, or names files of other folders.
    """
    shards = set()
    found = read_json(index).get("weight_map")
    for names in found.values() if isinstance(found, dict) else [None]:
        for name in names if isinstance(names, list) else [names]:
            is_plain = isinstance(name, str) and not set(name) & set("/\\\0")
            if not is_plain or not name.endswith(".weights.h5"):
                raise InputError(
                    f"'{index}' must name files of its own folder that end in "
                    f".weights.h5. Received: {str(name)[:100]!r}"
                )
            shards.add(name)
    return sorted(shards)


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
    if not name:
        raise InputError(
            "The name of a preset is empty. Expected the name of a built-in "
            "one, or the path of a folder that `save_to_preset` has written."
        )
    if "://" in name:
        return name
    names = builtin_presets()
    if name in names:
        return str(preset_folder(name))
    for folder in (pathlib.Path(name) / "preset", pathlib.Path(name)):
        try:
            is_preset = (folder / "config.json").exists()
        except OSError:  # Such as a name that is too long.
            continue
        if is_preset and folder.is_symlink() and folder.name == "preset":
            raise InputError(
                f"'{folder}' is a link. Use the preset that it leads to, if "
                "you trust it."
            )
        if is_preset:
            return str(folder)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    raise InputError(
        f"There is no preset named '{name}', nor a preset folder of that "
        f"path. {hint}Built-in: {', '.join(names)}."
    )
