from keras_simple_diffusion.data.decoding import Decoder
from keras_simple_diffusion.data.digits import load_digits
from keras_simple_diffusion.data.file_source import FileSource
from keras_simple_diffusion.data.listing import list_pictures
from keras_simple_diffusion.data.sources import ArraySource
from keras_simple_diffusion.data.tfds_source import TFDSSource


def open_data(
    name,
    image_size,
    split="train",
    num_channels=3,
    crop="centre",
    turn_portrait=False,
):
    """Open pictures by name, to be read and decoded one by one.

    Folders inside a folder or zip are classes, in alphabetical order. Where
    the outermost folders are splits, such as `train` and `test`, one of them
    is taken; a class has the same number in each. Captions are read from
    `metadata.jsonl` or `metadata.csv` (`file_name`, `text`).

    Args:
        name: string. `"digits"`, the path of a folder or zip of pictures, or
            `"tfds:NAME"`, `"tfds:NAME/CONFIG:VERSION"` of TensorFlow Datasets.
        image_size: int, or `(height, width)`.
        split: string. `"train"`, or `"test"` for the held-out one whatever
            its folder is called, or the folder's name. Defaults to `"train"`,
            which is everything where there are none.
        num_channels: int. 3 for colour or 1 for grey; the digits have one.
            Defaults to `3`.
        crop: string. Which part of a picture of another shape is taken:
            `"centre"`, or `"random"` for one that changes while training.
            Defaults to `"centre"`.
        turn_portrait: bool. Whether pictures higher than wide are turned on
            their side, with `"portrait"` 1, for a target that is wider than
            high. Defaults to `False`.

    Returns:
        A `PictureSource`: `len(source)`, and `source[i]` is a dict with
        `"images"` and, where the data has them, `"labels"`, `"captions"` and
        `"portrait"`.

    Raises:
        InputError: if there are no such data. `MissingSplitError` if they
            have no such split.

    Example:
    >>> source = keras_simple_diffusion.data.open_data("photos.zip", 64)
    >>> batches = keras_simple_diffusion.data.training_batches(source, 32)
    """
    if name == "digits":
        images, labels = load_digits(image_size, split)
        return ArraySource(images, labels, [str(digit) for digit in range(10)])
    decoder = Decoder(image_size, num_channels, turn_portrait)
    if str(name).startswith("tfds:"):
        return TFDSSource(name.removeprefix("tfds:"), split, decoder, crop)
    return FileSource(list_pictures(name, split), decoder, crop)
