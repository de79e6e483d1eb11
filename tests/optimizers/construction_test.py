import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from tests.helpers.models import make_transformer

make_optimizer = ksd.optimizers.make_optimizer


@pytest.fixture
def model():
    backbone = ksd.models.UViTBackbone(
        (4, 4, 1),
        channels=(16,),
        blocks=(1,),
        num_heads=2,
        embedding_dim=16,
        num_classes=3,
    )
    return ksd.models.DiffusionModel(backbone, compile=False)


@pytest.fixture(params=["levels", "patches"])
def any_model(request, model):
    if request.param == "levels":
        return model
    return ksd.models.DiffusionModel(make_transformer(), compile=False)


def to_numpy(x):
    return ops.convert_to_numpy(x).copy()


def apply(optimizer, weights, gradients):
    """Take one step and return how each weight changed, by path."""
    optimizer.build(weights)
    before = [to_numpy(w) for w in weights]
    optimizer.apply([ops.convert_to_tensor(g) for g in gradients])
    return {
        w.path: to_numpy(w) - old
        for w, old in zip(weights, before, strict=True)
    }


def is_kernel(path):
    return path.endswith("kernel")


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_only_kernels_decay(name, any_model):
    optimizer = make_optimizer(name, 0.01, weight_decay=0.5, epsilon=1e-7)
    # Also after loading.
    config = keras.saving.serialize_keras_object(optimizer)
    optimizer = keras.saving.deserialize_keras_object(config)
    weights = any_model.trainable_variables
    for weight in weights:
        weight.assign(ops.ones(weight.shape))
    zeros = [np.zeros(w.shape, "float32") for w in weights]
    for path, change in apply(optimizer, weights, zeros).items():
        expected = -0.005 if is_kernel(path) else 0.0
        np.testing.assert_allclose(change, expected, atol=1e-7, err_msg=path)


def test_muon_makes_the_steps_of_matrices(any_model):
    rng = np.random.default_rng(0)
    weights = any_model.trainable_variables
    gradients = [rng.normal(size=w.shape).astype("float32") for w in weights]
    optimizer = make_optimizer("muon", 0.01, clip_norm=None)
    matrices = set()
    for path, change in apply(optimizer, weights, gradients).items():
        change = change / 0.01
        if np.allclose(np.abs(change), 1.0, atol=1e-3):
            continue  # The first step of Adam is the sign.
        # The step of Muon has singular values near one, times 0.2 times the
        # root of the longer side.
        matrices.add(path)
        scale = 0.2 * np.sqrt(max(change.shape))
        values = np.linalg.svd(change / scale, compute_uv=False)
        assert 0.5 < values.min() and values.max() < 1.3, path
    # Neither convolutions nor embeddings, nor the first and last layers.
    ends = ("patch_dense/kernel", "output_dense/kernel")
    assert matrices == {
        w.path
        for w in weights
        if is_kernel(w.path) and len(w.shape) == 2 and w.path not in ends
    }
    assert any("transformer_0/attention/qkv" in path for path in matrices)


def test_muon_trains_a_uvit(model):
    optimizer = make_optimizer("muon", 0.01, gradient_accumulation_steps=2)
    model.compile(optimizer, ema_decay=0.5)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 4, 4, 1), "uint8")
    data = {"images": np.repeat(image, 32, 0), "labels": np.zeros(32, int)}
    before = model.evaluate(data, verbose=0)
    model.fit(data, batch_size=8, epochs=6, verbose=0)
    assert model.evaluate(data, verbose=0) < 0.9 * before


@pytest.mark.parametrize("steps", [None, 3])
def test_warm_up_counts_updates(steps):
    optimizer = make_optimizer(
        "adam", 1.0, warmup_steps=4, gradient_accumulation_steps=steps
    )
    weight = keras.Variable([0.0])
    optimizer.build([weight])
    changes = []
    for _ in range(6):
        before = to_numpy(weight)[0]
        for _ in range(steps or 1):
            optimizer.apply([ops.ones((1,))])
        changes.append(before - to_numpy(weight)[0])
    np.testing.assert_allclose(
        changes, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0], rtol=1e-3
    )


def test_bad_arguments():
    with pytest.raises(ksd.utils.errors.InputError, match="'sgd'"):
        make_optimizer("sgd")
    with pytest.raises(ksd.utils.errors.InputError, match="weight_decay=0.1"):
        make_optimizer("adam", weight_decay=0.1)
    for name, value in (
        ("warmup_steps", -1),
        ("warmup_steps", 1.5),
        ("weight_decay", -0.1),
        ("gradient_accumulation_steps", 0),
    ):
        with pytest.raises(ksd.InputError, match=f"{name}={value}"):
            make_optimizer("adamw", **{name: value})
    with pytest.raises(ksd.InputError, match="warmup_steps=0"):
        ksd.optimizers.WarmUp(1e-3, 0)


def test_the_learning_rate_rises_stays_and_falls_to_zero():
    schedule = ksd.optimizers.WarmUp(0.4, 2, steps=10, cooldown_steps=4)
    rates = [float(schedule(step)) for step in range(12)]
    expected = [0.2, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-7)
    again = ksd.optimizers.WarmUp(**schedule.get_config())
    assert again.get_config() == schedule.get_config()
    with pytest.raises(ValueError, match="`steps`"):
        ksd.optimizers.WarmUp(0.4, 2, cooldown_steps=4)


def test_a_schedule_counts_updates_not_micro_batches():
    optimizer = make_optimizer(
        learning_rate=1.0,
        warmup_steps=2,
        gradient_accumulation_steps=3,
        steps=8,
        cooldown_steps=4,
    )
    config = optimizer.get_config()["learning_rate"]["config"]
    assert config["warmup_steps"] == 6
    assert config["steps"] == 24 and config["cooldown_steps"] == 12
