#!/usr/bin/env bash
# Keras 3.15.1: `EarlyStopping` restores other weights than those it scored.
#
# With `use_ema=True` and `SwapEMAWeights` each epoch is scored with the
# averages, and `fit` ends by putting the averages into the model. Then
# `EarlyStopping(restore_best_weights=True)` overwrites them with its copy,
# which it took after the swap back: the raw weights of the best epoch. The
# model scores far worse than the score that chose it. Without the callback,
# it keeps its averages and the score.
#
# Guessed: the score of the best epoch.
#
# Expected output (losses of validation):
#   without EarlyStopping: after fit 1.0 times that of the last epoch
#   with EarlyStopping: after fit more than 5 times that of the best epoch
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q keras==3.15.1 jax==0.10.2 numpy==2.4.6
cat > "$place/run.py" <<'END'
import keras
import numpy as np

rng = np.random.default_rng(0)
x = rng.normal(size=(512, 4)).astype("float32")
clean = x.sum(1, keepdims=True)
noisy = clean + rng.normal(size=clean.shape).astype("float32")


def fit(*callbacks):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.2, use_ema=True, ema_momentum=0.99)
    model.compile(optimizer, "mse")
    history = model.fit(
        x,
        noisy,
        epochs=8,
        batch_size=4,
        validation_data=(x, clean),
        callbacks=[keras.callbacks.SwapEMAWeights(), *callbacks],
        verbose=0,
    ).history["val_loss"]
    return model.evaluate(x, clean, verbose=0), history


after, history = fit()
kept = after / history[-1]
print(
    f"without EarlyStopping: after fit {kept:.1f} times that of the last epoch"
)
stop = keras.callbacks.EarlyStopping(patience=8, restore_best_weights=True)
after, history = fit(stop)
worse = after / min(history)
print(
    f"with EarlyStopping: after fit {'more' if worse > 5 else 'LESS'} than 5 "
    f"times that of the best epoch ({worse:.1f})"
)
assert abs(kept - 1) < 0.01 and worse > 5, "the behaviour has changed"
END
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$place/venv/bin/python" "$place/run.py"
