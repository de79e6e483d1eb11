import numpy as np
from PIL import Image

from keras_simple_diffusion.data.decoding import check_format

_SPLITS = ("all", "train", "test")


def load_digits(image_size=32, split="all"):
    """The 1,797 real handwritten digits that come with scikit-learn.

    They are scanned forms of 43 people at 8 x 8 pixels and 17 levels (UCI
    "Optical Recognition of Handwritten Digits", CC BY 4.0), white on black,
    enlarged by bicubic interpolation.

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
    if split not in _SPLITS:
        raise ValueError(
            f"`split` must be one of {_SPLITS}. Received: split={split!r}"
        )
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
