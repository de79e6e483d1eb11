"""`train`, in this process."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training import train_run
from keras_simple_diffusion.utils.presets import preset_folder
from tests.helpers.commands import run_command


def test_train_fills_the_run_folder(trained):
    place, result = trained
    assert "12 images of 8 x 8 x 3, 2 classes" in result.stdout
    names = {path.name for path in (place / "run").iterdir()}
    assert names == {
        "checkpoints",
        "config.json",
        "history.csv",
        "index.html",
        "levels.png",
        "loss.png",
        "preset",
        "samples.png",
    }
    config = json.loads((place / "run" / "config.json").read_text())
    assert config["recipe"]["steps"] == 7
    assert config["recipe"]["batch_size"] == 4
    assert config["facts"]["versions"]["backend"] == keras.config.backend()
    with (place / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["step"] == "7"
    assert all(float(row["loss"]) > 0 for row in rows)
    with Image.open(place / "run" / "samples.png") as sheet:
        assert sheet.width > 8 * 64
    steps = {path.name for path in (place / "run" / "checkpoints").iterdir()}
    assert steps == {"00000003", "00000006", "00000007"}
    model = ksd.models.DiffusionModel.from_preset(place / "run")
    assert model.class_names == ["blue", "red"]
    assert model.schedule.get_config()["image_size"] == 8


@pytest.mark.any_backend
def test_bad_train_arguments(trained, error_of, tmp_path):
    place, _ = trained
    base = ["train", "--preset", str(place / "preset"), "--output"]
    before = (place / "run" / "config.json").read_text()
    error = error_of(*base, str(place / "run"), "--data", "digits")
    assert "holds something already" in error
    assert (place / "run" / "config.json").read_text() == before
    (tmp_path / "none").mkdir()
    error = error_of(*base, "new", "--data", "none")
    assert "none' holds no images" in error
    data = ["--data", str(place / "images")]
    error = error_of(*base, "new", *data, "--image-size", "9")
    assert "multiples of 2, such as 8x8" in error
    error = error_of(*base, "new", *data, "--steps", "0")
    assert "--steps=0" in error
    error = error_of("train", "--resume", "none")
    assert "There is no run at 'none'" in error
    error = error_of("train", "--resume", str(place / "run"), "--seed", "1")
    assert "keeps its settings" in error and "Received: --seed" in error
    assert "needs --data" in error_of("train")
    error = error_of(*base, "new", *data, "--accumulate", "3")
    assert "multiple of `--accumulate`" in error
    for schedule in ("cosin", "normal:sd=2"):
        error = error_of(*base, "new", *data, "--schedule", schedule)
        assert f"'{schedule}'" in error and "normal" in error
    error = error_of(*base, "new", *data, "--log", "paper")
    assert "loggers are 'tensorboard' and 'wandb'" in error
    refused = run_command(
        *base, "new", *data, "--optimizer", "sgd", cwd=tmp_path
    )
    assert refused.returncode == 2 and "'muon'" in refused.stderr
    start = ["--initialize-from", "uvit_small_64"]
    error = error_of(*base, "new", *data, *start)
    assert "configuration without weights" in error
    assert not (tmp_path / "new").exists()


@pytest.mark.any_backend
def test_options_can_be_read_from_a_file(trained, error_of, tmp_path):
    place, _ = trained
    (tmp_path / "a.toml").write_text(
        f'data = "{place / "images"}"\npreset = "{place / "preset"}"\n'
        'output = "run"\nsteps = 1\nbatch-size = 2\nlearning_rate = 3e-4\n'
        'flip = true\nfrom_scratch = true\nschedule = "normal:std=2"\n'
        'rematerialize = ["none"]\n'
    )
    options = ["--config", "a.toml", "--batch-size", "4", "--no-flip"]
    options += ["--warmup-steps", "3", "--beta-1", "0.8"]
    result = run_command("train", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "The run is in run: open index.html there." in result.stdout
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    recipe = config["recipe"]
    assert (recipe["steps"], recipe["batch_size"]) == (1, 4)
    assert (recipe["learning_rate"], recipe["warmup_steps"]) == (3e-4, 3)
    assert recipe["flip"] is False and recipe["beta_1"] == 0.8
    assert config["initialize_from"] is None
    assert config["rematerialize"] == []
    schedule = ksd.models.Preset.open(tmp_path / "run").part("schedule")
    assert schedule == ksd.schedules.NormalSchedule(std=2, image_size=8)
    for text, message in (
        ("step = 1", "Did you mean 'steps'"),
        ("steps =", "'bad.toml' cannot be read"),
        ("steps = 'many'", "steps"),
        ("data = 3", "must give `--data` as a str"),
        ("schedule = 3", "`--schedule` must be a string"),
        ("plan = []", "Unknown setting 'plan'"),
        ("log = 'wandb'", "must be a list of strings. Received: --log='wandb'"),
    ):
        (tmp_path / "bad.toml").write_text(text)
        base = ["train", "--config", "bad.toml", "--output", "new"]
        base += ["--preset", str(place / "preset")]
        if "data" not in text:
            base += ["--data", str(place / "images")]
        assert message in error_of(*base)
    error = error_of("train", "--config", "none.toml")
    assert "'none.toml' cannot be read" in error
    error = error_of("train", "--resume", "run", "--config", "a.toml")
    assert "Received: --config" in error


@pytest.mark.any_backend
def test_digits_train_a_builtin_preset(tmp_path):
    preset = tmp_path / "preset"
    shutil.copytree(preset_folder("uvit_digits_16"), preset)
    task = json.loads((preset / "task.json").read_text())
    task["config"]["num_steps"] = 2  # Drawing takes longer than training.
    (preset / "task.json").write_text(json.dumps(task))
    model = train_run("digits", tmp_path / "run", preset, steps=1)
    assert model.class_names == [str(digit) for digit in range(10)]
    assert (tmp_path / "run" / "samples.png").exists()


@pytest.mark.any_backend
def test_a_flat_folder_makes_an_unconditional_run(trained, tmp_path):
    # The preset asks for guidance, for which there are no classes here.
    place, _ = trained
    preset = ksd.models.DiffusionModel.from_preset(
        place / "run", guidance_scale=2.0
    )
    preset.save_to_preset(tmp_path / "preset")
    (tmp_path / "preset" / "recipe.json").write_text(
        json.dumps({"steps": 2, "batch_size": 2})
    )
    train_run(place / "images" / "red", tmp_path / "run", tmp_path / "preset")
    model = ksd.models.DiffusionModel.from_preset(tmp_path / "run")
    assert model.backbone.num_classes is None
    assert model.generate(2).shape == (2, 8, 8, 3)


@pytest.mark.any_backend
def test_a_run_starts_from_another_ones_weights(trained, tmp_path):
    place, _ = trained
    train_run(
        place / "images",
        tmp_path / "run",
        place / "preset",
        initialize_from=place / "run",
        steps=1,
        learning_rate=1e-9,
    )
    old, new = (
        ksd.models.DiffusionBackbone.from_preset(folder)
        for folder in (place / "run", tmp_path / "run")
    )
    for a, b in zip(old.weights, new.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["initialize_from"] == str(place / "run")
