"""Behaviour that needs a separate process, each on one backend."""

import csv
import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from tests.helpers.commands import environment
from tests.helpers.commands import error_line
from tests.helpers.commands import run_command
from tests.helpers.commands import run_process


@pytest.mark.any_backend
def test_help_does_not_wait_for_keras(tmp_path):
    result = run_process("--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
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


@pytest.mark.any_backend
def test_presets(tmp_path):
    result = run_command("presets", cwd=tmp_path)
    assert result.returncode == 0
    assert "uvit_digits_16" in result.stdout and "1.5 M" in result.stdout


# JAX warns of any fork; here another program takes the child's place at once.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.any_backend
def test_ctrl_c_in_a_terminal(trained, tmp_path):
    place, _ = trained
    command = [sys.executable, "-m", "keras_simple_diffusion", "train"]
    command += ["--data", "images", "--preset", "preset", "--steps", "100000"]
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(place)
        os.execve(
            command[0],
            [*command, "--output", str(tmp_path / "run")],
            {**environment(), "TERM": "xterm", "COLUMNS": "80"},
        )
    shown = b""
    while True:
        try:
            part = os.read(terminal, 2**16)
        except OSError:  # The other end is closed.
            break
        if b"images/s" in part and b"images/s" not in shown:
            os.write(terminal, b"\x03")
        shown += part
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGINT, shown
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\^C", "", shown.decode())
    assert "saving after this step; again to leave at once" in text
    live = [line for line in text.splitlines() if "images/s" in line]
    assert "loss 0." in live[-1] and "left  saves in" in live[-1]
    assert max(map(len, live)) <= 80
    # The line is closed, and what comes after it stands by itself.
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")
    last = text.splitlines()[-1]
    assert last == "Images: keras-simple-diffusion generate --model " + str(
        tmp_path / "run"
    )
    assert "Continue: keras-simple-diffusion train --resume" in text
    for name in ("loss.png", "levels.png", "index.html", "preset"):
        assert (tmp_path / "run" / name).exists()


@pytest.mark.any_backend(on="tensorflow")
def test_sigterm_saves_and_resume_goes_on(trained, tmp_path):
    place, _ = trained
    arguments = ["--data", "images", "--preset", "preset", "--output"]
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_simple_diffusion", "train"]
        + [*arguments, str(tmp_path / "run"), "--steps", "100000"],
        cwd=place,
        env=environment(),
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
    result = run_command(*arguments, cwd=tmp_path)  # Not where it was begun.
    assert result.returncode == 0, result.stderr
    assert f"going on from step {step}" in result.stdout
    with (tmp_path / "run" / "history.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps[0] == 100 and steps[-1] == step + 2


@pytest.mark.any_backend
def test_unsupported_and_missing_backend(tmp_path):
    arguments = ["generate", "--model", "uvit_digits_16"]
    result = run_process(*arguments, cwd=tmp_path, KERAS_BACKEND="numpy")
    line = error_line(result)
    assert "jax, tensorflow, torch and, without training, openvino" in line
    assert "KERAS_BACKEND=numpy" in line
    # A machine without JAX: its finder says there is no such package.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda n, *a: None if n == 'jax' else find(n, *a)\n"
    )
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    result = run_process(
        *arguments, cwd=tmp_path, KERAS_BACKEND="jax", PYTHONPATH=path
    )
    assert "'jax' is not installed" in error_line(result)


@pytest.mark.any_backend
@pytest.mark.parametrize("word", ["--version", "presets"])
def test_other_commands_import_no_backend(tmp_path, word):
    result = run_process(word, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 0 and result.stdout
    names = {x.rsplit("|", 1)[-1].strip() for x in result.stderr.splitlines()}
    assert "keras_simple_diffusion" in names
    assert not names & {"keras", "keras_hub", "jax", "tensorflow", "torch"}
