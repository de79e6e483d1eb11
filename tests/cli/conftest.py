import json

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from tests.helpers.commands import error_line
from tests.helpers.commands import run_command


@pytest.fixture
def error_of(tmp_path):
    """Run a command that fails, in this process, and return its error."""

    def run(*arguments):
        return error_line(run_command(*arguments, cwd=tmp_path))

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Folder of images, a preset and a run, and the output of the training."""
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
    result = run_command(
        "train", *arguments, "--checkpoint-every", "3", cwd=place
    )
    assert result.returncode == 0, result.stderr
    return place, result


@pytest.fixture
def call(trained, tmp_path):
    """Run a command on the trained model, in this process."""
    place, _ = trained

    def run(command, *arguments):
        model = ["--model", place / "run", "--steps", "3"]
        result = run_command(command, *model, *arguments, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run
