"""Command lines at random: done, or one line and nothing half-written."""

import pytest

from tests.helpers.fuzz import CommandLines
from tests.helpers.fuzz import World
from tests.helpers.fuzz import write_world

pytestmark = pytest.mark.any_backend

COUNT = 420
SEED = 26


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "world"
    folder.mkdir()
    write_world(folder)
    return World(folder)


def check(world, lines, monkeypatch, tmp_path):
    monkeypatch.setenv("KSD_CACHE", str(tmp_path / "cache"))
    faults = []
    for words in lines:
        found = world.breaches(words)
        if found:
            shown = " ".join(repr(word[:60]) for word in words)
            faults.append("\n".join([shown, *found]))
    report = "\n\n".join(faults)
    assert not faults, f"{len(faults)} of {len(lines)} command lines\n{report}"


def test_some_command_lines(world, monkeypatch, tmp_path):
    lines = CommandLines(world.folder).combinations(COUNT, SEED)
    check(world, lines, monkeypatch, tmp_path)


@pytest.mark.large
def test_every_value_of_every_option(world, monkeypatch, tmp_path):
    check(world, CommandLines(world.folder).singles(), monkeypatch, tmp_path)


@pytest.mark.large
@pytest.mark.parametrize("seed", range(4))
def test_more_command_lines(world, monkeypatch, tmp_path, seed):
    lines = CommandLines(world.folder).combinations(600, seed)
    check(world, lines, monkeypatch, tmp_path)
