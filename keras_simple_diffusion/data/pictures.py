import collections
import io
import pathlib
import warnings
import zipfile

import numpy as np
from PIL import Image
from PIL import ImageOps

from keras_simple_diffusion.utils.errors import InputError

Pictures = collections.namedtuple("Pictures", "images labels class_names")
Pictures.__doc__ = """Pictures in memory, with their classes.

Args:
    images: `uint8` array of shape `(N, H, W, C)`.
    labels: int32 array of shape `(N,)`, or `None` without classes.
    class_names: list of strings, or `None` without classes.
"""

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_SPLITS = {"train", "training", "test", "val", "valid", "validation", "eval"}
_MAX_NAMED = 10


def load_pictures(path, image_size, split=None, num_channels=3):
    """Load a folder or zip of pictures into memory.

    Folders inside it are classes, in alphabetical order. Where the outermost
    folders are splits, such as `train` and `test`, one of them is taken.
    Pictures are turned upright, cropped to the target's shape around the
    centre and resized with antialiasing; transparent ones are laid on white
    and 16-bit ones scaled to 8.

    Args:
        path: path of a folder or of a `.zip` file.
        image_size: int, or `(height, width)`.
        split: string or `None`. The split to take. `None` takes `"train"`
            where there are splits. Defaults to `None`.
        num_channels: int. 3 for colour or 1 for grey. Defaults to `3`.

    Returns:
        A named tuple `(images, labels, class_names)`: `uint8` of shape
        `(N, H, W, num_channels)`, int32 of shape `(N,)`, and a list of
        strings; the last two are `None` if there are no class folders.

    Raises:
        InputError: if there is no readable picture. A few unreadable ones
            are skipped, with a warning that names them.

    Example:
    >>> pictures = keras_simple_diffusion.data.load_pictures("photos", 64)
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(f"There is no folder or zip file at '{path}'.")
    source = _open_source(path)
    names = [name for name in source.names() if _is_picture(name)]
    names = _take_split(sorted(names), split, path)
    if not names:
        raise InputError(
            f"'{path}' holds no pictures. Expected files ending in "
            f"{', '.join(sorted(_SUFFIXES))}, in one folder a class or all in "
            "one folder."
        )
    classes = [pathlib.PurePosixPath(name).parent.name for name, _ in names]
    class_names = sorted(set(classes))
    if "" in class_names and len(class_names) > 1:
        raise InputError(
            f"'{path}' holds pictures both inside and outside of class "
            f"folders, such as '{names[classes.index('')][1]}'. Move them into "
            "class folders, or all out of them."
        )
    images, labels, broken = [], [], []
    for (_, name), class_name in zip(names, classes, strict=True):
        try:
            images.append(decode(source.read(name), image_size, num_channels))
            labels.append(class_names.index(class_name))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            broken.append(name)
    if broken:
        listed = ", ".join(broken[:_MAX_NAMED])
        if len(broken) > _MAX_NAMED:
            listed += f" and {len(broken) - _MAX_NAMED} more"
        if not images:
            raise InputError(
                f"None of the {len(names)} pictures of '{path}' can be read: "
                f"{listed}"
            )
        warnings.warn(
            f"{len(broken)} of {len(names)} pictures of '{path}' cannot be "
            f"read and are skipped: {listed}",
            stacklevel=2,
        )
    if class_names == [""]:
        return Pictures(np.stack(images), None, None)
    return Pictures(np.stack(images), np.array(labels, "int32"), class_names)


def decode(content, image_size, num_channels):
    """Decode one picture file to a `uint8` array of the shape wanted.

    Args:
        content: bytes of the file.
        image_size: int, or `(height, width)`.
        num_channels: int. 3 or 1.

    Returns:
        A `uint8` array of shape `(height, width, num_channels)`.
    """
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    height, width = image_size
    with Image.open(io.BytesIO(content)) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            grey = np.asarray(image, "float32") / 257.0
            image = Image.fromarray(np.uint8(np.clip(grey, 0, 255)))
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        image = image.convert("L" if num_channels == 1 else "RGB")
        image = _crop(image, height / width)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image, "uint8").reshape(height, width, num_channels)


def _crop(image, aspect):
    """The largest central part with this height over width."""
    width = min(image.width, round(image.height / aspect))
    height = min(image.height, round(image.width * aspect))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


class _Folder:
    def __init__(self, path):
        self.path = path

    def names(self):
        files = (file for file in self.path.rglob("*") if file.is_file())
        return [file.relative_to(self.path).as_posix() for file in files]

    def read(self, name):
        return (self.path / name).read_bytes()


class _Zip:
    def __init__(self, path):
        try:
            self.file = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise InputError(
                f"'{path}' is not a readable zip file: {error}."
            ) from error

    def names(self):
        return [i.filename for i in self.file.infolist() if not i.is_dir()]

    def read(self, name):
        return self.file.read(name)


def _open_source(path):
    return _Folder(path) if path.is_dir() else _Zip(path)


def _is_picture(name):
    path = pathlib.PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in _SUFFIXES and not hidden


def _take_split(names, split, path):
    """Pairs of the name below the split, and the whole name."""
    paths = [pathlib.PurePosixPath(name) for name in names]
    splits = sorted({p.parts[0] for p in paths if len(p.parts) > 1})
    if not splits or not set(splits) <= _SPLITS:
        if split not in (None, "train"):
            raise InputError(
                f"'{path}' has no splits, so no '{split}' either. Expected "
                f"outermost folders such as train and test."
            )
        return [(name, name) for name in names]
    split = split or "train"
    if split not in splits:
        raise InputError(
            f"'{path}' has no split '{split}'. It has: {', '.join(splits)}"
        )
    return [
        (p.relative_to(split).as_posix(), name)
        for p, name in zip(paths, names, strict=True)
        if p.parts[0] == split
    ]
