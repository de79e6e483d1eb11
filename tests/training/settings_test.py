"""Settings of runs: nothing hidden, nothing unknown."""

import dataclasses
import inspect
import json

import pytest

from keras_simple_diffusion.cli.distill import distill
from keras_simple_diffusion.cli.train import train
from keras_simple_diffusion.models import Preset
from keras_simple_diffusion.training import Recipe
from keras_simple_diffusion.training import RunSettings
from keras_simple_diffusion.training import distill_run
from keras_simple_diffusion.training import train_run
from keras_simple_diffusion.training.folder import RunFolder
from keras_simple_diffusion.training.settings import names_of_options
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend


def names_of(cls):
    return {field.name for field in dataclasses.fields(cls)}


def test_train_run_names_every_setting():
    parameters = set(inspect.signature(train_run).parameters)
    settings = names_of(Recipe) | names_of(RunSettings)
    settings -= {"recipe", "student", "plan", "facts"}
    assert parameters == settings | {"output", "from_scratch", "unknown"}


def test_options_of_the_command_are_settings_of_the_run():
    options = set(inspect.signature(train).parameters)
    process = {"resume", "coordinator", "num_processes", "process_id"}
    process |= {"config"}
    assert options - process < set(inspect.signature(train_run).parameters)
    options = set(inspect.signature(distill).parameters) - process
    named = set(inspect.signature(distill_run).parameters)
    assert options - named < set(names_of_options())


def test_unknown_settings(tmp_path):
    with pytest.raises(InputError, match="'learnin_rate'.*'learning_rate'"):
        distill_run("emoji_teacher", "digits", tmp_path / "run", learnin_rate=1)
    with pytest.raises(InputError, match="'learnin_rate'.*'learning_rate'"):
        train_run("digits", tmp_path / "run", learnin_rate=1)
    with pytest.raises(InputError, match="aspect_buckets"):
        distill_run(
            "emoji_teacher", "digits", tmp_path / "run", aspect_buckets=5
        )
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
    options["facts"] = {"fingerprint": "a", "num_images": 1}
    settings = RunSettings.from_preset(preset, options)
    assert settings.recipe.steps == 7
    assert settings.recipe.learning_rate == preset.recipe["learning_rate"]
    assert settings.image_size == [24, 24]
    assert settings.data == str(tmp_path.resolve())
    assert settings.dtype is None and settings.stratified is None
    settings.write(tmp_path)
    assert RunSettings.read(tmp_path) == settings


@pytest.mark.parametrize("name", ["vehicles", "digits"])
def test_packaged_data_beside_a_folder_of_this_name(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    preset = Preset.open("uvit_digits_16")
    settings = RunSettings.from_preset(preset, {"data": name})
    assert settings.data == name
    assert settings.override(data=name).data == name
    folder = str((tmp_path / name).resolve())
    assert settings.override(data=f"./{name}").data == folder
    run = RunFolder(f"{name}/run")
    run.check_is_outside(name)
    with pytest.raises(InputError, match="among its own images"):
        run.check_is_outside(f"./{name}")


def test_settings_of_another_version(tmp_path):
    preset = Preset.open("uvit_digits_16")
    RunSettings.from_preset(preset, {"data": "digits"}).write(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["recipe"]["colour"] = 1
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="of this version.*'colour'"):
        RunSettings.read(tmp_path)


def a_run():
    preset = Preset.open("uvit_digits_16")
    facts = {"fingerprint": "a", "num_images": 1}
    return RunSettings.from_preset(preset, {"data": "digits", "facts": facts})


def test_every_field_is_checked():
    settings = a_run()
    for name in names_of(Recipe):
        with pytest.raises(InputError, match=f"`{name}` must be"):
            dataclasses.replace(settings.recipe, **{name: object()})
    for name in names_of(RunSettings) - {"recipe"}:
        with pytest.raises(InputError, match=f"`{name}` must be"):
            dataclasses.replace(settings, **{name: object()})


@pytest.mark.parametrize(
    "name, value",
    [
        ("steps", 0),
        ("steps", 1.5),
        ("steps", True),
        ("steps", 10**400),
        ("batch_size", "4"),
        ("learning_rate", 0),
        ("learning_rate", float("inf")),
        ("beta_1", 1),
        ("ema_decay", -0.1),
        ("clip_norm", 0),
        ("warmup_steps", -1),
        ("flip", 1),
        ("optimizer", "sgd"),
    ],
)
def test_values_of_a_recipe(name, value):
    with pytest.raises(InputError, match=f"In the recipe: `{name}` must"):
        Recipe.from_dict({name: value})


@pytest.mark.parametrize(
    "name, value",
    [
        ("image_size", [8]),
        ("image_size", [8, 0]),
        ("image_size", [8, 10**9]),
        ("minutes", float("nan")),
        ("minutes", -1),
        ("seed", 2**32),
        ("keep", 1),
        ("workers", -1),
        ("crop", "left"),
        ("log", [1]),
        ("facts", {}),
        ("recipe", []),
        ("recipe", {"steps": "many"}),
        ("unknown", 1),
    ],
)
def test_values_of_a_run(tmp_path, name, value):
    a_run().write(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(InputError, match="not the configuration of a run"):
        RunSettings.read(tmp_path)
