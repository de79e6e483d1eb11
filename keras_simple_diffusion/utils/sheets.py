"""Images as Pillow's, and contact sheets of them with captions."""

import math

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import printable

_BACKGROUND = (255, 255, 255)
_INK = (40, 40, 40)
_GAP = 4
_MAX_LINES = 3  # Lines of a caption.
_MIN_HEIGHT = 64  # Of an image on a sheet.


def to_pil(images):
    """Convert images to those of Pillow.

    Args:
        images: `uint8` array of shape `(N, H, W, C)`, or `(H, W, C)`. With 1
            channel they become grey, with 3 channels RGB; otherwise only the
            first channel is taken.

    Returns:
        A list of `PIL.Image.Image`, or one.

    Raises:
        InputError: if the array is of another type or shape.

    Example:
    >>> image = keras_simple_diffusion.utils.to_pil(images[0])
    >>> image.size, image.mode
    ((16, 16), 'L')
    """
    images = np.asarray(images)
    if images.dtype != "uint8" or images.ndim not in (3, 4):
        raise InputError(
            "Images must be a uint8 array of shape (N, H, W, C) or (H, W, C), "
            f"as `generate` returns them. Received: {images.dtype} of shape "
            f"{images.shape}"
        )
    if images.ndim == 4:
        return [to_pil(image) for image in images]
    is_colored = images.shape[-1] == 3
    return Image.fromarray(images if is_colored else images[..., 0])


def show(images, columns=None, captions=None, row_names=None, scale=None):
    """Arrange images on one sheet, row by row, which a notebook displays.

    A single image without text has no margin.

    Args:
        images: `uint8` array of shape `(N, H, W, C)`, or `(H, W, C)`, see
            `to_pil`.
        columns: int. Number of columns. Defaults to that of a square sheet.
        captions: list of `N` strings, drawn below the images, or `None`.
        row_names: list of strings, drawn to the left of the rows, or `None`.
        scale: int. Factor by which images are enlarged, without smoothing.
            Defaults to the smallest that makes them 64 pixels high.

    Returns:
        A `PIL.Image.Image`, which has `save`.

    Raises:
        InputError: if the array is of another type or shape, or empty.

    Example:
    >>> sheet = keras_simple_diffusion.utils.show(images[:10], columns=5)
    >>> sheet.save("sheet.png")
    """
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[None]
    cells = to_pil(images)
    if not cells or not all(images.shape):
        raise InputError("There are no images to show.")
    columns = columns or math.ceil(math.sqrt(len(cells)))
    rows = math.ceil(len(cells) / columns)
    height, width = images.shape[1:3]
    factor = scale or math.ceil(_MIN_HEIGHT / height)
    height, width = height * factor, width * factor
    font = ImageFont.load_default(max(12, min(height // 5, 20)))
    left = 0
    if row_names:
        left = max(int(font.getlength(name)) for name in row_names) + 3 * _GAP
    gap = _GAP if len(cells) > 1 or captions or row_names else 0
    lines = [_wrap(text, font, width) for text in captions or []]
    line_height = int(font.size * 1.2)
    tops = [gap]  # A row is as high as its longest caption asks for.
    for row in range(rows):
        texts = lines[row * columns : (row + 1) * columns]
        below = max(map(len, texts), default=0) * line_height
        tops.append(tops[-1] + height + below + gap)
    size = left + columns * (width + gap) + gap, tops[-1]
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(cells):
        row, column = divmod(index, columns)
        x = left + gap + column * (width + gap)
        y = tops[row]
        image = image.resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(image.convert("RGB"), (x, y))
        for number, text in enumerate(lines[index] if lines else []):
            at = (x + width / 2, y + height + number * line_height)
            draw.text(at, text, _INK, font, anchor="ma")
        if row_names and column == 0:
            at = (left - gap, y + height / 2)
            draw.text(at, row_names[row], _INK, font, anchor="rm")
    return sheet


def _wrap(text, font, width):
    """Break a text into at most three lines and truncate the last one."""
    lines, words = [], printable(" ".join(text.split())).split()
    while words and len(lines) < _MAX_LINES:
        line = words.pop(0)
        last = len(lines) == _MAX_LINES - 1
        while words and (last or font.getlength(f"{line} {words[0]}") <= width):
            line = f"{line} {words.pop(0)}"
        lines.append(_fit(line, font, width))
    return lines


def _fit(text, font, width):
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
