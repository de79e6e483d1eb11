"""Heights and widths of images: areas that count as equal, and texts."""

import re

from keras_simple_diffusion.utils.errors import InputError

_MAX_RATIO = 1.25


def is_same_area(size, other):
    """Tell if two sizes have the same area, within a quarter.

    Args:
        size: `(height, width)`.
        other: `(height, width)`.
    """
    ratio = size[0] * size[1] / (other[0] * other[1])
    return 1 / _MAX_RATIO <= ratio <= _MAX_RATIO


def size_as_text(size):
    """Return a size as it is written on the command line, such as `48x88`."""
    return f"{size[0]}x{size[1]}"


def read_size(text):
    """Read a size as it is written on the command line.

    Args:
        text: string, such as `"64"`, for a square, or `"48x88"`, the height
            and the width.

    Returns:
        A tuple `(height, width)`.

    Raises:
        InputError: if it is anything else.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})(?:[xX]([1-9]\d{0,4}))?", text.strip())
    if not found:
        raise InputError(
            "A size in pixels is written like 64, for a square, or 48x88, "
            f"height and width. Received: {text}"
        )
    height, width = found.groups()
    return int(height), int(width or height)
