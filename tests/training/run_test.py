"""A run that is cut short goes on as if nothing had happened."""

import csv
import json
import os
import pathlib
import signal

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training import Interrupted
from keras_simple_diffusion.training import resume_run
from keras_simple_diffusion.training import train_run
from keras_simple_diffusion.training.checkpoint import Checkpoints
from keras_simple_diffusion.training.position import StepCallback
from keras_simple_diffusion.training.saving import Saving
from keras_simple_diffusion.utils.errors import InputError

STEPS = 8
BACKBONES = {
    "uvit": (ksd.models.UViTBackbone, {}),
    "unet": (ksd.models.UNetBackbone, {"attention_levels": (1,)}),
}


def write_preset(folder, kind, **recipe):
    backbone, arguments = BACKBONES[kind]
    network = backbone(
        (8, 8, 1),
        (8, 16),
        (1, 1),
        num_heads=2,
        dropout=0.2,
        num_classes=10,
        embedding_dim=16,
        **arguments,
    )
    model = ksd.models.DiffusionModel(network, num_steps=2)
    model.save_to_preset(folder)
    recipe = {"batch_size": 4, "warmup_steps": 2, "steps": STEPS, **recipe}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_preset(tmp_path_factory.mktemp("preset"), "uvit", accumulate=2)


@pytest.fixture
def terminate(monkeypatch):
    """Send this process a signal after a number of its steps."""

    def terminate_after(steps, number=signal.SIGTERM):
        done = []

        def count(self):
            done.append(1)
            if len(done) == steps:
                os.kill(os.getpid(), number)
            on_step_end(self)

        monkeypatch.setattr(Saving, "on_step_end", count)

    on_step_end = Saving.on_step_end
    yield terminate_after


def last_arrays(run):
    arrays, state = Checkpoints(run / "checkpoints").latest()
    with arrays:
        return {name: arrays[name] for name in arrays.keys()}, state


def history(run):
    with (run / "history.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "pictures_per_second", "waiting")}
            for row in csv.DictReader(file)
        ]


def assert_equal_runs(first, second):
    (ours, _), (theirs, _) = last_arrays(first), last_arrays(second)
    assert set(ours) == set(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert history(first) == history(second)


@pytest.mark.parametrize("kind", BACKBONES)
def test_interrupted_and_resumed_is_as_straight(kind, tmp_path, terminate):
    preset = write_preset(tmp_path / "preset", kind, accumulate=2)
    train_run("digits", tmp_path / "straight", preset)
    terminate(3)
    with pytest.raises(Interrupted) as interrupted:
        train_run("digits", tmp_path / "cut", preset)
    assert interrupted.value.step == 3
    assert Checkpoints(tmp_path / "cut" / "checkpoints").steps()[-1] == 3
    terminate(2)
    with pytest.raises(Interrupted):
        resume_run(tmp_path / "cut")
    terminate(0)
    resume_run(tmp_path / "cut")
    assert_equal_runs(tmp_path / "straight", tmp_path / "cut")
