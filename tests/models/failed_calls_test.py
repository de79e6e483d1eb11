"""Calls that fail or are interrupted: the trained model stays as it was."""

import os
import signal

import keras
import numpy as np
import pytest

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.interrupts import uninterrupted
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import values_of

pytestmark = pytest.mark.any_backend(on="jax")

DRAW = {"labels": [0, 1, 2], "num_steps": 2, "seed": 0}


@pytest.fixture(scope="module")
def model():
    model = make_model()
    model.fit(make_data(), batch_size=8, verbose=0)
    return model


def fit(model, **kwargs):
    arguments = {"batch_size": 8, "verbose": 0, "shuffle": False, **kwargs}
    return model.fit(make_data(), **arguments)


def check_intact(model):
    """Check that the model has its values, draws and goes on training."""
    before = values_of(model.trainable_variables)
    assert all(np.isfinite(value).all() for value in before)
    images = model.generate(**DRAW)
    model.evaluate(make_data(8), verbose=0)
    fit(model)
    assert (model.generate(**DRAW) != images).any()


def failing_batches(error):
    for batch in range(2):
        yield make_data(8, seed=batch)
    raise error


@pytest.mark.parametrize("error", [RuntimeError("gone"), KeyboardInterrupt()])
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_error_in_the_data(model, method, error):
    # Without a first look at the batches, which would raise it.
    model.prepare_data, kept = lambda x: x, model.prepare_data
    try:
        with pytest.raises(type(error)):
            getattr(model, method)(
                ((batch,) for batch in failing_batches(error)), verbose=0
            )
    finally:
        model.prepare_data = kept
    check_intact(model)


@pytest.mark.parametrize(
    "hook",
    [
        "on_train_begin",
        "on_epoch_begin",
        "on_train_batch_begin",
        "on_train_batch_end",
        "on_test_batch_end",
        "on_epoch_end",
        "on_train_end",
    ],
)
def test_error_in_a_callback(model, hook):
    def fail(*arguments, **kwargs):
        raise RuntimeError("no disk")

    callback = keras.callbacks.Callback()
    setattr(callback, hook, fail)
    with pytest.raises(RuntimeError, match="no disk"):
        fit(model, callbacks=[callback], validation_data=make_data(8))
    check_intact(model)


@pytest.fixture
def ctrl_c():
    """Let Ctrl-C raise `KeyboardInterrupt`, as background jobs do not."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_interrupt_within_a_step(model, method, monkeypatch, ctrl_c):
    storing = type(model)._storing

    def interrupted(step):
        def call(state, data):
            results = step(state, data)
            os.kill(os.getpid(), signal.SIGINT)
            return results

        return storing(model, call)

    model.compile(ema_decay=0.9)
    monkeypatch.setattr(model, "_storing", interrupted)
    model.make_train_function(force=True)
    model.make_test_function(force=True)
    try:
        with pytest.raises(KeyboardInterrupt):
            getattr(model, method)(make_data(8))
    finally:
        monkeypatch.undo()
        model.make_train_function(force=True)
        model.make_test_function(force=True)
    steps = int(np.asarray(model.optimizer.iterations))
    assert steps == (method != "evaluate")
    check_intact(model)


def test_ctrl_c_is_delayed_once(ctrl_c):
    done = []
    with pytest.raises(KeyboardInterrupt):
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(1)
    with pytest.raises(KeyboardInterrupt):
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            done.append(2)
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_calls_within_a_callback_of_fit(model):
    results = []

    class Nested(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                # Not through `self.model`, which would put values back.
                results.append(model.evaluate(make_data(8), verbose=0))
                fit(model, batch_size=16)
                model.train_on_batch(make_data(8))
                with model.averaged_weights():
                    results.append(values_of(model.trainable_variables))

    before = int(np.asarray(model.optimizer.iterations))
    fit(model, callbacks=[Nested()])
    assert int(np.asarray(model.optimizer.iterations)) == before + 4 + 2 + 1
    assert np.isfinite(results[0])
    check_intact(model)


def test_predict_of_the_network_keeps_its_weights(model):
    network = model.backbone
    rows = {
        "noisy_images": np.ones((8, 4, 4, 1), "float32"),
        "log_snr": np.zeros(8, "float32"),
        "labels": np.zeros(8, "int32"),
    }

    def batches():
        yield {name: value[:4] for name, value in rows.items()}
        yield {name: value[:4] for name, value in rows.items()}
        raise RuntimeError("gone")

    expected = network.predict(rows, verbose=0)
    images = model.generate(**DRAW)
    with pytest.raises(RuntimeError, match="gone"):
        network.predict(((batch,) for batch in batches()), verbose=0)
    np.testing.assert_array_equal(network.predict(rows, verbose=0), expected)
    np.testing.assert_array_equal(model.generate(**DRAW), images)
    check_intact(model)


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_rows_that_do_not_divide_over_devices(method):
    with keras.distribution.DataParallel(
        devices=keras.distribution.list_devices()[:2]
    ).scope():
        model = make_model()
        fit(model)
        before = values_of(model.trainable_variables)
        size = 3 if method == "train_on_batch" else 12
        batch_size = {} if size == 3 else {"batch_size": 5, "verbose": 0}
        with pytest.raises(InputError, match="multiple of 2"):
            getattr(model, method)(make_data(size), **batch_size)
        for a, b in zip(
            before, values_of(model.trainable_variables), strict=True
        ):
            np.testing.assert_array_equal(a, b)
        check_intact(model)
