#!/usr/bin/env bash
# Keras 3.15.1 on JAX: an error of the data in `evaluate` empties the model.
#
# `fit` puts the weights back when a batch raises an error after the first;
# `evaluate` does not. Afterwards every variable holds None, and the next call
# fails with an error that names neither the data nor the weights.
#
# Expected output:
#   fit: 0 of 2 weights are gone
#   evaluate: 2 of 2 weights are gone
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q keras==3.15.1 jax==0.10.2 numpy==2.4.6
cat > "$place/run.py" <<'END'
import keras
import numpy as np


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 2:
            raise RuntimeError("the third batch cannot be read")
        return np.ones((4, 2), "float32"), np.ones((4, 1), "float32")


found = []
for method in ("fit", "evaluate"):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    try:
        getattr(model, method)(Batches(), verbose=0)
    except RuntimeError:
        pass
    gone = sum(weight._value is None for weight in model.weights)
    print(f"{method}: {gone} of {len(model.weights)} weights are gone")
    found.append(gone)
assert found == [0, 2], "the behaviour has changed"
END
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$place/venv/bin/python" "$place/run.py"
