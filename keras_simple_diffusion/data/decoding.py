"""Decoding of image files into arrays of one shape."""

import contextlib
import dataclasses
import math
import threading

import numpy as np
from PIL import Image
from PIL import ImageOps

from keras_simple_diffusion.data.formats import open_image
from keras_simple_diffusion.data.formats import read_pixels
from keras_simple_diffusion.data.pixels import measure_values
from keras_simple_diffusion.data.pixels import to_8_bits
from keras_simple_diffusion.utils.errors import InputError

# Pixels decoded for each one of the result: with 2, a photograph differs by 1
# gray level in the mean from the full decode, with 3 by 0.3 (SNR above 50 dB).
_MARGIN = 3
_ORIENTATION = 0x0112  # The EXIF tag; 5 to 8 exchange width and height.
_MAX_TOGETHER = 2**26  # Pixels that all threads decode at the same time.


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Decodes the bytes of an image file to a `uint8` array of one shape.

    The image is turned upright as its EXIF says. The largest part of the
    target's shape is cut out and resized with antialiasing (Lanczos).
    Transparency is composed onto white, more than 8 bits are scaled to 8,
    colors are converted to sRGB, and animations are reduced to their first
    frame. A large JPEG is decoded at a half, quarter or eighth of its size, as
    long as three pixels are left for each one of the result.

    Args:
        image_size: int, or `(height, width)`.
        num_channels: int. 3 for color or 1 for gray. Defaults to `3`.
        turn_portrait: bool. Whether to turn images that are higher than wide
            on their side, 90 degrees to the left. The target must be wider
            than high. Defaults to `False`.
    """

    image_size: tuple
    num_channels: int = 3
    turn_portrait: bool = False

    def __post_init__(self):
        check_format(self.image_size, self.num_channels)
        if isinstance(self.image_size, int):
            size = (self.image_size, self.image_size)
            object.__setattr__(self, "image_size", size)
        height, width = self.image_size
        if self.turn_portrait and width <= height:
            raise InputError(
                "`turn_portrait` needs a target that is wider than high. "
                f"Received: image_size={tuple(self.image_size)}, as (height, "
                "width)"
            )

    @property
    def image_shape(self):
        return (*self.image_size, self.num_channels)

    def __call__(self, content, position=None):
        """Decode one file.

        Args:
            content: bytes of the file.
            position: pair of floats in `[0, 1)`, horizontal and vertical:
                place of the part that is cut out. Defaults to the center.

        Returns:
            A dict with `"images"`, a `uint8` array of shape
            `(height, width, num_channels)`, and with `turn_portrait` also
            `"portrait"`, 1 if the image was turned, else 0.
        """
        pixels = self._finished(content)
        if pixels is not None:
            turned = False  # The target is wider than high.
            return self._example(pixels, turned)
        height, width = self.image_size
        mode = "L" if self.num_channels == 1 else "RGB"
        with open_image(content) as image:
            full = upright_size(image)
            turned = self.turn_portrait and full[1] > full[0]
            target = (height, width) if turned else (width, height)
            # Decode less than the whole, where the format can.
            shrink = min(full[0] / target[0], full[1] / target[1]) / _MARGIN
            whole = image.width
            if shrink >= 2:
                image.draft(None, [int(side / shrink) for side in image.size])
            scale = round(whole / image.width)
            with memory_for(image):
                values = measure_values(image)
                image = ImageOps.exif_transpose(image)
                # Cut first, so that the rest is done to what is kept.
                box = _part(full, target[1] / target[0], position)
                image, box = _cut(image, [edge / scale for edge in box])
                image, to_srgb = to_8_bits(image, mode, values)
                image = image.resize(target, Image.Resampling.LANCZOS, box)
        if to_srgb is not None:
            image = to_srgb(image)
        if turned:
            image = image.transpose(Image.Transpose.ROTATE_90)
        return self._example(np.asarray(image, "uint8"), turned)

    def _example(self, pixels, turned):
        images = pixels.reshape(self.image_shape)
        if self.turn_portrait:
            return {"images": images, "portrait": np.int32(turned)}
        return {"images": images}

    def _finished(self, content):
        """Return pixels that were decoded to this shape before, or `None`."""
        pixels = read_pixels(content)
        if pixels is not None and pixels.shape[:2] == tuple(self.image_size):
            if pixels.shape[2] == self.num_channels:
                return pixels
            if pixels.shape[2] == 1:
                return np.repeat(pixels, self.num_channels, axis=2)
        return None


def upright_size(image):
    """Return width and height of a `PIL.Image.Image` after its EXIF rotation.

    TIFF files are turned by Pillow itself, which gives their upright size.
    """
    if image.format != "TIFF" and image.getexif().get(_ORIENTATION) in (
        5,
        6,
        7,
        8,
    ):
        return image.size[::-1]
    return image.size


def check_format(image_size, num_channels):
    """Raise an `InputError` unless images can have this size and channels."""
    sizes = (image_size,) if isinstance(image_size, int) else image_size
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InputError(
            "`image_size` must be a positive size in pixels, or a `(height, "
            f"width)` pair. Received: image_size={image_size}"
        )
    if num_channels not in (1, 3):
        raise InputError(
            "Images are loaded with 1 or 3 channels. Received: "
            f"num_channels={num_channels}"
        )


class Turns:
    """A number of pixels that threads share, which bounds their memory.

    Args:
        limit: int. A larger image is decoded alone.
    """

    def __init__(self, limit):
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def take(self, pixels):
        """Wait until there is room for an image, and hold it."""
        pixels = min(pixels, self._limit)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + pixels <= self._limit)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


_turns = Turns(_MAX_TOGETHER)


def memory_for(image):
    """Return the context to decode an image in, which bounds the memory."""
    return _turns.take(image.width * image.height)


def _part(size, aspect, position):
    """Box of the largest part with this height over width."""
    width = max(1, min(size[0], round(size[1] / aspect)))
    height = max(1, min(size[1], round(size[0] * aspect)))
    room = (size[0] - width, size[1] - height)
    if position is None:
        left, top = room[0] // 2, room[1] // 2
    else:
        left, top = (
            int(share * (space + 1))
            for share, space in zip(position, room, strict=True)
        )
    return left, top, left + width, top + height


def _cut(image, box):
    """Cut out the pixels that a box touches; return it relative to them."""
    left, top = math.floor(box[0]), math.floor(box[1])
    image = image.crop((left, top, math.ceil(box[2]), math.ceil(box[3])))
    return image, (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
