"""Opening images by name: folders, zips, TensorFlow Datasets, packaged ones."""

import collections
import pathlib
import warnings

import numpy as np
from PIL import Image

from keras_simple_diffusion.data.decoding import Decoder
from keras_simple_diffusion.data.decoding import check_format
from keras_simple_diffusion.data.encoded_source import FileSource
from keras_simple_diffusion.data.folders import has_images
from keras_simple_diffusion.data.folders import list_images
from keras_simple_diffusion.data.formats import UNREADABLE
from keras_simple_diffusion.data.mixtures import MixedSource
from keras_simple_diffusion.data.remote import copy_here
from keras_simple_diffusion.data.remote import is_remote
from keras_simple_diffusion.data.sources import ArraySource
from keras_simple_diffusion.data.splits import MissingSplitError
from keras_simple_diffusion.data.tfds_source import TFDSSource
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import some_of

# Names of packaged data, before files and folders of the same names.
PACKAGED = ("digits", "vehicles")
_MIX = "mix:"
VEHICLES = pathlib.Path(__file__).parent / "vehicles" / "vehicles.zip"


def open_data(
    name,
    image_size,
    split="train",
    num_channels=3,
    crop="center",
    turn_portrait=False,
):
    """Open images by name, to be read and decoded one by one.

    The outermost folders inside a folder or zip are classes, in alphabetical
    order. If they are splits, such as `train` and `test`, one of them is
    opened; a class has the same number in each. Captions are read from
    `metadata.jsonl`, `.csv` or `.parquet` (`file_name`, `text`), or from a text
    file beside each image. Warnings name what is left out.

    Args:
        name: string. `"digits"` or `"vehicles"`, which are packaged; the path
            of a folder, zip or tars of images, of Parquet files, of what
            `datasets` has saved, or of the output of `pack`; `"tfds:NAME"`,
            `"tfds:NAME/CONFIG:VERSION"` of TensorFlow Datasets; or
            `"mix:NAME=3,NAME=1"` of several with weights, see `mix`. URLs such
            as `"gs://bucket/photos.array_record"` are copied once.
        image_size: int, or `(height, width)`.
        split: string. `"train"`, `"test"` for the held-out split of any name,
            or the name of a split. Defaults to `"train"`, which is everything
            if the data has no splits.
        num_channels: int. 3 for color or 1 for gray; the digits have one.
            Defaults to `3`.
        crop: string. Part of an image to keep if its shape is not the
            target's: `"center"`, or `"random"` for another part each time
            during training. Defaults to `"center"`.
        turn_portrait: bool. Whether to turn images that are higher than wide
            on their side, with `"portrait"` 1. The target must be wider than
            high. Defaults to `False`.

    Returns:
        An `ImageSource`: `len(source)`, and `source[i]` is a dict with
        `"images"` and, if the data has them, `"labels"`, `"captions"` and
        `"portrait"`.

    Raises:
        InputError: if the data does not exist or holds no images.
        MissingSplitError: if the data has no such split.

    Example:
    >>> source = keras_simple_diffusion.data.open_data("photos.zip", 64)
    >>> batches = keras_simple_diffusion.data.training_batches(source, 32)
    """
    if name in PACKAGED and pathlib.Path(name).exists():
        warnings.warn(
            f"'{name}' is the packaged data. The file or folder of this name "
            f"is './{name}'.",
            stacklevel=2,
        )
    if name == "digits":
        images, labels = load_digits(image_size, split)
        return ArraySource(images, labels, [str(digit) for digit in range(10)])
    options = (num_channels, crop, turn_portrait)
    if parts_of(name)[0]:
        return _open_mixture(name, image_size, split, *options)
    if is_remote(name):
        name = copy_here(name)
    decoder = Decoder(image_size, num_channels, turn_portrait)
    if str(name).startswith("tfds:"):
        return TFDSSource(name.removeprefix("tfds:"), split, decoder, crop)
    path = VEHICLES if name == "vehicles" else name
    if not str(name) or not has_images(path):
        raise InputError(
            f"There is no folder or zip file at '{name}'. Expected the path of "
            f"one, tfds:NAME, or packaged data: {', '.join(PACKAGED)}."
        )
    return FileSource(list_images(path, split), decoder, crop)


def _open_mixture(name, image_size, split, *options):
    """Open one split of several data, see `parts_of`."""
    parts, weights = parts_of(name)
    sources, known = [], []
    for part in parts:
        try:
            source = open_data(part, image_size, split, *options)
            sources.append(source)
        except MissingSplitError:
            # Its classes count: they have the same numbers in each split.
            source = open_data(part, image_size, "train", *options)
        known += source.class_names or []
    if not sources:
        raise MissingSplitError(f"None of '{name}' has a split '{split}'.")
    if split != "train":
        weights = None
    return MixedSource(sources, weights, list(dict.fromkeys(known)))


def parts_of(name):
    """Split the name of data into those that it mixes.

    Args:
        name: string, such as `"mix:photos/=3,drawings.zip=1"`.

    Returns:
        A tuple of a list of names and a list of weights; of `None` and `None`
        if it is no mixture.
    """
    if not str(name).startswith(_MIX):
        return None, None
    parts = [part.strip() for part in str(name).removeprefix(_MIX).split(",")]
    pairs = [part.rpartition("=") for part in parts]
    if all(sign and part for part, sign, _ in pairs):
        try:
            weights = [float(weight) for *_, weight in pairs]
        except ValueError:
            weights = None
        if weights is not None:
            return [part for part, *_ in pairs], weights
    if any(sign for _, sign, _ in pairs) or not all(parts):
        raise InputError(
            "A mixture is named like mix:photos/=3,drawings.zip=1, with a "
            f"weight for each or for none. Received: {name}"
        )
    return parts, None


def absolute_name(name):
    """Return the name of data with absolute paths."""
    parts, weights = parts_of(name)
    if parts is None:
        if name in PACKAGED or not has_images(name):
            return str(name)
        return str(pathlib.Path(name).resolve())
    parts = [absolute_name(part) for part in parts]
    if weights is not None:
        parts = [
            f"{part}={weight:g}"
            for part, weight in zip(parts, weights, strict=True)
        ]
    return _MIX + ",".join(parts)


def open_splits(
    name, image_size, num_channels=3, crop="center", turn_portrait=False
):
    """Open the training split and the held-out split, as far as they exist.

    Args:
        name: string, see `open_data`.
        image_size: int, or `(height, width)`.
        num_channels: int, see `open_data`. Defaults to `3`.
        crop: string, see `open_data`, for the training split. Held-out images
            are always cropped at the center. Defaults to `"center"`.
        turn_portrait: bool, see `open_data`. Defaults to `False`.

    Returns:
        A dict of `ImageSource`s with the keys `"train"` and `"test"`, or one
        of them.

    Raises:
        InputError: see `open_data`.
        MissingSplitError: if the data has neither split.
    """
    sources, error = {}, None
    for split, part in (("train", crop), ("test", "center")):
        try:
            sources[split] = open_data(
                name, image_size, split, num_channels, part, turn_portrait
            )
        except MissingSplitError as missing:
            error = error or missing
    if not sources:
        raise error
    return sources


Images = collections.namedtuple("Images", "images labels class_names")
Images.__doc__ = """Images in memory and their classes.

Args:
    images: `uint8` array of shape `(N, H, W, C)`.
    labels: int32 array of shape `(N,)`, or `None` without classes.
    class_names: list of strings, or `None` without classes.
"""


def load_images(path, image_size, split="train", num_channels=3):
    """Load a folder or zip of images into memory.

    `keras_simple_diffusion.data.open_data` reads images from disk instead;
    classes, splits and the treatment of an image are the same. A single
    enclosing top-level folder is ignored.

    Args:
        path: path of a folder or of a `.zip` file.
        image_size: int, or `(height, width)`.
        split: string, see `keras_simple_diffusion.data.open_data`. Defaults
            to `"train"`, which is everything if the data has no splits.
        num_channels: int. 3 for color or 1 for gray. Defaults to `3`.

    Returns:
        A named tuple `(images, labels, class_names)`: `uint8` of shape
        `(N, H, W, num_channels)`, int32 of shape `(N,)`, and a list of
        strings; the last two are `None` if there are no class folders.

    Raises:
        InputError: if no image can be read. Single unreadable images are
            skipped, with a warning that names them.

    Example:
    >>> images = keras_simple_diffusion.data.load_images("photos", 64)
    """
    decoder = Decoder(image_size, num_channels)
    source = FileSource(list_images(path, split), decoder)
    examples, broken = [], []
    for index in range(len(source)):
        try:
            examples.append(source.decode(index))
        except UNREADABLE:
            broken.append(source.name(index))
    if broken:
        if not examples:
            raise InputError(
                f"None of the {len(source)} images of '{path}' can be read: "
                f"{some_of(broken)}"
            )
        warnings.warn(
            f"{len(broken)} of {len(source)} images of '{path}' cannot be "
            f"read and are skipped: {some_of(broken)}",
            stacklevel=2,
        )
    images = np.stack([example["images"] for example in examples])
    if source.class_names is None:
        return Images(images, None, None)
    labels = np.stack([example["labels"] for example in examples])
    return Images(images, labels, source.class_names)


_SPLITS = ("all", "train", "test")


def _check_split(split):
    if split not in _SPLITS:
        raise InputError(
            f"`split` must be one of {_SPLITS}. Received: split={split!r}"
        )


def load_digits(image_size=32, split="all"):
    """Load the 1,797 handwritten digits of scikit-learn.

    The digits were scanned from forms of 43 people, at 8 x 8 pixels and 17
    levels (UCI "Optical Recognition of Handwritten Digits", CC BY 4.0). They
    are white on black, enlarged by bicubic interpolation.

    Args:
        image_size: int, or `(height, width)`, to resize to. Defaults to `32`.
        split: string. `"train"` (1,437 digits), `"test"` (360, the same
            share of each class) or `"all"`. Defaults to `"all"`.

    Returns:
        A tuple `(images, labels)` of NumPy arrays: `uint8` of shape
        `(N, height, width, 1)`, and int32 of shape `(N,)`.

    Example:
    >>> images, labels = keras_simple_diffusion.data.load_digits(32, "train")
    """
    _check_split(split)
    check_format(image_size, 1)
    # Slow to import, and not needed by the processes that read other data.
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    labels = digits.target.astype("int32")
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    height, width = image_size
    images = np.stack(
        [
            np.asarray(
                Image.fromarray(np.uint8(np.round(image * (255 / 16)))).resize(
                    (width, height), Image.Resampling.BICUBIC
                )
            )
            for image in digits.images
        ]
    )[..., None]
    if split == "all":
        return images, labels
    train, test = train_test_split(
        np.arange(len(labels)), test_size=360, stratify=labels, random_state=0
    )
    chosen = np.sort(train if split == "train" else test)
    return images[chosen], labels[chosen]


def load_vehicles(image_size=64, split="all"):
    """Load the packaged photographs of vehicles.

    They are four classes of Caltech-101 (Li, Andreeto, Ranzato and Perona, CC
    BY 4.0) as centre squares of 64 x 64 pixels: motorbikes, airplanes, cars
    from the side, which are gray, and ketches, which are sailing boats with two
    masts. `"vehicles"` opens them by name.

    Args:
        image_size: int, or `(height, width)`, to resize to. Defaults to `64`.
        split: string. `"train"` (620 photographs), `"test"`
            (297) or `"all"`. Defaults to `"all"`.

    Returns:
        A named tuple `(images, labels, class_names)`: `uint8` of shape
        `(N, height, width, 3)`, int32 of shape `(N,)`, and the list
        `["Motorbikes", "airplanes", "car_side", "ketch"]`.

    Raises:
        InputError: if `image_size` or `split` is invalid.

    Example:
    >>> images, labels, names = keras_simple_diffusion.data.load_vehicles()
    """
    _check_split(split)
    parts = [
        load_images(VEHICLES, image_size, part)
        for part in ("train", "test")
        if split in ("all", part)
    ]
    images, labels, class_names = zip(*parts, strict=True)
    return Images(
        np.concatenate(images), np.concatenate(labels), class_names[0]
    )
