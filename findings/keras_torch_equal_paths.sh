#!/usr/bin/env bash
# Keras 3.15.1 on PyTorch: gradients of one of two equal networks pile up.
#
# A model that holds two networks of the same names in a list trains both of
# them. On PyTorch the training step clears the gradients of the model's
# parameters, which Keras lists by the paths of the variables; networks that
# were made by the same function have equal paths, so one of the two is left
# out. Its gradient is the sum over all steps so far, while that of the other is
# right. The loss is finite and nothing is said. A teacher and its student, an
# ensemble, or the two networks of a contrastive loss are made like this. As
# attributes, in place of a list, both networks are found.
#
# Guessed: each step clears the gradients of all trainable variables.
#
# Expected output (the gradient of each network after 1, 2 and 3 equal steps,
# as a multiple of that of the first step):
#   in a list: [1, 2, 3] and [1, 1, 1]
#   as attributes: [1, 1, 1] and [1, 1, 1]
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q keras==3.15.1 torch==2.13.0 numpy==2.4.6
cat > "$place/run.py" <<'END'
import keras
import numpy as np


def make_network():
    x = keras.Input((1,))
    return keras.Model(x, keras.layers.Dense(1, name="dense")(x), name="net")


class Pair(keras.Model):
    def __init__(self, as_list):
        super().__init__()
        first, second = make_network(), make_network()
        if as_list:
            self.networks = [first, second]
        else:
            self.first, self.second = first, second
        self.find = lambda: self.networks if as_list else (first, second)

    def call(self, x):
        first, second = self.find()
        return first(x) + second(x)


x = np.ones((4, 1), "float32")
found = []
for as_list in (True, False):
    model = Pair(as_list)
    model.compile(keras.optimizers.SGD(0.0), "mse")  # Weights stay.
    history = []
    for _ in range(3):
        model.train_on_batch(x, 10 * x)
        kernels = [net.layers[-1].kernel for net in model.find()]
        history.append([float(k.value.grad.sum()) for k in kernels])
    ratios = np.round(np.array(history) / history[0]).astype(int).T.tolist()
    found.append(ratios)
    name = "in a list" if as_list else "as attributes"
    print(f"{name}: {ratios[0]} and {ratios[1]}")
expected = [[[1, 2, 3], [1, 1, 1]], [[1, 1, 1], [1, 1, 1]]]
assert found == expected, "the behaviour has changed"
END
KERAS_BACKEND=torch "$place/venv/bin/python" "$place/run.py"
