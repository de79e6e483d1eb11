"""Drawing can be followed step by step, which changes no image."""

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.generation import programs
from keras_simple_diffusion.utils import bars
from tests.helpers.models import make_backbone
from tests.helpers.models import make_model
from tests.helpers.models import make_text_encoder


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(programs, "_SECONDS", 0.0)


@pytest.mark.parametrize("sampler", ["ddpm", "dpm", "heun:churn=2"])
def test_images_are_the_same_while_they_are_watched(every_step, sampler):
    model, counts = make_model(), []
    options = {"labels": [0, 1, 2, 0], "num_steps": 5, "seed": 1}
    options |= {"sampler": sampler, "batch_size": 2}
    images = model.generate(**options)
    with bars.watching(counts.append):
        watched = model.generate(**options)
    np.testing.assert_array_equal(watched, images)
    np.testing.assert_allclose(counts, 10 * [2 / 5])
    assert len(model.programs) == 1
    model.generate(**options)
    assert len(counts) == 10


@pytest.mark.any_backend
def test_edits_are_the_same_while_they_are_watched(every_step):
    model, counts = make_model(), []
    options = {"strength": 0.5, "num_steps": 6, "seed": 2}
    images = model.generate(labels=[0, 1], num_steps=2, seed=0)
    edited = model.edit(images, [1, 2], **options)
    with bars.watching(counts.append):
        watched = model.edit(images, [1, 2], **options)
    np.testing.assert_array_equal(watched, edited)
    np.testing.assert_allclose(counts, 3 * [2 / 3])


@pytest.mark.any_backend
def test_a_watcher_can_end_the_drawing(every_step):
    model, counts = make_model(), []

    def stop(count):
        counts.append(count)
        raise InterruptedError

    options = {"labels": [0], "num_steps": 4, "seed": 3}
    with pytest.raises(InterruptedError), bars.watching(stop):
        model.generate(**options)
    assert counts == [0.25]
    assert model.generate(**options).shape == (1, 4, 4, 1)


# === Clean images of each step ===


@pytest.mark.parametrize("sampler", ["ddpm", "dpm", "heun:churn=2"])
def test_each_step_shows_the_clean_images_predicted_in_it(sampler):
    model, steps = make_model(), []
    options = {"labels": [0, 1, 2], "num_steps": 5, "seed": 1}
    options |= {"sampler": sampler, "batch_size": 2, "guidance_scale": 1.5}
    images = model.generate(**options)
    shown = model.generate(**options, on_step_end=steps.append)
    np.testing.assert_array_equal(shown, images)
    assert len(model.programs) == 1
    numbers = [(step.number, step.num_steps) for step in steps]
    assert numbers == 2 * [(i, 5) for i in range(1, 6)]
    _, _, clean = model.generate(**options, return_steps=True)
    indices = [[0, 1], [2, 2]]
    for at, step in enumerate(steps):
        batch, number = divmod(at, 5)
        np.testing.assert_array_equal(step.indices, indices[batch])
        expected = clean[indices[batch], number]
        # With the images of all steps it is another program.
        difference = step.images.astype(int) - expected
        assert np.abs(difference).max() <= 1


@pytest.mark.any_backend
def test_each_step_of_an_edit_is_shown():
    model, steps = make_model(), []
    images = model.generate(labels=[0, 1], num_steps=2, seed=0)
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    model.inpaint(images, mask, [1, 2], num_steps=3, on_step_end=steps.append)
    for step in steps:
        np.testing.assert_array_equal(step.images[:, 2:], images[:, 2:])
    assert len(steps) == 3
    model.edit(images, [1, 2], 0.5, num_steps=6, on_step_end=steps.append)
    assert [step.number for step in steps[3:]] == [1, 2, 3]
    assert {step.num_steps for step in steps[3:]} == {3}


@pytest.mark.any_backend
def test_steps_of_a_portrait_are_upright():
    encoder = make_text_encoder(["red apple"])
    backbone = make_backbone(
        None, image_shape=(4, 8, 1), context_dim=8, portrait_flag=True
    )
    model, steps = ksd.models.TextToImage(backbone, encoder), []
    image = model.generate(
        "apple", portrait=True, num_steps=2, seed=3, on_step_end=steps.append
    )
    assert image.shape == (8, 4, 1)
    assert [step.images.shape for step in steps] == 2 * [(1, 8, 4, 1)]


@pytest.mark.any_backend
def test_a_step_can_end_the_drawing():
    model, steps = make_model(), []

    def stop(step):
        steps.append(step)
        if step.number == 2:
            raise InterruptedError

    options = {"labels": [0], "num_steps": 4, "seed": 3}
    with pytest.raises(InterruptedError):
        model.generate(**options, on_step_end=stop)
    assert len(steps) == 2
    assert model.generate(**options).shape == (1, 4, 4, 1)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "options", [{"on_step_end": 3}, {"return_steps": True}]
)
def test_steps_that_cannot_be_shown_are_refused(options):
    options = {"on_step_end": print, **options}
    with pytest.raises(ksd.InputError, match="`on_step_end` must be"):
        make_model().generate(labels=[0], num_steps=2, **options)
