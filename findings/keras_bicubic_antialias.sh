#!/usr/bin/env bash
# Keras 3.15.1: on PyTorch, `antialias` chooses the kernel of bicubic resizing.
#
# Antialiasing widens the kernel when an image is reduced; when it is enlarged
# there is nothing to widen, and on JAX and TensorFlow the flag changes nothing.
# On PyTorch (2.13.0) the same call has another result: `antialias=True` takes
# the cubic kernel with a = -0.5, as JAX, TensorFlow and Pillow do, and
# `antialias=False`, the default, that with a = -0.75. Beside an edge from 0 to 1
# it overshoots by 0.11 of the range instead of 0.07. A network or a metric that
# resizes features or images by the defaults of `keras.ops.image.resize` is
# another one on PyTorch. Nearest and bilinear interpolation agree.
#
# Guessed: one call of Keras gives one result, and enlarging has no aliases.
#
# Expected output:
#   enlarged, antialias=False: least value jax -0.070, tensorflow -0.070, torch -0.105
#   enlarged, antialias=True: least value jax -0.070, tensorflow -0.070, torch -0.070
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 jax==0.10.2 \
    tensorflow==2.21.0 torch==2.13.0
cat > "$place/run.py" <<'END'
import sys

import keras
import numpy as np

step = np.repeat(np.float32([0, 1]), 8)[None, :, None, None]
image = np.tile(step, (1, 1, 16, 1))
enlarged = keras.ops.image.resize(
    image,
    (32, 32),
    interpolation="bicubic",
    antialias=sys.argv[1] == "True",
    data_format="channels_last",
)
print(f"{keras.ops.convert_to_numpy(enlarged).min():.3f}")
END
cd "$place"
for antialias in False True; do
    found=""
    for backend in jax tensorflow torch; do
        value=$(KERAS_BACKEND=$backend venv/bin/python run.py $antialias \
            2>"$place/errors")
        found="$found${found:+, }$backend $value"
    done
    echo "enlarged, antialias=$antialias: least value $found"
    echo "$found" >> "$place/found"
done
diff "$place/found" - <<'END'
jax -0.070, tensorflow -0.070, torch -0.105
jax -0.070, tensorflow -0.070, torch -0.070
END
