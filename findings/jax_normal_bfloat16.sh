#!/usr/bin/env bash
# JAX 0.10.2: normal numbers drawn in bfloat16 take 128 values, none above 2.6.
#
# `jax.random.normal(key, shape, "bfloat16")` (and `keras.random.normal` of
# that dtype on JAX) draws seven random bits and maps them through the inverse
# error function. A million draws hold 128 values, of which the greatest is
# 2.52 and the least -2.89: the mean is -0.01, ten standard errors off, and the
# tails are missing. Drawn in float32 and then rounded, as Keras does on
# TensorFlow and PyTorch, they hold thousands of values up to 4.8.
# Noise for diffusion that is drawn in the type of the network is not Gaussian.
#
# Guessed: float32 draws, rounded to bfloat16.
#
# Expected output:
#   drawn in bfloat16: 128 values from -2.89 to 2.52, mean -0.011
#   drawn in float32, then rounded: more than 3000 values up to more than 4.5
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q jax==0.10.2 numpy==2.4.6
cat > "$place/run.py" <<'END'
import jax
import numpy as np

key = jax.random.key(1)
shape = (1_000_000,)
drawn = np.asarray(jax.random.normal(key, shape, "bfloat16"), "float32")
values = len(np.unique(drawn))
print(
    f"drawn in bfloat16: {values} values from {drawn.min():.2f} to "
    f"{drawn.max():.2f}, mean {drawn.mean():.3f}"
)
rounded = np.asarray(
    jax.random.normal(key, shape, "float32").astype("bfloat16"), "float32"
)
fine = len(np.unique(rounded)) > 3000 and rounded.max() > 4.5
print(
    "drawn in float32, then rounded: more than 3000 values up to more than "
    f"4.5{'' if fine else ' NO LONGER'}"
)
assert fine and values == 128, "the behaviour has changed"
assert -2.9 < drawn.min() and drawn.max() < 2.6, "the behaviour has changed"
assert -0.015 < drawn.mean() < -0.005, "the behaviour has changed"
END
JAX_PLATFORMS=cpu "$place/venv/bin/python" "$place/run.py"
