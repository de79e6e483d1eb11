"""Statistics of the images of a source, and suitable settings."""

import collections
import concurrent.futures
import io
import os

import numpy as np
from PIL import Image

from keras_simple_diffusion.data.decoding import UNREADABLE
from keras_simple_diffusion.data.decoding import upright_size
from keras_simple_diffusion.data.encoded_source import EncodedSource
from keras_simple_diffusion.data.encoded_source import reason_of
from keras_simple_diffusion.utils.errors import InputError

Facts = collections.namedtuple(
    "Facts", "name size mode format frames label captions broken"
)
Facts.__doc__ = """What there is to know of one image.

Args:
    name: string.
    size: `(width, height)` upright, or `None` if it cannot be read.
    mode: string, Pillow's mode such as `"RGB"`, or `None`.
    format: string, such as `"JPEG"`, or `None`.
    frames: int, more than 1 for an animation.
    label: int, or `None`.
    captions: list of strings, empty without captions.
    broken: string, why the image cannot be read, or `None`.
"""

_SIZES = (16, 32, 64, 128, 256, 512)
_PRESETS = ((64, "uvit_small_64"), (128, "uvit_imagenet_128"))
_PRESETS += ((256, "uvit_imagenet_256"), (512, "uvit_imagenet_512"))


def examine(source):
    """Decode every image of a source, in threads.

    Args:
        source: a `ImageSource`.

    Yields:
        `Facts` of each image, in their order.
    """
    look = _look_at_file
    if not isinstance(source, EncodedSource):
        look = _look_at_array
    threads = min(16, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        # No more is read ahead than a few images a thread.
        ahead = collections.deque()
        for index in range(len(source)):
            ahead.append(pool.submit(look, source, index))
            if len(ahead) > 4 * threads:
                yield ahead.popleft().result()
        for future in ahead:
            yield future.result()


def suggest_size(facts):
    """The largest usual size that few images are too small for.

    Args:
        facts: list of `Facts` of images that can be read.

    Returns:
        int. At least three quarters of the images are as large, unless they
        are all very small.
    """
    sides = [min(each.size) for each in facts]
    limit = np.quantile(sides, 0.25)
    return max([size for size in _SIZES if size <= limit], default=_SIZES[0])


def suggest_preset(image_size, grey):
    """Name of the preset for the smallest images that are as large."""
    if grey and image_size <= 16:
        return "uvit_digits_16"
    names = [name for size, name in _PRESETS if size >= image_size]
    return names[0] if names else _PRESETS[-1][1]


def suggest_schedule(image_size):
    """Noise schedules for images of a size, as sentences.

    References:
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), Table 2
    """
    noise_size = min(image_size, 64)
    sentences = [
        f"ShiftedCosineSchedule({image_size}, noise_size={noise_size})"
    ]
    if image_size > 64:
        sentences.append(
            "noise_size=32 for more weight on the whole than on detail, the "
            "paper's best at 128 and 256 pixels"
        )
        sentences.append(
            f"InterpolatedCosineSchedule({image_size}, 32, "
            f"{min(image_size, 256)}) for text and guidance"
        )
    return sentences


def _look_at_array(source, index):
    example = source[index]
    height, width, channels = source.image_shape
    captions = [example["captions"]] if "captions" in example else []
    mode = "L" if channels == 1 else "RGB"
    label = example.get("labels")
    return Facts(
        str(index), (width, height), mode, "array", 1, label, captions, None
    )


def _look_at_file(source, index):
    name, label, captions = source.name(index), None, None
    try:
        content, label, captions = source.record(index)
        with Image.open(io.BytesIO(content)) as image:
            size, frames = upright_size(image), getattr(image, "n_frames", 1)
            image.load()
            return Facts(
                name,
                size,
                image.mode,
                image.format,
                frames,
                label,
                captions or [],
                None,
            )
    except InputError:
        raise
    except UNREADABLE as error:
        reason = reason_of(error)
        return Facts(name, None, None, None, 0, label, captions or [], reason)
