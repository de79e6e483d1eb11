"""The preset folders in the package are what the table in tools says."""

import importlib.util
import json
import pathlib

import pytest

from keras_simple_diffusion.utils import presets

TOOL = pathlib.Path(__file__).parents[1] / "tools" / "write_presets.py"
_SPEC = importlib.util.spec_from_file_location("write_presets", TOOL)
write_presets = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(write_presets)


def test_names():
    assert presets.builtin_presets() == sorted(write_presets.CONFIGURATIONS)


@pytest.mark.parametrize("name", presets.builtin_presets())
def test_files_are_up_to_date(name, tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "_FOLDER", tmp_path)
    write_presets.write(name, *write_presets.CONFIGURATIONS[name])
    new = tmp_path / name
    monkeypatch.undo()
    old = presets.preset_folder(name)
    for file in ("config.json", "task.json", "recipe.json", "metadata.json"):
        a, b = (json.loads((f / file).read_text()) for f in (new, old))
        for key in ("date_saved", "keras_version", "keras_hub_version"):
            a.pop(key, None), b.pop(key, None)
        assert a == b, f"{file}: run tools/write_presets.py"
