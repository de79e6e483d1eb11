"""Drawing can be followed step by step, which changes no image."""

import numpy as np
import pytest

from keras_simple_diffusion.generation import programs
from keras_simple_diffusion.utils import bars
from tests.helpers.models import make_model


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
