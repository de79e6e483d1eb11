"""TensorFlow Datasets by name; TensorFlow itself is not needed."""

import difflib
import hashlib
import json
import pathlib
import struct

import numpy as np

from keras_simple_diffusion.backend.keras_internals import (
    dataset_not_found_error,
)
from keras_simple_diffusion.data.encoded_source import EncodedSource
from keras_simple_diffusion.data.splits import MissingSplitError
from keras_simple_diffusion.data.splits import matching_splits
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file

_FORMAT = "array_record"  # It can be read in any order.
_CAPTIONS = ("caption", "captions", "text")


class TFDSSource(EncodedSource):
    """A source of the images of a TensorFlow Dataset.

    An example consists of the first `Image` feature, the first `ClassLabel`
    and the text feature named caption, captions or text. A missing dataset is
    downloaded and prepared. TFRecord files have no random access, so they are
    converted once to ArrayRecord files in the same folder.

    Args:
        name: string, `"NAME"`, `"NAME/CONFIG"` or `"NAME/CONFIG:VERSION"`.
        split: string, see `keras_simple_diffusion.data.open_data`.
        decoder: a `Decoder`.
        crop: string, see `EncodedSource`. Defaults to `"center"`.
    """

    def __init__(self, name, split, decoder, crop="center"):
        import tensorflow_datasets as tfds

        builder = _prepared_builder(name)
        features = builder.info.features
        if not isinstance(features, tfds.features.FeaturesDict):
            raise InputError(
                f"The examples of 'tfds:{name}' have no named features."
            )
        self._image = _first(features, tfds.features.Image)
        self._label = _first(features, tfds.features.ClassLabel)
        self._caption = next(
            (key for key in _CAPTIONS if _is_text(features, key)), None
        )
        if self._image is None:
            raise InputError(
                f"The dataset 'tfds:{name}' has no images. It has: "
                f"{', '.join(features)}"
            )
        self.split = self._choose_split(builder, name, split)
        self._records = self._open(builder, self.split)
        info = builder.info.splits.get(self.split)
        size = info.num_bytes if info else None
        content = (builder.info.full_name, self.split, len(self), size)
        super().__init__(
            f"tfds:{name}",
            decoder,
            crop,
            self._label and features[self._label].names,
            hashlib.sha256(repr(content).encode()).hexdigest()[:16],
        )

    def __len__(self):
        return len(self._records)

    def name(self, index):
        return f"{self.split}[{index}]"

    @property
    def has_captions(self):
        return self._caption is not None

    def captions(self):
        if self._caption is None:
            return None
        return [
            text
            for index in range(len(self))
            for text in self._captions_of(self._records[index])
        ]

    def record(self, index):
        example = self._records[index]
        label = None if self._label is None else int(example[self._label])
        if label is not None and label < 0:
            raise InputError(
                f"'{self.place}' has images without a class, such as "
                f"{self.name(index)}. Choose another split."
            )
        captions = None
        if self._caption is not None:
            captions = self._captions_of(example)
        return example[self._image], label, captions

    def _captions_of(self, example):
        texts = example[self._caption]
        if isinstance(texts, dict):
            texts = texts["text"]
        return [
            bytes(text).decode(errors="replace") for text in np.ravel(texts)
        ]

    def _open(self, builder, split):
        import tensorflow_datasets as tfds

        skip = {self._image: tfds.decode.SkipDecoding()}
        try:
            records = builder.as_data_source(split=split, decoders=skip)
            is_empty = not len(records) or not records[0]
        except Exception as error:  # Of files that are gone, of any kind.
            raise InputError(
                f"The split '{split}' of 'tfds:{builder.info.full_name}' "
                f"cannot be read: {_line_of(error)}"
            ) from error
        if is_empty:
            raise InputError(
                f"The split '{split}' of 'tfds:{builder.info.full_name}' is "
                "empty."
            )
        return records

    def _choose_split(self, builder, name, split):
        splits = builder.info.splits
        # A mocked dataset does not know its splits.
        for candidate in matching_splits(split, splits or [split]):
            # Some test splits are published without their classes.
            first = self._open(builder, candidate)[0]
            if self._label is None or first[self._label] >= 0:
                return candidate
        raise MissingSplitError(
            f"'tfds:{name}' has no split '{split}'. It has: {', '.join(splits)}"
        )


def _first(features, kind):
    keys = (key for key, each in features.items() if isinstance(each, kind))
    return next(keys, None)


def _is_text(features, key):
    """Return whether a feature is there and holds one or several texts."""
    dtype = features[key].np_dtype if key in features else None
    if isinstance(dtype, dict):
        dtype = dtype.get("text")
    return dtype is not None and np.dtype(dtype) == object


def _prepared_builder(name):
    """The dataset's builder, with files that can be read in any order."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except dataset_not_found_error() as error:
        base = name.split("/")[0].split(":")[0]
        close = difflib.get_close_matches(base, tfds.list_builders(), n=3)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise InputError(
            f"TensorFlow Datasets has no dataset '{name}'. {hint}See "
            "https://www.tensorflow.org/datasets/catalog."
        ) from error
    except (AssertionError, ValueError) as error:
        raise InputError(
            f"The dataset 'tfds:{name}' cannot be opened: {_line_of(error)}"
        ) from error
    if not builder.is_prepared():
        print(f"preparing 'tfds:{name}' in {builder.data_path} ...")
        try:
            builder.download_and_prepare(file_format=_FORMAT)
        except Exception as error:  # Of the dataset's own code, of any kind.
            raise InputError(
                f"The dataset 'tfds:{name}' cannot be prepared: "
                f"{_line_of(error)}"
            ) from error
        return builder
    formats = {each.value for each in builder.info.available_file_formats()}
    if formats & {"array_record", "parquet"}:
        return builder
    if "tfrecord" not in formats:
        raise InputError(
            f"The dataset 'tfds:{name}' was prepared as "
            f"{', '.join(sorted(formats))}, which cannot be read in any order. "
            f"Prepare it with `file_format={_FORMAT!r}`."
        )
    print(f"converting 'tfds:{name}' to {_FORMAT} in {builder.data_path} ...")
    _convert(builder)
    return tfds.builder(name)


def _convert(builder):
    """Copy the records of TFRecord files into ArrayRecord files, unchanged."""
    from array_record.python import array_record_module

    for split in builder.info.splits.values():
        for path in map(pathlib.Path, split.filepaths):
            target = path.name.replace(".tfrecord", f".{_FORMAT}")
            with whole_file(path.with_name(target)) as draft:
                writer = array_record_module.ArrayRecordWriter(
                    str(draft), "group_size:1"
                )
                for record in _tfrecords(path):
                    writer.write(record)
                writer.close()
    path = pathlib.Path(builder.data_path) / "dataset_info.json"
    info = json.loads(path.read_text())
    info.setdefault("alternativeFileFormats", []).append(_FORMAT)
    with whole_file(path) as draft:
        draft.write_text(json.dumps(info, indent=2))


def _tfrecords(path):
    """Records of a TFRecord file: length, checksum, content, checksum."""
    with path.open("rb") as file:
        while header := file.read(12):
            (length,) = struct.unpack("<Q", header[:8])
            record = file.read(length)
            if len(record) < length or len(file.read(4)) < 4:
                raise InputError(
                    f"'{path}' is cut off. Remove its folder, and prepare the "
                    "dataset again."
                )
            yield record


def _line_of(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
