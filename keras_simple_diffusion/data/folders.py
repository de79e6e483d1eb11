"""Images of a folder or zip, with their splits, classes and captions."""

import collections
import hashlib
import posixpath
import warnings

from keras_simple_diffusion.data.captions import read_captions
from keras_simple_diffusion.data.containers import HIDDEN
from keras_simple_diffusion.data.containers import open_container
from keras_simple_diffusion.data.formats import FORMATS
from keras_simple_diffusion.data.formats import kind_of_file
from keras_simple_diffusion.data.splits import MissingSplitError
from keras_simple_diffusion.data.splits import matching_splits
from keras_simple_diffusion.data.splits import role_of
from keras_simple_diffusion.utils.errors import InputError

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
_QUIET = (HIDDEN, OTHER)  # Reasons without a warning.


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
        summary = _summary(left_out)
        raise InputError(
            f"'{path}' holds no images. Expected {', '.join(FORMATS)} files, "
            "in one folder for each class or all in one folder."
            + (summary and f" Of it{summary}")
        )
    layout = _Layout(path, images, unread)
    taken = layout.take(split)
    left_out["beside the folders of the splits"] += layout.stray
    captions, read = read_captions(container, images)
    if captions:
        uncaptioned = [name for name in taken if name not in captions]
        left_out["without a caption"] += uncaptioned
        if len(uncaptioned) == len(taken):
            raise InputError(
                f"'{path}' has captions, but for none of the {len(taken)} "
                f"images of this split, such as '{taken[0]}'."
            )
        taken = [name for name in taken if name in captions]
    others = {name for name, kind in kinds.items() if kind is None} - read
    left_out[OTHER] += sorted(others)
    left_out["a class without images"] += layout.empty_classes(
        unread + _empty_folders(container)
    )
    left_out = {reason: names for reason, names in left_out.items() if names}
    if summary := _summary(left_out):
        warnings.warn(f"Of '{path}'{summary}", stacklevel=3)
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


def _empty_folders(container):
    used = set()
    for name in container.sizes:
        while name := posixpath.dirname(name):
            used.add(name)
    return [f"{folder}/" for folder in sorted(container.folders - used)]


def _summary(left_out):
    """Say what is left out, and why, but for what nobody would miss."""
    parts = [
        f"{len(names)} {'is' if len(names) == 1 else 'are'} left out, "
        f"{reason}: {some_of(names, 3)}"
        for reason, names in left_out.items()
        if names and reason not in _QUIET
    ]
    return f", {'; '.join(parts)}." if parts else ""


def some_of(names, count=10):
    """Join the first names of a list."""
    text = ", ".join(names[:count])
    if len(names) > count:
        text += f" and {len(names) - count} more"
    return text


class _Layout:
    """The meaning of folders: splits, and the classes inside of them.

    The outermost folders are classes, or splits if their names say so. A
    single enclosing folder is ignored.

    Args:
        path: path of the data, for errors.
        images: list of the images' names.
        unread: list of names of images that are not read, whose folders are
            not ignored.

    Attributes:
        class_names: list of strings, or `None` without classes.
        stray: list of images beside the folders of the splits.
    """

    def __init__(self, path, images, unread):
        self._path = path
        self._prefix = _common_folders(images, unread)
        parts = {name: self._inside(name) for name in images}
        folders = {part[0] for part in parts.values() if len(part) > 1}
        self._splits = {name for name in folders if role_of(name)}
        self._check_splits(images, folders - self._splits)
        self.stray = []
        if self._splits:
            self.stray = [name for name in images if len(parts[name]) == 1]
        self._split_of = {
            name: part[0] if self._splits else None
            for name, part in parts.items()
            if name not in set(self.stray)
        }
        self._inner = []
        if self._splits:
            cut = ["/".join(parts[name][1:]) for name in self._split_of]
            self._inner = _common_folders(cut, [])
        self._class_of = {name: self._class(name) for name in self._split_of}
        names = sorted(set(self._class_of.values()))
        if "" in names and len(names) > 1:
            outside = [n for n, each in self._class_of.items() if not each]
            raise InputError(
                f"'{path}' holds images both inside and outside of class "
                f"folders, outside {some_of(outside, 3)}. Move them into class "
                "folders, or all images out of them."
            )
        self._numbers = {name: number for number, name in enumerate(names)}
        self.class_names = None if names == [""] else names

    def take(self, split):
        """Return the names of the images of a split."""
        if not self._splits:
            if split != "train":
                raise MissingSplitError(
                    f"'{self._path}' has no splits, so no '{split}' either. "
                    "Expected outermost folders such as train and test."
                )
            return list(self._split_of)
        matching = matching_splits(split, self._splits)
        if not matching:
            raise MissingSplitError(
                f"'{self._path}' has no split '{split}'. It has: "
                f"{', '.join(sorted(self._splits))}"
            )
        if role_of(split) == "train" and len(matching) > 1:
            raise InputError(
                f"'{self._path}' has several splits to train on: "
                f"{', '.join(matching)}. Join them, or move all but one away."
            )
        taken = matching[0]
        return [name for name, each in self._split_of.items() if each == taken]

    def labels(self, names):
        """Return the numbers of the images' classes."""
        return [self._numbers[self._class_of[name]] for name in names]

    def empty_classes(self, names):
        """Return the folders of files which would be classes of their own."""
        if self.class_names is None:
            return []
        classes = {self._class(name) for name in names if self._inside(name)}
        return sorted(classes - {*self.class_names, "", None})

    def _inside(self, name):
        """Return the parts of a path inside the ignored folders."""
        parts, count = name.split("/"), len(self._prefix)
        return parts[count:] if parts[:count] == self._prefix else []

    def _class(self, name):
        parts = self._inside(name)
        if self._splits:
            if len(parts) < 2 or parts[0] not in self._splits:
                return None
            parts, count = parts[1:], len(self._inner)
            parts = parts[count:] if parts[:count] == self._inner else []
        return parts[0] if len(parts) > 1 else ""

    def _check_splits(self, images, others):
        if self._splits and others:
            split, other = min(self._splits), min(others)
            raise InputError(
                f"'{self._path}' has the splits "
                f"{', '.join(sorted(self._splits))} beside "
                f"{some_of(sorted(others))}. Move '{other}' away or into a "
                f"split, or rename '{split}' if it is a class."
            )
        if self._splits:
            return
        roles = collections.defaultdict(set)
        for name in images:
            parts = name.split("/")[:-1]
            for depth, part in enumerate(parts):
                roles["/".join(parts[:depth])].add(role_of(part))
        for parent, found in roles.items():
            if "train" in found and found & {"test", "validation"}:
                raise InputError(
                    f"'{self._path}' has splits inside of '{parent}'. Expected "
                    "them outermost, with the classes inside."
                )


def _common_folders(names, others):
    """Return the folders around all names, up to the first split.

    A folder beside another one that has only files which are not read stays,
    since both could be classes.
    """
    parts = [name.split("/") for name in names]
    others = [name.split("/") for name in others]
    prefix = []
    while len({part[0] for part in parts}) == 1 and len(parts[0]) > 1:
        folder = parts[0][0]
        if role_of(folder):
            break
        if any(len(part) > 1 and part[0] != folder for part in others):
            break
        prefix.append(folder)
        parts = [part[1:] for part in parts]
        others = [part[1:] for part in others if part[0] == folder]
    return prefix
