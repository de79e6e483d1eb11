import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd

AveragedOptimizer = ksd.optimizers.AveragedOptimizer


def closed_form(history, decay):
    """Sum over the weights after each update, with their final shares."""
    total, share = 0.0, 1.0
    for n in range(len(history), 0, -1):
        d = min(decay, (n - 1) / (n + 9))
        total = total + share * (1 - d) * history[n - 1]
        share *= d
    return total


def test_shares_of_the_closed_form_sum_to_one():
    assert closed_form([1.0] * 50, 0.9) == pytest.approx(1.0)


class Recorder(keras.callbacks.Callback):
    """Keeps the weights after each batch."""

    def __init__(self):
        super().__init__()
        self.history = []

    def on_train_batch_end(self, batch, logs=None):
        weights = self.model.trainable_variables
        self.history.append([ops.convert_to_numpy(w).copy() for w in weights])


def fit(optimizer, epochs=1, model=None, jit_compile="auto"):
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


@pytest.mark.parametrize("decay", [0.5, 0.9999])
@pytest.mark.parametrize("accumulation", [None, 4])
def test_average_equals_its_closed_form(decay, accumulation):
    inner = keras.optimizers.Adam(
        0.05, gradient_accumulation_steps=accumulation
    )
    optimizer = AveragedOptimizer(inner, decay=decay)
    model, history = fit(optimizer, epochs=2)
    _, more = fit(None, epochs=3, model=model)
    history = history + more
    assert len(history) == 40
    updates = history[(accumulation or 1) - 1 :: accumulation or 1]
    assert int(ops.convert_to_numpy(optimizer.num_averaged)) == len(updates)
    for i, average in enumerate(optimizer.averages):
        np.testing.assert_allclose(
            ops.convert_to_numpy(average),
            closed_form([weights[i] for weights in updates], decay),
            atol=1e-6,
        )


def test_weights_are_those_of_the_inner_optimizer_alone():
    keras.utils.set_random_seed(1)
    model, _ = fit(AveragedOptimizer(keras.optimizers.Adam(0.05)), epochs=2)
    keras.utils.set_random_seed(1)
    plain, _ = fit(keras.optimizers.Adam(0.05), epochs=2)
    for a, b in zip(model.weights, plain.weights, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=1e-6
        )


def test_inside_a_loss_scale_optimizer():
    optimizer = AveragedOptimizer(keras.optimizers.SGD(0.05), decay=0.9)
    model, history = fit(keras.optimizers.LossScaleOptimizer(optimizer))
    assert int(ops.convert_to_numpy(optimizer.num_averaged)) == len(history)
    np.testing.assert_allclose(
        ops.convert_to_numpy(optimizer.averages[0]),
        closed_form([weights[0] for weights in history], 0.9),
        atol=1e-6,
    )


def test_averaged_weights_swap_and_return():
    optimizer = AveragedOptimizer(keras.optimizers.SGD(0.1))
    model, history = fit(optimizer)
    raw = [ops.convert_to_numpy(w).copy() for w in model.weights]
    with pytest.raises(RuntimeError):
        with optimizer.averaged_weights():
            inside = [ops.convert_to_numpy(w).copy() for w in model.weights]
            raise RuntimeError
    for weight, value, swapped, average in zip(
        model.weights, raw, inside, optimizer.averages, strict=True
    ):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)
        np.testing.assert_array_equal(swapped, ops.convert_to_numpy(average))
        assert np.abs(swapped - value).max() > 1e-4
    fit(None, model=model)


def test_save_and_load(tmp_path):
    optimizer = AveragedOptimizer(keras.optimizers.Adam(0.05), decay=0.9)
    model, _ = fit(optimizer)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(copy.optimizer, AveragedOptimizer)
    assert copy.optimizer.decay == 0.9
    assert len(copy.optimizer.variables) == len(optimizer.variables)
    for a, b in zip(copy.optimizer.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        )


def test_learning_rate_is_the_inner_one():
    inner = keras.optimizers.SGD(0.1)
    optimizer = AveragedOptimizer(inner)
    optimizer.learning_rate = 0.02
    assert float(ops.convert_to_numpy(inner.learning_rate)) == pytest.approx(
        0.02
    )


def test_bad_arguments():
    with pytest.raises(ValueError, match="decay=1.0"):
        AveragedOptimizer(keras.optimizers.SGD(), decay=1.0)
    with pytest.raises(ValueError, match="use_ema=True"):
        AveragedOptimizer(keras.optimizers.SGD(use_ema=True))
