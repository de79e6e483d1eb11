"""Sheets of pictures with captions."""

import math

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

_BACKGROUND = (255, 255, 255)
_INK = (40, 40, 40)
_GAP = 4


def draw_sheet(images, columns=None, captions=None, row_names=None, cell=64):
    """Lay pictures out on one sheet, row by row.

    Args:
        images: `uint8` array of shape `(N, H, W, C)`, with 1 or 3 channels.
        columns: int. Defaults to about a square sheet.
        captions: list of `N` strings, one below each picture, or `None`.
        row_names: list of strings, one left of each row, or `None`.
        cell: int. Smallest height of a picture on the sheet; small ones are
            enlarged by a whole factor, without smoothing. Defaults to `64`.

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
    below = 0 if not captions else int(font.size * 1.4)
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
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        picture = picture.resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(picture.convert("RGB"), (x, y))
        if captions:
            text = _fit(captions[index], font, width)
            at = (x + width / 2, y + height)
            draw.text(at, text, _INK, font, anchor="ma")
        if row_names and column == 0:
            at = (left - _GAP, y + height / 2)
            draw.text(at, row_names[row], _INK, font, anchor="rm")
    return sheet


def _fit(text, font, width):
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
