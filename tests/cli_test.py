"""The command line: in this process, and where that matters in its own."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion import cli
from keras_simple_diffusion.training import train_run
from keras_simple_diffusion.utils.presets import preset_folder


def run(*arguments, cwd, **environment):
    """Run as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "keras_simple_diffusion", *arguments],
        cwd=cwd,
        env={
            **os.environ,
            "KERAS_BACKEND": keras.config.backend(),
            "COLUMNS": "100",
            **environment,
        },
        capture_output=True,
        text=True,
    )


def one_line_error(text):
    assert "Traceback" not in text
    line = text.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    return line


@pytest.fixture
def error_of(monkeypatch, capsys, tmp_path):
    """Run a command that fails, in this process, and return its error."""

    def run_here(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["keras-simple-diffusion", *arguments])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        assert exit.value.code == 2
        return one_line_error(capsys.readouterr().err)

    return run_here


def test_help_does_not_wait_for_keras(tmp_path):
    result = run("--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 0
    for command in ("train", "generate", "presets"):
        assert command in result.stdout
    imported = {
        line.rsplit("|", 1)[1].strip()
        for line in result.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "typer" in imported
    assert not imported & {
        "keras",
        "numpy",
        "PIL",
        "jax",
        "tensorflow",
        "torch",
    }


def test_presets(tmp_path):
    result = run("presets", cwd=tmp_path)
    assert result.returncode == 0
    assert "uvit_digits_16" in result.stdout and "1.5 M" in result.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("cli")
    for name in ("red", "blue"):
        (place / "images" / name).mkdir(parents=True)
        for i in range(6):
            noise = np.random.default_rng(i).integers(0, 90, (20, 24, 3))
            noise[..., 0 if name == "red" else 2] += 150
            Image.fromarray(noise.astype("uint8")).save(
                place / "images" / name / f"{i}.png"
            )
    preset = place / "preset"
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), (8, 16), (1, 1), num_heads=2, embedding_dim=16
    )
    model = ksd.models.DiffusionModel(backbone, num_steps=4)
    model.save_to_preset(preset)
    (preset / "recipe.json").write_text(
        json.dumps({"steps": 7, "batch_size": 4, "warmup_steps": 2})
    )
    arguments = ["--data", "images", "--preset", "preset", "--output", "run"]
    result = run("train", *arguments, "--checkpoint-every", "3", cwd=place)
    assert result.returncode == 0, result.stderr
    return place, result


def test_train_fills_the_run_folder(trained):
    place, result = trained
    assert "12 images of 8 x 8 x 3, 2 classes" in result.stdout
    names = {path.name for path in (place / "run").iterdir()}
    assert names == {
        "checkpoints",
        "config.json",
        "history.csv",
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
        assert sheet.width > 10 * 64
    steps = {path.name for path in (place / "run" / "checkpoints").iterdir()}
    assert steps == {"00000003", "00000006", "00000007"}
    model = ksd.models.DiffusionModel.from_preset(place / "run")
    assert model.class_names == ["blue", "red"]
    assert model.schedule.get_config()["image_size"] == 8


def test_sigterm_saves_and_resume_goes_on(trained, tmp_path):
    place, _ = trained
    arguments = ["--data", "images", "--preset", "preset", "--output"]
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_simple_diffusion", "train"]
        + [*arguments, str(tmp_path / "run"), "--steps", "100000"],
        cwd=place,
        env={**os.environ, "KERAS_BACKEND": keras.config.backend()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("step 100/"):
            process.send_signal(signal.SIGTERM)
            break
    stdout, stderr = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, stderr
    step = int(re.search(r"saved at step (\d+)", stdout).group(1))
    assert step >= 100 and f"train --resume {tmp_path / 'run'}" in stdout
    assert (tmp_path / "run" / "checkpoints" / f"{step:08d}").is_dir()
    arguments = ["train", "--resume", "run", "--steps", str(step + 2)]
    result = run(*arguments, cwd=tmp_path)  # Not where it was begun.
    assert result.returncode == 0, result.stderr
    assert f"going on from step {step}" in result.stdout
    with (tmp_path / "run" / "history.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps[0] == 100 and steps[-1] == step + 2


def test_generate_from_a_run(trained, tmp_path):
    place, _ = trained
    model = ["--model", str(place / "run")]
    result = run(
        *["generate", *model, "--labels", "red,1,2", "--num-images", "5"],
        *["--steps", "2", "--guidance", "2", "--seed", "0"],
        *["--output", "out/sheet.png"],
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "5 images are in out/sheet.png" in result.stdout
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width > 3 * 64


def test_bad_generate_arguments(trained, error_of, tmp_path):
    place, _ = trained
    model = ["--model", str(place / "run")]
    error = error_of("generate", *model, "--labels", "3")
    assert "[0, 1], or 2 for no class. Received: 3" in error
    error = error_of("generate", *model, "--labels", "red,green")
    assert "no class named 'green'. Its classes: blue, red" in error
    error = error_of("generate", "--model", "uvit_digit")
    assert "Did you mean uvit_digits_16" in error
    error = error_of("generate", "--model", "uvit_digits_16")
    assert "configuration without weights" in error
    error = error_of("generate", *model, "--steps", "0")
    assert "num_steps=0" in error
    error = error_of("generate", *model, "--output", "images.gif")
    assert "file, or a folder. Received: --output images.gif" in error
    error = error_of("generate", *model, "--resume")
    assert "goes on filling a folder" in error
    error = error_of("generate", *model, "--resume", "--output", "new")
    assert "nothing to resume" in error
    error = error_of("generate", *model, "--guidance-interval", "3")
    assert "two log-SNRs, such as -3,3. Received: 3" in error
    error = error_of("generate", *model, "--guidance-interval", "3,-3")
    assert "lower and a higher log-SNR. Received: 3,-3" in error
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def call(trained, monkeypatch, capsys, tmp_path):
    """Run a command on the trained model, in this process."""
    place, _ = trained

    def call_here(command, *arguments):
        monkeypatch.chdir(tmp_path)
        words = [command, "--model", str(place / "run"), "--steps", "3"]
        words += [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["keras-simple-diffusion", *words])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        assert not exit.value.code
        return capsys.readouterr().out

    return call_here


def test_generate_fills_a_folder_and_goes_on(call, error_of, trained, tmp_path):
    place, _ = trained
    options = ["--labels", "red,blue", "--batch-size", "2", "--output", "many"]
    call("generate", *options, "--num-images", "3", "--seed", "5")
    folder = tmp_path / "many"

    def read(name):
        return np.asarray(Image.open(folder / name))

    first = read("000000.png")
    names = sorted(path.name for path in folder.glob("*.png"))
    assert names == ["000000.png", "000001.png", "000002.png"]
    lost = read("000001.png")
    (folder / "000001.png").unlink()
    call("generate", *options, "--num-images", "5", "--resume")
    assert len(list(folder.glob("*.png"))) == 5
    np.testing.assert_array_equal(read("000000.png"), first)
    np.testing.assert_allclose(read("000001.png"), lost, atol=1)
    model = ["--model", str(place / "run"), "--steps", "3"]
    options = [*model, "--labels", "red", "--output", "many"]
    error = error_of("generate", *options)
    assert "holds something already" in error
    error = error_of("generate", *options, "--resume")
    assert "was begun with labels=red,blue. Received: labels=red" in error


def test_generate_draws_the_steps(call, tmp_path):
    options = ["--labels", "0,1", "--sampler", "dpm", "--spacing", "power"]
    call("generate", *options, "--steps-strip", "--output", "strip.png")
    with Image.open(tmp_path / "strip.png") as sheet:
        assert sheet.width > 3 * 64 and sheet.height > 2 * 64


def test_editing_commands(call, error_of, trained, tmp_path):
    place, _ = trained
    red = ["--image", place / "images" / "red" / "0.png"]
    mask = np.zeros((8, 8), "uint8")
    mask[4:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    three = ["--num-images", "3", "--seed", "0"]
    call("edit", *red, *three, "--strength", "0.5", "--labels", "blue")
    call("inpaint", *red, *three, "--mask", "mask.png", "--sampler", "ddim")
    call("upscale", *red, *three, "--factor", "2")
    ends = ["--first", "3", "--second", red[1]]
    call("interpolate", *ends, "--num-images", "3", "--labels", "1")
    for name in ("edited", "inpainted", "upscaled", "interpolated"):
        with Image.open(tmp_path / f"{name}.png") as sheet:
            assert sheet.width > 2 * 64
    model = ["--model", str(place / "run")]
    red = ["--image", str(red[1])]
    error = error_of("edit", *model, *red, "--strength", "2")
    assert "strength=2.0" in error
    error = error_of("upscale", *model, *red, "--factor", "3")
    assert "must divide the model's images of 8 x 8. Received: 3" in error
    (tmp_path / "no.png").write_text("no image")
    error = error_of("edit", *model, "--image", "no.png")
    assert "'no.png' is not a readable image" in error
    error = error_of("edit", *model, *red, "--output", "folder")
    assert "a .png or .jpg file. Received: --output folder" in error


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
    assert "steps=0" in error
    error = error_of("train", "--resume", "none")
    assert "There is no run at 'none'" in error
    error = error_of("train", "--resume", str(place / "run"), "--seed", "1")
    assert "keeps its settings" in error and "Received: --seed" in error
    error = error_of("train", *data)
    assert "needs --output" in error
    error = error_of(*base, "new", *data, "--accumulate", "3")
    assert "multiple of `accumulate`" in error
    error = error_of(*base, "new", *data, "--log", "paper")
    assert "loggers are 'tensorboard' and 'wandb'" in error
    error = error_of(*base, "new", *data, "--optimizer", "sgd")
    assert "sgd" in error
    start = ["--initialize-from", "uvit_small_64"]
    error = error_of(*base, "new", *data, *start)
    assert "configuration without weights" in error
    assert not (tmp_path / "new").exists()


def test_digits_train_a_builtin_preset(tmp_path):
    preset = tmp_path / "preset"
    shutil.copytree(preset_folder("uvit_digits_16"), preset)
    task = json.loads((preset / "task.json").read_text())
    task["config"]["num_steps"] = 2  # Drawing takes longer than training.
    (preset / "task.json").write_text(json.dumps(task))
    model = train_run("digits", tmp_path / "run", preset, steps=1)
    assert model.class_names == [str(digit) for digit in range(10)]
    assert (tmp_path / "run" / "samples.png").exists()


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


def test_unsupported_and_missing_backend(tmp_path):
    arguments = ["generate", "--model", "uvit_digits_16"]
    result = run(*arguments, cwd=tmp_path, KERAS_BACKEND="numpy")
    assert result.returncode == 2
    assert "jax, tensorflow and torch" in one_line_error(result.stderr)
    # A machine without JAX: its finder says there is no such package.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda n, *a: None if n == 'jax' else find(n, *a)\n"
    )
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    result = run(*arguments, cwd=tmp_path, KERAS_BACKEND="jax", PYTHONPATH=path)
    assert result.returncode == 2
    assert "'jax' is not installed" in one_line_error(result.stderr)
