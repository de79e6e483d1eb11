"""Images of a folder or zip, with their splits, classes and captions."""

import collections
import pathlib
import posixpath
import warnings

from keras_simple_diffusion.data.captions import SIDECARS
from keras_simple_diffusion.data.captions import read_captions
from keras_simple_diffusion.data.classes import SUFFIX as CLASS_FILE
from keras_simple_diffusion.data.classes import read_classes
from keras_simple_diffusion.data.containers import HIDDEN
from keras_simple_diffusion.data.containers import open_container
from keras_simple_diffusion.data.formats import FORMATS
from keras_simple_diffusion.data.formats import kind_of_file
from keras_simple_diffusion.data.layout import Layout
from keras_simple_diffusion.data.listing import make_listing
from keras_simple_diffusion.data.packed import find_files
from keras_simple_diffusion.data.packed import is_packed
from keras_simple_diffusion.data.packed import list_packed
from keras_simple_diffusion.data.shards import find_shards
from keras_simple_diffusion.data.tables import find_tables
from keras_simple_diffusion.data.tables import list_tables
from keras_simple_diffusion.data.tars import SUFFIX as TAR
from keras_simple_diffusion.data.tars import Tars
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import SETTINGS
from keras_simple_diffusion.utils.user_text import printable
from keras_simple_diffusion.utils.user_text import some_of

OTHER = "not an image"
_NO_CAPTION = (
    "a text that is not used as a caption (expected 1.txt beside 1.png, or a "
    "metadata.csv)"
)
_QUIET = (HIDDEN, OTHER)  # Reasons without a warning.
_TABLES = (".csv", ".json", ".jsonl", ".parquet", ".tsv", ".xls", ".xlsx")


def has_images(path):
    """Tell if a path is that of data, which may be several files.

    Args:
        path: see `list_images`.
    """
    if not str(path):
        return False
    return (
        pathlib.Path(path).exists()
        or bool(is_packed(path) and find_files(path))
        or bool(find_shards(path, TAR) or find_tables(path))
    )


def list_images(path, split="train"):
    """List the images of one split of a folder, zip or packed file.

    Args:
        path: path of a folder, of a `.zip` file, or of what `pack` wrote.
        split: string, see `keras_simple_diffusion.data.open_data`.

    Returns:
        A `Listing`.

    Raises:
        InputError: if there are no images, or it is unclear what their
            folders mean.
        MissingSplitError: if there is no such split.
    """
    if is_packed(path):
        return list_packed(path, split)
    is_tar = find_shards(path, TAR)
    if not is_tar and find_tables(path):
        return list_tables(path, split)
    container = Tars(path) if is_tar else open_container(path)
    kinds = {
        name: kind_of_file(name, container.head) for name in container.sizes
    }
    images = sorted(name for name, kind in kinds.items() if kind == "image")
    unread = [name for name in kinds if kinds[name] not in ("image", None)]
    left_out = collections.defaultdict(list)
    for name, reason in container.left_out.items():
        left_out[reason].append(name)
    for name in sorted(unread):
        left_out[f"of the format {kinds[name]}, which is not read"].append(name)
    if not images:
        summary = _summary(left_out, quiet=())
        raise InputError(
            f"'{path}' holds no images. Expected {', '.join(FORMATS)} files, "
            "in one folder for each class or all in one folder."
            + (summary and f" Of it{summary}")
        )
    layout = Layout(path, images, unread)
    classes, class_names = read_classes(container, images)
    taken = layout.take(split)
    left_out["beside the folders of the splits"] += layout.stray
    for other, names in layout.unused(split).items():
        reason = f"in '{printable(other)}', which is not the held-out split"
        left_out[reason] += names
    captions, read = read_captions(container, images)
    if captions:
        uncaptioned = [name for name in taken if name not in captions]
        left_out["without a caption"] += uncaptioned
        if len(uncaptioned) == len(taken):
            raise InputError(
                f"'{path}' has captions, but for none of the {len(taken)} "
                f"images of this split, such as '{printable(taken[0])}'."
            )
        taken = [name for name in taken if name in captions]
    others = {name for name, kind in kinds.items() if kind is None} - read
    if classes:
        others = {name for name in others if not name.endswith(CLASS_FILE)}
    beside = {posixpath.splitext(name)[0] for name in images}
    if not captions:  # Names of texts that were meant to be captions.
        meant = {posixpath.basename(name) for name in images} | {
            posixpath.basename(stem) for stem in beside
        }
        for name in sorted(others):
            is_beside = posixpath.splitext(name)[0] in beside
            if not is_beside and _is_meant_as_caption(name, meant):
                others.remove(name)
                left_out[_NO_CAPTION].append(name)
    for name in sorted(others):
        left_out[_kind_of_other(name, beside)].append(name)
    left_out["a class without images"] += layout.empty_classes(
        unread + _empty_folders(container)
    )
    left_out = {reason: names for reason, names in left_out.items() if names}
    if summary := _summary(left_out):
        warnings.warn(f"Of '{path}'{summary}", stacklevel=3)
    for remark in layout.remarks(taken, split):
        warnings.warn(f"'{path}': {remark}", stacklevel=3)
    labels = [classes[name] for name in taken if classes]
    return make_listing(
        container,
        taken,
        labels or layout.labels(taken),
        [captions[name] for name in taken] if captions else None,
        class_names or layout.class_names,
        left_out,
    )


def _is_meant_as_caption(name, meant):
    stem, suffix = posixpath.splitext(posixpath.basename(name))
    return suffix.lower() in SIDECARS and (
        stem in meant or "caption" in stem.lower()
    )


def _empty_folders(container):
    used = set()
    for name in container.sizes:
        while name := posixpath.dirname(name):
            used.add(name)
    return [f"{folder}/" for folder in sorted(container.folders - used)]


def _kind_of_other(name, beside):
    """Say what a file is that is neither an image nor read for captions."""
    stem, suffix = posixpath.splitext(name)
    if suffix.lower() in SIDECARS and stem in beside:
        return "a text whose image has another caption, or without words"
    if suffix.lower() in _TABLES and name != SETTINGS:
        return "a table that is not metadata.csv, .jsonl or .parquet"
    return OTHER


def _summary(left_out, quiet=_QUIET):
    """Say what is left out, and why, but for what nobody would miss."""
    parts = [
        f"{len(names):,} {'is' if len(names) == 1 else 'are'} left out, "
        f"{reason}: {some_of(names, 3)}"
        for reason, names in left_out.items()
        if names and reason not in quiet
    ]
    return f", {'; '.join(parts)}." if parts else ""
