"""A command that is killed at a file operation and repeated ends the same."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of so many kills one is tried, so that all take half a minute.
SHARES = {"train": 80, "generate": 9, "average": 9, "evaluate": 25, "embed": 13}


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


@pytest.mark.large
@pytest.mark.any_backend
def test_every_operation(shared_data):
    for report in kill(SHARES, shared_data):
        assert report["kills"] > report["operations"]
        assert report["failures"] == []
