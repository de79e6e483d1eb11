"""The preset folders in the package are what the table in tools says."""

import json
import pathlib

import keras
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training.settings import Recipe
from keras_simple_diffusion.utils import presets
from tools import write_presets

pytestmark = pytest.mark.any_backend

TOOL = pathlib.Path(__file__).parents[1] / "tools" / "write_presets.py"

NAMES = sorted(write_presets.CONFIGURATIONS)
EACH = pytest.mark.parametrize("name", NAMES)
BUILT_ON_TORCH = pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="only torch builds networks without memory for their weights",
)


def test_all_others_are_trained():
    builtin = set(presets.builtin_presets())
    assert builtin >= set(NAMES)
    for name in builtin - set(NAMES):
        assert presets.has_weights(presets.preset_folder(name))


def test_files_are_up_to_date():
    stale = [
        str(presets.preset_folder(name) / file)
        for name in NAMES
        for file, content in write_presets.files(name).items()
        if presets.read_json(presets.preset_folder(name) / file)
        != json.loads(json.dumps(content))
    ]
    assert not stale, "run tools/write_presets.py"


@EACH
def test_schedule_and_loss_are_for_the_size_of_the_images(name):
    folder = presets.preset_folder(name)
    shape = presets.read_json(folder / "config.json")["config"]["image_shape"]
    task = presets.read_json(folder / "task.json")["config"]
    assert task["schedule"]["config"]["image_size"] == min(shape[:2])
    keras.saving.deserialize_keras_object(task["loss"])
    Recipe.from_dict(presets.read_json(folder / "recipe.json"))


# Multiply-accumulates and parameters.
PUBLISHED = {
    "uvit_imagenet_128": (546e9, None),
    "uvit_imagenet_512": (546e9, None),
    "sid2_small_imagenet_128": (137.4e9, None),
    "sid2_small_imagenet_512": (137.4e9, None),
    "sid2_flop_heavy_imagenet_256": (652.8e9, None),
    "sid2_flop_heavy_imagenet_512": (652.8e9, None),
    "jit_b16_imagenet_256": (25e9, 131e6),
    "jit_l16_imagenet_256": (88e9, 459e6),
    "jit_h16_imagenet_256": (182e9, 953e6),
    "jit_g16_imagenet_256": (383e9, 2e9),
    "jit_b32_imagenet_512": (26e9, 133e6),
    "jit_l32_imagenet_512": (89e9, 462e6),
    "jit_h32_imagenet_512": (183e9, 956e6),
    "jit_g32_imagenet_512": (384e9, 2e9),
}


@BUILT_ON_TORCH
@EACH
def test_network_builds_with_the_parameters_and_cost_stated(name):
    metadata = write_presets.metadata(name)
    stated = presets.read_json(presets.preset_folder(name) / "metadata.json")
    for key in ("description", "parameter_count", "macs"):
        assert stated[key] == metadata[key], "run tools/write_presets.py"
    # The published figures are those of the blocks alone, within 1 %.
    macs, parameters = PUBLISHED.get(name, (None, None))
    if macs is not None:
        assert abs(metadata["macs"] / macs - 1) < 0.01
    if parameters is not None:
        assert abs(metadata["parameter_count"] / parameters - 1) < 0.01


@pytest.mark.large
@pytest.mark.parametrize(
    "name", ["unet_imagenet_256", "sid2_small_imagenet_256"]
)
def test_full_size_network_builds_with_weights(name):
    backbone = ksd.models.DiffusionBackbone.from_preset(
        name, load_weights=False
    )
    stated = presets.read_json(presets.preset_folder(name) / "metadata.json")
    assert backbone.count_params() == stated["parameter_count"]
