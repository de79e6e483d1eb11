"""Features and global settings of Keras: right, or one clear error."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.models import make_backbone
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import make_transformer
from tests.helpers.models import randomize
from tests.helpers.models import values_of

DRAW = {"labels": [0, 1, 2], "num_steps": 4, "seed": 0}


def fit(model, **kwargs):
    return model.fit(make_data(), batch_size=8, verbose=0, **kwargs)


# === LoRA ===


def test_lora(tmp_path):
    model = make_model(ema_decay=0.5)
    randomize(model.backbone)
    images = model.generate(**DRAW)
    fit(model)
    with model.averaged_weights():
        averaged = values_of(model.backbone.weights)
    model.backbone.enable_lora(4)
    # Nothing changes until it is trained.
    np.testing.assert_array_equal(
        values_of(model.backbone.weights)[0], values_of(model.weights)[0]
    )
    names = [v.path for v in model.trainable_variables]
    assert any("lora_kernel_a" in name for name in names)
    assert all("lora" in name or "bias" in name for name in names)
    with pytest.raises(InputError, match="`compile` again"):
        fit(model)
    model.compile(keras.optimizers.Adam(3e-2), ema_decay=0.5)
    frozen = values_of(model.non_trainable_weights)
    first, again = model.generate(**DRAW), None
    history = fit(model, epochs=2)
    assert np.isfinite(history.history["loss"]).all()
    for a, b in zip(
        frozen, values_of(model.non_trainable_weights), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    again = model.generate(**DRAW)
    assert (again != first).any() and (images != first).any()
    # The averages include it: the raw weights draw something else.
    raw = ksd.models.DiffusionModel(model.backbone, num_steps=4)
    assert (raw.generate(**DRAW) != again).any()
    # A preset holds the sum.
    model.save_to_preset(tmp_path / "preset")
    copy = ksd.models.DiffusionModel.from_preset(tmp_path / "preset")
    assert not any("lora" in v.path for v in copy.variables)
    drawn = copy.generate(**DRAW)
    np.testing.assert_allclose(drawn.astype(int), again, atol=1)
    # And a file of its own the changes.
    model.backbone.save_lora_weights(tmp_path / "a.lora.h5")
    other = make_backbone()
    for own, weight in zip(
        other.weights, make_without_lora(model.backbone), strict=True
    ):
        own.assign(weight)
    other.load_lora_weights(tmp_path / "a.lora.h5")
    for a, b in zip(
        values_of(other.weights), values_of(model.backbone.weights), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert len(averaged) == len(other.weights) - 2


def make_without_lora(backbone):
    return [w for w in backbone.weights if "lora" not in w.path]


@pytest.mark.any_backend
def test_lora_of_every_network():
    text = make_backbone(None, context_dim=8)
    text.enable_lora(2)
    paths = " ".join(v.path for v in text.trainable_variables)
    for name in ("qkv", "query", "key_value"):
        assert f"/{name}/lora_kernel_b" in paths
    with pytest.raises(InputError, match="LoRA already"):
        text.enable_lora(2)
    transformer = make_transformer()
    transformer.enable_lora(2)
    names = [
        v.path for v in transformer.trainable_variables if "lora" in v.path
    ]
    assert len(names) == 2 * 2 and all("attention/qkv" in n for n in names)
    convolutions = ksd.models.UNetBackbone(
        (8, 8, 1), (8, 8), (1, 1), attention_levels=(), embedding_dim=8
    )
    trainable = len(convolutions.trainable_variables)
    with pytest.raises(InputError, match="'conv_in', 'conv_out'"):
        convolutions.enable_lora(2, ["conv"])
    assert len(convolutions.trainable_variables) == trainable
    convolutions.enable_lora(2, ["conv_in", "conv_out"])
    model = ksd.models.DiffusionModel(convolutions)
    images = make_data(8, None, (8, 8, 1))
    loss = model.fit(images, batch_size=4, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    with pytest.raises(InputError, match="rank=0"):
        make_backbone().enable_lora(0)


# === Quantization ===


@pytest.mark.filterwarnings("ignore:Layer .* does not have a .quantize")
@pytest.mark.filterwarnings("ignore:Invalid quantization mode")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_networks_draw_and_train(mode):
    model = make_model(ema_decay=None)
    randomize(model.backbone)
    before = model.generate(**DRAW).astype(int)
    model.quantize(mode)
    drawn = model.generate(**DRAW).astype(int)
    limit = {"int8": 8, "int4": 60, "float8": 8}[mode]
    assert np.abs(drawn - before).mean() < limit
    # What is not quantized, such as biases and norms, is trained.
    history = fit(model, epochs=2)
    assert np.isfinite(history.history["loss"]).all()
    assert (model.generate(**DRAW) != drawn).any()


# === Copies and frozen layers ===


def test_clones():
    model = make_model()
    randomize(model.backbone)
    clone = keras.models.clone_model(model)
    for own, weight in zip(clone.weights, model.weights, strict=True):
        own.assign(ops.convert_to_numpy(weight))
    images = model.generate(**DRAW)
    np.testing.assert_array_equal(clone.generate(**DRAW), images)
    fit(clone)
    # Keras knows no other class for the clone of a network.
    network = keras.models.clone_model(model.backbone)
    network.set_weights(model.backbone.get_weights())
    inputs = {
        "noisy_images": np.ones((2, 4, 4, 1), "float32"),
        "log_snr": np.zeros(2, "float32"),
        "labels": np.arange(2, dtype="int32"),
    }
    np.testing.assert_allclose(
        ops.convert_to_numpy(network(inputs)),
        ops.convert_to_numpy(model.backbone(inputs)),
        rtol=1e-5,
        atol=1e-6,
    )
    with pytest.raises(InputError, match=r"from_config\(network.get_config"):
        ksd.models.DiffusionModel(network)


def test_frozen_layers_stay():
    model = make_model()
    table = model.backbone.get_layer("conditioning")
    # Before the first training, with or without `compile`.
    table.trainable = False
    before = values_of(table.weights)
    fit(model)
    for a, b in zip(before, values_of(table.weights), strict=True):
        np.testing.assert_array_equal(a, b)
    # After it: never by a step that was compiled for other layers.
    table.trainable = True
    with pytest.raises(InputError, match="`compile` again"):
        fit(model)
    with pytest.raises(InputError, match="`compile` again"):
        model.train_on_batch(make_data(4))
    model.compile(keras.optimizers.Adam(1e-2))
    fit(model)
    after = values_of(table.weights)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    model.trainable = False
    with pytest.raises(InputError, match="nothing to train"):
        fit(model)
    model.generate(**DRAW)
    assert np.isfinite(model.evaluate(make_data(8), verbose=0))


# === Global settings ===


@pytest.fixture
def settings():
    """Restore the global settings of Keras."""
    yield
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_floatx(dtype, settings):
    data = make_data(512)
    expected = make_model().evaluate(data, batch_size=8, verbose=0)
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    model = make_model()
    assert model.backbone.dtype_policy.name == dtype
    # Noise, log-SNR and losses are float32: an untrained network predicts 0.
    value = model.evaluate(data, batch_size=8, verbose=0)
    assert value == pytest.approx(expected, rel=1e-5)
    batch = model.noisy_batch(make_data(4))
    for tensor in (batch.noise, batch.time, batch.log_snr, batch.noisy_images):
        assert keras.backend.standardize_dtype(tensor.dtype) == "float32"
    for name in ("noisy_images", "log_snr"):
        assert model.backbone.input[name].dtype == "float32"
    images = model.generate(**DRAW, guidance_scale=2.0)
    assert images.std() > 0
    if dtype == "float16":
        with pytest.raises(InputError, match="mixed_float16"):
            fit(model)
        return
    model.compile()  # Its gradients are clipped as one.
    history = fit(model, epochs=2, validation_data=make_data(8))
    assert 0.1 < history.history["loss"][-1] < 3.0
    assert (model.generate(**DRAW, guidance_scale=2.0) != images).any()
    # Keras's default would be 1 in bfloat16, and change nothing.
    model.compile(keras.optimizers.Adam(1e-3, beta_2=0.999))
    with pytest.raises(InputError, match="beta_2=0.999 is 1 in bfloat16"):
        fit(model)


def test_global_settings_change_nothing(settings):
    images = make_data(8, None, (8, 8, 1))

    def measure():
        keras.utils.set_random_seed(0)
        networks = (
            ksd.models.UNetBackbone(
                (8, 8, 1), (8, 8), (1, 1), (1,), 2, embedding_dim=8
            ),
            ksd.models.UViTBackbone(
                (8, 8, 1),
                (8, 8),
                (1, 1),
                num_heads=2,
                embedding_dim=8,
                downsampling="conv",
                downsampling_factor=2,
            ),
        )
        for network in networks:
            model = ksd.models.DiffusionModel(randomize(network))
            yield model.evaluate(images, verbose=0)
            yield model.generate(2, num_steps=2, seed=0)

    expected = list(measure())
    keras.config.set_image_data_format("channels_first")
    keras.config.set_epsilon(1e-2)
    for a, b in zip(expected, measure(), strict=True):
        np.testing.assert_array_equal(a, b)
