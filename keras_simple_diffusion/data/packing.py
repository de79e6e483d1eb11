"""Packing of images into ArrayRecord files, which are read fast."""

import contextlib
import io
import json
import zlib

from PIL import Image

from keras_simple_diffusion.data import packed
from keras_simple_diffusion.data.encoded_source import EncodedSource
from keras_simple_diffusion.data.formats import UNREADABLE
from keras_simple_diffusion.data.formats import reason_of
from keras_simple_diffusion.data.formats import write_pixels
from keras_simple_diffusion.data.loading import open_splits
from keras_simple_diffusion.data.threads import map_in_threads
from keras_simple_diffusion.utils.bars import Bar
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_choice
from keras_simple_diffusion.utils.errors import check_integer
from keras_simple_diffusion.utils.files import locked_folder
from keras_simple_diffusion.utils.files import remove_folder
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.files import to_path
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.user_text import printable

_PER_FILE = 100_000
_PER_PART = 1024  # Images that are packed anew after an interruption.
_CHECKED_AT = 8  # Pixels at which files are decoded that stay as they are.
# Pixels hardly shrink by compression, and files not at all.
_OPTIONS = "group_size:1,uncompressed"


def _save(pixels, *args, **kwargs):
    file = io.BytesIO()
    image = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    Image.fromarray(image).save(file, *args, **kwargs)
    return file.getvalue()


ENCODINGS = {
    "pixels": write_pixels,
    "png": lambda pixels: _save(pixels, "PNG"),
    "jpeg": lambda pixels: _save(pixels, "JPEG", quality=95, subsampling=0),
}


def pack(data, output, image_size=None, encoding=None, num_files=None):
    """Pack images, labels and captions into ArrayRecord files.

    `keras_simple_diffusion.data.open_data` reads them by the name of the
    output, with the same splits, classes, captions and order. Every image is
    decoded once; those that cannot be read are left out. After an interruption
    a second call goes on.

    Args:
        data: string, see `keras_simple_diffusion.data.open_data`.
        output: path that ends in `.array_record`. Several files are
            `photos.array_record-00000-of-00002` and so on.
        image_size: int or `(height, width)`: images are cut and resized to
            this size, as by `open_data`. Defaults to `None`: files are packed
            as they are, and can be read at any size.
        encoding: string. How images of `image_size` are stored: `"pixels"`,
            which is the fastest to read, `"png"`, or `"jpeg"` of quality 95,
            which changes them slightly. Defaults to `"pixels"`.
        num_files: int. Defaults to one file for each 100,000 images.

    Returns:
        A tuple: the number of packed images, and a dict from the names of the
        others to the reasons.

    Raises:
        InputError: if the data cannot be read or is a mixture with weights, or
            the output exists and holds anything else.

    Example:
    >>> path = "photos.array_record"
    >>> counts = keras_simple_diffusion.data.pack("photos.zip", path)
    >>> source = keras_simple_diffusion.data.open_data(path, 64)
    """
    output = to_path(output)
    if output.suffix != packed.SUFFIX:
        raise InputError(
            "`output` must be a name such as photos.array_record. Received: "
            f"output={str(output)!r}"
        )
    if image_size is None and encoding is not None:
        raise InputError(
            "`encoding` is that of images of one size: set `image_size` too. "
            f"Received: encoding={encoding!r}"
        )
    if image_size is not None:
        encoding = check_choice("encoding", encoding or "pixels", ENCODINGS)
    sources = open_splits(data, image_size or _CHECKED_AT)
    _check_sources(sources, data, image_size)
    total = sum(map(len, sources.values()))
    if check_integer("num_files", num_files, optional=True) is None:
        num_files = -(-total // _PER_FILE)
    work = _Work(sources, output, encoding, min(num_files, total))
    work.check_images()
    with locked_folder(work.folder):
        work.check_output()
        with Bar("packing", total) as bar:
            for number in range(work.num_files):
                work.write_file(number, bar)
    remove_folder(work.folder)
    return work.num_packed, work.broken


def _check_sources(sources, data, image_size):
    is_encoded = all(isinstance(s, EncodedSource) for s in sources.values())
    if image_size is None and not is_encoded:
        raise InputError(
            f"'{data}' are arrays, not files. Set `image_size`, the size to "
            "pack them at."
        )
    if any(source.mixture is not None for source in sources.values()):
        raise InputError(
            f"'{data}' has weights, which packed images do not keep. Pack each "
            "part, and mix the packed ones: mix:a.array_record=3,"
            "b.array_record=1."
        )


class _Work:
    """The images to pack, and the folder of what is packed so far."""

    def __init__(self, sources, output, encoding, num_files):
        self.sources = sources
        self.output = output
        self.encoding = encoding
        self.num_files = num_files
        self.folder = output.with_name(f"{output.name}.parts")
        self.images = [
            (split, index)
            for split, source in sources.items()
            for index in range(len(source))
        ]
        facts = [packed.FORMAT, encoding, num_files]
        for split, source in sources.items():
            content = source.content_digest()
            facts += [split, len(source), source.image_shape, content]
        self.key = sha256(json.dumps(facts))
        self.num_packed = 0
        self.broken = {}

    def check_images(self):
        """Raise an `InputError` if none of the images can be read."""
        first = None
        for image in self.images:
            entry, _, _ = self._read(image)
            if "broken" not in entry:
                return
            first = first or entry
        raise InputError(
            f"None of the {len(self.images)} images can be read, such as "
            f"'{printable(first['names'])}' ({first['broken']})."
        )

    def check_output(self):
        """Raise an `InputError` if the output holds anything else."""
        for files in packed.existing_files(self.output).values():
            for path in files.values():
                if not self._is_done(path):
                    raise InputError(
                        f"'{path}' holds something else already. Choose "
                        "another output, or remove it."
                    )

    def write_file(self, number, bar):
        """Write one of the files, unless it is there."""
        path = packed.file_name(self.output, number, self.num_files)
        first, last = (
            len(self.images) * each // self.num_files
            for each in (number, number + 1)
        )
        if not self._is_done(path):
            parts = []
            for start in range(first, last, _PER_PART):
                images = self.images[start : min(start + _PER_PART, last)]
                parts.append(self._write_part(start, images))
                bar.reach(start)
            self._join(parts, path)
            for part in parts:
                part.unlink()
        bar.reach(last)
        index = packed.read_index(packed.open_reader(path), path)
        for columns in index["splits"].values():
            self.num_packed += len(columns["names"])
        self.broken |= index["broken"]

    def _is_done(self, path):
        try:
            index = packed.read_index(packed.open_reader(path), path)
        except InputError:
            return False
        return index["key"] == self.key

    def _write_part(self, start, images):
        """Pack some images, unless they are packed; return the file."""
        path = self.folder / f"{self.key[:16]}-{start:09}{packed.SUFFIX}"
        if path.exists():
            return path
        entries = []
        with whole_file(path) as draft, _writer(draft) as writer:
            for content, entry in map_in_threads(self._pack, images):
                entries.append(entry)
                if content is not None:
                    writer.write(content)
            writer.write(json.dumps(entries).encode())
        return path

    def _pack(self, image):
        """Return the bytes of an image and its facts.

        The bytes are `None` if it cannot be read.
        """
        entry, content, pixels = self._read(image)
        if "broken" in entry:
            return None, entry
        if self.encoding is not None:
            if (pixels == pixels[..., :1]).all():
                pixels = pixels[..., :1]
            content = ENCODINGS[self.encoding](pixels)
        entry["sizes"] = len(content)
        entry["checksums"] = zlib.crc32(content)
        return content, entry

    def _read(self, image):
        """Return the facts of an image, its file or `None`, and its pixels.

        If it cannot be read, the facts have the reason, as `"broken"`.
        """
        split, index = image
        source = self.sources[split]
        entry, content = {"split": split}, None
        try:
            if isinstance(source, EncodedSource):
                entry["names"] = source.name(index)
                content, label, captions = source.record(index)
                pixels = source.decoder(content)["images"]
            else:
                entry["names"] = f"{split}/{index}"
                example = source[index]
                pixels, label = example["images"], example.get("labels")
                captions = example.get("captions")
                captions = None if captions is None else [str(captions)]
        except InputError:
            raise
        except UNREADABLE as error:
            return {**entry, "broken": reason_of(error)}, None, None
        entry["labels"] = None if label is None else int(label)
        entry["captions"] = captions
        return entry, content, pixels

    def _join(self, parts, path):
        """Join parts to a file, with an index at the end."""
        entries = []
        with whole_file(path) as draft, _writer(draft) as writer:
            for part in parts:
                reader = packed.open_reader(part)
                count = reader.num_records() - 1
                for position in range(count):
                    writer.write(reader.read([position])[0])
                entries += json.loads(reader.read([count])[0])
            writer.write(json.dumps(self._index(entries)).encode())

    def _index(self, entries):
        splits, broken = {}, {}
        for entry in entries:
            if "broken" in entry:
                broken[entry["names"]] = entry["broken"]
                continue
            columns = splits.setdefault(
                entry["split"], {column: [] for column in packed.COLUMNS}
            )
            for column, values in columns.items():
                values.append(entry[column])
        for columns in splits.values():
            for column in ("labels", "captions"):
                if None in columns[column]:
                    columns[column] = None
        return {
            "format": packed.FORMAT,
            "key": self.key,
            "encoding": self.encoding,
            "class_names": next(iter(self.sources.values())).class_names,
            "splits": splits,
            "broken": broken,
        }


@contextlib.contextmanager
def _writer(path):
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(str(path), _OPTIONS)
    try:
        yield writer
    finally:
        writer.close()
