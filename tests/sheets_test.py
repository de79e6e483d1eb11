"""Sheets of images have room for their captions."""

import numpy as np
import pytest

from keras_simple_diffusion.utils.sheets import draw_sheet

pytestmark = pytest.mark.any_backend

IMAGES = np.full((2, 64, 64, 3), 90, "uint8")


def test_a_long_caption_takes_more_lines_for_all():
    plain = draw_sheet(IMAGES)
    short = draw_sheet(IMAGES, captions=["cat", "dog"])
    long = draw_sheet(IMAGES, captions=["cat", "a dog that likes its cat"])
    line = short.height - plain.height
    assert line > 0
    assert long.height - plain.height in (2 * line, 3 * line)
    assert long.width == short.width == plain.width


def test_no_caption_is_higher_than_three_lines():
    three = draw_sheet(IMAGES, captions=["cat", "very long name " * 3])
    more = draw_sheet(IMAGES, captions=["cat", "very long name " * 30])
    assert more.height == three.height


def test_ink_is_where_captions_are():
    sheet = np.asarray(draw_sheet(IMAGES, captions=["", "dog"]))
    below = sheet[4 + 64 :]
    half = sheet.shape[1] // 2
    assert (below[:, :half] == 255).all()
    assert (below[:, half:] < 255).any()
