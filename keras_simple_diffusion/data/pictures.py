import collections
import io
import pathlib
import warnings
import zipfile
import zlib

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
# Names of the folders of a split, by what `split` asks for.
_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "val", "valid", "validation", "eval"),
}
_UNREADABLE = (
    EOFError,
    Image.DecompressionBombError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
_MAX_NAMED = 10


def load_pictures(path, image_size, split="train", num_channels=3):
    """Load a folder or zip of pictures into memory.

    Folders inside it are classes, in alphabetical order. Where the outermost
    folders are splits, such as `train` and `test`, one of them is taken; a
    class has the same number in each. A folder that holds all of it counts
    for nothing.
    Pictures are turned upright, cropped to the target's shape around the
    centre and resized with antialiasing; transparent ones are laid on white
    and 16-bit ones scaled to 8.

    Args:
        path: path of a folder or of a `.zip` file.
        image_size: int, or `(height, width)`.
        split: string. The split to take: `"train"`, or `"test"` for the
            held-out one whatever its folder is called, or the folder's name.
            Defaults to `"train"`, which is everything where there are none.
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
    check_format(image_size, num_channels)
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(f"There is no folder or zip file at '{path}'.")
    source = _open_source(path)
    names = sorted(name for name in source.names() if _is_picture(name))
    if not names:
        raise InputError(
            f"'{path}' holds no pictures. Expected files ending in "
            f"{', '.join(sorted(_SUFFIXES))}, in one folder a class or all in "
            "one folder."
        )
    names, classes = _take_split(names, split, path)
    class_names = sorted(set(classes))
    if "" in class_names and len(class_names) > 1:
        raise InputError(
            f"'{path}' holds pictures both inside and outside of class "
            f"folders, such as '{names[classes.index('')]}'. Move them into "
            "class folders, or all out of them."
        )
    chosen = [
        (name, class_name)
        for name, class_name in zip(names, classes, strict=True)
        if name is not None
    ]
    images, labels, broken = [], [], []
    for name, class_name in chosen:
        try:
            images.append(decode(source.read(name), image_size, num_channels))
            labels.append(class_names.index(class_name))
        except _UNREADABLE:
            broken.append(name)
    if broken:
        listed = ", ".join(broken[:_MAX_NAMED])
        if len(broken) > _MAX_NAMED:
            listed += f" and {len(broken) - _MAX_NAMED} more"
        if not images:
            raise InputError(
                f"None of the {len(chosen)} pictures of '{path}' can be read: "
                f"{listed}"
            )
        warnings.warn(
            f"{len(broken)} of {len(chosen)} pictures of '{path}' cannot be "
            f"read and are skipped: {listed}",
            stacklevel=2,
        )
    if class_names == [""]:
        return Pictures(np.stack(images), None, None)
    return Pictures(np.stack(images), np.array(labels, "int32"), class_names)


class MissingSplitError(InputError):
    """There is no such split in the data."""


def check_format(image_size, num_channels):
    """Raise an `InputError` unless pictures can have this format."""
    sizes = (image_size,) if isinstance(image_size, int) else image_size
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InputError(
            "`image_size` must be a positive size in pixels, or a `(height, "
            f"width)` pair. Received: image_size={image_size}"
        )
    if num_channels not in (1, 3):
        raise InputError(
            "Pictures are loaded with 1 or 3 channels. Received: "
            f"num_channels={num_channels}"
        )


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
    """Names of one split's pictures, and the classes of all splits'.

    Returns:
        Two lists of the same length: names, `None` for pictures of other
        splits, and class names, `""` outside of class folders.
    """
    parts = _without_common_folder([name.split("/") for name in names])
    folders = {part[0] for part in parts if len(part) > 1}
    known = {alias for aliases in _SPLITS.values() for alias in aliases}
    if not folders or not folders <= known:
        if split != "train":
            raise MissingSplitError(
                f"'{path}' has no splits, so no '{split}' either. Expected "
                "outermost folders such as train and test."
            )
        return names, [_class_of(part) for part in parts]
    candidates = (split, *_SPLITS.get(split, ()))
    folder = next((name for name in candidates if name in folders), None)
    if folder is None:
        raise MissingSplitError(
            f"'{path}' has no split '{split}'. It has: "
            f"{', '.join(sorted(folders))}"
        )
    taken = [
        name if part[0] == folder else None
        for name, part in zip(names, parts, strict=True)
    ]
    inside = [part[1:] if len(part) > 1 else part for part in parts]
    return taken, [_class_of(part) for part in _without_common_folder(inside)]


def _class_of(parts):
    return parts[0] if len(parts) > 1 else ""


def _without_common_folder(parts):
    """Drop a leading folder that all names share, unless it is a split."""
    known = {alias for aliases in _SPLITS.values() for alias in aliases}
    while len({part[0] for part in parts}) == 1 and len(parts[0]) > 1:
        if parts[0][0] in known:
            break
        parts = [part[1:] for part in parts]
    return parts
