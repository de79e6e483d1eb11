#!/usr/bin/env bash
# Keras 3.15.1: `fit(x, sample_weight=...)` without `y` drops the weights.
#
# A model whose loss needs no separate target (a diffusion model, an
# autoencoder with its own `compute_loss`) is trained with `fit(x)`. Keras
# packs `(x, y, sample_weight)` of which `y` is None into `x` alone: weights of
# zero change nothing, and nothing is said.
#
# Expected output:
#   weights that compute_loss received: None
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q keras==3.15.1 jax==0.10.2 numpy==2.4.6
cat > "$place/run.py" <<'END'
import keras
import numpy as np

received = []


class Autoencoder(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        received.append(sample_weight)
        return keras.ops.mean(keras.ops.square(y_pred - x))


model = Autoencoder()
model.compile("sgd")
model.fit(
    np.ones((4, 2), "float32"),
    sample_weight=np.zeros(4, "float32"),
    batch_size=4,
    verbose=0,
)
print("weights that compute_loss received:", received[-1])
assert received[-1] is None, "the behaviour has changed"
END
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$place/venv/bin/python" "$place/run.py"
