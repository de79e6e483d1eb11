"""The README's example runs as written, with a shorter training."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.any_backend

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"


def test_python_example_runs(tmp_path):
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    example = examples[0]
    assert len(example.strip().splitlines()) <= 25
    assert "epochs=5" in example
    example = example.replace("epochs=5", "epochs=1")
    result = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("*.png"))


def test_images_are_there():
    for name in re.findall(r"!\[.*?\]\((.*?)\)", README.read_text()):
        assert (README.parent / name).is_file(), name
