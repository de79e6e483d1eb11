"""Settings of runs: nothing hidden, nothing unknown."""

import dataclasses
import inspect
import json

import pytest

from keras_simple_diffusion import cli
from keras_simple_diffusion.cli.train import train
from keras_simple_diffusion.models import Preset
from keras_simple_diffusion.training import Recipe
from keras_simple_diffusion.training import RunSettings
from keras_simple_diffusion.training import train_run
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend


def names_of(cls):
    return {field.name for field in dataclasses.fields(cls)}


def test_train_run_names_every_setting():
    parameters = set(inspect.signature(train_run).parameters)
    settings = names_of(Recipe) | names_of(RunSettings) - {"recipe", "facts"}
    assert parameters == settings | {"output", "unknown"}


def test_options_of_the_command_are_settings_of_the_run():
    options = set(inspect.signature(train).parameters)
    process = {"resume", "coordinator", "num_processes", "process_id"}
    assert options - process < set(inspect.signature(train_run).parameters)


def test_unknown_settings(tmp_path):
    with pytest.raises(InputError, match="'learnin_rate'.*'learning_rate'"):
        train_run("digits", tmp_path / "run", learnin_rate=1)
    with pytest.raises(InputError, match="'lr' in recipe of x"):
        Recipe.from_dict({"lr": 1}, "recipe of x")
    with pytest.raises(InputError, match="learning_rate='fast'"):
        Recipe.from_dict({"learning_rate": "fast"})


def test_unknown_fields_of_a_presets_recipe(tmp_path):
    preset = dataclasses.replace(Preset.open("uvit_digits_16"), recipe={"a": 1})
    with pytest.raises(InputError, match="'a' in the recipe of 'uvit_digits"):
        train_run("digits", tmp_path / "run", preset)
    assert not (tmp_path / "run").exists()


def test_presets_and_options_are_joined(tmp_path):
    preset = Preset.open("uvit_digits_16")
    options = {"data": tmp_path, "steps": 7, "image_size": 24, "log": ("a",)}
    settings = RunSettings.from_preset(preset, options)
    assert settings.recipe.steps == 7
    assert settings.recipe.learning_rate == preset.recipe["learning_rate"]
    assert settings.image_size == [24, 24]
    assert settings.data == str(tmp_path.resolve())
    assert settings.dtype is None and settings.stratified is None
    settings.write(tmp_path)
    assert RunSettings.read(tmp_path) == settings


def test_settings_of_another_version(tmp_path):
    preset = Preset.open("uvit_digits_16")
    RunSettings.from_preset(preset, {"data": "digits"}).write(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["recipe"]["colour"] = 1
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="of this version.*'colour'"):
        RunSettings.read(tmp_path)


@pytest.mark.parametrize("width", ["80", "100"])
def test_the_list_of_presets_is_readable(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr("sys.argv", ["x", "presets"])
    with pytest.raises(SystemExit):
        cli.main()
    lines = capsys.readouterr().out.splitlines()
    first = {line.split()[0]: line for line in lines if line[:1].strip()}
    for name in ("sid2_flop_heavy_imagenet_256", "uvit_digits_16"):
        described = Preset.open(name).metadata["description"]
        assert described.split()[0] in first[name]
    assert max(map(len, lines)) <= int(width)
