"""Sheets of samples: small ones have images of large ones."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training.captions import choose_prompts
from keras_simple_diffusion.training.reporting import draw_samples

pytestmark = pytest.mark.any_backend

_CELL = 68  # 64 pixels, 8 of the image, and a gap.


def make_model(num_classes=None, prompts=None):
    keras.utils.set_random_seed(0)
    encoder = ksd.text.TextTransformer(
        ksd.text.learn_vocabulary(prompts or ["none"]),
        embedding_dim=8,
        num_layers=1,
        num_heads=2,
        sequence_length=4,
    )
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3),
        channels=(8,),
        blocks=(1,),
        num_heads=2,
        embedding_dim=16,
        num_classes=num_classes,
        context_dim=8 if prompts else None,
    )
    if prompts:
        return ksd.models.TextToImage(backbone, encoder, num_steps=2)
    return ksd.models.DiffusionModel(backbone, num_steps=2)


def draw(model, path, count, **options):
    draw_samples(model, seed=1, count=count, folder=path, **options)(
        path / "sheet.png"
    )
    with Image.open(path / "sheet.png") as sheet:
        return np.asarray(sheet.convert("RGB"))


def test_without_classes_it_is_a_square(tmp_path):
    model = make_model()
    assert draw(model, tmp_path, 8).shape == (4 + 2 * _CELL,) * 2 + (3,)
    assert draw(model, tmp_path, 9).shape == (4 + 3 * _CELL,) * 2 + (3,)


def test_with_classes_it_has_the_first_columns(tmp_path):
    model = make_model(num_classes=3)
    small, large = (draw(model, tmp_path, count) for count in (6, 12))
    height, width, _ = small.shape
    assert height == large.shape[0] == 4 + 3 * _CELL
    assert large.shape[1] == width + 2 * _CELL
    np.testing.assert_array_equal(small, large[:, :width])


@pytest.mark.any_backend
def test_few_captions_fill_a_sheet_as_many_do():
    few = choose_prompts(["sun", "moon", "sun", "star"])
    assert few == ["moon"] * 12 + ["star"] * 12 + ["sun"] * 12
    many = choose_prompts([f"{index:03}" for index in range(359, -1, -1)])
    assert many == [f"{10 * index:03}" for index in range(36)]
    assert choose_prompts([]) is None


def test_with_prompts_it_has_some_of_the_images(tmp_path):
    names = ["red", "green", "blue", "black", "white", "gray", "gold", "pink"]
    prompts = [*names, "brown", "orange"]
    model = make_model(prompts=prompts)
    small, large = (
        draw(model, tmp_path, count, prompts=prompts) for count in (4, 100)
    )
    # Nine of ten prompts, of which the corners and two between them.
    line = (large.shape[0] - 4) // 3
    assert (small.shape[0] - 4) // 2 == line
    cells = [
        large[4 + i * line :, 4 + j * _CELL :][:64, :64]
        for i, j in np.ndindex(3, 3)
    ]
    for index, cell in zip((0, 3, 5, 8), np.ndindex(2, 2), strict=True):
        found = small[4 + cell[0] * line :, 4 + cell[1] * _CELL :][:64, :64]
        np.testing.assert_allclose(
            found.astype(int), cells[index].astype(int), atol=1
        )
