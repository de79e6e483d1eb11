"""Commands in a terminal: what a person sees of them."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from keras_simple_diffusion.utils.terminal import wrap
from tests.helpers.commands import environment

FOREIGN = re.compile(
    r"tensorflow|oneDNN|cuda|absl|XLA|deprecat|WARNING|[IWE]\d{4} ",
    re.IGNORECASE,
)
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"

SIZES = [(24, 80), (40, 120)]


def run_in_terminal(*words, cwd, rows, columns):
    """Run a command in a terminal; return all that it shows."""
    outer, inner = pty.openpty()
    size = struct.pack("HHHH", rows, columns, 0, 0)
    fcntl.ioctl(inner, termios.TIOCSWINSZ, size)
    variables = environment(PYTHONWARNINGS="", TERM="xterm")
    for name in ("TF_CPP_MIN_LOG_LEVEL", "COLUMNS", "LINES"):
        variables.pop(name, None)
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
    assert process.wait() == 0, shown.decode()
    return shown.decode()


def check_terminal(shown, columns, result):
    """Check what a successful command shows.

    Args:
        shown: All that was written to the terminal.
        columns: Width of the terminal.
        result: Place of the result, which the last line names.

    Returns:
        The lines without control sequences, also those written over.
    """
    lines = re.split(r"[\r\n]+", CONTROL.sub("", shown).rstrip())
    # The names of the backends are part of what `train` says of itself.
    own = re.compile(r"on tensorf|tensorflow on")
    foreign = [x for x in lines if FOREIGN.search(own.sub("", x))]
    assert not foreign
    # A command is not divided: it is there to be copied.
    told = [line for line in lines if "keras-simple-diffusion" not in line]
    assert max(map(len, told)) <= columns
    assert result in lines[-1]
    # Each bar hides the cursor, and shows it again when it is closed.
    assert shown.count(HIDE_CURSOR) == shown.count(SHOW_CURSOR) > 0
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)
    return lines


@pytest.mark.parametrize("rows, columns", SIZES)
def test_what_a_person_sees(trained, tmp_path, rows, columns):
    place, _ = trained

    def run(*words):
        return run_in_terminal(*words, cwd=tmp_path, rows=rows, columns=columns)

    images = ["--data", str(place / "images")]
    options = ["--preset", str(place / "preset"), "--from-scratch"]
    shown = run("train", *images, *options, "--steps", "3", "--output", "new")
    lines = check_terminal(shown, columns, "--model new")
    assert "The run is in new: open index.html there." in lines
    assert any(re.match(r".*3/3  loss \d", line) for line in lines)
    assert any(re.match(r"samples .*100%", line) for line in lines)

    model = ["--model", "new", "--steps", "2"]
    shown = run("generate", *model, "--labels", "red")
    lines = check_terminal(shown, columns, "images.png")
    assert any(re.match(r"drawing .*100%", line) for line in lines)

    bits = ["--metrics", "bits_per_dimension", "--num-images", "4"]
    shown = run("evaluate", *model, *images, *bits)
    lines = check_terminal(shown, columns, "report")
    assert any(re.match(r"bits per dimension.*100%", line) for line in lines)


@pytest.mark.parametrize("rows, columns", SIZES)
@pytest.mark.any_backend
def test_the_plan_fits_the_terminal(trained, tmp_path, rows, columns):
    place, _ = trained
    words = ["--data", str(place / "images"), "--minutes", "0.02"]
    shown = run_in_terminal(
        *("train", *words, "--output", "new"),
        cwd=tmp_path,
        rows=rows,
        columns=columns,
    )
    lines = check_terminal(shown, columns, "--model new")
    labels = ("data", "network", "size", "schedule", "mirroring", "time")
    for label in labels:
        assert any(line.startswith(f"{label}  ") for line in lines)


@pytest.mark.any_backend
def test_lines_are_wrapped_below_their_text():
    line = "time       about 13 s: 14 images/s, measured here (--minutes)"
    assert wrap(f"{line}\n\n  a b c", 30).split("\n") == [
        "time       about 13 s: 14",
        "           images/s, measured",
        "           here (--minutes)",
        "",
        "  a b c",
    ]
    assert wrap("The path a/very/long-path/to/it", 10).split("\n") == [
        "The path",
        "a/very/long-path/to/it",
    ]
