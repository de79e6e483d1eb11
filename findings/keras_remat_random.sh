#!/usr/bin/env bash
# Keras 3.15.1 on PyTorch: rematerialized layers drop other features backwards.
#
# Under `keras.RematScope` a layer is computed a second time for the gradient.
# PyTorch rewinds its own generator for that, but not a Keras `SeedGenerator`,
# which goes on to its next seed: a dropout with a seed, or noise that a layer
# draws, has another mask in the gradient than in the loss. The gradient is
# that of another function. Nothing is said, and the loss looks as it should.
# `Dropout` without a seed draws from PyTorch's generator and is right. On
# TensorFlow a layer that draws noise has the same fault; on JAX it raises an
# error.
#
# Guessed: the gradient of the loss that was computed.
#
# Expected output (the loss is the sum of 64 weights that remain, times two: as
# it is linear, it equals the product of weights and gradient):
#   Dropout(0.5), kept: equal
#   Dropout(0.5), rematerialized: equal
#   Dropout(0.5, seed=1), kept: equal
#   Dropout(0.5, seed=1), rematerialized: loss 62, product 56
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q keras==3.15.1 torch==2.13.0 numpy==2.4.6
cat > "$place/run.py" <<'END'
import keras
import numpy as np


class DroppedWeights(keras.layers.Layer):
    def __init__(self, seed):
        super().__init__()
        self.dropout = keras.layers.Dropout(0.5, seed=seed)

    def build(self, shape):
        self.scale = self.add_weight(shape=(64,), initializer="ones")

    def call(self, x, training=None):
        return self.dropout(x * self.scale, training=training)


found = []
x = np.ones((1, 64), "float32")
for seed in (None, 1):
    for mode in (None, "full"):
        keras.utils.set_random_seed(0)
        with keras.RematScope(mode=mode):
            layer = DroppedWeights(seed)
            image = keras.Input((64,))
            model = keras.Model(image, layer(image))
        model.compile(
            keras.optimizers.SGD(1.0),
            loss=lambda y, prediction: keras.ops.sum(prediction, axis=-1),
        )
        loss = float(model.train_on_batch(x, x))
        # The weights were 1, and a step of rate 1 takes off the gradient.
        product = float((1 - layer.scale.numpy()).sum())
        name = "Dropout(0.5)" if seed is None else "Dropout(0.5, seed=1)"
        print(
            f"{name}, {'rematerialized' if mode else 'kept'}: "
            + (
                "equal"
                if loss == product
                else f"loss {loss:.0f}, product {product:.0f}"
            )
        )
        found.append(loss == product)
assert found == [True, True, True, False], "the behaviour has changed"
END
KERAS_BACKEND=torch "$place/venv/bin/python" "$place/run.py"
