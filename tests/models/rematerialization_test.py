import contextlib

import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.models import make_transformer

SHAPE = {
    "image_shape": (8, 8, 1),
    "channels": (8, 16),
    "blocks": (0, 1),
    "num_heads": 2,
    "embedding_dim": 16,
}
# Between them they have every kind of block, with and without a skip.
BACKBONES = {
    "uvit": (ksd.models.UViTBackbone, ("residual", "transformer")),
    "unet": (ksd.models.UNetBackbone, ("residual", "attention")),
    "transformer": (make_transformer, ("transformer",)),
}


def make(name, rematerialize, **kwargs):
    kwargs = {"dropout": 0.5, **kwargs}
    backbone, types = BACKBONES[name]
    if name == "uvit":
        kwargs = {"context_dim": 6, **kwargs}
    if name == "transformer":
        return backbone(
            num_classes=None,
            context_dim=6,
            depth=4,
            rematerialize=types if rematerialize else (),
            **kwargs,
        )
    if name == "unet":
        kwargs = {"channels": (8,), "blocks": (1,), **kwargs}
    return backbone(
        rematerialize=types if rematerialize else (), **{**SHAPE, **kwargs}
    )


def make_inputs(backbone, count=4):
    rng = np.random.default_rng(0)
    inputs = {
        "noisy_images": rng.normal(size=(count, *backbone.image_shape)),
        "log_snr": rng.normal(size=count),
    }
    inputs = {k: ops.convert_to_tensor(v, "float32") for k, v in inputs.items()}
    if backbone.context_dim:
        context = rng.normal(size=(count, 3, backbone.context_dim))
        inputs["context"] = ops.convert_to_tensor(context, "float32")
        mask = np.array([[1, 1, 0]] * count)
        inputs["context_mask"] = ops.convert_to_tensor(mask, "int32")
    return inputs


def randomize(backbone):
    rng = np.random.default_rng(1)
    for weight in backbone.trainable_variables:
        weight.assign(0.2 * rng.normal(size=weight.shape))


def gradients(backbone, inputs, training=True):
    """Gradients of a sum over the output, and the random states after it."""
    weights = backbone.trainable_variables
    states = backbone.non_trainable_variables
    if keras.backend.backend() == "jax":
        import jax

        @jax.jit
        def compute(values, others):
            def loss(values):
                outputs, others_after = backbone.stateless_call(
                    values, others, inputs, training=training
                )
                return ops.sum(ops.sin(outputs)), others_after

            return jax.grad(loss, has_aux=True)(values)

        found, after = compute(
            [w.value for w in weights], [s.value for s in states]
        )
        for state, value in zip(states, after, strict=True):
            state.assign(value)
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function
        def compute():
            with tf.GradientTape() as tape:
                loss = ops.sum(ops.sin(backbone(inputs, training=training)))
            return tape.gradient(loss, [w.value for w in weights])

        found = compute()
    else:
        for weight in weights:
            weight.value.grad = None
        ops.sum(ops.sin(backbone(inputs, training=training))).backward()
        found = [weight.value.grad for weight in weights]
    return (
        {
            w.path: ops.convert_to_numpy(g)
            for w, g in zip(weights, found, strict=True)
        },
        [ops.convert_to_numpy(s).copy() for s in states],
    )


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for path, gradient in expected.items():
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(
            found[path], gradient, atol=2e-6 * scale + 1e-6, err_msg=path
        )


@pytest.mark.parametrize("name", BACKBONES)
def test_gradients_are_those_of_what_is_kept(name):
    found = []
    for rematerialize in (False, True):
        keras.utils.set_random_seed(0)
        backbone = make(name, rematerialize)
        randomize(backbone)
        before = [
            ops.convert_to_numpy(s).copy()
            for s in backbone.non_trainable_variables
        ]
        found.append(gradients(backbone, make_inputs(backbone)))
    (kept, kept_states), (again, again_states) = found
    assert_close(again, kept)
    # Every seed was drawn once.
    assert before
    for old, a, b in zip(before, kept_states, again_states, strict=True):
        np.testing.assert_array_equal(a, old + [0, 1])
        np.testing.assert_array_equal(b, a)


@pytest.mark.parametrize("name", BACKBONES)
def test_gradients_in_training_are_those_outside_of_it(name):
    # Only in training are parts of blocks recomputed.
    backbone = make(name, rematerialize=False, dropout=0.0)
    randomize(backbone)
    inputs = make_inputs(backbone)
    (found, _), (expected, _) = (
        gradients(backbone, inputs, training) for training in (True, False)
    )
    assert_close(found, expected)


def kept_bytes(backbone, inputs, training=True):
    """Memory that a training step keeps for its gradient."""
    if keras.backend.backend() == "jax":
        import jax

        values = [v.value for v in backbone.trainable_variables]
        others = [v.value for v in backbone.non_trainable_variables]

        def loss(values):
            outputs, _ = backbone.stateless_call(
                values, others, inputs, training=training
            )
            return ops.sum(ops.square(outputs))

        # The function that makes the gradient closes over what was kept.
        backward = jax.eval_shape(
            lambda values: jax.vjp(loss, values)[1], values
        )
        kept = jax.tree.leaves(backward)
        return sum(x.size * x.dtype.itemsize for x in kept)
    import torch

    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        outputs = backbone(inputs, training=training)
    assert outputs.requires_grad
    return sum(kept.values())


def test_memory_is_saved():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow does not tell what it keeps for a gradient")
    kept = []
    for rematerialize in (False, True):
        backbone = make("uvit", rematerialize, blocks=(1, 3))
        inputs = make_inputs(backbone, count=64)
        weights = sum(w.value.nbytes for w in backbone.weights)
        kept.append(kept_bytes(backbone, inputs) - weights)
    assert kept[1] < 0.35 * kept[0]


@pytest.mark.parametrize("name", BACKBONES)
def test_memory_is_saved_in_training(name):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow does not tell what it keeps for a gradient")
    backbone = make(name, rematerialize=False, dropout=0.0)
    inputs = make_inputs(backbone, count=64)
    weights = sum(w.value.nbytes for w in backbone.weights)
    kept, without = (
        kept_bytes(backbone, inputs, training) - weights
        for training in (True, False)
    )
    assert kept < 0.75 * without


def test_presets_in_half_precision(tmp_path):
    # Training it is in `diffusion_training_test.py`.
    folder = str(tmp_path / "preset")
    backbone = make("unet", True, dtype="mixed_bfloat16")
    ksd.models.DiffusionModel(backbone).save_to_preset(folder)
    model = ksd.models.DiffusionModel.from_preset(folder)
    half = ksd.models.DiffusionBackbone.from_preset(
        folder, dtype="mixed_bfloat16"
    )
    for loaded in (model.backbone, half):
        assert loaded.rematerialize == ("residual", "attention")
    assert model.backbone.dtype_policy.name == "float32"
    assert half.dtype_policy.name == "mixed_bfloat16"


def test_bad_arguments():
    with pytest.raises(ksd.utils.errors.InputError, match="'dense'"):
        ksd.models.UViTBackbone(rematerialize=("dense",), **SHAPE)


@pytest.mark.any_backend
@pytest.mark.parametrize("part", ["network", "model"])
def test_the_scope_of_keras_is_refused(part):
    scope = keras.RematScope(mode="full")
    with scope if part == "network" else contextlib.nullcontext():
        backbone = make("unet", rematerialize=False)
    with scope if part == "model" else contextlib.nullcontext():
        with pytest.raises(InputError, match="rematerialize="):
            ksd.models.DiffusionModel(backbone).compile()
