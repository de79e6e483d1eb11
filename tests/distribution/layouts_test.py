"""The layouts of every built-in configuration."""

import math

import keras
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils import presets

pytestmark = pytest.mark.any_backend

BUILT_ON_TORCH = pytest.mark.skipif(
    keras.config.backend() != "torch",
    reason="only torch builds networks without memory for their weights",
)


def variables_of(name):
    with keras.device("meta"):
        backbone = ksd.models.DiffusionBackbone.from_preset(
            name, load_weights=False
        )
    return backbone, backbone.variables


def device_mesh(*shape):
    devices = [f"cpu:{i}" for i in range(math.prod(shape))]
    return keras.distribution.DeviceMesh(shape, ("batch", "model"), devices)


@BUILT_ON_TORCH
@pytest.mark.parametrize("name", presets.builtin_presets())
def test_rules_match_and_split_what_is_large(name):
    backbone, variables = variables_of(name)
    total = sum(math.prod(variable.shape) for variable in variables)
    paths = {variable.path: variable.shape for variable in variables}
    # The 24 features of the small networks are not split over 16 devices.
    has_levels = hasattr(backbone, "channels")
    most = math.gcd(16, backbone.channels[0]) if has_levels else 16
    for data, model in ((2, 4), (most, 4)):
        layout_map = backbone.get_layout_map(device_mesh(data, model))
        # Two rules for one path are an error of Keras.
        layouts = {path: layout_map[path] for path in paths}
        matched = [layout for layout in layouts.values() if layout is not None]
        assert {id(layout) for layout in matched} == {
            id(layout) for layout in layout_map.values()
        }
        sizes = {None: 1, "batch": data, "model": model}
        for path, layout in layouts.items():
            if layout is None:
                assert math.prod(paths[path]) < 0.02 * total, path
                continue
            assert "model" in layout.axes
            # Some perceptrons of pixel transformers have odd widths.
            assert "batch" in layout.axes or "/perceptron" in path
            for size, axis in zip(paths[path], layout.axes, strict=True):
                assert size % sizes[axis] == 0, path


@BUILT_ON_TORCH
@pytest.mark.parametrize("name", ["unet_imagenet_512", "uvit_text_512"])
@pytest.mark.parametrize("count", [8, 64])
def test_fully_sharded_splits_every_large_weight(name, count):
    _, variables = variables_of(name)
    total = sum(math.prod(variable.shape) for variable in variables)
    sharded = ksd.distribution.FullySharded(
        devices=[f"cpu:{i}" for i in range(count)]
    )
    for variable in variables:
        axes = sharded.get_variable_layout(variable).axes
        if math.prod(variable.shape) > 1e-4 * total:
            assert axes.count("batch") == 1, variable.path
        if "batch" in axes:
            assert variable.shape[axes.index("batch")] % count == 0


def test_axes_have_the_names_asked_for():
    mesh = keras.distribution.DeviceMesh(
        (1, 2), ("images", "heads"), ["cpu:0", "cpu:1"]
    )
    layout_map = ksd.models.UNetBackbone.get_layout_map(
        mesh,
        model_parallel_dim_name="heads",
        data_parallel_dim_name="images",
    )
    assert layout_map["down_0_0/conv_in/kernel"].axes == (
        None,
        None,
        "images",
        "heads",
    )
    assert layout_map["down_0_0/norm_in/scale"] is None
