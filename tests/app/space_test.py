"""The folder of a Space."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.helpers.commands import error_line
from tests.helpers.commands import run_command
from tests.helpers.models import make_model

pytestmark = pytest.mark.any_backend

DRAW = """
import keras_simple_diffusion
print(keras_simple_diffusion.__file__)
from keras_simple_diffusion.models import Preset
print(Preset.open("model").load().generate(labels=[0], seed=1).tobytes().hex())
"""


def test_a_space_holds_all_that_it_needs(tmp_path):
    model = make_model(num_steps=2)
    model.save_to_preset(tmp_path / "photos" / "preset")
    result = run_command(
        *("app", "--model", "photos", "--export-space", "space"), cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    space = tmp_path / "space"
    names = sorted(path.name for path in space.iterdir())
    assert names == [
        *("README.md", "app.py", "keras_simple_diffusion", "model"),
        "requirements.txt",
    ]
    card = (space / "README.md").read_text()
    assert card.startswith("---\ntitle: photos\n")
    assert "\nsdk: gradio\nsdk_version: 6.31.0\napp_file: app.py\n" in card
    needed = (space / "requirements.txt").read_text().split("\n")
    names = {re.split("[<>=]", line)[0] for line in needed}
    assert {"keras", "gradio", "torch"} <= names
    assert not {"jax", "pytest", "ruff"} & names
    # That of `make test-app`.
    makefile = (pathlib.Path(__file__).parents[2] / "Makefile").read_text()
    assert "gradio==6.31.0" in needed and "gradio==6.31.0" in makefile
    compile((space / "app.py").read_text(), "app.py", "exec")
    assert "'photos'" in (space / "app.py").read_text()
    # The library and the model in the folder draw, without any others.
    environment = {**os.environ, "PYTHONPATH": str(space)}
    drawn = subprocess.run(
        [sys.executable, "-c", DRAW],
        cwd=space,
        env=environment,
        capture_output=True,
        text=True,
    )
    place, pixels = drawn.stdout.split()
    assert place == str(space / "keras_simple_diffusion" / "__init__.py")
    assert bytes.fromhex(pixels) == model.generate(labels=[0], seed=1).tobytes()
    result = run_command(
        *("app", "--model", "photos", "--export-space", "space"), cwd=tmp_path
    )
    assert "holds something already" in error_line(result)


def test_a_model_without_weights_is_refused(tmp_path):
    result = run_command(
        *("app", "--model", "uvit_digits_16", "--export-space", "space"),
        cwd=tmp_path,
    )
    assert "without weights" in error_line(result)
    assert not (tmp_path / "space").exists()
