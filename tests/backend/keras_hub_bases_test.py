"""Networks and models, before and after keras_hub is imported."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from tests.helpers.commands import environment
from tests.helpers.models import make_backbone
from tests.helpers.models import make_model
from tests.helpers.models import randomize

HEAVY = ("keras_hub", "tensorflow", "sklearn", "matplotlib", "jax", "grain")

JOIN = f"""
import sys
import keras_simple_diffusion as ksd

folder, joins_first = sys.argv[1], sys.argv[2] == "first"
if joins_first:
    import keras_hub
backbone = ksd.models.UViTBackbone(
    (4, 4, 1), channels=(16,), blocks=(1,), num_heads=2, embedding_dim=16,
    num_classes=3,
)
model = ksd.models.DiffusionModel(backbone)
before = model.generate(labels=[0, 1], num_steps=2, seed=0)
model.save_to_preset(folder)
print(*[name for name in {HEAVY} if name in sys.modules])

import keras_hub

print(isinstance(backbone, keras_hub.models.Backbone))
print(isinstance(model, keras_hub.models.Task))
print((model.generate(labels=[0, 1], num_steps=2, seed=0) == before).all())
network = keras_hub.models.Backbone.from_preset(folder)
print(type(network) is ksd.models.UViTBackbone)
again = ksd.models.DiffusionModel(network)
print((again.generate(labels=[0, 1], num_steps=2, seed=0) == before).all())
network.enable_lora(2)
print(len(network.trainable_weights))
"""


@pytest.mark.parametrize("order", ["first", "later"])
def test_models_become_those_of_keras_hub(tmp_path, order):
    answer = subprocess.run(
        [sys.executable, "-c", JOIN, str(tmp_path / "preset"), order],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    imported, *known, num_trained = answer.stdout.splitlines()
    if order == "later":
        # The backend itself, nothing else; TensorFlow imports JAX.
        own = {"tensorflow": {"tensorflow", "jax"}}
        backend = keras.config.backend()
        assert set(imported.split()) <= own.get(backend, {backend})
    assert known == ["True"] * 5
    assert int(num_trained) > 0


def test_presets_are_those_that_keras_hub_writes(tmp_path):
    import keras_hub

    backbone = make_backbone()
    randomize(backbone)
    (tmp_path / "theirs").mkdir()
    backbone.save_to_preset(tmp_path / "ours")
    keras_hub.models.Backbone.save_to_preset(backbone, tmp_path / "theirs")
    names = {p.name for p in (tmp_path / "theirs").iterdir()}
    assert names == {p.name for p in (tmp_path / "ours").iterdir()}

    def read(folder, name):
        return json.loads((tmp_path / folder / name).read_text())

    assert read("ours", "config.json") == read("theirs", "config.json")
    ours, theirs = (read(x, "metadata.json") for x in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"date_saved"}:
        assert ours[name] == theirs[name]


@pytest.mark.any_backend
def test_large_weights_are_split(tmp_path):
    backbone = randomize(make_backbone())
    size = sum(np.prod(w.shape) for w in backbone.weights) * 4 / 1024**3
    backbone.save_to_preset(tmp_path / "split", max_shard_size=size / 2)
    assert (tmp_path / "split" / "model.weights.json").exists()
    assert len(list((tmp_path / "split").glob("*.weights.h5"))) > 1
    copy = ksd.models.UViTBackbone.from_preset(tmp_path / "split")
    for ours, theirs in zip(backbone.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(ours),
            keras.ops.convert_to_numpy(theirs),
        )


@pytest.mark.any_backend
def test_a_network_can_be_replaced():
    model, other = make_model(), make_backbone()
    model.backbone = other
    assert model.backbone is other
