"""Imports of a package in TensorFlow's place, which writes what it writes."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.any_backend

LOG = (
    "WARNING: All log messages before absl::InitializeLog() is called are\n"
    "I0000 00:00:1795934165.121142   25790 port.cc:153] oneDNN is on.\n"
    "2026-11-29 06:00:00.123456: W tensorflow/core/util.cc:1] slow\n"
)


@pytest.fixture
def import_it(tmp_path):
    """Import a package `tensorflow` that writes its log and goes on."""

    def run(code, **environment):
        (tmp_path / "tensorflow.py").write_text(
            f"import os\nos.write(2, {LOG.encode()!r})\n{code}\n"
        )
        program = (
            "import importlib.util, keras_simple_diffusion\n"
            "importlib.util.find_spec('tensorflow')\n"
            "import tensorflow\n"
            "os = tensorflow.os\n"
            "print(os.environ.get('TF_CPP_MIN_LOG_LEVEL'))\n"
            "os.write(2, b'E0000 00:00:1.1 1 after] shown\\n')\n"
        )
        kept = {k: v for k, v in os.environ.items() if "TF_CPP" not in k}
        path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        return subprocess.run(
            [sys.executable, "-c", program],
            env={**kept, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
        )

    return run


def test_only_the_log_is_hidden(import_it):
    result = import_it("os.write(2, b'Something else.\\n')")
    assert result.returncode == 0
    assert result.stderr == "Something else.\nE0000 00:00:1.1 1 after] shown\n"
    assert result.stdout == "3\n"


def test_nothing_is_hidden_when_asked(import_it):
    result = import_it("", KSD_VERBOSE="1")
    assert result.stderr.startswith(LOG) and result.stdout == "None\n"


def test_a_level_that_is_set_is_kept(import_it):
    assert import_it("", TF_CPP_MIN_LOG_LEVEL="1").stdout == "1\n"


def test_a_failed_import_shows_everything(import_it):
    result = import_it("raise RuntimeError('broken')")
    assert result.returncode == 1
    assert LOG in result.stderr and "broken" in result.stderr


def test_a_crash_is_shown(import_it):
    result = import_it("os.abort()")
    assert result.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in result.stderr
    assert "tensorflow.py" in result.stderr


def test_grain_says_nothing_of_a_missing_jax():
    program = (
        "import sys\nsys.modules['jax'] = None\n"
        "import keras_simple_diffusion as ksd\nksd.data.load_digits"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and result.stderr == ""
