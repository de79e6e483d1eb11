import numpy as np

from keras_simple_diffusion.data.digits import load_digits
from keras_simple_diffusion.data.pictures import Pictures
from keras_simple_diffusion.data.pictures import load_pictures


def load_named(name, image_size, split="train", num_channels=3):
    """Load the data that a command line names.

    Args:
        name: string. `"digits"`, or the path of a folder or zip of pictures.
        image_size: int, or `(height, width)`.
        split: string. `"train"` or `"test"`. Defaults to `"train"`.
        num_channels: int. Channels of the pictures of a folder or zip; the
            digits have one. Defaults to `3`.

    Returns:
        A `Pictures` tuple `(images, labels, class_names)`.
    """
    if name == "digits":
        images, labels = load_digits(image_size, split)
        return Pictures(images, labels, [str(digit) for digit in range(10)])
    return load_pictures(name, image_size, split, num_channels)


def take(pictures, count, seed=0):
    """A random choice of at most `count` pictures, the same in every call."""
    total = len(pictures.images)
    if total <= count:
        return pictures
    chosen = np.random.default_rng(seed).choice(total, count, replace=False)
    labels = None if pictures.labels is None else pictures.labels[chosen]
    return pictures._replace(images=pictures.images[chosen], labels=labels)
