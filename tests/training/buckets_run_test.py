"""Runs on images of several shapes, from the folder to the drawn images."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.evaluation import image_sets
from keras_simple_diffusion.training import resume_run
from keras_simple_diffusion.training import train_run
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.commands import error_line
from tests.helpers.commands import run_command
from tests.helpers.models import make_backbone
from tests.helpers.models import values_of

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes; 14 images of three shapes, and two held out."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    shapes = [(20, 20)] * 8 + [(20, 40)] * 4 + [(40, 20)] * 4
    for i, shape in enumerate(shapes):
        split = "test" if i in (0, 15) else "train"
        path = folder / split / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, "uint8")).save(path)
    return folder


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preset")
    backbone = make_backbone(
        2, image_shape=(8, 8, 1), channels=(8, 16), blocks=(1, 1), dropout=0.2
    )
    model = ksd.models.DiffusionModel(backbone, num_steps=2)
    model.save_to_preset(folder)
    recipe = {"batch_size": 4, "warmup_steps": 2, "accumulate": 2}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


@pytest.fixture(scope="module")
def straight(photos, preset, tmp_path_factory):
    """The folder of a run without a break, and its model."""
    run = tmp_path_factory.mktemp("straight") / "run"
    return run, train_run(photos, run, preset, steps=12, aspect_buckets=3)


def test_a_run_says_what_it_has(straight):
    run, _ = straight
    settings = json.loads((run / "config.json").read_text())
    assert settings["aspect_buckets"] == 3
    sizes = {"12x6": 3, "8x8": 7, "6x12": 4}
    assert settings["facts"]["sizes"] == sizes
    with (run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in rows]
    assert len(losses) == 12 and np.isfinite(losses).all()
    assert any(row["val_loss"] for row in rows)


def test_the_sheet_has_a_row_for_each_shape(straight):
    run, _ = straight
    with Image.open(run / "samples.png") as image:
        sheet = np.asarray(image.convert("L"))
    ink = (sheet != 255).any(axis=1)
    # Rows of images; 12 pixels are enlarged to 72.
    starts = np.flatnonzero(np.diff(ink.astype(int)) == 1)
    ends = np.flatnonzero(np.diff(ink.astype(int)) == -1)
    heights = (ends - starts).tolist()
    assert heights == [72, 48, 36]


def test_resumed_is_as_straight(straight, photos, preset, tmp_path):
    _, model = straight
    run = tmp_path / "run"
    train_run(photos, run, preset, steps=5, aspect_buckets=3)
    resumed = resume_run(run, steps=12)
    pairs = zip(
        values_of(model.variables), values_of(resumed.variables), strict=True
    )
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours, theirs)


def test_images_of_another_shape_later(straight, photos, preset, tmp_path):
    moved = tmp_path / "photos"
    for path in photos.rglob("*.png"):
        target = moved / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.transpose(Image.Transpose.ROTATE_90).save(target)
    run, _ = straight
    with pytest.raises(InputError, match="have changed"):
        resume_run(run, steps=14, data=str(moved))


def test_commands(photos, preset, tmp_path):
    def call(*words):
        result = run_command(*words, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        return result.stdout

    options = ["--data", photos, "--preset", preset, "--steps", 2]
    told = call("train", *options, "--aspect-buckets", 3, "--output", "run")
    assert "3 of 12x6, 7 of 8x8, 4 of 6x12" in told
    draw = ["generate", "--model", "run", "--num-images", 1, "--seed", 3]
    call(*draw, "--image-size", "6x12", "--scale", 1, "--output", "a.png")
    call("generate", "--like", "a.png", "--scale", 1, "--output", "b.png")
    first, second = (Image.open(tmp_path / f"{name}.png") for name in "ab")
    assert first.size == second.size == (12, 6)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    for size, words in (("6x20", "multiples of 2"), ("big", "48x88")):
        result = run_command(*draw, "--image-size", size, cwd=tmp_path)
        assert words in error_line(result)
    result = run_command(
        "train",
        *["--data", "digits", "--preset", preset, "--steps", 2],
        *["--aspect-buckets", 3, "--output", "other"],
        cwd=tmp_path,
    )
    assert "images in files" in error_line(result)


def test_evaluation_says_its_size(straight):
    run, model = straight
    with pytest.warns(UserWarning, match="at 8 x 8"):
        image_sets.drawing_facts(model, run)
