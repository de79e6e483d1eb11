#!/usr/bin/env bash
# Keras 3.15.1: `predict` with `SwapEMAWeights` answers with other weights each
# second time.
#
# The callback puts the averages into the model when `predict` begins, but does
# not take them out when it ends. A preview during the training (samples at the
# end of an epoch, the usual case of a generative model) leaves the averages in
# the model and the weights in the place of the averages: the training goes on
# from there, and the next preview shows the raw weights.
#
# Guessed: the same answer each time, from the averages.
#
# Expected output:
#   four calls of predict: A B A B
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q keras==3.15.1 jax==0.10.2 numpy==2.4.6
cat > "$place/run.py" <<'END'
import keras
import numpy as np

x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
answers = []


class Preview(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        for _ in range(4):
            swap = keras.callbacks.SwapEMAWeights()
            answer = self.model.predict(x[:1], verbose=0, callbacks=[swap])
            answers.append(float(answer[0, 0]))


keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), "mse")
model.fit(x, x.sum(1), verbose=0, callbacks=[Preview()])
letters = " ".join("AB"[answer != answers[0]] for answer in answers)
print("four calls of predict:", letters)
assert letters == "A B A B", "the behaviour has changed"
assert answers[1] == answers[3], "the behaviour has changed"
END
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$place/venv/bin/python" "$place/run.py"
