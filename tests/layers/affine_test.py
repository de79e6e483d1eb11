import numpy as np
from keras import layers
from keras import ops

from keras_simple_diffusion.layers.fused_layers import Conv2D
from keras_simple_diffusion.layers.fused_layers import Dense


def outputs(layer, x):
    return ops.convert_to_numpy(layer(ops.convert_to_tensor(x)))


def test_dense_and_convolution_are_those_of_keras():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 4, 3)).astype("float32")
    pairs = [
        (Dense(5, activation="silu"), layers.Dense(5, activation="silu")),
        (Conv2D(5, 3), layers.Conv2D(5, 3, padding="same")),
        (Conv2D(5, 2, strides=2), layers.Conv2D(5, 2, strides=2)),
    ]
    for ours, theirs in pairs:
        theirs.build(x.shape)
        ours.build(x.shape)
        for weight, other in zip(theirs.weights, ours.weights, strict=True):
            weight.assign(rng.normal(size=weight.shape).astype("float32"))
            other.assign(weight)
        np.testing.assert_allclose(
            outputs(ours, x), outputs(theirs, x), atol=1e-5
        )


def test_dense_can_be_quantized():
    x = np.random.default_rng(0).normal(size=(64, 32)).astype("float32")
    layer = Dense(16)
    layer.build(x.shape)
    exact = outputs(layer, x).copy()
    layer.quantize("int8")
    error = outputs(layer, x) - exact
    assert layer.quantization_mode == "int8"
    assert 0.0 < error.std() < 0.02 * exact.std()
