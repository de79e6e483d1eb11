"""Names that stand for several files, the shards of one dataset."""

import glob
import itertools
import os
import pathlib
import posixpath
import re

from keras_simple_diffusion.data.formats import is_image_name
from keras_simple_diffusion.data.splits import HELD_OUT
from keras_simple_diffusion.data.splits import roles_within
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import printable

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_FILES = 1_000_000


def find_shards(path, suffix):
    """Find the files that a name stands for.

    Args:
        path: path of a file, with `*` for any characters or `{000..123}` for
            numbers in its name; or of a folder of such files.
        suffix: string, such as `".tar"`.

    Returns:
        A list of paths, as sorted strings; empty if `path` is of another kind,
        or there is no such file.

    Raises:
        InputError: if a file of `{000..123}` is missing.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return _files_of_folder(path, suffix)
    if path.suffix != suffix:
        return []
    if path.is_file():
        return [str(path)]
    files = number_names(str(path))
    if len(files) == 1:
        return sorted(glob.glob(files[0]))
    missing = [each for each in files if not pathlib.Path(each).is_file()]
    if missing and len(missing) < len(files):
        raise InputError(
            f"Of the {len(files)} files '{path}' {len(missing)} are missing, "
            f"such as '{missing[0]}'."
        )
    return [] if missing else files


def _files_of_folder(folder, suffix):
    found = []
    try:
        entries = os.scandir(folder)
    except OSError:  # Without permission, which `Folder` reports.
        return []
    with entries:
        for entry in entries:
            # Folders of images may be large: leave at the first sign of one.
            if entry.is_dir() or is_image_name(entry.name):
                return []
            if entry.name.endswith(suffix):
                found.append(entry.path)
    return sorted(found)


def names_of_shards(paths):
    """Return names of files by which they can be told apart.

    Args:
        paths: list of strings.

    Returns:
        A list of strings, the paths relative to the folder around all files.
    """
    if not paths:
        return []
    paths = [pathlib.PurePath(path) for path in paths]
    folder = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(folder).as_posix() for path in paths]


def splits_of_shards(paths):
    """Tell the splits of files by words of their names.

    Of files in several folders, the folders are part of their names.

    Args:
        paths: list of strings, such as `"photos-train-0001.tar"`.

    Returns:
        A list with `"train"`, `"test"`, `"validation"` for each file; all are
        `None` if not every name has one of these words, or all have the same.

    Raises:
        InputError: if some files are held out and others name no split, so
            that a guess could train on held-out images.
    """
    names = names_of_shards(paths)
    roles = [roles_within(posixpath.splitext(name)[0]) for name in names]
    splits = [min(each) if len(each) == 1 else None for each in roles]
    held_out = [split in HELD_OUT for split in splits]
    if None in splits and any(held_out):
        other = printable(names[held_out.index(True)])
        raise InputError(
            f"'{printable(paths[splits.index(None)])}' names no split, or "
            f"several, beside '{other}', which is held out. Put one of the "
            "words train, validation and test into the name of each file, or "
            "move the others away."
        )
    if None in splits or len(set(splits)) == 1:
        return [None] * len(paths)
    return splits


def number_names(path):
    """Return the names that one with ranges such as `{00..11}` stands for."""
    parts = _RANGE.split(path)
    ranges = []
    for first, last in zip(parts[1::3], parts[2::3], strict=True):
        numbers = range(int(first), min(int(last), _MAX_FILES) + 1)
        ranges.append([f"{number:0{len(first)}}" for number in numbers])
    texts = parts[::3]
    return [
        texts[0] + "".join(map("".join, zip(chosen, texts[1:], strict=True)))
        for chosen in itertools.product(*ranges)
    ]
