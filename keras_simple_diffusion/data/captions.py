"""Captions of the images of a folder or zip, from metadata or text files."""

import collections
import csv
import io
import json
import math
import posixpath
import re
import reprlib
import warnings

from keras_simple_diffusion.data.containers import plain_path
from keras_simple_diffusion.data.formats import UNREADABLE
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import decode_text
from keras_simple_diffusion.utils.user_text import plain_text
from keras_simple_diffusion.utils.user_text import printable

_FILE_COLUMNS = ("file_name", "image_file_name", "filename", "image")
# The first of these that a row has is its caption.
_TEXT_COLUMNS = (
    "text",
    "caption",
    "captions",
    "prompt",
    "description",
    "label",
)
SIDECARS = (".txt", ".caption")
_JSON_KEYS = ("caption", "captions", "prompt")
_NOT_WORDS = re.compile(r"[\d\s.,:;eE+-]*")  # Such as boxes of objects.
_MAX_PARQUET = 2**31  # Bytes of the columns that are read.


def read_captions(container, images):
    """Read the captions of images.

    Rows of `metadata.jsonl`, `metadata.csv` and `metadata.parquet` name an
    image, relative to the file, and its caption; a list of texts, or several
    rows, are several captions. An image without one has the lines of the text
    file of its name, such as `1.txt` beside `1.png`, or else the `caption` or
    `prompt` of the JSON object in `1.json`.

    Args:
        container: a `Container`.
        images: list of the images' names.

    Returns:
        A tuple of a dict from names to lists of texts, and the set of the
        files that were read.

    Raises:
        InputError: if a file is damaged, or names no image.
    """
    captions = collections.defaultdict(list)
    known, read = set(images), set()
    for name in sorted(container.sizes):
        reader = _READERS.get(posixpath.basename(name).lower())
        if reader is not None:
            read.add(name)
            for image, texts in _read_metadata(container, name, reader, known):
                captions[image] += texts
    for image in images:
        stem, _ = posixpath.splitext(image)
        for name in (stem + suffix for suffix in SIDECARS):
            if name in container.sizes and image not in captions:
                texts = _read_sidecar(container, name)
                if texts:
                    captions[image] += texts
                    read.add(name)
        # WebDataset's tools write one beside each image, mostly for captions.
        if (name := f"{stem}.json") in container.sizes:
            read.add(name)
            if image not in captions:
                captions[image] += _read_json(container, name)
    captions = {image: texts for image, texts in captions.items() if texts}
    return captions, read


def _read_metadata(container, name, reader, known):
    """Yield the images of a metadata file with their captions."""
    where = f"'{printable(name)}' of '{container.path}'"
    folder, missing, columns, found = posixpath.dirname(name), [], {}, 0
    used = False
    for number, row in reader(_content(container, name, where), where):
        row = {str(key).strip().casefold(): v for key, v in row.items()}
        columns.update(dict.fromkeys(row))
        key = next((n for n in _FILE_COLUMNS if _is_name(row.get(n))), None)
        if key is None:
            raise InputError(
                f"{where} has no `file_name` in line {number}. Expected "
                "`file_name`, relative to it, and `text`."
            )
        image = _image_path(container, folder, str(row[key]))
        if image not in known:
            missing.append(str(row[key]))
            continue
        found += 1
        column, texts = None, []
        for column in (each for each in _TEXT_COLUMNS if each in row):
            texts = _texts(row[column], where, number)
            if texts:
                break
        if column == "label" and all(map(_NOT_WORDS.fullmatch, texts)):
            continue  # Numbers of classes.
        if texts:
            used = True
            yield image, texts
    if missing and found:
        warnings.warn(
            f"{len(missing)} row{'s' * (len(missing) > 1)} of {where} name no "
            f"image that is here, such as '{missing[0]}'.",
            stacklevel=4,
        )
    elif missing:
        raise InputError(
            f"{where} names none of the {len(known)} images, such as "
            f"'{min(known)}'. It names '{missing[0]}'. Expected paths relative "
            "to it."
        )
    if not used:
        warnings.warn(
            f"{where} has no captions, and is not used. Expected a column "
            "`text`, `caption` or `prompt`; classes are folders. "
            f"{_describe(columns)}",
            stacklevel=4,
        )
    if "split" in columns:
        warnings.warn(
            f"The column `split` of {where} is not used. Splits are folders, "
            "such as train and test.",
            stacklevel=4,
        )


def _describe(columns):
    """Say what a metadata file without captions has instead."""
    if not columns:
        return "It has no rows."
    for name in _TEXT_COLUMNS:
        if name in columns:
            kind = "only numbers" if name == "label" else "no text"
            return f"Its column `{name}` holds {kind}."
    return f"Its columns are {printable(', '.join(columns))}."


def _is_name(value):
    return isinstance(value, str | int) and value != ""


def _image_path(container, folder, name):
    root = f"{container.path.absolute().as_posix()}/"
    name = name.replace("\\", "/")
    if name.startswith(root):
        return plain_path(name.removeprefix(root))
    return plain_path(posixpath.join(folder, name.lstrip("/")))


def _texts(value, where, number):
    values = value if isinstance(value, list | tuple) else [value]
    texts = []
    for each in values:
        if each is None or (isinstance(each, float) and math.isnan(each)):
            continue
        if not isinstance(each, str | int | float):
            raise InputError(
                f"The caption in line {number} of {where} is neither text nor "
                f"a list of texts: {reprlib.repr(each)}."
            )
        texts.append(plain_text(str(each)))
    return [text for text in texts if text.strip()]


def _json_rows(content, where):
    # JSON escapes line feeds; other line separators may be part of a text.
    for number, line in enumerate(decode_text(content, where).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"Line {number} of {where} is no JSON: {error}."
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"Line {number} of {where} is no JSON object. Expected "
                '{"file_name": "1.png", "text": "..."}.'
            )
        yield number, row


def _csv_rows(content, where):
    text = decode_text(content, where)
    # Spreadsheets separate by the sign that the country's settings name, and
    # may say so in a first line.
    stated = re.match(r"sep=(.)\r?\n", text)
    text = text[stated.end() :] if stated else text
    separator = stated[1] if stated else _separator(text)
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True
    )
    try:
        for row in reader:
            if None in row:
                raise InputError(
                    f"Line {reader.line_num} of {where} has more cells than "
                    f"the first line. Quote texts that contain '{separator}'."
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(
            f"Line {reader.line_num} of {where} is no CSV: {error}."
        ) from error


def _separator(text):
    header = text.lstrip().partition("\n")[0].casefold()
    for separator in ",;\t|":
        cells = {cell.strip(' "\r') for cell in header.split(separator)}
        if cells & set(_FILE_COLUMNS) and len(cells) > 1:
            return separator
    return ","


def _parquet_rows(content, where):
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            f"{where} is read by pyarrow, which is not installed. Install it, "
            "or write metadata.jsonl."
        ) from None
    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        # Not the images that such files may hold as well.
        used = {*_FILE_COLUMNS, *_TEXT_COLUMNS, "split"}
        columns = [
            name
            for name in file.schema_arrow.names
            if name.strip().casefold() in used
        ]
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        if sum(each.total_byte_size for each in groups) > _MAX_PARQUET:
            raise InputError(
                f"{where} holds more than {_MAX_PARQUET // 2**30} GiB. Write "
                "metadata.jsonl with the names and captions only."
            )
        rows = file.read(columns).to_pylist()
    except InputError:
        raise
    except Exception as error:  # Of pyarrow, of any kind.
        raise InputError(f"{where} is no Parquet file: {error}") from error
    yield from enumerate(rows, 1)


def _read_sidecar(container, name):
    # One name for all, so that they cause one warning.
    where = f"The text files beside the images of '{container.path}'"
    content = _content(container, name, f"'{printable(name)}'")
    lines = re.split("[\r\n]", decode_text(content, where))
    lines = [line.strip() for line in lines if line.strip()]
    return [] if all(map(_NOT_WORDS.fullmatch, lines)) else lines


def _read_json(container, name):
    where = f"'{printable(name)}' of '{container.path}'"
    try:
        row = json.loads(decode_text(_content(container, name, where), where))
    except (ValueError, RecursionError):
        return []  # Of a program that means something else by it.
    if not isinstance(row, dict):
        return []
    found = (row[key] for key in _JSON_KEYS if row.get(key))
    texts = next(found, [])
    texts = [texts] if isinstance(texts, str) else texts
    is_text = isinstance(texts, list) and all(isinstance(t, str) for t in texts)
    return _texts(texts, where, 1) if is_text else []


def _content(container, name, where):
    try:
        return container.read(name)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{where} cannot be read: {error}") from error


_READERS = {
    "metadata.jsonl": _json_rows,
    "metadata.csv": _csv_rows,
    "metadata.parquet": _parquet_rows,
}
