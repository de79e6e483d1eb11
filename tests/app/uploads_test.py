"""Uploads: bounded, and read or refused with a message."""

import io
import os
import sys
import types

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.app import limits
from tests.helpers.commands import error_line
from tests.helpers.commands import run_command

pytestmark = pytest.mark.any_backend

SHAPE = (8, 8, 3)


def encode(size=(40, 30), kind="PNG"):
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(size[1], size[0], 3), dtype="uint8")
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_an_image_is_cropped_and_resized(tmp_path, kind):
    path = tmp_path / "image"
    path.write_bytes(encode(kind=kind))
    image = limits.read_upload(path, SHAPE)
    assert image.shape == SHAPE and image.dtype == "uint8"


def test_300_malformed_files_are_refused_with_a_message(tmp_path):
    rng = np.random.default_rng(1)
    whole = [encode(kind=kind) for kind in ("PNG", "JPEG", "GIF")]
    refused = 0
    for number in range(300):
        content = bytearray(whole[number % 3])
        if number % 2:
            del content[rng.integers(len(content)) :]
        for place in rng.integers(max(1, len(content)), size=number % 20):
            content[place : place + 1] = rng.bytes(1)
        path = tmp_path / "file"
        path.write_bytes(content)
        try:
            assert limits.read_upload(path, SHAPE).shape == SHAPE
        except ksd.InputError as error:
            refused += 1
            assert str(error).startswith("The file is not a readable image")
            assert str(tmp_path) not in str(error)
    assert refused > 100


def test_size_is_bounded_before_anything_is_decoded(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (5000, 4000)).save(path)
    assert path.stat().st_size < 10_000
    message = "readable image: it has more than 16 million pixels"
    with pytest.raises(ksd.InputError, match=message):
        limits.read_upload(path, SHAPE)
    with (
        limits.private_files(),
        pytest.raises(ksd.InputError, match=message),
    ):
        limits.read_upload(path, SHAPE)
    path = tmp_path / "long.png"
    path.write_bytes(encode() + bytes(limits.MAX_BYTES))
    with pytest.raises(ksd.InputError, match="more than 8 MiB"):
        limits.read_upload(path, SHAPE)
    with pytest.raises(ksd.InputError) as caught:
        limits.read_upload(tmp_path / "absent.png", SHAPE)
    assert str(tmp_path) not in str(caught.value)


def test_files_are_private_and_removed(tmp_path):
    pixels = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "large.png"
    Image.new("1", (5000, 4000)).save(path)
    with limits.private_files() as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == folder
        with pytest.raises(Image.DecompressionBombError):
            Image.open(path)
    assert not os.path.exists(folder)
    assert Image.MAX_IMAGE_PIXELS == pixels
    Image.open(path).close()


@pytest.mark.parametrize(
    "module, reason",
    [
        (None, "cannot be imported"),
        (types.SimpleNamespace(__version__="3.50.2"), "Received: gradio 3.50"),
    ],
)
def test_a_wrong_or_missing_gradio(monkeypatch, tmp_path, module, reason):
    monkeypatch.setitem(sys.modules, "gradio", module)
    result = run_command("app", "--model", "photos_64", cwd=tmp_path)
    line = error_line(result)
    assert reason in line
    assert 'pip install "keras-simple-diffusion[app]"' in line
