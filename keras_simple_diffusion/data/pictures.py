import collections
import warnings

import numpy as np

from keras_simple_diffusion.data.decoding import UNREADABLE
from keras_simple_diffusion.data.decoding import Decoder
from keras_simple_diffusion.data.encoded_source import some_of
from keras_simple_diffusion.data.file_source import FileSource
from keras_simple_diffusion.data.listing import list_pictures
from keras_simple_diffusion.utils.errors import InputError

Pictures = collections.namedtuple("Pictures", "images labels class_names")
Pictures.__doc__ = """Pictures in memory, with their classes.

Args:
    images: `uint8` array of shape `(N, H, W, C)`.
    labels: int32 array of shape `(N,)`, or `None` without classes.
    class_names: list of strings, or `None` without classes.
"""


def load_pictures(path, image_size, split="train", num_channels=3):
    """Load a folder or zip of pictures into memory.

    `keras_simple_diffusion.data.open_data` reads them from disk instead.

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
    decoder = Decoder(image_size, num_channels)
    source = FileSource(list_pictures(path, split), decoder)
    examples, broken = [], []
    for index in range(len(source)):
        try:
            examples.append(source.decode(index))
        except UNREADABLE:
            broken.append(source.name(index))
    if broken:
        if not examples:
            raise InputError(
                f"None of the {len(source)} pictures of '{path}' can be read: "
                f"{some_of(broken)}"
            )
        warnings.warn(
            f"{len(broken)} of {len(source)} pictures of '{path}' cannot be "
            f"read and are skipped: {some_of(broken)}",
            stacklevel=2,
        )
    images = np.stack([example["images"] for example in examples])
    if source.class_names is None:
        return Pictures(images, None, None)
    labels = np.stack([example["labels"] for example in examples])
    return Pictures(images, labels, source.class_names)
