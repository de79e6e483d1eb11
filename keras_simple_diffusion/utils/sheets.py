"""Contact sheets of images with captions."""

import math

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from keras_simple_diffusion.utils.user_text import printable

_BACKGROUND = (255, 255, 255)
_INK = (40, 40, 40)
_GAP = 4
_MAX_LINES = 3  # Lines of a caption.


def draw_sheet(images, columns=None, captions=None, row_names=None, cell=64):
    """Arrange images on one sheet, row by row.

    Args:
        images: `uint8` array of shape `(N, H, W, C)`. Images with 1 channel are
            shown in grey, with 3 channels in colour; otherwise only the first
            channel is shown.
        columns: int. Number of columns. Defaults to that of a square sheet.
        captions: list of `N` strings, drawn below the images, or `None`.
        row_names: list of strings, drawn to the left of the rows, or `None`.
        cell: int. Smallest height of an image on the sheet in pixels. Smaller
            images are enlarged by an integer factor without smoothing.
            Defaults to `64`.

    Returns:
        A `PIL.Image.Image`.
    """
    images = np.asarray(images)
    count, height, width, channels = images.shape
    if channels not in (1, 3):
        images, channels = images[..., :1], 1
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    factor = max(1, math.ceil(cell / height))
    height, width = height * factor, width * factor
    font = ImageFont.load_default(max(12, min(height // 5, 20)))
    left = 0
    if row_names:
        left = max(int(font.getlength(name)) for name in row_names) + 3 * _GAP
    lines = [_wrap(text, font, width) for text in captions or []]
    line_height = int(font.size * 1.2)
    below = max((len(each) for each in lines), default=0) * line_height
    size = (
        left + columns * (width + _GAP) + _GAP,
        rows * (height + below + _GAP) + _GAP,
    )
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        x = left + _GAP + column * (width + _GAP)
        y = _GAP + row * (height + below + _GAP)
        image = Image.fromarray(image[..., 0] if channels == 1 else image)
        image = image.resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(image.convert("RGB"), (x, y))
        for number, text in enumerate(lines[index] if lines else []):
            at = (x + width / 2, y + height + number * line_height)
            draw.text(at, text, _INK, font, anchor="ma")
        if row_names and column == 0:
            at = (left - _GAP, y + height / 2)
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
