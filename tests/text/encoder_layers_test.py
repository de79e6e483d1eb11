"""The layers of the text encoder, compared with those of keras_hub."""

import keras_hub
import numpy as np
from keras import ops

from keras_simple_diffusion.text import encoder_layers
from tests.helpers.models import randomize

IDS = np.array([[3, 1, 4, 0], [5, 0, 0, 0]])
MASK = np.array([[1, 1, 1, 0], [1, 0, 0, 0]])


def assert_equal(ours, theirs, *inputs, **kwargs):
    """Compare weights by name, and outputs of equal weights."""
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours(*inputs, **kwargs)),
        ops.convert_to_numpy(theirs(*inputs, **kwargs)),
        atol=1e-6,
    )


def test_embedding():
    layers = [
        package.TokenAndPositionEmbedding(7, 4, 8, name="tokens")
        for package in (encoder_layers, keras_hub.layers)
    ]
    for layer in layers:
        layer.build((None, 4))
    assert_equal(*layers, IDS)


def test_transformer_layer():
    layers = [
        encoder_layers.TransformerEncoder(2, name="block_0"),
        keras_hub.layers.TransformerEncoder(
            32, 2, normalize_first=True, name="block_0"
        ),
    ]
    for layer in layers:
        layer.build((None, 4, 8))
    tokens = np.random.RandomState(0).normal(size=(2, 4, 8)).astype("float32")
    assert_equal(*layers, tokens, padding_mask=MASK)
