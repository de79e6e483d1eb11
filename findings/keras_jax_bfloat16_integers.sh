#!/usr/bin/env bash
# Keras 3.15.1 on JAX 0.10.2: with floatx "bfloat16" whole numbers become
# floats, and large labels change.
#
# `keras.ops.convert_to_tensor` of a Python integer or of an integer array of
# NumPy gives int32 with floatx "float32" or "float16", and float32 with floatx
# "bfloat16": without a type, Keras takes the branch of bfloat16 arrays, whose
# cast to "no type" is one to JAX's default float. So
# `ops.bitwise_xor(tensor, 3)` is a TypeError, and 16,777,217 becomes
# 16,777,216. On PyTorch they stay whole numbers.
#
# Guessed: integers keep their type under every floatx.
#
# Expected output:
#   floatx float32: int32 int32, xor int32, 16777217
#   floatx bfloat16: float32 float32, xor TypeError, 16777216
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q keras==3.15.1 jax==0.10.2 numpy==2.4.6
cat > "$place/run.py" <<'END'
import keras
import numpy as np
from keras import ops

for floatx in ("float32", "bfloat16"):
    keras.config.set_floatx(floatx)
    number = ops.convert_to_tensor(5)
    large = ops.convert_to_tensor(np.array([16_777_217], "int32"))
    try:
        xor = ops.bitwise_xor(ops.zeros(1, "int32"), 3).dtype
    except TypeError:
        xor = "TypeError"
    kept = int(large[0])
    print(f"floatx {floatx}: {number.dtype} {large.dtype}, xor {xor}, {kept}")
    kind = "int32" if floatx == "float32" else "float32"
    assert number.dtype == large.dtype == kind, "the behaviour has changed"
    assert (xor == "int32") == (kind == "int32"), "the behaviour has changed"
    assert kept == 16_777_216 + (kind == "int32"), "the behaviour has changed"
END
JAX_PLATFORMS=cpu KERAS_BACKEND=jax "$place/venv/bin/python" "$place/run.py"
