"""Images of several shapes of one area: each in the bucket of its shape."""

import copy
import dataclasses
import functools
import math

import numpy as np

from keras_simple_diffusion.data.decoding import upright_size
from keras_simple_diffusion.data.encoded_source import EncodedSource
from keras_simple_diffusion.data.formats import UNREADABLE
from keras_simple_diffusion.data.formats import open_image
from keras_simple_diffusion.data.sources import WrappedSource
from keras_simple_diffusion.data.threads import map_in_threads
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integer
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.image_sizes import is_same_area
from keras_simple_diffusion.utils.image_sizes import size_as_text

_MAX_ASPECT = 2.0


def bucket_sizes(image_size, divisor, count):
    """Choose sizes of one area, with equal steps from 1:2 to 2:1.

    Args:
        image_size: `(height, width)` that gives the area, which all sizes
            have within a quarter.
        divisor: int. Number that divides all sides, see `side_divisor` of
            `keras_simple_diffusion.models.DiffusionBackbone`.
        count: int. Largest number of sizes, at least 2. There are fewer if
            the divisor allows no more.

    Returns:
        A list of tuples `(height, width)`, the tallest first.

    Raises:
        InputError: if there is only one such size.

    Example:
    >>> keras_simple_diffusion.data.bucket_sizes((64, 64), 8, 3)
    [(88, 48), (64, 64), (48, 88)]
    """
    check_integer("count", count, minimum=2)
    area = image_size[0] * image_size[1]
    sides = range(divisor, math.isqrt(4 * area) + divisor, divisor)
    sizes = [
        (height, width)
        for height in sides
        for width in sides
        if is_same_area((height, width), image_size)
    ]

    def rank(size, aspect):
        height, width = size
        error = abs(math.log(width / height / aspect)) + abs(
            math.log(height * width / area)
        )
        # Sizes that are equally good are chosen alike for portraits.
        return round(error, 6), sorted(size)

    aspects = np.geomspace(1 / _MAX_ASPECT, _MAX_ASPECT, count)
    chosen = [min(sizes, key=lambda s: rank(s, a)) for a in aspects if sizes]
    chosen = list(dict.fromkeys(chosen))
    if len(chosen) < 2:
        raise InputError(
            f"Images of {image_size[0]} x {image_size[1]} have no other shapes "
            f"of the same area whose sides are multiples of {divisor}. Use a "
            "larger size, or a network that divides the sides less often."
        )
    return chosen


def put_into_buckets(source, sizes):
    """Let each image of a source have the size that is nearest to its shape.

    `training_batches` of the result makes batches of one size each. The
    headers of all images are read once, here.

    Args:
        source: a source of files, as `keras_simple_diffusion.data.open_data`
            opens it.
        sizes: list of tuples `(height, width)`, see `bucket_sizes`.

    Returns:
        A `BucketedSource`.

    Raises:
        InputError: if it is a source of arrays, a mixture with weights, turns
            portraits, or has images of one bucket only.

    Example:
    ```python
    source = keras_simple_diffusion.data.open_data("photos.zip", 64)
    sizes = keras_simple_diffusion.data.bucket_sizes((64, 64), 8, 5)
    source = keras_simple_diffusion.data.put_into_buckets(source, sizes)
    batches = keras_simple_diffusion.data.training_batches(source, 32)
    ```
    """
    if not isinstance(source, EncodedSource):
        raise InputError(
            "Buckets are for images in files, which have shapes of their own. "
            f"Received: a {type(source).__name__}"
        )
    if source.mixture is not None:
        raise InputError(
            "A mixture with weights has no buckets. Mix the sources without "
            "weights."
        )
    if source.decoder.turn_portrait:
        raise InputError(
            "The network turns portrait images on their side, so it has no use "
            "for buckets. Use one without `portrait_flag`."
        )
    aspects = np.array(
        list(
            map_in_threads(
                functools.partial(_log_aspect, source), range(len(source))
            )
        )
    )
    known = np.array([math.log(width / height) for height, width in sizes])
    numbers = np.abs(aspects[:, None] - known).argmin(axis=1)
    used, numbers = np.unique(numbers, return_inverse=True)
    if len(used) < 2:
        height, width = sizes[used[0]]
        raise InputError(
            f"All images of '{source.place}' are nearest in shape to {height} "
            f"x {width}: there is nothing to put into buckets. Leave them out; "
            "of packed images, `pack` without --image-size keeps the shapes."
        )
    return BucketedSource(source, [sizes[i] for i in used], numbers)


def _log_aspect(source, index):
    try:
        with open_image(source.record(index)[0]) as image:
            width, height = upright_size(image)
    except InputError:
        raise
    except UNREADABLE:  # Another image takes its place, see `EncodedSource`.
        height, width, _ = source.image_shape
    return math.log(width / height)


class BucketedSource(WrappedSource):
    """A source whose images have one of several sizes each.

    Args:
        source: an `EncodedSource`.
        sizes: list of tuples `(height, width)`.
        numbers: int array, the number of the size of each image. Each size is
            that of some image.

    Attributes:
        buckets: list of int arrays, the images of each size.
    """

    def __init__(self, source, sizes, numbers):
        sizes = [tuple(map(int, size)) for size in sizes]
        numbers = np.asarray(numbers, "uint8")
        super().__init__(source)
        self.fingerprint = sha256(source.fingerprint, repr(sizes), numbers)[:16]
        self.sizes = sizes
        self.buckets = [np.flatnonzero(numbers == n) for n in range(len(sizes))]
        self._numbers = numbers
        self._decoders = []
        for size in sizes:
            decoder = dataclasses.replace(source.decoder, image_size=size)
            self._decoders.append(copy.copy(source))
            self._decoders[-1].decoder = decoder

    def counts(self):
        """Return the number of images of each size, by its text."""
        return {
            size_as_text(size): len(images)
            for size, images in zip(self.sizes, self.buckets, strict=True)
        }

    def content_digest(self):
        return sha256(self.fingerprint, self.source.content_digest())[:16]

    def example(self, index, rng=None):
        return self._decoders[self._numbers[index]].example(index, rng)
