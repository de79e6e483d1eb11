#!/usr/bin/env bash
# Keras 3.15.1: Adam with bfloat16 variables changes no weight at all.
#
# Under the dtype policy "bfloat16" (not "mixed_bfloat16") the variables are
# bfloat16, and Adam rounds its default beta_2 = 0.999 to their type: to 1. The
# bias correction sqrt(1 - beta_2^t) is then 0, so each step is 0. `fit` runs,
# the loss is finite and never moves; nothing is said. AdamW does the same,
# Nadam divides by that 0 and fills the weights with NaN. beta_2 = 0.99, which
# bfloat16 tells from 1, trains. TensorFlow and PyTorch behave like JAX, save
# that Nadam raises on PyTorch.
#
# Guessed: Adam trains as SGD does, only more coarsely.
#
# Expected output:
#   SGD: changed
#   Adam: unchanged
#   AdamW: unchanged
#   Adam with beta_2 of 0.99: changed
#   Nadam: NaN
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q keras==3.15.1 jax==0.10.2 numpy==2.4.6
cat > "$place/run.py" <<'END'
import keras
import numpy as np

keras.config.set_dtype_policy("bfloat16")
x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
optimizers = {
    "SGD": keras.optimizers.SGD(0.1),
    "Adam": keras.optimizers.Adam(0.1),
    "AdamW": keras.optimizers.AdamW(0.1, weight_decay=0),
    "Adam with beta_2 of 0.99": keras.optimizers.Adam(0.1, beta_2=0.99),
    "Nadam": keras.optimizers.Nadam(0.1),
}
found = []
for name, optimizer in optimizers.items():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    before = model.get_weights()[0].astype("float32")
    model.compile(optimizer, "mse")
    model.fit(x, 3 * x[:, :4], epochs=5, verbose=0)
    after = model.get_weights()[0].astype("float32")
    if np.isnan(after).any():
        found.append("NaN")
    elif np.array_equal(before, after):
        found.append("unchanged")
    else:
        found.append("changed")
    print(f"{name}: {found[-1]}")
expected = ["changed", "unchanged", "unchanged", "changed", "NaN"]
assert found == expected, "the behaviour has changed"
END
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$place/venv/bin/python" "$place/run.py"
