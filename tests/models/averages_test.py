"""Weights that are moved, with and without their averages."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.models import make_data
from tests.helpers.models import make_model
from tests.helpers.models import values_of

DRAW = {"labels": [0, 1, 2], "num_steps": 4, "seed": 0}


def make_trained(**kwargs):
    """A model whose averages are far from its weights."""
    model = make_model(learning_rate=3e-2, ema_decay=0.9, **kwargs)
    model.fit(make_data(), batch_size=8, epochs=2, verbose=0)
    return model


def draw_raw(model):
    """Draw with the weights themselves."""
    copy = ksd.models.DiffusionModel.from_config(model.get_config())
    for own, other in zip(copy.weights, model.weights, strict=True):
        own.assign(ops.convert_to_numpy(other))
    return copy.generate(**DRAW)


def test_validation_measures_the_averages():
    data, held_out = make_data(), make_data(16, seed=5)
    model = make_model(learning_rate=3e-2)
    model.compile(
        keras.optimizers.Adam(3e-2), ema_decay=0.9, evaluate_averages=True
    )
    raw = []

    class Note(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            raw.append(values_of(self.model.trainable_variables))

        def on_train_batch_end(self, batch, logs=None):
            self.last = values_of(self.model.trainable_variables)

    note = Note()
    history = model.fit(
        data,
        batch_size=8,
        epochs=2,
        validation_data=held_out,
        callbacks=[note],
        verbose=0,
    ).history
    value = model.evaluate(held_out, batch_size=8, verbose=0)
    assert value == pytest.approx(history["val_loss"][-1], rel=1e-6)
    # The weights are those of the last step.
    for weight, last in zip(
        values_of(model.trainable_variables), note.last, strict=True
    ):
        np.testing.assert_array_equal(weight, last)
    with model.averaged_weights():
        averaged = values_of(model.weights)
    copy = ksd.models.DiffusionModel.from_config(model.get_config())
    raw_value = copy.evaluate(held_out, batch_size=8, verbose=0)
    for weight, average in zip(copy.weights, averaged, strict=True):
        weight.assign(average)
    expected = copy.evaluate(held_out, batch_size=8, verbose=0)
    assert value == pytest.approx(expected, rel=1e-6)
    assert value != pytest.approx(raw_value, rel=1e-3)
    batch = {name: values[:8] for name, values in held_out.items()}
    assert float(model.test_on_batch(batch)) == pytest.approx(
        float(copy.test_on_batch(batch)), rel=1e-6
    )
    # An error in the validation leaves the weights themselves.
    with pytest.raises(InputError):
        model.evaluate({**held_out, "labels": held_out["labels"] + 7})
    np.testing.assert_array_equal(
        values_of(model.trainable_variables)[0], note.last[0]
    )


def test_other_averages_are_refused_before_any_weight_is_set():
    one, two = make_trained(), make_trained()
    two.compile(
        keras.optimizers.Adam(3e-2),
        ema_decay=[0.9, ksd.optimizers.PowerProfile()],
    )
    two.fit(make_data(), batch_size=8, verbose=0)
    pairs = (one.get_weights(), two), (two.get_weights(), one)
    for weights, target in pairs:
        kept = values_of(target.variables + target.optimizer.variables)
        with pytest.raises(InputError, match="Expected: . of each trained"):
            target.set_weights(weights)
        now = values_of(target.variables + target.optimizer.variables)
        assert all(map(np.array_equal, kept, now))
        with pytest.warns(UserWarning, match="without averages"):
            target.set_weights(list(weights))


def move_by_network_file(model, folder):
    model.backbone.save_weights(folder / "a.weights.h5")
    model.backbone.load_weights(folder / "a.weights.h5")


MOVES = {
    "set_weights": lambda model, _: model.set_weights(
        list(model.get_weights())
    ),
    "backbone.set_weights": lambda model, _: model.backbone.set_weights(
        model.backbone.get_weights()
    ),
    "backbone.load_weights": move_by_network_file,
}


@pytest.mark.any_backend
@pytest.mark.parametrize("move", MOVES)
def test_moved_weights_are_used_without_averages(move, tmp_path):
    model = make_trained()
    raw, averaged = draw_raw(model), model.generate(**DRAW)
    assert (raw != averaged).any()
    with pytest.warns(UserWarning, match="without averages"):
        MOVES[move](model, tmp_path)
        drawn = model.generate(**DRAW)
    np.testing.assert_array_equal(drawn, raw)
    # From now on it is averaged anew.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(make_data(), batch_size=8, verbose=0)
        assert (model.generate(**DRAW) != draw_raw(model)).any()


@pytest.mark.parametrize("is_built", [False, True])
def test_files_of_weights_hold_the_averages(is_built, tmp_path):
    model = make_trained()
    keep = keras.callbacks.ModelCheckpoint(
        tmp_path / "a.weights.h5", save_weights_only=True
    )
    model.fit(make_data(), batch_size=8, callbacks=[keep], verbose=0)
    images = model.generate(**DRAW)
    assert (images != draw_raw(model)).any()
    other = make_model()
    if is_built:
        other.fit(make_data(), batch_size=8, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        other.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(other.generate(**DRAW), images)
    np.testing.assert_array_equal(draw_raw(other), draw_raw(model))
    # A file that cannot be read changes nothing.
    with pytest.raises(Exception, match="unable to open|No such file"):
        other.load_weights(tmp_path / "none.weights.h5")
    np.testing.assert_array_equal(other.generate(**DRAW), images)


@pytest.mark.any_backend
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_files_of_weights_without_averages(tmp_path):
    model = make_trained()
    images = model.generate(**DRAW)
    make_model().save_weights(tmp_path / "a.weights.h5")
    with pytest.warns(UserWarning, match="without averages"):
        model.load_weights(tmp_path / "a.weights.h5")
    drawn = model.generate(**DRAW)
    np.testing.assert_array_equal(drawn, draw_raw(model))
    assert (drawn != images).any()


@pytest.mark.parametrize("evaluate_averages", [False, True])
def test_best_weights_are_restored_with_their_averages(evaluate_averages):
    model, kept = make_model(), []
    model.compile(
        keras.optimizers.Adam(1e-2),
        ema_decay=0.5,
        evaluate_averages=evaluate_averages,
    )

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 1e-2 if epoch < 2 else 0.5

        def on_epoch_end(self, epoch, logs=None):
            kept.append(self.model.generate(**DRAW))

    stop = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        losses = model.fit(
            make_data(),
            batch_size=8,
            epochs=6,
            validation_data=make_data(),
            callbacks=[Spoil(), stop],
            verbose=0,
        ).history["val_loss"]
    best = int(np.argmin(losses))
    assert best < len(losses) - 1
    np.testing.assert_array_equal(model.generate(**DRAW), kept[best])


def test_backup_and_restore_keeps_the_averages(tmp_path):
    def fit(model, *callbacks):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        model.fit(
            make_data(),
            batch_size=8,
            epochs=3,
            callbacks=[*callbacks, backup],
            verbose=0,
        )

    def fail(epoch, logs):
        if epoch == 2:
            kept.append(model.generate(**DRAW))
            raise RuntimeError("power loss")

    kept, model = [], make_model()
    failure = keras.callbacks.LambdaCallback(on_epoch_begin=fail)
    with pytest.raises(RuntimeError, match="power loss"):
        fit(model, failure)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = make_model()
        with pytest.raises(RuntimeError, match="power loss"):
            fit(model, failure)
    np.testing.assert_array_equal(kept[1], kept[0])


@pytest.mark.any_backend
def test_averages_of_keras_are_refused():
    model = make_model()
    with pytest.raises(InputError, match="ema_decay"):
        model.fit(make_data(4), callbacks=keras.callbacks.SwapEMAWeights())
    for decay in (None, 0.9):
        with pytest.raises(InputError, match="use_ema=True"):
            model.compile(keras.optimizers.Adam(use_ema=True), ema_decay=decay)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a .quantize")
def test_quantized_weights_are_the_averages():
    model = make_trained()
    averaged = model.generate(**DRAW).astype(int)
    raw = draw_raw(model).astype(int)
    model.quantize("int8")
    drawn = model.generate(**DRAW).astype(int)
    assert np.abs(drawn - averaged).mean() < 0.5 * np.abs(drawn - raw).mean()


@pytest.mark.any_backend
@pytest.mark.filterwarnings("ignore:Layer .* does not have a .quantize")
def test_a_quantized_network_is_not_mixed_with_averages():
    model = make_trained()
    with pytest.warns(UserWarning, match="without averages"):
        model.backbone.quantize("int8")
        drawn = model.generate(**DRAW)
    assert drawn.shape == (3, 4, 4, 1)
    with pytest.raises(InputError, match="Call `compile` again"):
        model.fit(make_data(4), verbose=0)


@pytest.mark.any_backend
def test_a_chosen_average_is_evaluated():
    model, data = make_model(), make_data()
    wide = ksd.optimizers.PowerProfile(0.2)
    model.compile(
        keras.optimizers.Adam(3e-2),
        ema_decay=[0.9, wide],
        evaluate_averages=True,
    )
    model.fit(data, batch_size=8, epochs=2, verbose=0)
    first = model.evaluate(data, verbose=0)
    with model.averaged_weights(wide):
        second = model.evaluate(data, verbose=0)
        with model.averaged_weights():
            assert model.evaluate(data, verbose=0) == first
        assert model.evaluate(data, verbose=0) == second
    assert first != second and model.evaluate(data, verbose=0) == first


def test_weights_that_are_frozen_keep_their_averages():
    model = make_trained()
    images = model.generate(**DRAW)
    assert (images != draw_raw(model)).any()
    layers = [each for each in model.backbone.layers if each.weights]
    for layer in layers[: len(layers) // 2]:
        layer.trainable = False
    model.compile(keras.optimizers.Adam(1e-3), ema_decay=0.9)
    np.testing.assert_array_equal(model.generate(**DRAW), images)
