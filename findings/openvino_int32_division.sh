#!/usr/bin/env bash
# OpenVINO 2026.4.1: quotients of int32 are rounded to 24 bits.
#
# `Divide` of two int32 tensors gives an int32 tensor, and the CPU computes it in
# float32: quotients above 2^24 are multiples of 2, 4, 8 and so on, without a
# warning. Adding, subtracting and multiplying wrap around at 32 bits exactly, as
# in NumPy. Whoever replaces the slow shifts of counter-based random numbers by
# divisions gets other numbers; `keras.ops.floor_divide` is affected as well.
#
# Guessed: exact quotients, rounded towards zero.
#
# Expected output:
#   1505919583 / 8: 188239952, exactly 188239947
#   588245963 / 8: 73530744, exactly 73530745
#   16777215 / 8: 2097151, exactly 2097151
#   2000000000 * 5 wraps around: 1410065408, as NumPy's 1410065408
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q openvino==2026.4.1 numpy==2.4.6
cat > "$place/run.py" <<'END'
import numpy as np
import openvino as ov
import openvino.opset13 as ops

words = np.array([1505919583, 588245963, 16777215, 2000000000], "int32")


def run(operation, operand):
    x = ops.parameter([4], ov.Type.i32)
    y = operation(x, ops.constant(np.int32(operand)))
    model = ov.Model([ops.result(y)], [x], "integers")
    compiled = ov.compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return compiled([words])[0]


quotients = run(ops.divide, 8)
for word, found in zip(words[:3], quotients[:3]):
    print(f"{word} / 8: {found}, exactly {word // 8}")
product = run(ops.multiply, 5)[3]
right = (words * np.int32(5))[3]
print(f"2000000000 * 5 wraps around: {product}, as NumPy's {right}")
assert product == right, "the behaviour has changed"
assert quotients[2] == words[2] // 8, "the behaviour has changed"
assert quotients[0] != words[0] // 8, "the behaviour has changed"
assert quotients[1] != words[1] // 8, "the behaviour has changed"
END
"$place/venv/bin/python" "$place/run.py"
