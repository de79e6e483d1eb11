"""Plans: what is chosen for some data, and a run that follows one."""

import json

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.training import Recipe
from keras_simple_diffusion.training import plan as make_plan
from keras_simple_diffusion.training import train_run
from keras_simple_diffusion.training.planning import DataFacts
from keras_simple_diffusion.training.planning import choose
from keras_simple_diffusion.training.planning import collect_facts
from keras_simple_diffusion.training.planning import count_classes
from keras_simple_diffusion.training.planning import output_for
from keras_simple_diffusion.training.settings import field_names
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend


def write_images(folder, size, count=4, gray=False, captions=False):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lines = []
    for index in range(count):
        pixels = rng.integers(0, 255, (*size, 1 if gray else 3), "uint8")
        if gray:
            pixels = np.repeat(pixels, 3, axis=-1)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        row = {"file_name": f"{index}.png", "text": f"image {index}"}
        lines.append(json.dumps(row))
    if captions:
        (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_the_plan_of_digits_fits_into_the_minutes():
    plan = make_plan("digits", minutes=1)
    assert str(plan).count("\n") == 5
    found = plan.settings
    assert found["preset"] == "uvit_digits_16"
    assert found["image_size"] == [16, 16]
    assert found["flip"] is False
    assert "initialize_from" not in found
    images = found["steps"] * found["batch_size"]
    assert images <= 60 * plan.images_per_second
    assert found["warmup_steps"] + found["cooldown_steps"] < found["steps"]


def plan_of(speed=9.0, is_cpu=True, from_scratch=False, facts=None, **options):
    """Plan for photographs, at a given speed of every network."""
    facts = DataFacts(
        **{
            "count": 300,
            "held_out": 0,
            "width": 90.0,
            "height": 70.0,
            "side": 70.0,
            "is_gray": False,
            "is_flat": False,
            "class_names": None,
            "has_captions": False,
            **(facts or {}),
        }
    )
    return choose(
        facts, lambda *_: speed, is_cpu, from_scratch, {"data": "x", **options}
    )


@pytest.mark.parametrize(
    "facts, preset, size, flip",
    [
        ({}, "photos_64", [64, 64], True),
        ({"side": 40.0}, "photos_64", [32, 32], True),
        (
            {"has_captions": True, "is_flat": True},
            "emoji_teacher",
            [64, 64],
            False,
        ),
        ({"is_flat": True}, "photos_64", [64, 64], False),
        ({"class_names": ["a", "b", "7"]}, "photos_64", [64, 64], False),
        ({"class_names": ["a", "bee"]}, "photos_64", [64, 64], True),
        ({"is_gray": True}, "photos_64", [64, 64], True),
        ({"is_gray": True, "side": 8.0}, "uvit_digits_16", [16, 16], False),
        ({"is_gray": True, "side": 28.0}, "uvit_digits_16", [32, 32], False),
    ],
)
def test_network_and_size_are_those_of_the_data(facts, preset, size, flip):
    plan = plan_of(facts=facts)
    assert plan.settings["preset"] == preset
    assert plan.settings["image_size"] == size
    assert plan.settings["flip"] is flip
    assert Preset.open(preset).has_weights == (
        plan.settings.get("initialize_from") == preset
    )


def test_photographs_with_captions_start_from_those_without():
    facts = {"has_captions": True}
    plan = plan_of(facts=facts)
    assert plan.settings["preset"] == "uvit_photos_text_64"
    assert plan.settings["initialize_from"] == "photos_64"
    assert plan.settings["flip"] is False
    for options in ({"from_scratch": True}, {"preset": "uvit_photos_text_64"}):
        plan = plan_of(facts=facts, **options)
        assert plan.settings["preset"] == "uvit_photos_text_64"
        assert "initialize_from" not in plan.settings


def test_networks_with_weights_are_finetuned_if_the_time_suffices():
    assert plan_of(speed=0.2).settings["initialize_from"] == "photos_64"
    slow = plan_of(speed=0.1).settings
    assert slow["preset"] == "uvit_mini_64" and "initialize_from" not in slow
    scratch = plan_of(from_scratch=True, is_cpu=False).settings
    assert scratch["preset"] == "uvit_small_64"
    assert "initialize_from" not in scratch


@pytest.mark.parametrize("minutes", [1, 10, 600])
@pytest.mark.parametrize("speed", [2.0, 5000.0])
def test_the_schedule_ends_within_the_minutes(minutes, speed):
    plan = plan_of(speed, minutes=minutes)
    recipe = Recipe.from_dict(
        {k: v for k, v in plan.settings.items() if k in field_names(Recipe)}
    )
    seconds = recipe.steps * recipe.batch_size / speed
    assert 60 * minutes * 0.8 < seconds < 60 * minutes or recipe.steps == 20
    assert recipe.warmup_steps + recipe.cooldown_steps < recipe.steps
    # The average covers a tenth of the steps, or less of many.
    assert 1 / (1 - recipe.ema_decay) <= max(recipe.steps / 9, 10.01)


def test_what_is_given_is_kept():
    plan = plan_of(steps=7, batch_size=4, flip=False, image_size=32, crop=None)
    assert plan.settings["steps"] == 7 and plan.settings["batch_size"] == 4
    assert plan.settings["flip"] is False and "minutes" not in plan.settings
    assert plan.settings["image_size"] == [32, 32]
    assert "7 steps of 4 images" in str(plan) and "32 x 32" in str(plan)
    plan = plan_of(initialize_from="emoji_teacher", learning_rate=1e-5)
    assert plan.settings["preset"] == "emoji_teacher"
    assert plan.settings["learning_rate"] == 1e-5
    with pytest.raises(InputError, match="Did you mean 'minutes'"):
        make_plan("digits", minute=1)


def test_a_named_preset_keeps_its_size_and_gets_a_schedule():
    facts = {"side": 20.0}
    tuned = plan_of(facts=facts, preset="photos_64", minutes=10).settings
    assert tuned["image_size"] == [64, 64]
    assert tuned["initialize_from"] == "photos_64"
    assert tuned["batch_size"] == 16 and tuned["learning_rate"] == 8e-4
    assert 0 < tuned["cooldown_steps"] < tuned["steps"] < 3400
    digits = {"preset": "uvit_digits_16", "minutes": 600}
    digits = plan_of(speed=5000.0, **digits).settings
    assert digits["steps"] == 4000 and digits["flip"] is False
    assert "initialize_from" not in digits


def test_facts_are_those_of_the_images(tmp_path):
    write_images(tmp_path / "train" / "b", (40, 70))
    write_images(tmp_path / "train" / "a", (40, 70))
    write_images(tmp_path / "test" / "a", (40, 70), count=2)
    facts = collect_facts(tmp_path)
    assert (facts.count, facts.held_out) == (8, 2)
    assert (facts.width, facts.height, facts.side) == (70, 40, 40)
    assert facts.class_names == ["a", "b"] and facts.has_glyphs
    assert not (facts.is_gray or facts.is_flat or facts.has_captions)
    flat = write_images(tmp_path / "flat", (9, 9), gray=True, captions=True)
    for path in flat.glob("*.png"):
        Image.new("RGB", (99, 99), "white").save(path)
    facts = collect_facts(flat)
    assert facts.is_gray and facts.is_flat and facts.has_captions
    assert collect_facts("digits").side == 8
    vehicles = collect_facts("vehicles")  # Many are on a white background.
    assert not (vehicles.is_flat or vehicles.has_glyphs)


def test_a_run_without_a_preset_follows_its_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert output_for("some/photos/") == "runs/photos"
    assert output_for("tfds:mnist/a:1.0.0") == "runs/mnist"
    assert output_for("mix:photos/=3,drawings.zip=1") == "runs/mix"
    assert output_for("shards/*.tar") == "runs/shards"
    assert output_for("shards/{000..099}.tar") == "runs/shards"
    assert output_for("shards/train-*.tar") == "runs/train"
    assert output_for("/") == "runs/run"
    train_run("digits", steps=2, batch_size=2)
    config = json.loads((tmp_path / "runs/digits/config.json").read_text())
    assert len(config["plan"]) == 6
    assert "\n".join(config["plan"]) in capsys.readouterr().out
    assert config["recipe"]["steps"] == 2
    assert (
        "2 steps of 2 images"
        in (tmp_path / "runs/digits/index.html").read_text()
    )
    assert output_for("digits") == "runs/digits-2"


def test_a_preset_with_weights_is_finetuned(tmp_path, capsys):
    backbone = ksd.models.UViTBackbone(
        (8, 8, 1), (8, 16), (1, 1), num_heads=2, embedding_dim=16, num_classes=3
    )
    model = ksd.models.DiffusionModel(
        backbone, num_steps=2, class_names=["1", "b", "7"]
    )
    model.save_to_preset(tmp_path / "preset")
    settings = {"steps": 1, "batch_size": 2, "learning_rate": 1e-9}
    train_run("digits", tmp_path / "a", tmp_path / "preset", **settings)
    text = capsys.readouterr().out
    assert "parameters were copied" in text
    assert "classes that are known there: 1, 7" in text
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["initialize_from"] == str(tmp_path / "preset")
    train_run(
        "digits",
        tmp_path / "b",
        tmp_path / "preset",
        from_scratch=True,
        **settings,
    )
    assert "starting from" not in capsys.readouterr().out
    with pytest.raises(InputError, match="Use one of them"):
        train_run(
            "digits",
            tmp_path / "c",
            tmp_path / "preset",
            from_scratch=True,
            initialize_from="emoji_teacher",
        )


@pytest.mark.any_backend
def test_counts_of_classes():
    counts = [count_classes(n) for n in (None, ["a"], ["a", "b"])]
    assert counts == ["no classes", "1 class", "2 classes"]
