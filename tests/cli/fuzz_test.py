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


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KSD_CACHE", str(tmp_path / "cache"))


def test_some_command_lines(world):
    world.check(CommandLines(world.folder).combinations(COUNT, SEED))


@pytest.mark.large
def test_every_value_of_every_option(world):
    world.check(CommandLines(world.folder).singles())


@pytest.mark.large
@pytest.mark.parametrize("seed", range(4))
def test_more_command_lines(world, seed):
    world.check(CommandLines(world.folder).combinations(600, seed))
