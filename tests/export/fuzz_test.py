"""Exports with options at random: a folder that draws, or one line."""

import pytest

from tests.helpers.fuzz import CommandLines
from tests.helpers.fuzz import World
from tests.helpers.fuzz import write_world

pytest.importorskip("tf2onnx", reason='needs pip install -e ".[export]"')

pytestmark = pytest.mark.any_backend(on="tensorflow")


def test_some_exports(tmp_path):
    folder = tmp_path / "world"
    folder.mkdir()
    write_world(folder)
    lines = CommandLines(folder).combinations(60, seed=1, of="export")
    World(folder).check(lines)
