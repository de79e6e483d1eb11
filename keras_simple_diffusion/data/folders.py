"""Lists of the images in a folder or zip, with classes and captions."""

import collections
import csv
import hashlib
import io
import json
import os
import pathlib
import posixpath
import threading
import warnings
import zipfile

from keras_simple_diffusion.data.splits import MissingSplitError
from keras_simple_diffusion.data.splits import matching_splits
from keras_simple_diffusion.data.splits import role_of
from keras_simple_diffusion.utils.errors import InputError

Listing = collections.namedtuple(
    "Listing", "container names labels captions class_names fingerprint"
)
Listing.__doc__ = """The images of a folder or zip, in alphabetical order.

Args:
    container: a `Folder` or `Zip`.
    names: list of the files' names inside it.
    labels: list of ints, or `None` without classes.
    captions: list with a list of strings for each image, or `None`.
    class_names: list of strings, or `None` without classes.
    fingerprint: string, a digest of names, sizes, labels and captions.
"""

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_METADATA = ("metadata.jsonl", "metadata.csv")


def list_images(path, split="train"):
    """List the images of one split of a folder or zip.

    Args:
        path: path of a folder or of a `.zip` file.
        split: string, see `keras_simple_diffusion.data.open_data`.

    Returns:
        A `Listing`.
    """
    container = open_container(path)
    sizes = container.sizes()
    names = sorted(name for name in sizes if _is_image(name))
    if not names:
        raise InputError(
            f"'{path}' holds no images. Expected files ending in "
            f"{', '.join(sorted(_SUFFIXES))}, in one folder a class or all in "
            "one folder."
        )
    names, classes = _take_split(names, split, path)
    class_names = sorted(set(classes))
    if "" in class_names and len(class_names) > 1:
        raise InputError(
            f"'{path}' holds images both inside and outside of class "
            f"folders, such as '{names[classes.index('')]}'. Move them into "
            "class folders, or all out of them."
        )
    numbers = {name: number for number, name in enumerate(class_names)}
    chosen = [
        (name, numbers[class_name])
        for name, class_name in zip(names, classes, strict=True)
        if name is not None
    ]
    captions = _read_captions(container, sizes)
    if captions:
        chosen = _with_captions(chosen, captions, path)
    names = [name for name, _ in chosen]
    labels = None
    if class_names == [""]:
        class_names = None
    else:
        labels = [label for _, label in chosen]
    digest = hashlib.sha256()
    for name, label in chosen:
        line = (name, sizes[name], label, captions.get(name))
        digest.update(repr(line).encode())
    return Listing(
        container,
        names,
        labels,
        [captions[name] for name in names] if captions else None,
        class_names,
        digest.hexdigest()[:16],
    )


def _is_image(name):
    path = pathlib.PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in _SUFFIXES and not hidden


def _read_captions(container, sizes):
    """The captions of each image that a metadata file names."""
    captions = collections.defaultdict(list)
    for metadata in sorted(sizes):
        folder, name = posixpath.split(metadata)
        if name not in _METADATA:
            continue
        text = container.read(metadata).decode("utf-8-sig")
        where = f"'{metadata}' of '{container.path}'"
        rows = _csv_rows if name.endswith("csv") else _json_rows
        for number, row in rows(text, where):
            if "file_name" not in row:
                raise InputError(
                    f"{where} has no `file_name` in line {number}. Expected "
                    "`file_name`, relative to it, and `text`."
                )
            image = posixpath.normpath(
                posixpath.join(folder, str(row["file_name"]))
            )
            texts = row.get("text") or []
            texts = [texts] if isinstance(texts, str) else texts
            captions[image].extend(str(each) for each in texts)
    return {name: texts for name, texts in captions.items() if texts}


def _json_rows(text, where):
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"Line {number} of {where} is no JSON: {error}."
            ) from error
        yield number, row if isinstance(row, dict) else {}


def _csv_rows(text, where):
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(
            f"Line {reader.line_num} of {where} is no CSV: {error}."
        ) from error


def _with_captions(chosen, captions, path):
    """Those of the images that have captions; say so if some do not."""
    found = [each for each in chosen if each[0] in captions]
    if not found:
        raise InputError(
            f"The metadata of '{path}' has captions, but for none of its "
            f"{len(chosen)} images, such as '{chosen[0][0]}'. It names "
            f"'{next(iter(captions))}'."
        )
    if len(found) < len(chosen):
        names = {name for name, _ in found}
        first = next(name for name, _ in chosen if name not in names)
        warnings.warn(
            f"{len(chosen) - len(found)} of {len(chosen)} images of "
            f"'{path}' have no caption and are left out, such as '{first}'.",
            stacklevel=3,
        )
    return found


def _take_split(names, split, path):
    """Names of one split's images, and the classes of all splits'.

    Returns:
        Two lists of the same length: names, `None` for images of other
        splits, and class names, `""` outside of class folders.
    """
    parts = _without_common_folder([name.split("/") for name in names])
    folders = {part[0] for part in parts if len(part) > 1}
    if not folders or not all(map(role_of, folders)):
        if split != "train":
            raise MissingSplitError(
                f"'{path}' has no splits, so no '{split}' either. Expected "
                "outermost folders such as train and test."
            )
        return names, [_class_of(part) for part in parts]
    matching = matching_splits(split, folders)
    if not matching:
        raise MissingSplitError(
            f"'{path}' has no split '{split}'. It has: "
            f"{', '.join(sorted(folders))}"
        )
    taken = [
        name if part[0] == matching[0] else None
        for name, part in zip(names, parts, strict=True)
    ]
    inside = [part[1:] if len(part) > 1 else part for part in parts]
    return taken, [_class_of(part) for part in _without_common_folder(inside)]


def _class_of(parts):
    return parts[0] if len(parts) > 1 else ""


def _without_common_folder(parts):
    """Drop a leading folder that all names share, unless it is a split."""
    while len({part[0] for part in parts}) == 1 and len(parts[0]) > 1:
        if role_of(parts[0][0]):
            break
        parts = [part[1:] for part in parts]
    return parts


def open_container(path):
    """Open a folder or zip.

    Args:
        path: path of a folder or of a `.zip` file.

    Returns:
        A `Folder` or `Zip`.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(f"There is no folder or zip file at '{path}'.")
    return Folder(path) if path.is_dir() else Zip(path)


class Folder:
    """The files of a folder and of the folders inside it.

    Args:
        path: path of the folder.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def sizes(self):
        """A dict of the files' names, with `/` between folders, and sizes."""
        sizes = {}
        for folder, _, names in os.walk(self.path, followlinks=True):
            inside = pathlib.Path(folder).relative_to(self.path).as_posix()
            prefix = "" if inside == "." else f"{inside}/"
            for name in names:
                try:
                    size = os.stat(os.path.join(folder, name)).st_size
                except OSError:  # A link to nowhere, or gone meanwhile.
                    size = 0
                sizes[prefix + name] = size
        return sizes

    def stamp(self, name):
        """When a file was last written."""
        return os.stat(self.path / name).st_mtime_ns

    def read(self, name):
        """Content of a file, as bytes."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            if not self.path.is_dir():
                raise _gone("folder", self.path) from error
            raise


class Zip:
    """The files of a zip.

    It can be sent to other processes, each of which opens it for itself.

    Args:
        path: path of the zip.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self._opened = None

    def __getstate__(self):
        return {"path": self.path, "_opened": None}

    def sizes(self):
        """A dict of the files' names, with `/` between folders, and sizes."""
        file, _ = self._open()
        return {
            info.filename: info.file_size
            for info in file.infolist()
            if not info.is_dir()
        }

    def stamp(self, name):
        """The checksum of a file."""
        file, _ = self._open()
        return file.getinfo(name).CRC

    def read(self, name):
        """Content of a file, as bytes."""
        file, lock = self._open()
        with lock:
            return file.read(name)

    def _open(self):
        # A process that was forked must not share the position in the file.
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                file = zipfile.ZipFile(self.path)
            except FileNotFoundError as error:
                raise _gone("zip file", self.path) from error
            except zipfile.BadZipFile as error:
                raise InputError(
                    f"'{self.path}' is not a readable zip file: {error}."
                ) from error
            self._opened = (os.getpid(), file, threading.Lock())
        return self._opened[1:]


def _gone(kind, path):
    return InputError(
        f"The {kind} '{path}' is gone: it was there when it was opened. Put it "
        "back, and go on from the last checkpoint."
    )
