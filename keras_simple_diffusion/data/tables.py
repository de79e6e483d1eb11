"""Images in Parquet files, and in the Arrow files of Hugging Face `datasets`.

Arrow files are mapped into memory and read in any order. Parquet files are
compressed in groups of rows, which are kept in memory as far as they fit.
"""

import bisect
import collections
import contextlib
import itertools
import json
import os
import pathlib
import threading
import warnings

from keras_simple_diffusion.data.containers import Container
from keras_simple_diffusion.data.containers import gone
from keras_simple_diffusion.data.formats import UNREADABLE
from keras_simple_diffusion.data.listing import make_listing
from keras_simple_diffusion.data.shards import find_shards
from keras_simple_diffusion.data.shards import names_of_shards
from keras_simple_diffusion.data.shards import splits_of_shards
from keras_simple_diffusion.data.splits import MissingSplitError
from keras_simple_diffusion.data.splits import matching_splits
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import plain_text
from keras_simple_diffusion.utils.user_text import printable

_SUFFIXES = (".parquet", ".arrow")
_CAPTIONS = ("text", "caption", "captions", "prompt", "description")
_LABELS = ("label", "labels", "class")
_MAX_CLASSES = 1_000_000
_MAX_KEPT = 2**30  # Bytes of groups of rows.
_NO_SPLIT = "train"


def find_tables(path):
    """Find the files of a dataset in tables.

    Args:
        path: path of a folder that `datasets` has saved, of a folder of
            Parquet or Arrow files or one around its folder `data`, or a name
            of such files, see `find_shards`.

    Returns:
        A dict from names of splits to lists of paths; empty if it is none.
    """
    path = pathlib.Path(path)
    with contextlib.suppress(OSError):
        if (path / "dataset_dict.json").is_file():
            splits = _read_json(path / "dataset_dict.json", "splits")
            return {split: _saved_files(path / split) for split in splits}
        if (path / "state.json").is_file():
            return {_NO_SPLIT: _saved_files(path)}
    if (path / "metadata.parquet").is_file():  # Captions of files.
        return {}
    for place in (path, path / "data"):
        for suffix in _SUFFIXES:
            files = find_shards(place, suffix)
            found = {}
            for file, split in zip(files, splits_of_shards(files), strict=True):
                found.setdefault(split or _NO_SPLIT, []).append(file)
            if found:
                return found
    return {}


def _saved_files(folder):
    files = _read_json(folder / "state.json", "_data_files")
    return [str(folder / each["filename"]) for each in files]


def _read_json(path, key):
    try:
        return json.loads(path.read_text())[key]
    except ValueError as error:
        raise InputError(f"'{path}' is damaged: {error}.") from error
    except (KeyError, TypeError) as error:
        raise InputError(
            f"'{path}' has no '{key}', as `datasets` saves it. Save the data "
            "again, or move this file away."
        ) from error


def list_tables(path, split="train"):
    """List the images of one split of tables.

    The first column of images counts, that of labels is a `ClassLabel` or
    called label, and that of captions is called text, caption or prompt.

    Args:
        path: see `find_tables`.
        split: string, see `keras_simple_diffusion.data.open_data`.

    Returns:
        A `Listing`.

    Raises:
        InputError: if a file cannot be read, or has no images.
        MissingSplitError: if there is no such split.
    """
    found = find_tables(path)
    matching = matching_splits(split, found)
    if not matching:
        raise MissingSplitError(
            f"'{path}' has no split '{split}'. It has: {', '.join(found)}"
        )
    files = list(itertools.chain(*found.values()))
    names = dict(zip(files, names_of_shards(files), strict=True))
    tables = {
        each: Tables(path, {names[file]: file for file in own})
        for each, own in found.items()
    }
    container = tables[matching[0]]
    names = list(container.sizes)
    if not names:
        raise InputError(f"'{path}' holds no images: it has no rows.")
    labels, class_names = _read_labels(list(tables.values()), container)
    captions = _read_captions(container)
    labels = labels or [0] * len(names)
    return make_listing(container, names, labels, captions, class_names)


class Tables(Container):
    """The images of tables, called `FILE[ROW]`.

    Args:
        path: path of the dataset, for messages.
        files: dict from names of Parquet or Arrow files to their paths.

    Attributes:
        sizes: dict from names of images to the sizes of their files, since
            those of single images are not known.
    """

    def __init__(self, path, files):
        super().__init__(path)
        self._files = list(files.values())
        self._opened = {}
        self._lock = threading.Lock()
        self._groups = _Groups(path)
        self._places = {}
        self.schema = self._open(0).schema
        self._image = _find_image(self.schema, self._files[0])
        for number, (file_name, file) in enumerate(files.items()):
            opened, size = self._open(number), os.path.getsize(file)
            if opened.schema.names != self.schema.names:
                raise InputError(
                    f"'{file}' has other columns than '{self._files[0]}': "
                    f"{printable(', '.join(opened.schema.names))}."
                )
            for row in range(opened.num_rows):
                name = f"{file_name}[{row}]"
                self._places[name] = number, row
                self.sizes[name] = size

    def __getstate__(self):
        return {**self.__dict__, "_opened": {}, "_lock": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _lock=threading.Lock())

    def stamp(self, name):
        number, _ = self._places[name]
        return os.stat(self._files[number]).st_mtime_ns

    def read(self, name):
        number, row = self._places[name]
        with self._lock:  # The groups are shared.
            images, first = self._open(number).images(
                self._image, row, self._groups
            )
        content = images[row - first].as_py()
        if isinstance(content, dict):
            content = content["bytes"]
        if content is None:
            raise OSError("the table holds no bytes of it")
        return content

    def head(self, name):
        return self.read(name)[:64]

    def read_column(self, name):
        """Return the values of a column of all files, as a list."""
        values = []
        for number in range(len(self._files)):
            values += self._open(number).column(name)
        return values

    def _open(self, number):
        path = self._files[number]
        if number not in self._opened:
            self._opened[number] = _open_table(path)
        return self._opened[number]


def _open_table(path):
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError(
            f"'{path}' is read by pyarrow, which is not installed. Install it: "
            "pip install pyarrow"
        ) from None
    kind = _Parquet if path.endswith(".parquet") else _Arrow
    try:
        return kind(path)
    except FileNotFoundError as error:
        raise gone("file", path) from error
    except UNREADABLE as error:
        raise InputError(
            f"'{path}' cannot be read: {str(error).partition(chr(10))[0]}"
        ) from error


class _Arrow:
    """A file in Arrow's format for streams or files, mapped into memory."""

    def __init__(self, path):
        import pyarrow as pa

        mapped = pa.memory_map(path)
        is_file = mapped.read(6) == b"ARROW1"
        mapped.seek(0)
        open_ = pa.ipc.open_file if is_file else pa.ipc.open_stream
        self._table = open_(mapped).read_all()
        self.schema = self._table.schema
        self.num_rows = self._table.num_rows

    def column(self, name):
        return self._table.column(name).to_pylist()

    def images(self, name, row, groups):
        """Return images, and the row of the first."""
        return self._table.column(name), 0


class _Parquet:
    """A Parquet file, whose groups of rows are decoded as a whole."""

    def __init__(self, path):
        from pyarrow import parquet

        self._path = path
        self._file = parquet.ParquetFile(path)
        self.schema = self._file.schema_arrow
        facts = self._file.metadata
        self.num_rows = facts.num_rows
        lengths = (
            facts.row_group(i).num_rows for i in range(facts.num_row_groups)
        )
        self._starts = list(itertools.accumulate(lengths, initial=0))

    def column(self, name):
        return self._file.read([name]).column(0).to_pylist()

    def images(self, name, row, groups):
        """Return images, and the row of the first."""
        group = bisect.bisect_right(self._starts, row) - 1

        def read():
            return self._file.read_row_group(group, [name]).column(0)

        return groups.get((self._path, group), read), self._starts[group]


class _Groups:
    """Groups of rows, as many as fit into memory, the last used ones.

    Args:
        path: path of the dataset, for a warning.
    """

    def __init__(self, path):
        self._path = path
        self._kept = collections.OrderedDict()
        self._dropped = set()

    def __getstate__(self):
        return {"_path": self._path}

    def __setstate__(self, state):
        self.__init__(state["_path"])

    def get(self, key, read):
        """Return a group, read by a function unless it is kept."""
        if key not in self._kept:
            if key in self._dropped:
                self._warn()
            self._kept[key] = read()
            size = sum(group.nbytes for group in self._kept.values())
            while size > _MAX_KEPT and len(self._kept) > 1:
                old, group = self._kept.popitem(last=False)
                self._dropped.add(old)
                size -= group.nbytes
        self._kept.move_to_end(key)
        return self._kept[key]

    def _warn(self):
        self._dropped.clear()
        warnings.warn(
            f"The images of '{self._path}' do not fit into memory, and are "
            "decoded again in groups, of which training in random order needs "
            "one image each. `keras-simple-diffusion pack` makes a file that "
            "is read in any order.",
            stacklevel=2,
        )


# === Columns ===


def _features(schema):
    """Return the features that `datasets` has noted, a dict by column."""
    noted = (schema.metadata or {}).get(b"huggingface")
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return json.loads(noted)["info"]["features"]
    return {}


def _kind(feature):
    return feature.get("_type") if isinstance(feature, dict) else None


def _find_image(schema, path):
    import pyarrow as pa

    features = _features(schema)
    for field in schema:
        if _kind(features.get(field.name)) == "Image":
            return field.name
    for field in schema:
        is_binary = pa.types.is_binary(field.type)
        if is_binary or pa.types.is_large_binary(field.type):
            return field.name
        if pa.types.is_struct(field.type):
            if field.type.get_field_index("bytes") >= 0:
                return field.name
    raise InputError(
        f"'{path}' has no column of images, as bytes of files. It has: "
        f"{printable(', '.join(schema.names))}."
    )


def _read_labels(tables, container):
    """Return the labels of the rows and the names of the classes.

    Args:
        tables: list of `Tables`, those of all splits, whose classes are
            numbered together.
        container: the one of them whose labels are returned.
    """
    features = _features(container.schema)
    labelled = [k for k, v in features.items() if _kind(v) == "ClassLabel"]
    column = next(iter(labelled), None)
    if column is None:
        known = set(container.schema.names)
        column = next((name for name in _LABELS if name in known), None)
        if column is None:
            return None, None
    tables = [each for each in tables if column in each.schema.names]
    for each in tables:
        _check_single(each, column)
    values = container.read_column(column)
    for name, value in zip(container.sizes, values, strict=True):
        if _is_missing(value):
            raise InputError(
                f"'{container.path}' has images without a class, such as "
                f"{name}. Choose another split."
            )
    if labelled:
        names = list(features[column]["names"])
    else:
        found = {
            value
            for each in tables
            for value in each.read_column(column)
            if not _is_missing(value)
        }
        if all(isinstance(value, int) for value in found):
            names = range(_count_classes(container, column, max(found)))
            values = list(map(int, values))
        else:
            names = sorted(found, key=str)
            numbers = {name: number for number, name in enumerate(names)}
            values = [numbers[value] for value in values]
    for name, value in zip(container.sizes, values, strict=True):
        if not 0 <= value < len(names):
            raise InputError(
                f"{name} of '{container.path}' has the class {value}, of "
                f"{len(names)} classes that are numbered from 0. Correct the "
                f"column '{printable(column)}'."
            )
    return values, [printable(str(name)) for name in names]


def _check_single(table, column):
    import pyarrow as pa

    kind = table.schema.field(column).type
    if pa.types.is_nested(kind):
        raise InputError(
            f"The column '{printable(column)}' of '{table.path}' holds no "
            f"single class of each image, but a {kind}. Rename the column, to "
            "train without classes."
        )


def _is_missing(value):
    return value is None or value == -1 or value != value  # Not a number.


def _count_classes(container, column, last):
    if last >= _MAX_CLASSES:
        raise InputError(
            f"The column '{printable(column)}' of '{container.path}' holds "
            f"{last}, and classes are numbered from 0 to {_MAX_CLASSES - 1} at "
            "most. Rename the column, to train without classes."
        )
    return last + 1


def _read_captions(container):
    """Return a list of captions for each row, or `None`."""
    known = set(container.schema.names)
    column = next((name for name in _CAPTIONS if name in known), None)
    if column is None:
        return None
    captions = []
    for name, value in zip(
        container.sizes, container.read_column(column), strict=True
    ):
        texts = value if isinstance(value, list) else [value]
        texts = [plain_text(text) for text in texts if isinstance(text, str)]
        if not any(text.strip() for text in texts):
            raise InputError(f"{name} of '{container.path}' has no caption.")
        captions.append([text for text in texts if text.strip()])
    return captions
