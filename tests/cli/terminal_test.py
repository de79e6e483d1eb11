"""Commands in a terminal: no line of another library."""

import os
import pty
import re
import subprocess
import sys

from tests.helpers.commands import environment
from tests.helpers.models import make_model

FOREIGN = re.compile(
    r"tensorflow|oneDNN|cuda|absl|XLA|deprecat|WARNING|[IWE]\d{4} ",
    re.IGNORECASE,
)


def run_in_terminal(*words, cwd):
    """Run a command in a terminal; return its status and all that it shows."""
    outer, inner = pty.openpty()
    variables = environment(PYTHONWARNINGS="")
    variables.pop("TF_CPP_MIN_LOG_LEVEL", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_simple_diffusion", *words],
        cwd=cwd,
        env=variables,
        stdin=inner,
        stdout=inner,
        stderr=inner,
    )
    os.close(inner)
    shown = b""
    while True:
        try:
            part = os.read(outer, 65536)
        except OSError:  # The end of the process, on Linux.
            part = b""
        if not part:
            break
        shown += part
    os.close(outer)
    return process.wait(), shown.decode()


def test_generate_shows_no_foreign_line(tmp_path):
    make_model().save_to_preset(tmp_path / "model")
    options = ["--model", "model", "--labels", "1", "--steps", "1"]
    status, shown = run_in_terminal("generate", *options, cwd=tmp_path)
    assert status == 0, shown
    assert not FOREIGN.search(shown)
    assert "images.png" in shown.splitlines()[-1]
    assert re.search("drawing .*100%", shown)
