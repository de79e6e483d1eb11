"""What a run tells of its images before it trains."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from keras_simple_diffusion.data import EmbeddingCache
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.training.setup import RunImages
from keras_simple_diffusion.utils.errors import InputError

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


@pytest.mark.parametrize("preset", ["uvit_digits_16", "uvit_emoji_64"])
def test_embeddings_that_are_of_no_use(preset, tmp_path):
    preset = Preset.open(preset)
    options = {"data": "digits", "image_size": 16, "embeddings": str(tmp_path)}
    settings = RunSettings.from_preset(preset, options)
    message = f"'{preset.name}' does not have. .* such as uvit_text_256"
    with pytest.raises(InputError, match=message):
        RunImages(preset, settings)


def test_embeddings_of_data_without_captions(tmp_path):
    cache = EmbeddingCache.create(tmp_path / "e", {"sequence_length": 8}, [])
    preset = Preset.open("uvit_text_256")
    options = {"data": "digits", "image_size": 32, "batch_size": 2}
    options["embeddings"] = str(cache.folder)
    with pytest.raises(InputError, match="one of its splits, has none"):
        RunImages(preset, RunSettings.from_preset(preset, options))


def test_a_split_without_captions(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    columns = {"image": [file.getvalue()], "text": ["a cat"]}
    parquet.write_table(pa.table(columns), tmp_path / "train.parquet")
    del columns["text"]
    parquet.write_table(pa.table(columns), tmp_path / "test.parquet")
    preset = Preset.open("uvit_emoji_64")
    options = {"data": str(tmp_path), "image_size": 16, "batch_size": 2}
    with pytest.raises(InputError, match="one of its splits, has none"):
        RunImages(preset, RunSettings.from_preset(preset, options))


def test_all_that_is_left_out(told, tmp_path):
    (tmp_path / "raw.heic").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("name,label")
    (message,) = told("uvit_small_64")
    assert "1 is left out, of the format .heic" in message
    assert "labels.csv" in message
