import keras
import numpy as np
import pytest
from keras import ops


class Recorder(keras.callbacks.Callback):
    """Keeps the weights after each batch."""

    def __init__(self):
        super().__init__()
        self.history = []

    def on_train_batch_end(self, batch, logs=None):
        weights = self.model.trainable_variables
        self.history.append([ops.convert_to_numpy(w).copy() for w in weights])


def _fit(optimizer, epochs=1, model=None, jit_compile="auto"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 5)).astype("float32")
    y = rng.normal(size=(32, 3)).astype("float32")
    if model is None:
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
        model.compile(optimizer, loss="mse", jit_compile=jit_compile)
    recorder = Recorder()
    model.fit(
        x, y, batch_size=4, epochs=epochs, verbose=0, callbacks=[recorder]
    )
    return model, recorder.history


@pytest.fixture
def fit():
    """Trains a small network, 8 steps an epoch, and records its weights."""
    return _fit
