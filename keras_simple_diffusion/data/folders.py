"""Images of a folder or zip, with their splits, classes and captions."""

import collections
import hashlib
import posixpath
import warnings

from keras_simple_diffusion.data.captions import SIDECARS
from keras_simple_diffusion.data.captions import read_captions
from keras_simple_diffusion.data.containers import HIDDEN
from keras_simple_diffusion.data.containers import open_container
from keras_simple_diffusion.data.formats import FORMATS
from keras_simple_diffusion.data.formats import kind_of_file
from keras_simple_diffusion.data.layout import Layout
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import SETTINGS
from keras_simple_diffusion.utils.user_text import printable
from keras_simple_diffusion.utils.user_text import some_of

Listing = collections.namedtuple(
    "Listing",
    "container names labels captions class_names fingerprint left_out",
)
Listing.__doc__ = """The images of a folder or zip, in alphabetical order.

Args:
    container: a `Folder` or `Zip`.
    names: list of the files' names inside it.
    labels: list of ints, or `None` without classes.
    captions: list with a list of strings for each image, or `None`.
    class_names: list of strings, or `None` without classes.
    fingerprint: string, a digest of names, sizes, labels and captions.
    left_out: dict from reasons to lists of names, all that is not used.
"""

OTHER = "not an image"
_NO_CAPTION = (
    "a text that is not used as a caption (expected 1.txt beside 1.png, or a "
    "metadata.csv)"
)
_QUIET = (HIDDEN, OTHER)  # Reasons without a warning.
_TABLES = (".csv", ".json", ".jsonl", ".parquet", ".tsv", ".xls", ".xlsx")


def list_images(path, split="train"):
    """List the images of one split of a folder or zip.

    Args:
        path: path of a folder or of a `.zip` file.
        split: string, see `keras_simple_diffusion.data.open_data`.

    Returns:
        A `Listing`.

    Raises:
        InputError: if there are no images, or it is unclear what their
            folders mean.
        MissingSplitError: if there is no such split.
    """
    container = open_container(path)
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
    labels = layout.labels(taken)
    digest = hashlib.sha256()
    for name, label in zip(taken, labels, strict=True):
        line = (name, container.sizes[name], label, captions.get(name))
        digest.update(repr(line).encode())
    return Listing(
        container,
        taken,
        labels if layout.class_names else None,
        [captions[name] for name in taken] if captions else None,
        layout.class_names,
        digest.hexdigest()[:16],
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
