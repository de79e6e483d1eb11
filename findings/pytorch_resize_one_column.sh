#!/usr/bin/env bash
# PyTorch 2.13.0: antialiased resizing to one column repeats the first row.
#
# `F.interpolate(image, (height, 1), antialias=True)` on the CPU, bilinear or
# bicubic, in float32 or float64, scales the width and then gives each row of
# the result the value of its first. It does so whenever the height changes and
# the result of a contiguous image is one pixel wide: for a column of row
# averages, or a signal (a table of positions, a noise schedule) that is held as
# an image of width 1. Nothing is said. Resizing to one row is right, as is
# resizing without `antialias`, and uint8.
#
# Guessed: resizing the transposed image transposes the result.
#
# Expected output (an image that is brighter from row to row, and its
# transpose):
#   bilinear, to 1 x 4: 0.102 0.357 0.643 0.898
#   bilinear, to 4 x 1: 0.102 0.102 0.102 0.102
#   bicubic, to 1 x 4: 0.078 0.351 0.649 0.922
#   bicubic, to 4 x 1: 0.078 0.078 0.078 0.078
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat > "$place/run.py" <<'END'
import torch
import torch.nn.functional as F

rows = torch.linspace(0, 1, 8)[:, None].expand(8, 8)[None, None].contiguous()
columns = rows.mT.contiguous()
for mode in ("bilinear", "bicubic"):
    resize = lambda image, size: F.interpolate(
        image, size, mode=mode, antialias=True
    ).flatten()
    row = resize(columns, (1, 4))
    column = resize(rows, (4, 1))
    for size, result in ("1 x 4", row), ("4 x 1", column):
        numbers = " ".join(f"{x:.3f}" for x in result.tolist())
        print(f"{mode}, to {size}: {numbers}")
    assert row[3] > 0.8, "the behaviour has changed"
    assert torch.allclose(column, row[0]), "the behaviour has changed"
END
"$place/venv/bin/python" "$place/run.py"
