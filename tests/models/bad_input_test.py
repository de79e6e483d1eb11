"""Mistakes in calls of a model: one line that says how to mend them."""

import json
import shutil

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.models import make_backbone
from tests.helpers.models import make_data
from tests.helpers.models import make_model

pytestmark = pytest.mark.any_backend

NAN = float("nan")


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def data():
    return make_data()


def refusal(function, *args, **kwargs):
    """Return the error of a call, which takes one line."""
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_preset_is_no_file(model, tmp_path):
    file = tmp_path / "file.csv"
    file.write_text("a,b")
    for saved in (model, model.backbone):
        assert "file.csv' is a file" in refusal(saved.save_to_preset, file)
        message = refusal(saved.save_to_preset, file / "a" / "b")
        assert "file.csv/a' is a file, not a folder" in message
    assert file.read_text() == "a,b"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "name, value",
    [
        ("guidance_scale", [1.0, 2.0]),
        ("guidance_scale", "2"),
        ("num_steps", [4]),
        ("label_dropout", [0.1]),
        ("prediction_type", ["v"]),
        ("sampler", ["ddpm"]),
    ],
)
def test_settings_of_a_preset_are_checked(model, tmp_path, name, value):
    model.save_to_preset(tmp_path / "preset")
    path = tmp_path / "preset" / "task.json"
    task = json.loads(path.read_text())
    task["config"][name] = value
    path.write_text(json.dumps(task))
    assert repr(value).strip("'") in refusal(
        ksd.models.DiffusionModel.from_preset, tmp_path / "preset"
    )
    with pytest.raises(InputError):
        ksd.models.DiffusionModel(make_backbone(), **{name: value})
    shutil.rmtree(tmp_path / "preset")


@pytest.mark.parametrize(
    "name", ["loss", "loss_weights", "metrics", "weighted_metrics"]
)
def test_compile_has_no_loss(model, name):
    message = refusal(model.compile, **{name: "mse"})
    assert f"does not support `{name}`" in message
    assert 'loss="epsilon"' in message
    model.compile(**{name: None})


@pytest.mark.parametrize("optimizer", [None, "adm", ["adam"], {"a": 1}, 3])
def test_optimizers_are_checked(model, optimizer):
    assert '"adam", or "auto"' in refusal(model.compile, optimizer=optimizer)


def test_a_batch_has_no_separate_labels(model, data):
    for call in (model.train_on_batch, model.test_on_batch, model.fit):
        assert "`y` is not supported" in refusal(call, data, data["labels"])


def test_there_must_be_data(model):
    calls = (
        model.fit,
        model.evaluate,
        model.train_on_batch,
        model.test_on_batch,
    )
    for call in calls:
        assert "Pass the images as `x`" in refusal(call)


# Values that are no count, such as a number of steps, and no share in [0, 1].
NO_COUNTS = (True, "a", NAN, -1, 2.5, [2])
NO_SHARES = (True, "a", NAN, -1, 2.5, [0.5])

FIT = {
    "batch_size": (*NO_COUNTS, 0),
    "epochs": (*NO_COUNTS, None),
    "initial_epoch": (*NO_COUNTS, None),
    "steps_per_epoch": (*NO_COUNTS, 0),
    "validation_steps": (*NO_COUNTS, 0),
    "validation_batch_size": (*NO_COUNTS, 0),
    "validation_freq": (True, "a", NAN, 0, 2.5, ["a"], None),
    "validation_split": (*NO_SHARES, 1),
    "callbacks": ("a", 3, [keras.callbacks.EarlyStopping]),
}
GENERATE = {
    "num_images": (*NO_COUNTS, 0),
    "num_steps": (*NO_COUNTS, 0),
    "batch_size": (*NO_COUNTS, 0, None),
    "guidance_scale": (True, "a", NAN, [2]),
    "guidance_rescale": NO_SHARES,
    "guidance_interval": (True, "a", [2], [3, 1], [NAN, 1]),
    "seed": (True, "a", NAN, 2.5, [2]),
    "noise": (True, "a", NAN, [2]),
    "indices": (True, "a", [-1], [0.5]),
    "clipping": (True, "a", ["static"]),
    "return_steps": ("a", [2], None),
    "allow": ("a", [2], None),
}
EDIT = {
    "strength": (*NO_SHARES, None),
    "images": (True, "a", 3, [2], None),
    "num_steps": NO_COUNTS,
}
INVERT = {
    "num_steps": NO_COUNTS,
    "batch_size": (*NO_COUNTS, None),
    "images": (True, "a", 3, None),
}
INTERPOLATE = {
    "num_images": (*NO_COUNTS, 0, None),
    "first": (True, "a", 2.5, [2], None),
}


@pytest.mark.parametrize(
    "method, arguments, table",
    [
        ("fit", {}, FIT),
        ("evaluate", {}, {"batch_size": NO_COUNTS, "steps": NO_COUNTS}),
        ("generate", {"labels": [0]}, GENERATE),
        ("edit", {"condition": [0]}, EDIT),
        ("upscale", {"condition": [0]}, {"images": (True, "a", None)}),
        ("invert", {"condition": [0]}, INVERT),
        (
            "interpolate",
            {"first": 1, "second": 2, "condition": [0]},
            INTERPOLATE,
        ),
        ("compile", {}, {"steps_per_execution": (*NO_COUNTS, 0, None)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_values_are_named(model, data, method, arguments, table):
    arguments = dict(arguments)
    if method in ("fit", "evaluate"):
        arguments["x"] = data
    elif method in ("edit", "upscale", "invert"):
        arguments["images"] = np.zeros((1, *model.backbone.image_shape))
    function = getattr(model, method)
    for name, values in table.items():
        for value in values:
            message = refusal(function, **{**arguments, name: value})
            assert "Received: " in message, (name, value)
            assert name in message or name == "images" and "Images" in message


def test_numbers_of_a_model_are_no_flags(model):
    for name in ("num_steps", "distilled_steps", "guidance_scale"):
        for value in (True, "a", NAN, [2]):
            message = refusal(
                ksd.models.DiffusionModel, make_backbone(), **{name: value}
            )
            assert f"`{name}` must be" in message


def test_paths_name_something(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = (model.save_to_preset, model.backbone.save_to_preset)
    for write in written:
        for path in ("", None, 3, True, "/"):
            assert "A path must be" in refusal(write, path)
    assert "There is no folder" in refusal(ksd.data.open_data, "", 8)
    for read in (
        ksd.models.DiffusionModel.from_preset,
        ksd.models.UViTBackbone.from_preset,
        ksd.models.Preset.open,
    ):
        assert "name of a preset is empty" in refusal(read, "")
    train = ksd.training.train_run
    assert "A path must be" in refusal(train, "digits", "", steps=1)
    assert "A path must be" in refusal(ksd.training.resume_run, "")
    assert list(tmp_path.iterdir()) == []


def test_a_preset_can_be_written_to_the_current_folder(
    model, tmp_path, monkeypatch
):
    (tmp_path / "here" / "below").mkdir(parents=True)
    for folder, path in (("here", "."), ("here/below", "..")):
        monkeypatch.chdir(tmp_path / folder)
        model.save_to_preset(path)
        assert (tmp_path / "here" / "config.json").exists()
        (tmp_path / "here" / "config.json").unlink()
