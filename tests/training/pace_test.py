"""A training with a time limit that is slower than planned."""

import csv
import json

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training import Recipe
from keras_simple_diffusion.training import train_run
from keras_simple_diffusion.training.lifecycle import Pace
from keras_simple_diffusion.training.lifecycle import Position

STEPS, COOLDOWN = 40, 12


@pytest.fixture
def slow(monkeypatch):
    """Let each step take 3 seconds of one minute, so 20 of 40 steps fit."""
    monkeypatch.setattr(Position, "seconds", lambda self: 3.0 * self.step)


def test_the_learning_rate_still_falls_to_zero(slow, tmp_path, capsys):
    network = ksd.models.UViTBackbone(
        (8, 8, 1), (8, 16), (1, 1), num_heads=2, num_classes=10
    )
    model = ksd.models.DiffusionModel(network, num_steps=2)
    model.save_to_preset(tmp_path / "preset")
    train_run(
        "digits",
        tmp_path / "run",
        tmp_path / "preset",
        steps=STEPS,
        batch_size=4,
        warmup_steps=1,
        cooldown_steps=COOLDOWN,
        learning_rate=1e-3,
        minutes=1,
    )
    assert "slower than planned" in capsys.readouterr().out
    # Due after 42 of 60 s, at step 14; 95 % of 18 s are 5 further steps.
    recipe = json.loads((tmp_path / "run/config.json").read_text())["recipe"]
    assert (recipe["steps"], recipe["cooldown_steps"]) == (19, 5)
    with (tmp_path / "run/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    assert steps == list(range(1, 20))
    # Of the update that comes next.
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates[:14], 1e-3, rtol=1e-5)
    np.testing.assert_allclose(
        rates[14:], 1e-3 * np.array([0.8, 0.6, 0.4, 0.2, 0]), atol=1e-8
    )


@pytest.mark.parametrize("step, steps", [(26, None), (25, 35), (10, 14)])
def test_only_a_late_training_is_shortened(step, steps):
    recipe = Recipe(steps=STEPS, cooldown_steps=COOLDOWN)
    position = Position(step=step, earlier_seconds=42.0)
    pace = Pace(position, recipe, minutes=1)
    pace.set_model(network := ksd.models.UViTBackbone((4, 4, 1), (8,), (1,)))
    pace.on_epoch_end(0)
    assert getattr(network, "stop_training", False) == (steps is not None)
    assert (pace.shortened and pace.shortened.steps) == steps


def test_nothing_is_decided_before_the_time_of_the_cooldown():
    position = Position(step=2, earlier_seconds=41.0)
    pace = Pace(position, Recipe(steps=STEPS, cooldown_steps=COOLDOWN), 1)
    pace.on_epoch_end(0)  # The cool-down is not due yet.
    assert pace.shortened is None
