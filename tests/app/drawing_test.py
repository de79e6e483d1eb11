"""Drawings of visitors: bounds, steps, cancellation, and files."""

import threading

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.app.drawing import Settings
from keras_simple_diffusion.app.drawing import Studio
from keras_simple_diffusion.app.drawing import follow
from keras_simple_diffusion.cli import image_settings
from keras_simple_diffusion.generation.programs import DrawingStep
from tests.helpers.models import make_backbone
from tests.helpers.models import make_model
from tests.helpers.models import make_text_encoder
from tests.helpers.models import randomize

NAMES = ["ship", "cat", "house"]


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    model = make_model(class_names=NAMES, num_steps=4)
    randomize(model.backbone)
    return Studio(model, "tiny", tmp_path_factory.mktemp("files"))


def run(events):
    """Return the steps and the images of a drawing."""
    *steps, drawn = events
    return steps, drawn


def test_the_images_are_those_of_generate(studio):
    settings = Settings([2, 0], count=3, seed=5, guidance=2.0, low=-3, high=9)
    steps, drawn = run(studio.generate(settings))
    expected = studio.task.generate(
        labels=[2, 0, 2],
        seed=5,
        guidance_scale=2.0,
        guidance_interval=(-3, 9),
    )
    np.testing.assert_array_equal([each.image for each in drawn], expected)
    assert [each.caption for each in drawn] == ["house", "ship", "house"]
    assert [step.number for step in steps] == [1, 2, 3, 4]
    assert all(step.images.shape == (3, 4, 4, 1) for step in steps)


@pytest.mark.any_backend
def test_a_file_repeats_its_image(studio):
    _, drawn = run(studio.generate(Settings([2, 0], count=3, steps=3)))
    again = run(studio.generate(drawn[1].settings))[1]
    np.testing.assert_array_equal(again[0].image, drawn[1].image)
    # `generate --like` reads it.
    read = image_settings.read(drawn[1].path)
    assert (read["number"], read["num_images"]) == (1, 1)
    assert (read["labels"], read["steps"]) == ("2,0", 3)
    assert read["seed"] == drawn[1].settings.seed
    assert drawn[0].path.rpartition("/")[0] != drawn[1].path.rpartition("/")[0]


@pytest.mark.any_backend
def test_edits_are_those_of_the_model(studio):
    model, settings = studio.task, Settings([1], count=2, seed=3)
    image = model.generate(labels=[0], seed=1)[0]
    images, labels = np.stack([image, image]), [1, 1]
    mask = np.eye(4, dtype=bool)
    for events, expected in (
        (
            studio.vary(settings, image, 0.5),
            model.edit(images, labels, 0.5, seed=3),
        ),
        (
            studio.inpaint(settings, image, mask),
            model.inpaint(images, mask, labels, seed=3),
        ),
        (
            studio.interpolate(settings, 7, 8),
            model.interpolate(7, 8, 2, condition=labels),
        ),
        (
            studio.interpolate(settings, image, 8),
            model.interpolate(image, 8, 2, condition=labels),
        ),
    ):
        _, drawn = run(events)
        np.testing.assert_array_equal([each.image for each in drawn], expected)
    _, drawn = run(studio.upscale(settings, image, 2))
    blocks = drawn[0].image.reshape(2, 2, 2, 2).mean((1, 3))
    small = image.reshape(2, 2, 2, 2).mean((1, 3))
    # Clipped pixels may keep an average from being reached.
    assert np.abs(blocks - small).mean() < 30
    assert drawn[0].recorded["command"] == "upscale"


@pytest.mark.any_backend
def test_prompts(tmp_path):
    encoder = make_text_encoder(["red apple"])
    model = ksd.models.TextToImage(
        make_backbone(None, context_dim=8), encoder, num_steps=2
    )
    randomize(model.backbone)
    studio = Studio(model, "text", tmp_path)
    settings = Settings(prompt="apple", negative_prompt="red", count=2, seed=1)
    _, drawn = run(studio.generate(settings))
    expected = model.generate(["apple"] * 2, negative_prompts="red", seed=1)
    np.testing.assert_array_equal([each.image for each in drawn], expected)
    assert image_settings.read(drawn[0].path)["prompt"] == ["apple"]


@pytest.mark.any_backend
def test_a_model_without_conditions(tmp_path):
    studio = Studio(make_model(None, num_steps=2), "plain", tmp_path)
    _, drawn = run(studio.generate(Settings(count=2, seed=1)))
    expected = studio.task.generate(2, seed=1)
    np.testing.assert_array_equal([each.image for each in drawn], expected)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "settings",
    [
        {"count": 17},
        {"count": 0},
        {"count": 1.5},
        {"count": "1"},
        {"steps": 513},
        {"steps": -1},
        {"seed": -1},
        {"seed": "x"},
        {"first": -1},
        {"first": 2**31},
        {"guidance": float("nan")},
        {"guidance": "2"},
        {"low": 3.0, "high": 2.0},
        {"prompt": 501 * "a"},
        {"sampler": "euler"},
        {"classes": [4]},
        {"classes": ["dog"]},
    ],
)
def test_settings_are_bounded(studio, settings):
    with pytest.raises(ksd.InputError):
        list(studio.generate(Settings(**settings)))


@pytest.mark.any_backend
def test_a_closed_drawing_ends_after_its_step():
    numbers, ended = [], threading.Event()

    def draw(on_step_end):
        try:
            for number in range(1, 101):
                numbers.append(number)
                images = np.zeros((1, 4, 4, 1), "uint8")
                on_step_end(DrawingStep(number, 100, np.arange(1), images))
        finally:
            ended.set()

    slots = threading.Semaphore(1)
    events = follow(draw, slots)
    assert next(events).number == 3  # Every third of 100 is shown.
    events.close()
    assert ended.wait(60)
    assert len(numbers) < 100
    assert slots.acquire(timeout=60)


@pytest.mark.any_backend
def test_an_error_of_a_drawing_is_raised():
    def draw(on_step_end):
        raise ksd.InputError("No.")

    with pytest.raises(ksd.InputError, match="No"):
        list(follow(draw, threading.Semaphore(1)))
