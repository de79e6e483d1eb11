"""The command `evaluate`; the evaluation is tested in `tests/evaluation`."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion import cli

pytestmark = pytest.mark.any_backend(on="tensorflow")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a tiny model, and few images in two splits."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "real" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                image = rng.integers(0, 256, (8, 8, 3), "uint8")
                Image.fromarray(image).save(folder / f"{i}.png")
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), channels=(8, 8), blocks=(1, 1), num_classes=2
    )
    model = ksd.models.DiffusionModel(backbone, class_names=["a", "b"])
    model.save_to_preset(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KSD_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def evaluate(place, monkeypatch, shared_data):
    def run(*arguments):
        weights = str(shared_data / "inception2015_fid_fp32.npz")
        command = ["evaluate", "--data", "real", "--feature-weights", weights]
        command += ["--output", "report.json", *arguments]
        monkeypatch.setattr(sys, "argv", ["keras-simple-diffusion", *command])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return exit.value.code

    return run


def test_options_reach_the_evaluation(place, evaluate, capsys):
    options = ["--model", "model", "--metrics", "kid,precision_recall"]
    options += ["--num-images", "6", "--batch-size", "4", "--steps", "2"]
    options += ["--guidance", "1.5", "--guidance-interval", "-3,3"]
    options += ["--sampler", "ddim"]
    assert evaluate(*options, "--seed", "3") == 0
    text = capsys.readouterr().out
    report = json.loads((place / "report.json").read_text())
    (result,) = report["results"]
    assert result["steps"] == 2 and result["guidance"] == 1.5
    assert result["guidance_interval"] == [-3, 3] and result["seed"] == 3
    assert result["sampler"] == "DDIMSampler()" and result["num_images"] == 6
    assert f"{result['scores']['test']['kid']:.4g} ±" in text
    assert "The report is report.json" in text
    assert report["references"] == {"train": 6, "test": 6}
    assert evaluate(*options, "--resume") == 0
    assert json.loads((place / "report.json").read_text()) == report


def test_protocol_fills_in_what_is_not_given(place, evaluate, capsys):
    # Its Inception Score needs logits, which the file does not have.
    options = ["--model", "model", "--protocol", "simple_diffusion"]
    assert evaluate(*options) == 2
    assert "needs logits" in capsys.readouterr().err
    options += ["--metrics", "kid", "--num-images", "4", "--steps", "2"]
    assert evaluate(*options) == 0
    report = json.loads((place / "report.json").read_text())
    (result,) = report["results"]
    assert report["settings"]["protocol"] is None  # It was not followed.
    assert result["sampler"] == "DDPMSampler()" and result["guidance"] == 1
    assert (result["steps"], result["num_images"]) == (2, 4)


def test_errors_are_one_line(place, evaluate, capsys):
    for options, message in (
        (["--metrics", "beauty"], "metrics=['beauty']"),
        (["--steps", "many"], "`--steps` must be a number"),
        (["--guidance-interval", "3,-3"], "--guidance-interval"),
        (["--metrics", "kid", "--clip", "any"], "`--clip` is not used"),
    ):
        assert evaluate("--model", "model", *options) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (place / "report.features").exists()


@pytest.mark.large
def test_killed_and_resumed(place, shared_data):
    weights = str(shared_data / "inception2015_fid_fp32.npz")

    def start(output, *options):
        command = [sys.executable, "-m", "keras_simple_diffusion", "evaluate"]
        command += ["--model", "model", "--data", "real", "--seed", "3"]
        command += ["--metrics", "fid,kid", "--num-images", "320", "--steps"]
        command += ["2", "--batch-size", "32", "--feature-weights", weights]
        return subprocess.Popen([*command, "--output", output, *options])

    assert start("whole.json").wait() == 0
    process = start("killed.json")

    def count():
        return len(list(place.glob("killed.features/steps*/inception/*.npy")))

    while process.poll() is None and count() < 3:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 3 <= count() < 10
    assert not (place / "killed.json").exists()
    assert start("killed.json", "--resume").wait() == 0
    whole, resumed = (
        json.loads((place / name).read_text())
        for name in ("whole.json", "killed.json")
    )
    assert whole == resumed
