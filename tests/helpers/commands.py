"""Commands, run in this process, or in their own as a user does."""

import contextlib
import io
import os
import subprocess
import sys

import keras
import pytest

from keras_simple_diffusion import cli


def run_command(*arguments, cwd, **changes):
    """Run a command in this process.

    Args:
        *arguments: Words of the command line.
        cwd: Working directory.
        **changes: Changed variables of the environment.

    Returns:
        A `subprocess.CompletedProcess`, as `run_process` returns.
    """
    words = [str(argument) for argument in arguments]
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        contextlib.redirect_stderr(io.StringIO()) as stderr,
    ):
        patch.setattr(sys, "argv", ["keras-simple-diffusion", *words])
        for name, value in {"COLUMNS": "100", **changes}.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as exit:
            cli.main()
    return subprocess.CompletedProcess(
        words, exit.value.code or 0, stdout.getvalue(), stderr.getvalue()
    )


def environment(**changes):
    """Return the environment of a process on the backend of this one."""
    backend = {"KERAS_BACKEND": keras.config.backend(), "COLUMNS": "100"}
    return {**os.environ, **backend, **changes}


def run_process(*arguments, cwd, **changes):
    """Run a command in a process of its own, in a changed environment."""
    return subprocess.run(
        [sys.executable, "-m", "keras_simple_diffusion", *arguments],
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
    )


def error_line(result):
    """Return the error of a failed command, which takes one line."""
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    return line
