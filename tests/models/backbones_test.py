import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd

models = ksd.models


def unet(**kwargs):
    arguments = {
        "image_shape": (16, 16, 3),
        "channels": (8, 12, 16),
        "blocks": (1, 2, 1),
        "attention_levels": (1, 2),
        "num_heads": 2,
        "embedding_dim": 16,
        "num_classes": 4,
    }
    return models.UNetBackbone(**{**arguments, **kwargs})


def uvit(**kwargs):
    arguments = {
        "image_shape": (16, 16, 3),
        "channels": (8, 12, 16),
        "blocks": (2, 1, 3),
        "num_heads": 2,
        "embedding_dim": 16,
        "num_classes": 4,
    }
    return models.UViTBackbone(**{**arguments, **kwargs})


def residual_uvit(**kwargs):
    arguments = {
        "image_shape": (16, 16, 3),
        "channels": (8, 12, 16),
        "blocks": (1, 1, 2),
        "up_blocks": (2, 1),
        "transformer_levels": (1, 2),
        "num_heads": 2,
        "embedding_dim": 16,
        "num_classes": 4,
    }
    return models.ResidualUViTBackbone(**{**arguments, **kwargs})


EACH = pytest.mark.parametrize("make", [unet, uvit, residual_uvit])


def inputs_of(backbone, count=2, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {
        "noisy_images": rng.normal(size=(count, *backbone.image_shape)).astype(
            "float32"
        ),
        "log_snr": rng.uniform(-5, 5, count).astype("float32"),
    }
    if backbone.num_classes is not None:
        inputs["labels"] = np.arange(count, dtype="int32")
    return inputs


def randomize(backbone, seed=0):
    """Weights from NumPy: initialisers differ between backends."""
    rng = np.random.RandomState(seed)
    for weight in backbone.weights:
        fan_in = max(1, int(np.prod(weight.shape[:-1])))
        value = rng.normal(size=weight.shape) / np.sqrt(fan_in)
        if weight.name in ("scale", "gamma"):
            value = 1 + 0.1 * value
        weight.assign(value.astype("float32"))
    return backbone


@EACH
@pytest.mark.parametrize(
    "image_shape, num_classes",
    [((16, 16, 3), 4), ((8, 24, 1), None), ((16, 12, 5), 2)],
)
def test_output_is_shaped_like_the_images(make, image_shape, num_classes):
    backbone = randomize(make(image_shape=image_shape, num_classes=num_classes))
    output = ops.convert_to_numpy(backbone(inputs_of(backbone)))
    assert output.shape == (2, *image_shape)
    assert output.dtype == "float32"
    assert 1e-3 < output.std() < 100


@EACH
def test_starts_at_zero(make):
    backbone = make()
    output = backbone(inputs_of(backbone))
    np.testing.assert_array_equal(ops.convert_to_numpy(output), 0.0)


@EACH
def test_every_input_and_weight_matters(make):
    small = {"image_shape": (8, 8, 3), "channels": (8, 16), "blocks": (1, 1)}
    if make is unet:
        small["attention_levels"] = (1,)
    if make is residual_uvit:
        small.update(up_blocks=(2,), transformer_levels=(1,))
    backbone = randomize(make(**small))
    inputs = inputs_of(backbone)
    base = backbone.predict_on_batch(inputs)
    for key, changed in {
        "noisy_images": inputs["noisy_images"] + 0.1,
        "log_snr": inputs["log_snr"] + 0.1,
        "labels": inputs["labels"] + 2,
        # The null label has a vector of its own.
        "null labels": np.full(2, backbone.num_classes, "int32"),
    }.items():
        key = key.removeprefix("null ")
        output = backbone.predict_on_batch({**inputs, key: changed})
        assert np.abs(output - base).max() > 1e-3, key
    unused = []
    for weight in backbone.weights:
        value = ops.convert_to_numpy(weight).copy()
        weight.assign(value + 0.5)
        output = backbone.predict_on_batch(inputs)
        weight.assign(value)
        if np.abs(output - base).max() < 1e-5:
            unused.append(weight.path)
    # A constant on all keys shifts a softmax's scores alike.
    assert all("norm_k/beta" in path for path in unused), unused


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
    # Before the output layers: what the lower levels return minus what they
    # were given is zero, so the upsampled change is the bias alone.
    backbone = residual_uvit()
    first = backbone.get_layer("input_conv").output
    last = backbone.get_layer("output_norm").input
    ends = keras.Model(backbone.input, [first, last])
    a, b = ends(inputs_of(backbone))
    np.testing.assert_allclose(
        ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=1e-6
    )


@EACH
@pytest.mark.parametrize("kind, factor", [("dwt", 2), ("dwt", 4), ("conv", 2)])
def test_downsampling(make, kind, factor):
    shape = (8 * factor, 12 * factor, 3)
    backbone = make(
        image_shape=shape, downsampling=kind, downsampling_factor=factor
    )
    inputs = inputs_of(backbone)
    np.testing.assert_array_equal(ops.convert_to_numpy(backbone(inputs)), 0.0)
    randomize(backbone)
    output = ops.convert_to_numpy(backbone(inputs))
    assert output.shape == (2, *shape) and output.std() > 1e-3
    # The levels are those of images smaller by the factor.
    plain = make(image_shape=(8, 12, 3))
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
def test_mixed_precision_keeps_the_noise_level_in_float32(make):
    exact, mixed = make(), make(dtype="mixed_bfloat16")
    inputs = inputs_of(exact)
    randomize(exact), randomize(mixed)
    # In bfloat16 these would be one number.
    a = mixed({**inputs, "log_snr": np.full(2, 10.00, "float32")})
    b = mixed({**inputs, "log_snr": np.full(2, 10.02, "float32")})
    assert np.abs(ops.convert_to_numpy(a - b)).max() > 0
    assert keras.backend.standardize_dtype(a.dtype) == "float32"
    reference = ops.convert_to_numpy(exact(inputs))
    error = ops.convert_to_numpy(mixed(inputs)) - reference
    assert np.sqrt((error**2).mean()) < 0.05 * reference.std()


@EACH
def test_dropout_of_each_level(make):
    backbone = make(dropout=(0.0, 0.2, 0.1))
    rates = {16: 0.0, 8: 0.2, 4: 0.1}
    for layer in backbone.layers:
        if type(layer).__name__ in ("ResidualBlock", "TransformerBlock"):
            assert layer.dropout_rate == rates[layer.output.shape[1]]


def text_inputs(backbone, length=5):
    rng = np.random.default_rng(0)
    shape = (2, length, backbone.context_dim)
    mask = np.ones((2, length), "int32")
    mask[1, 3:] = 0
    return {
        **inputs_of(backbone),
        "context": rng.normal(size=shape).astype("float32"),
        "context_mask": mask,
        "portrait": np.array([0, 1], "int32"),
    }


TEXT = {"num_classes": None, "context_dim": 6, "portrait_flag": True}
TEXT_NETWORKS = pytest.mark.parametrize("make", [uvit, residual_uvit])


@TEXT_NETWORKS
def test_text_matters_and_its_padding_does_not(make):
    backbone = randomize(make(transformer_levels=(1, 2), **TEXT))
    inputs = text_inputs(backbone)
    base = backbone.predict_on_batch(inputs)
    for key, changed in {
        "context": inputs["context"] + 0.1,
        "context_mask": np.ones_like(inputs["context_mask"]),
        "portrait": 1 - inputs["portrait"],
    }.items():
        output = backbone.predict_on_batch({**inputs, key: changed})
        assert np.abs(output - base).max() > 1e-3, key
    padded = {
        **inputs,
        "context": np.pad(
            inputs["context"], ((0, 0), (0, 4), (0, 0)), constant_values=3.0
        ),
        "context_mask": np.pad(inputs["context_mask"], ((0, 0), (0, 4))),
    }
    np.testing.assert_allclose(
        backbone.predict_on_batch(padded), base, atol=1e-6
    )
    empty = {**inputs, "context_mask": 0 * inputs["context_mask"]}
    assert np.isfinite(backbone.predict_on_batch(empty)).all()


@TEXT_NETWORKS
def test_config_of_a_text_network_round_trips(make):
    backbone = make(**TEXT)
    config = keras.saving.serialize_keras_object(backbone)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == backbone.get_config()
    assert sorted(copy.input) == sorted(text_inputs(backbone))
    with pytest.raises(ValueError, match="context_dim=6"):
        models.DiffusionModel(backbone)


@EACH
def test_config_round_trip(make):
    backbone = make(dropout=0.1)
    config = keras.saving.serialize_keras_object(backbone)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(backbone)
    assert copy.get_config() == backbone.get_config()
    assert [w.path for w in copy.weights] == [w.path for w in backbone.weights]


@EACH
def test_preset_round_trip(make, tmp_path):
    backbone = randomize(make())
    backbone.save_to_preset(tmp_path)
    inputs = inputs_of(backbone)
    for cls in (type(backbone), keras_hub.models.Backbone):
        copy = cls.from_preset(str(tmp_path))
        assert type(copy) is type(backbone)
        np.testing.assert_array_equal(
            ops.convert_to_numpy(copy(inputs)),
            ops.convert_to_numpy(backbone(inputs)),
        )


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
    ],
)
def test_bad_arguments(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
