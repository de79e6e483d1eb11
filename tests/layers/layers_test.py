import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from tests.reference import blocks

layers = ksd.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 4, 16)).astype("float32")
SKIP = RNG.normal(size=X.shape).astype("float32")
EMBEDDING = RNG.normal(size=(2, 8)).astype("float32")


def randomize(layer):
    """Replace all weights, the zero-initialised ones too."""
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        fan_in = max(1, int(np.prod(weight.shape[:-1])))
        value = rng.normal(size=weight.shape) / np.sqrt(fan_in)
        if weight.name in ("scale", "gamma"):
            value = 1 + 0.3 * value
        weight.assign(value.astype("float32"))
    return blocks.weights_of(layer)


def assert_close(output, expected):
    np.testing.assert_allclose(
        ops.convert_to_numpy(output), expected, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("skip", [None, SKIP], ids=["plain", "skip"])
def test_residual_block_equals_reference(skip):
    layer = layers.ResidualBlock()
    layer(X, EMBEDDING, skip=skip)
    w = randomize(layer)
    assert_close(
        layer(X, EMBEDDING, skip=skip),
        blocks.residual_block(X, EMBEDDING, skip, w),
    )


def test_self_attention_equals_reference():
    layer = layers.SelfAttention(num_heads=4)
    layer(X)
    w = randomize(layer)
    assert_close(layer(X), blocks.self_attention(X.astype("float64"), 4, w))


CONTEXT = RNG.normal(size=(2, 5, 12)).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], "int32")


@pytest.mark.parametrize("skip", [None, SKIP], ids=["plain", "skip"])
@pytest.mark.parametrize("text", [None, (CONTEXT, MASK)], ids=["", "text"])
@pytest.mark.parametrize("modulation", ["hidden", "norm"])
def test_transformer_block_equals_reference(modulation, text, skip):
    layer = layers.TransformerBlock(num_heads=2, modulation=modulation)
    arguments = {"skip": skip}
    if text is not None:
        arguments |= {"context": CONTEXT, "context_mask": MASK}
    layer(X, EMBEDDING, **arguments)
    w = randomize(layer)
    expected = blocks.transformer_block(
        X.astype("float64"), EMBEDDING, 2, w, modulation, skip, text
    )
    assert_close(layer(X, EMBEDDING, **arguments), expected)


def test_no_text_at_all_changes_nothing():
    layer = layers.CrossAttention(num_heads=4)
    layer(X, CONTEXT, MASK)
    randomize(layer)
    layer.output_dense.bias.assign(np.zeros(16, "float32"))
    assert_close(layer(X, CONTEXT, 0 * MASK), X)


@pytest.mark.parametrize("labels", [None, np.array([2, 3], "int32")])
@pytest.mark.parametrize("text", [False, True])
def test_conditioning_equals_reference(labels, text):
    log_snr = np.array([-3.7, 12.1], "float32")
    layer = layers.Conditioning(8, None if labels is None else 3)
    arguments = {} if labels is None else {"labels": labels}
    reference = {}
    if text:
        portrait = np.array([1, 0], "int32")
        reference = {"context": CONTEXT, "mask": MASK, "portrait": portrait}
        arguments |= {
            "context": CONTEXT,
            "context_mask": MASK,
            "portrait": portrait,
        }
    layer(log_snr, **arguments)
    w = randomize(layer)
    # Angles of up to 400 are rounded to 1.5e-5 in float32.
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(log_snr, **arguments)),
        blocks.conditioning(log_snr, labels, w, 8, **reference),
        atol=1e-4,
    )


def test_blocks_start_as_the_identity():
    for layer in (layers.ResidualBlock(), layers.TransformerBlock(4)):
        assert_close(layer(X, EMBEDDING), X)
    assert_close(layers.SelfAttention(4)(X), X)


def test_resampling():
    down, up = layers.Downsample2D(3), layers.Upsample2D(5)
    down(X), up(X)
    w = randomize(down)
    pooled = X.reshape(2, 3, 2, 2, 2, 16).mean((2, 4))
    assert_close(down(X), blocks.dense(pooled, w, "dense"))
    w = randomize(up)
    wide = blocks.dense(X.astype("float64"), w, "dense")
    assert_close(up(X), wide.repeat(2, axis=1).repeat(2, axis=2))


def test_position_embedding_is_added():
    layer = layers.PositionEmbedding2D()
    added = ops.convert_to_numpy(layer(X)) - X
    np.testing.assert_allclose(added[0], added[1], atol=1e-6)
    assert 0.005 < added.std() < 0.02


def test_positions_are_interpolated_to_other_sizes():
    layer = layers.PositionEmbedding2D()
    layer(np.zeros((1, 2, 1, 1), "float32"))
    layer.embedding.assign([[[0.0]], [[8.0]]])
    found = ops.convert_to_numpy(layer(np.zeros((1, 4, 3, 1), "float32")))
    # Rows at 1/8, 3/8, 5/8 and 7/8 of the height, known at 1/4 and 3/4.
    expected = np.array([0.0, 2.0, 6.0, 8.0])[:, None].repeat(3, axis=1)
    np.testing.assert_allclose(found[0, ..., 0], expected, atol=1e-6)


def test_patches_are_joined():
    images = np.random.default_rng(0).normal(size=(2, 6, 8, 3))
    images = images.astype("float32")
    patches = [
        images[:, i : i + 2, j : j + 2].reshape(2, -1)
        for i in range(0, 6, 2)
        for j in range(0, 8, 2)
    ]
    layer = layers.JoinPatches(2)
    joined = layer(np.stack(patches, axis=1), np.zeros((2, 3, 4, 1)))
    np.testing.assert_array_equal(ops.convert_to_numpy(joined), images)


def test_dropout_acts_in_training_only():
    for layer in (
        layers.ResidualBlock(dropout=0.5),
        layers.TransformerBlock(2, dropout=0.5),
    ):
        layer(X, EMBEDDING)
        randomize(layer)
        first, second = layer(X, EMBEDDING), layer(X, EMBEDDING)
        assert_close(first, ops.convert_to_numpy(second))
        noisy = layer(X, EMBEDDING, training=True)
        assert np.abs(ops.convert_to_numpy(noisy - first)).max() > 0.1


@pytest.mark.parametrize(
    "make, arguments",
    [
        (lambda d: layers.ResidualBlock(dtype=d), (X, EMBEDDING)),
        (lambda d: layers.TransformerBlock(4, dtype=d), (X, EMBEDDING)),
        (lambda d: layers.SelfAttention(4, dtype=d), (X,)),
        (lambda d: layers.Downsample2D(8, dtype=d), (X,)),
        (lambda d: layers.Upsample2D(8, dtype=d), (X,)),
    ],
)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(make, arguments, policy):
    keras.utils.set_random_seed(0)
    exact, mixed = make("float32"), make(policy)
    expected = exact(*arguments)
    output = mixed(*arguments)
    randomize(exact), randomize(mixed)
    expected, output = exact(*arguments), mixed(*arguments)
    assert keras.backend.standardize_dtype(output.dtype) == policy[6:]
    assert all(w.dtype == "float32" for w in mixed.weights)
    error = ops.convert_to_numpy(ops.cast(output, "float32") - expected)
    assert np.abs(error).max() < 0.15


def test_conditioning_is_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer = layers.Conditioning(8)
    output = layer(np.array([14.9, 14.91], "float32"))
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    # In bfloat16 the two noise levels would be the same number.
    assert np.abs(np.diff(ops.convert_to_numpy(output), axis=0)).max() > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.ResidualBlock(dropout=0.1),
        lambda: layers.TransformerBlock(4, dropout=0.1),
        lambda: layers.SelfAttention(4),
        lambda: layers.Conditioning(8, 3),
        lambda: layers.Downsample2D(4),
        lambda: layers.Upsample2D(4),
        lambda: layers.PositionEmbedding2D(),
        lambda: layers.JoinPatches(4),
        lambda: layers.RotaryPositions2D(8, num_before=3),
        lambda: layers.FeatureModulation(),
    ],
)
def test_serialization(make):
    layer = make()
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == layer.get_config()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: layers.SelfAttention(3)(X), "num_heads=3"),
        (lambda: layers.CrossAttention("4"), "num_heads='4'"),
        (lambda: layers.TransformerBlock(0), "num_heads=0"),
        (lambda: layers.TransformerBlock(4, dropout=1.0), "dropout=1.0"),
        (lambda: layers.TransformerBlock(4, modulation="in"), "'hidden', 'n"),
        (lambda: layers.ResidualBlock(dropout=None), "dropout=None"),
        (lambda: layers.SeededDropout("half"), "rate='half'"),
        (lambda: layers.Conditioning(7), "embedding_dim=7"),
        (lambda: layers.Conditioning(8.0), "embedding_dim=8.0"),
        (lambda: layers.Conditioning(8, 0), "num_classes=0"),
        (lambda: layers.Downsample2D((4, 4)), r"channels=\(4, 4\)"),
        (lambda: layers.Upsample2D(-1), "channels=-1"),
        (lambda: layers.WaveletTransform2D(1.5), "levels=1.5"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ksd.utils.errors.InputError, match=message):
        make()


def test_dropout_masks_follow_from_the_saved_state():
    layer = ksd.layers.SeededDropout(0.5)
    x = np.ones((2, 50), "float32")
    layer(x, training=True)
    state = ops.convert_to_numpy(layer.seed_generator.state)
    first = ops.convert_to_numpy(layer(x, training=True))
    layer(x, training=True)
    layer.seed_generator.state.assign(state)
    keras.utils.set_random_seed(7)  # Another state of everything else.
    again = ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_array_equal(again, first)
    assert 0.2 < (first == 0).mean() < 0.8
