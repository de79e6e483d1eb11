"""Every guide runs, in its fast mode, and makes the image it shows."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
GUIDES = sorted((ROOT / "guides").glob("*.py"))
BACKENDS = ["jax", "tensorflow", "torch"]


def _cases():
    """Each guide on one backend, in turn."""
    for number, path in enumerate(GUIDES):
        backend = BACKENDS[number % len(BACKENDS)]
        mark = pytest.mark.any_backend(on=backend)
        yield pytest.param(path, id=path.stem, marks=mark)


@pytest.mark.parametrize("path", list(_cases()))
def test_guide_runs(path, tmp_path):
    environment = {
        **os.environ,
        "KSD_GUIDE_FAST": "1",
        "KERAS_BACKEND": keras.config.backend(),
        "MPLBACKEND": "Agg",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    with Image.open(tmp_path / f"{path.stem}.png") as image:
        assert np.asarray(image.convert("L")).std() > 1.0


@pytest.mark.any_backend
@pytest.mark.parametrize("path", GUIDES, ids=[path.stem for path in GUIDES])
def test_image_of_a_guide_is_there(path):
    assert path.with_suffix(".png").exists()
