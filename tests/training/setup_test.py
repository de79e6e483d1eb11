"""What a run tells of its images before it trains."""

import warnings

import numpy as np
import pytest
from PIL import Image

from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.training.setup import RunImages

pytestmark = pytest.mark.any_backend


@pytest.fixture
def told(tmp_path):
    """A function that opens a run's images and returns what is told."""

    def open_images(preset):
        preset = Preset.open(preset)
        options = {"data": str(tmp_path), "image_size": 16, "batch_size": 2}
        settings = RunSettings.from_preset(preset, options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            next(iter(RunImages(preset, settings).batches(0)))
        return [str(each.message) for each in caught]

    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "1.png")
    return open_images


def test_colors_that_are_lost(told, tmp_path):
    (message,) = told("uvit_digits_16")
    assert "stored in color and become gray" in message
    assert "'uvit_digits_16' has one channel" in message
    assert "uvit_small_64" in message and not told("uvit_small_64")
    Image.effect_noise((20, 20), 50).save(tmp_path / "1.png")
    assert not told("uvit_digits_16")


def test_captions_that_are_not_used(told, tmp_path):
    (tmp_path / "1.txt").write_text("a cat")
    (message,) = told("uvit_small_64")
    assert "captions of the data are not used" in message
    assert "uvit_emoji_64" in message and not told("uvit_emoji_64")


def test_all_that_is_left_out(told, tmp_path):
    (tmp_path / "raw.heic").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("name,label")
    (message,) = told("uvit_small_64")
    assert "1 is left out, of the format .heic" in message
    assert "labels.csv" in message
