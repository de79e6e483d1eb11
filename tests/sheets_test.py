"""Sheets of images have room for their captions."""

import numpy as np
import pytest

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.sheets import show
from keras_simple_diffusion.utils.sheets import to_pil

pytestmark = pytest.mark.any_backend

IMAGES = np.full((2, 64, 64, 3), 90, "uint8")


def test_a_long_caption_takes_more_lines():
    plain = show(IMAGES)
    short = show(IMAGES, captions=["cat", "dog"])
    long = show(IMAGES, captions=["cat", "a dog that likes its cat"])
    line = short.height - plain.height
    assert line > 0
    assert long.height - plain.height in (2 * line, 3 * line)
    assert long.width == short.width == plain.width


def test_a_long_caption_makes_its_own_row_higher_only():
    texts = ["cat", "dog", "a dog that likes its cat", "bird"]
    images = np.concatenate([IMAGES, IMAGES])
    plain = show(IMAGES, columns=2).height - 4
    short = show(IMAGES, columns=2, captions=["cat", "dog"]).height - 4
    sheet = show(images, columns=2, captions=texts)
    line = short - plain
    assert sheet.height - 4 in (2 * short + line, 2 * short + 2 * line)
    pixels = np.asarray(sheet)
    assert (pixels[4 + short : 4 + short + 64, 4:68] == 90).all()


def test_no_caption_is_higher_than_three_lines():
    three = show(IMAGES, captions=["cat", "very long name " * 3])
    more = show(IMAGES, captions=["cat", "very long name " * 30])
    assert more.height == three.height


def test_ink_is_where_captions_are():
    sheet = np.asarray(show(IMAGES, captions=["", "dog"]))
    below = sheet[4 + 64 :]
    half = sheet.shape[1] // 2
    assert (below[:, :half] == 255).all()
    assert (below[:, half:] < 255).any()


def test_images_are_enlarged_without_smoothing():
    images = np.arange(2 * 8 * 8, dtype="uint8").reshape(2, 8, 8, 1)
    sheet = np.asarray(show(images, columns=2, scale=3))
    assert sheet.shape == (4 + 24 + 4, 2 * (24 + 4) + 4, 3)
    shown = sheet[4:28, 4:28]
    np.testing.assert_array_equal(shown[1::3, 1::3, :1], images[0])
    assert (shown == sheet[4:28, 4:28, :1]).all()
    assert show(images).height == 4 + 64 + 4


def test_a_single_image_without_text_has_no_margin():
    image = np.arange(64, dtype="uint8").reshape(8, 8, 1)
    np.testing.assert_array_equal(
        np.asarray(show(image, scale=1)), np.repeat(image, 3, -1)
    )
    assert show(image, scale=2).size == (16, 16)
    assert show(image, captions=["1"], scale=8).width == 4 + 64 + 4


def test_a_sheet_displays_itself_in_a_notebook():
    assert show(IMAGES)._repr_png_().startswith(b"\x89PNG")


def test_images_of_pillow():
    image = to_pil(IMAGES[0])
    assert image.mode == "RGB" and image.size == (64, 64)
    grey = to_pil(IMAGES[..., :1])
    assert [each.mode for each in grey] == ["L", "L"]


def test_what_is_no_image_is_an_error():
    with pytest.raises(InputError, match="float64 of shape"):
        show(IMAGES / 255)
    with pytest.raises(InputError, match="no images"):
        show(IMAGES[:0])
