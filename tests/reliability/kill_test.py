"""A command that is killed at a file operation and repeated ends the same."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from keras_simple_diffusion.training.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of so many kills one is tried, so that all take half a minute.
SHARES = {
    **{"train": 80, "distill": 80, "generate": 9, "average": 9},
    **{"evaluate": 25, "embed": 13},
}


def kill(commands, shared_data):
    """Kill commands at some of their file operations; return the reports."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.reliability.kill_program", *commands],
        cwd=ROOT,
        env={**os.environ, "KSD_SHARED_DATA": str(shared_data)},
        capture_output=True,
        text=True,
    )
    lines = [line for line in result.stdout.splitlines() if line[:1] == "{"]
    assert len(lines) == len(commands), result.stderr
    return [json.loads(line) for line in lines]


@pytest.mark.any_backend
def test_some_operations(shared_data):
    commands = [f"{command}:{share}" for command, share in SHARES.items()]
    for report in kill(commands, shared_data):
        assert report["kills"] >= 4, report
        assert report["failures"] == []


# A step takes a minute of this clock, and the process dies after 15.
BY_CLOCK = """
import os, signal, sys
from keras_simple_diffusion import cli
from keras_simple_diffusion.training import lifecycle

steps = []
def minutes():
    if len(steps) == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    return 60.0 * len(steps)

class Counter(lifecycle.Counter):
    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        steps.append(batch)

lifecycle.Counter = Counter
lifecycle.Saving.__init__.__defaults__ = (None, minutes)
sys.argv = ["keras-simple-diffusion", "train", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.any_backend
def test_a_run_with_default_options_loses_at_most_ten_minutes(tmp_path):
    options = ["--data", "digits", "--preset", "uvit_digits_16"]
    options += ["--batch-size", "2", "--steps", "100", "--output", "run"]
    killed = subprocess.run(
        [sys.executable, "-c", BY_CLOCK, *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    _, state = Checkpoints(tmp_path / "run" / "checkpoints").latest()
    assert 15 - state["step"] <= 10


@pytest.mark.large
@pytest.mark.any_backend
def test_every_operation(shared_data):
    for report in kill(SHARES, shared_data):
        assert report["kills"] > report["operations"]
        assert report["failures"] == []
