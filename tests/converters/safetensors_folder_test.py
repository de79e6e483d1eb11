"""Presets as folders of safetensors, and back."""

import json

import numpy as np
import pytest
import safetensors.numpy

import keras_simple_diffusion as ksd
from tests.helpers.commands import run_command
from tests.helpers.models import make_backbone
from tests.helpers.models import make_model
from tests.helpers.models import make_text_encoder

pytestmark = pytest.mark.any_backend
InputError = ksd.InputError
from_safetensors = ksd.converters.from_safetensors


@pytest.fixture
def preset(tmp_path):
    model = make_model(num_steps=7, class_names=["a", "b", "c"])
    model.save_to_preset(tmp_path / "preset")
    return tmp_path / "preset"


def weights_of(model):
    return {weight.path: weight.numpy() for weight in model.weights}


def test_there_and_back(preset, tmp_path):
    words = "convert --to safetensors --model preset --output files"
    assert run_command(*words.split(), cwd=tmp_path).returncode == 0
    files = sorted(path.name for path in (tmp_path / "files").iterdir())
    assert "network.safetensors" in files and "config.json" in files
    assert not any(name.endswith(".h5") for name in files)
    index = json.loads((tmp_path / "files/model_index.json").read_text())
    assert index["network"] == ["keras_simple_diffusion", "UViTBackbone"]

    # The library safetensors reads the same numbers.
    model = ksd.models.DiffusionModel.from_preset(str(preset))
    arrays = safetensors.numpy.load_file(tmp_path / "files/network.safetensors")
    expected = weights_of(model.backbone)
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])

    words = "convert --from safetensors --weights files --output again"
    assert run_command(*words.split(), cwd=tmp_path).returncode == 0
    again = ksd.models.DiffusionModel.from_preset(str(tmp_path / "again"))
    assert again.class_names == ["a", "b", "c"] and again.num_steps == 7
    for name, array in weights_of(again.backbone).items():
        np.testing.assert_array_equal(array, expected[name])


def test_text_encoders(tmp_path):
    encoder = make_text_encoder(["a red apple", "a ship"])
    backbone = make_backbone(num_classes=None, context_dim=8)
    model = ksd.models.TextToImage(backbone, encoder)
    ksd.converters.to_safetensors(model, tmp_path / "files")
    again = from_safetensors(tmp_path / "files")
    expected = weights_of(encoder)
    assert expected
    for name, array in weights_of(again.text_encoder).items():
        np.testing.assert_array_equal(array, expected[name])


def test_bad_folders(preset, tmp_path):
    with pytest.raises(InputError, match="holds no model_index.json"):
        from_safetensors(preset)
    model = ksd.models.DiffusionModel.from_preset(str(preset))
    ksd.converters.to_safetensors(model, tmp_path / "files")
    file = tmp_path / "files/network.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-40])
    with pytest.raises(InputError, match="network.safetensors"):
        from_safetensors(tmp_path / "files")
    arrays = safetensors.numpy.load(content)
    name = next(iter(arrays))
    safetensors.numpy.save_file({**arrays, "other": arrays[name]}, file)
    with pytest.raises(InputError, match="other are unknown"):
        from_safetensors(tmp_path / "files")
    file.unlink()
    with pytest.raises(InputError, match="network.safetensors"):
        from_safetensors(tmp_path / "files")
