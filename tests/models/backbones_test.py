import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from tests.helpers.backbones import inputs_of
from tests.helpers.backbones import run_backbone_test
from tests.helpers.models import randomize

models = ksd.models
InputError = ksd.utils.errors.InputError

# Three levels, for tests of the topology.
SHARED = {
    "image_shape": (16, 16, 3),
    "channels": (8, 12, 16),
    "num_heads": 2,
    "embedding_dim": 16,
    "num_classes": 4,
}
# Two levels, for tests that run the network.
SMALL = {"image_shape": (8, 8, 3), "channels": (8, 16), "blocks": (1, 1)}


def unet(**kwargs):
    arguments = {"blocks": (1, 2, 1), "attention_levels": (1, 2)}
    return models.UNetBackbone(**{**SHARED, **arguments, **kwargs})


def small_unet(**kwargs):
    return unet(**{**SMALL, "attention_levels": (1,), **kwargs})


def uvit(**kwargs):
    return models.UViTBackbone(**{**SHARED, "blocks": (2, 1, 3), **kwargs})


def small_uvit(**kwargs):
    return uvit(**{**SMALL, **kwargs})


def residual_uvit(**kwargs):
    arguments = {
        "blocks": (1, 1, 2),
        "up_blocks": (2, 1),
        "transformer_levels": (1, 2),
    }
    return models.ResidualUViTBackbone(**{**SHARED, **arguments, **kwargs})


def small_residual_uvit(**kwargs):
    arguments = {"up_blocks": (2,), "transformer_levels": (1,)}
    return residual_uvit(**{**SMALL, **arguments, **kwargs})


def pixel_transformer(**kwargs):
    arguments = {
        "image_shape": (8, 12, 3),
        "patch_size": 2,
        "width": 16,
        "depth": 2,
        "num_heads": 2,
        "bottleneck_dim": 6,
        "num_class_tokens": 3,
        "class_token_block": 1,
        "num_classes": 4,
    }
    return models.PixelTransformerBackbone(**{**arguments, **kwargs})


EACH = pytest.mark.parametrize("make", [unet, uvit, residual_uvit])
SMALL_WITH_LEVELS = [small_unet, small_uvit, small_residual_uvit]
EACH_SMALL = pytest.mark.parametrize(
    "make", [*SMALL_WITH_LEVELS, pixel_transformer]
)
EACH_SMALL_WITH_LEVELS = pytest.mark.parametrize("make", SMALL_WITH_LEVELS)
TEXT = {
    "num_classes": None,
    "context_dim": 6,
    "portrait_flag": True,
    "guidance_range": (1.0, 4.0),
}
TEXT_LEVELS = {"transformer_levels": (0, 1), **TEXT}
TEXT_NETWORKS = pytest.mark.parametrize(
    "make, text",
    [
        (small_uvit, TEXT_LEVELS),
        (small_residual_uvit, TEXT_LEVELS),
        (pixel_transformer, TEXT),
    ],
)


@EACH_SMALL
def test_backbone(make, tmp_path):
    run_backbone_test(make, tmp_path)


@TEXT_NETWORKS
def test_backbone_with_text(make, text, tmp_path):
    def make_with_text(**kwargs):
        return make(**text, **kwargs)

    run_backbone_test(make_with_text, tmp_path)


@EACH_SMALL
@pytest.mark.parametrize(
    "image_shape, num_classes", [((4, 12, 1), None), ((8, 6, 5), 2)]
)
def test_output_is_shaped_like_the_images(make, image_shape, num_classes):
    backbone = randomize(make(image_shape=image_shape, num_classes=num_classes))
    output = backbone.predict_on_batch(inputs_of(backbone))
    assert output.shape == (2, *image_shape)
    assert output.dtype == "float32"
    assert 1e-3 < output.std() < 100


def layer_names(backbone, kind):
    return [x.name for x in backbone.layers if type(x).__name__ == kind]


def test_unet_topology():
    backbone = unet()
    # n blocks down, two in the middle, n + 1 up.
    names = layer_names(backbone, "ResidualBlock")
    for level, count in enumerate((1, 2, 1)):
        assert sum(n.startswith(f"down_{level}_") for n in names) == count
        assert sum(n.startswith(f"up_{level}_") for n in names) == count + 1
    assert sum(n.startswith("middle_") for n in names) == 2
    with_skip = [
        layer.name for layer in backbone.layers if hasattr(layer, "norm_skip")
    ]
    assert with_skip == [n for n in names if n.startswith("up_")]
    attention = layer_names(backbone, "SelfAttention")
    assert len(attention) == (2 + 3) + (1 + 2) + 1
    assert not any("_0_" in n for n in attention if n.startswith("down_0"))


def test_uvit_topology():
    backbone = uvit()
    names = layer_names(backbone, "ResidualBlock")
    for level, count in enumerate((2, 1)):
        assert sum(n.startswith(f"down_{level}_") for n in names) == count
        assert sum(n.startswith(f"up_{level}_") for n in names) == count + 1
    assert len(layer_names(backbone, "TransformerBlock")) == 3
    position = backbone.get_layer("position_2").embedding
    assert tuple(position.shape) == (4, 4, 16)


def test_uvit_with_transformers_above_the_lowest_level():
    backbone = uvit(transformer_levels=(1, 2))
    assert layer_names(backbone, "ResidualBlock") == [
        *(f"down_0_{i}" for i in range(2)),
        *(f"up_0_{i}" for i in range(3)),
    ]
    names = layer_names(backbone, "TransformerBlock")
    assert [n for n in names if "_1_" in n] == ["down_1_0", "up_1_0", "up_1_1"]
    with_skip = [x.name for x in backbone.layers if hasattr(x, "norm_skip")]
    assert with_skip == [
        n for n in layer_names_of_blocks(backbone) if "up" in n
    ]
    assert tuple(backbone.get_layer("position_1").embedding.shape) == (8, 8, 12)


def layer_names_of_blocks(backbone):
    blocks = ("ResidualBlock", "TransformerBlock")
    return [x.name for x in backbone.layers if type(x).__name__ in blocks]


def test_residual_uvit_topology():
    backbone = residual_uvit()
    assert layer_names(backbone, "ResidualBlock") == [
        "down_0_0",
        "up_0_0",
        "up_0_1",
    ]
    assert layer_names(backbone, "TransformerBlock") == [
        "down_1_0",
        "middle_0",
        "middle_1",
        "up_1_0",
    ]
    assert not any(hasattr(x, "norm_skip") for x in backbone.layers)


def test_residual_uvit_starts_as_the_identity():
    # Before the output layers: the output of the lower levels minus their
    # input is zero, so the upsampled change is the bias alone.
    backbone = small_residual_uvit()
    first = backbone.get_layer("input_conv").output
    last = backbone.get_layer("output_norm").input
    ends = keras.Model(backbone.input, [first, last])
    a, b = ends.predict_on_batch(inputs_of(backbone))
    np.testing.assert_allclose(a, b, atol=1e-6)


@EACH_SMALL_WITH_LEVELS
@pytest.mark.parametrize("kind, factor", [("dwt", 2), ("dwt", 4), ("conv", 2)])
def test_downsampling(make, kind, factor):
    shape = (4 * factor, 6 * factor, 3)
    backbone = make(
        image_shape=shape, downsampling=kind, downsampling_factor=factor
    )
    inputs = inputs_of(backbone)
    np.testing.assert_array_equal(backbone.predict_on_batch(inputs), 0.0)
    randomize(backbone)
    output = backbone.predict_on_batch(inputs)
    assert output.shape == (2, *shape) and output.std() > 1e-3
    # The levels are those of images smaller by the factor.
    plain = make(image_shape=(4, 6, 3))
    first = backbone.get_layer("input_conv").output.shape
    assert first == plain.get_layer("input_conv").output.shape
    channels = 3 * factor**2 if kind == "dwt" else 3
    assert backbone.get_layer("input_conv").kernel.shape[2] == channels


@EACH
def test_dropout_at_low_resolution_only(make):
    backbone = make(dropout=0.3, dropout_max_size=8)
    for layer in backbone.layers:
        if type(layer).__name__ in ("ResidualBlock", "TransformerBlock"):
            size = min(layer.output.shape[1:3])
            assert layer.dropout_rate == (0.3 if size <= 8 else 0.0)


@EACH
def test_dropout_of_each_level(make):
    backbone = make(dropout=(0.0, 0.2, 0.1))
    rates = {16: 0.0, 8: 0.2, 4: 0.1}
    for layer in backbone.layers:
        if type(layer).__name__ in ("ResidualBlock", "TransformerBlock"):
            assert layer.dropout_rate == rates[layer.output.shape[1]]


@TEXT_NETWORKS
def test_padding_of_a_text_has_no_effect(make, text):
    backbone = randomize(make(**text))
    inputs = inputs_of(backbone)
    base = backbone.predict_on_batch(inputs)
    padded = {
        **inputs,
        "context": np.pad(
            inputs["context"], ((0, 0), (0, 4), (0, 0)), constant_values=3.0
        ),
        "context_mask": np.pad(inputs["context_mask"], ((0, 0), (0, 4))),
    }
    np.testing.assert_allclose(
        backbone.predict_on_batch(padded), base, rtol=1e-5, atol=1e-6
    )
    empty = {**inputs, "context_mask": 0 * inputs["context_mask"]}
    assert np.isfinite(backbone.predict_on_batch(empty)).all()


def test_networks_with_text_are_for_text_models():
    with pytest.raises(InputError, match="context_dim=6"):
        models.DiffusionModel(small_uvit(**TEXT))


def test_a_network_without_text_refuses_it():
    with pytest.raises(InputError, match="UNetBackbone does not support text"):
        small_unet(context_dim=4)


def test_portrait_flag_of_the_unet_is_saved():
    backbone = small_unet(portrait_flag=True)
    copy = models.UNetBackbone.from_config(backbone.get_config())
    assert copy.portrait_flag and "portrait" in copy.input


@pytest.mark.any_backend
def test_builtin_presets():
    names = ksd.models.builtin_presets()
    assert "uvit_digits_16" in names
    backbone = models.UViTBackbone.from_preset(
        "uvit_digits_16", load_weights=False
    )
    assert backbone.image_shape == (16, 16, 1)
    with pytest.raises(ValueError, match="configuration without weights"):
        models.UViTBackbone.from_preset("uvit_digits_16")
    with pytest.raises(ValueError, match="mean uvit_digits_16"):
        models.UViTBackbone.from_preset("uvit_digit_16")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "make, arguments, message",
    [
        (unet, {"image_shape": (18, 16, 3)}, "multiples of 4, such as 16x16"),
        (uvit, {"image_shape": (16, 10, 3)}, "multiples of 4, such as 16x8"),
        (uvit, {"image_shape": (16, 16)}, r"\(height, width, channels\)"),
        (unet, {"blocks": (1, 2)}, r"blocks=\(1, 2\)"),
        (unet, {"attention_levels": (3,)}, r"attention_levels=\(3,\)"),
        (uvit, {"dropout": 1.0}, "dropout=1.0"),
        (uvit, {"dropout": (0.1, 0.2)}, r"dropout=\(0.1, 0.2\)"),
        (uvit, {"transformer_levels": (1,)}, r"transformer_levels=\(1,\)"),
        (uvit, {"context_dim": 0}, "context_dim=0"),
        (uvit, {"downsampling": "haar"}, "downsampling='haar'"),
        (
            unet,
            {"downsampling": "dwt", "downsampling_factor": 3},
            "downsampling_factor=3",
        ),
        (
            unet,
            {"downsampling": "dwt", "image_shape": (20, 16, 3)},
            "multiples of 8",
        ),
        (unet, {"blocks": (1, -2, 1)}, r"blocks=\(1, -2, 1\)"),
        (residual_uvit, {"up_blocks": (1,)}, r"up_blocks=\(1,\)"),
        (residual_uvit, {"up_blocks": (1, -1)}, r"up_blocks=\(1, -1\)"),
        (
            residual_uvit,
            {"transformer_levels": (-4,)},
            r"transformer_levels=\(-4,\)",
        ),
        (uvit, {"num_heads": 5}, "num_heads=5"),
        (
            pixel_transformer,
            {"image_shape": (16, 11, 3)},
            "`patch_size`, 2, such as 16x12",
        ),
        (pixel_transformer, {"width": 20}, "width=20, num_heads=2"),
        (pixel_transformer, {"noise_scale": 0}, "noise_scale=0"),
        (pixel_transformer, {"dropout": 1}, "dropout=1"),
        (pixel_transformer, {"num_class_tokens": -1}, "num_class_tokens=-1"),
        (
            pixel_transformer,
            {"class_token_block": 2},
            "a block: .* class_token_block=2, depth=2",
        ),
        # Wrong types
        (pixel_transformer, {"patch_size": 2.5}, "patch_size=2.5"),
        (pixel_transformer, {"depth": "2"}, "depth='2'"),
        (unet, {"image_shape": 8}, "image_shape=8"),
        (unet, {"image_shape": (16.0, 16, 3)}, r"image_shape=\(16.0, 16, 3\)"),
        (uvit, {"channels": (8.5, 12, 16)}, r"channels=\(8.5, 12, 16\)"),
        (residual_uvit, {"channels": 8}, "channels=8"),
        (residual_uvit, {"blocks": "112"}, "blocks='112'"),
        (uvit, {"transformer_levels": -1}, "transformer_levels=-1"),
        (unet, {"attention_levels": (None,)}, "attention_levels="),
        (uvit, {"num_heads": "2"}, "num_heads='2'"),
        (uvit, {"num_classes": True}, "num_classes=True"),
        (uvit, {"embedding_dim": 15}, "embedding_dim=15"),
        (uvit, {"dropout": "0.1"}, "dropout='0.1'"),
        (uvit, {"dropout_max_size": None}, "dropout_max_size=None"),
        (uvit, {"downsampling_factor": None}, "downsampling_factor=None"),
        (uvit, {"context_dim": "6"}, "context_dim='6'"),
        (unet, {"rematerialize": "residual"}, "rematerialize='residual'"),
    ],
)
def test_bad_arguments(make, arguments, message):
    with pytest.raises(InputError, match=message):
        make(**arguments)
