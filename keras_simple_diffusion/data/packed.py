"""ArrayRecord files of `pack`: images, and an index in the last record.

All other records are images, one each, as the bytes of a file in any of the
formats that are read, or of an `.npy` file of decoded pixels. The index is a
JSON object: the classes and, for each split, names, sizes, checksums, labels
and captions of its images, in the order of the records.
"""

import glob
import json
import os
import pathlib
import re
import threading

from keras_simple_diffusion.data.containers import Container
from keras_simple_diffusion.data.containers import gone
from keras_simple_diffusion.data.listing import make_listing
from keras_simple_diffusion.data.splits import MissingSplitError
from keras_simple_diffusion.data.splits import matching_splits
from keras_simple_diffusion.utils.errors import InputError

SUFFIX = ".array_record"
FORMAT = "keras_simple_diffusion images 1"
# Of each split, with a list as long as it has images, or `None`.
COLUMNS = ("names", "sizes", "checksums", "labels", "captions")
_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # For random access.
_NUMBERED = re.compile(r"-(\d{5})-of-(\d{5})$")


def is_packed(path):
    """Tell by its name if a path is that of packed images."""
    path = pathlib.Path(_NUMBERED.sub("", str(path)))
    return path.suffix == SUFFIX and not path.is_dir()


def file_name(path, number, count):
    """Return the path of one of several files of packed images."""
    return f"{path}-{number:05}-of-{count:05}" if count > 1 else str(path)


def existing_files(path):
    """Find all files of an output of `pack`, complete or not.

    Args:
        path: path of the output.

    Returns:
        A dict from the number of files, 1 for the path itself, to a dict from
        the number of each to its path.
    """
    path = pathlib.Path(path)
    found = {1: {0: str(path)}} if path.is_file() else {}
    for each in path.parent.glob(f"{glob.escape(path.name)}-*"):
        match = _NUMBERED.fullmatch(each.name.removeprefix(path.name))
        if match:
            number, count = map(int, match.groups())
            found.setdefault(count, {})[number] = str(each)
    return found


def find_files(path):
    """Find the files of packed images.

    Args:
        path: path of a file, or of several without the end of their names:
            `photos.array_record` for `photos.array_record-00000-of-00002` and
            the other one.

    Returns:
        A list of paths, as strings; empty if there is none.

    Raises:
        InputError: if some of several files are missing.
    """
    path = _NUMBERED.sub("", str(path))
    found = existing_files(path)
    if len(found) > 1:
        raise InputError(
            f"'{path}' was packed several times, into "
            f"{' and '.join(map(str, sorted(found)))} files. Move the others "
            "elsewhere."
        )
    for count, files in found.items():
        missing = sorted(set(range(count)) - set(files))
        if missing:
            raise InputError(
                f"Of the {count} files of '{path}' {len(missing)} are missing, "
                f"such as '{file_name(path, missing[0], count)}'. Run the same "
                "`pack` again, or copy them."
            )
        return [files[number] for number in range(count)]
    return []


def list_packed(path, split="train"):
    """List the images of one split of packed images.

    Args:
        path: see `find_files`.
        split: string, see `keras_simple_diffusion.data.open_data`.

    Returns:
        A `Listing`.

    Raises:
        InputError: if a file is damaged, or not written by `pack`.
        MissingSplitError: if there is no such split.
    """
    container = Packed(path)
    known = container.splits
    matching = matching_splits(split, known)
    if not matching:
        raise MissingSplitError(
            f"'{path}' has no split '{split}'. It has: {', '.join(known)}"
        )
    columns = container.take(matching[0])
    names = columns["names"]
    labels = columns["labels"] or [0] * len(names)
    return make_listing(
        container, names, labels, columns["captions"], container.class_names
    )


def read_index(reader, path):
    """Read and check the index of a file.

    Args:
        reader: an `ArrayRecordReader`.
        path: path of the file, for errors.

    Returns:
        A dict.

    Raises:
        InputError: if the file is damaged, or not written by `pack`.
    """
    try:
        count = reader.num_records()
        index = json.loads(reader.read([count - 1])[0]) if count else None
    except (RuntimeError, ValueError):
        index = None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise InputError(
            f"'{path}' is cut off, damaged, or not written by `pack`: its last "
            "record is no index of images. Pack it again. Files of TensorFlow "
            "Datasets are opened by tfds:NAME."
        )
    if not _is_complete(index, count - 1):
        raise InputError(
            f"The index of '{path}' does not list its {count - 1} images. "
            "Pack them again."
        )
    return index


def _is_complete(index, count):
    """Tell if an index describes each of the images."""
    try:
        num_classes = len(index["class_names"] or ())
        splits = index["splits"].values()
        for split in splits:
            columns = [split[column] for column in COLUMNS]
            is_whole = {len(split["names"])} >= {
                len(column) for column in columns if column is not None
            }
            labels = split["labels"] or ()
            if not is_whole or not all(0 <= n < num_classes for n in labels):
                return False
        return count == sum(len(split["names"]) for split in splits)
    except (AttributeError, KeyError, TypeError):
        return False


def open_reader(path):
    """Open an ArrayRecord file, for reading in any order."""
    from array_record.python import array_record_module

    return array_record_module.ArrayRecordReader(str(path), _OPTIONS)


class Packed(Container):
    """The images of one split of one or several files of `pack`.

    Images of two splits may have the same name, so that none can be read
    before `take`.

    Args:
        path: see `find_files`.

    Attributes:
        class_names: list of strings, or `None`.
        splits: dict from names of splits to dicts from `COLUMNS` to lists;
            empty after `take`.
    """

    def __init__(self, path):
        super().__init__(path)
        self._files = find_files(path)
        if not self._files:
            raise InputError(f"There is no file '{path}'.")
        self._opened = {}
        self._lock = threading.Lock()
        self._places, self._checksums, self.splits = {}, {}, {}
        key = None
        for number, file in enumerate(self._files):
            index = read_index(self._reader(number), file)
            if key not in (None, index["key"]):
                raise InputError(
                    f"'{file}' was not packed together with "
                    f"'{self._files[0]}'. Pack them again."
                )
            key, self.class_names = index["key"], index["class_names"]
            position = 0
            for split, columns in index["splits"].items():
                self._add_split(split, columns, number, position)
                position += len(columns["names"])

    def _add_split(self, split, columns, number, position):
        names = (*COLUMNS, "places")
        known = self.splits.setdefault(split, {name: [] for name in names})
        for column in COLUMNS:
            if columns[column] is None:
                known[column] = None
            else:
                known[column].extend(columns[column])
        for offset in range(len(columns["names"])):
            known["places"].append((number, position + offset))

    def take(self, split):
        """Choose the split that is read.

        Args:
            split: string, one of `splits`.

        Returns:
            A dict from `COLUMNS` to lists, or to `None`.
        """
        columns, self.splits = self.splits[split], {}  # Not for workers.
        names = columns["names"]
        self._places = dict(zip(names, columns["places"], strict=True))
        self.sizes = dict(zip(names, columns["sizes"], strict=True))
        self._checksums = dict(zip(names, columns["checksums"], strict=True))
        return columns

    def __getstate__(self):
        return {**self.__dict__, "_opened": {}, "_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _lock=threading.Lock())

    def stamp(self, name):
        return self._checksums[name]

    def read(self, name):
        number, position = self._places[name]
        return self._reader(number).read([position])[0]

    def head(self, name):
        return self.read(name)[:64]

    def _reader(self, number):
        # A process that was forked opens the files for itself.
        place = os.getpid(), number
        reader = self._opened.get(place)
        if reader is None:
            with self._lock:
                path = self._files[number]
                if not os.path.exists(path):
                    raise gone("file", path)
                reader = self._opened.setdefault(place, open_reader(path))
        return reader
