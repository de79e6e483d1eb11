import io

import numpy as np
import pytest
from PIL import Image


def _encode(array, suffix="png", **kwargs):
    image = array
    if not isinstance(array, Image.Image):
        image = Image.fromarray(array)
    file = io.BytesIO()
    image.save(file, format=suffix, **kwargs)
    return file.getvalue()


def _image(seed, shape=(20, 30, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, "uint8")


@pytest.fixture(scope="session")
def encode():
    """A function that encodes an array or `PIL.Image` as a file's bytes."""
    return _encode


@pytest.fixture(scope="session")
def image():
    """A function that makes a `uint8` array of noise from a seed."""
    return _image


@pytest.fixture(scope="session")
def write_images():
    """A function that writes images of these names into a folder."""

    def write(root, *names):
        for i, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_encode(_image(i)))
        return root

    return write


@pytest.fixture
def folder(tmp_path, write_images):
    """Two classes in two splits: 3 + 3 images to train, 1 + 1 to test."""
    for split, count in (("train", 3), ("test", 1)):
        for name in ("dog", "cat"):
            place = tmp_path / "pets" / split / name
            write_images(place, *(f"{i}.png" for i in range(count)))
    (tmp_path / "pets" / "README.md").write_text("not an image")
    (tmp_path / "pets" / "train" / ".hidden.png").write_text("neither")
    return tmp_path / "pets"
