"""Mistakes in calls of a model: one line that says how to mend them."""

import json
import shutil

import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.models import make_backbone
from tests.helpers.models import make_data
from tests.helpers.models import make_model

pytestmark = pytest.mark.any_backend


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


@pytest.mark.parametrize("size", [[2], "a", 0, 2.5])
def test_batch_sizes_are_checked(model, data, size):
    for call in (model.fit, model.evaluate):
        assert "`batch_size` must be" in refusal(call, data, batch_size=size)
