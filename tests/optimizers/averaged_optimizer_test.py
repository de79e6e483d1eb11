import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd

AveragedOptimizer = ksd.optimizers.AveragedOptimizer


def decay_of(profile, n):
    """The decay of update n, in the words of the documentation."""
    if isinstance(profile, float):
        return min(profile, (n - 1) / (n + 9))
    return (1 - 1 / n) ** (profile.gamma + 1)


def closed_form(history, profile):
    """Sum over the weights after each update, with their final shares."""
    total, share = 0.0, 1.0
    for n in range(len(history), 0, -1):
        d = decay_of(profile, n)
        total = total + share * (1 - d) * history[n - 1]
        share *= d
    return total


def to_numpy(x):
    return ops.convert_to_numpy(x)


POWER = ksd.optimizers.PowerProfile(0.1)


@pytest.mark.parametrize("profile", [0.9, POWER])
def test_shares_of_the_closed_form_sum_to_one(profile):
    assert closed_form([1.0] * 50, profile) == pytest.approx(1.0)


@pytest.mark.parametrize("accumulation", [None, 4])
def test_averages_equal_their_closed_forms(fit, accumulation):
    inner = keras.optimizers.Adam(
        0.05, gradient_accumulation_steps=accumulation
    )
    profiles = [0.5, 0.9999, POWER]
    optimizer = AveragedOptimizer(inner, decay=profiles)
    model, history = fit(optimizer, epochs=2)
    _, more = fit(None, epochs=3, model=model)
    history = history + more
    assert len(history) == 40
    updates = history[(accumulation or 1) - 1 :: accumulation or 1]
    assert int(to_numpy(optimizer.num_averaged)) == len(updates)
    for profile, averages in zip(profiles, optimizer.averages, strict=True):
        for i, average in enumerate(averages):
            np.testing.assert_allclose(
                to_numpy(average),
                closed_form([weights[i] for weights in updates], profile),
                atol=1e-6,
            )


def test_weights_are_those_of_the_inner_optimizer_alone(fit):
    keras.utils.set_random_seed(1)
    model, _ = fit(AveragedOptimizer(keras.optimizers.Adam(0.05)), epochs=2)
    keras.utils.set_random_seed(1)
    plain, _ = fit(keras.optimizers.Adam(0.05), epochs=2)
    for a, b in zip(model.weights, plain.weights, strict=True):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), atol=1e-6)


def test_inside_a_loss_scale_optimizer(fit):
    optimizer = AveragedOptimizer(keras.optimizers.SGD(0.05), decay=0.9)
    model, history = fit(keras.optimizers.LossScaleOptimizer(optimizer))
    assert int(to_numpy(optimizer.num_averaged)) == len(history)
    np.testing.assert_allclose(
        to_numpy(optimizer.averages[0][0]),
        closed_form([weights[0] for weights in history], 0.9),
        atol=1e-6,
    )


def test_averaged_weights_swap_and_return(fit):
    optimizer = AveragedOptimizer(keras.optimizers.SGD(0.1), [0.9, POWER])
    model, history = fit(optimizer)
    raw = [to_numpy(w).copy() for w in model.weights]
    for profile, averages in (
        (0, optimizer.averages[0]),
        (1, optimizer.averages[1]),
        (0.9, optimizer.averages[0]),
        (POWER, optimizer.averages[1]),
    ):
        with pytest.raises(RuntimeError):
            with optimizer.averaged_weights(profile):
                inside = [to_numpy(w).copy() for w in model.weights]
                raise RuntimeError
        for weight, value, swapped, average in zip(
            model.weights, raw, inside, averages, strict=True
        ):
            np.testing.assert_array_equal(to_numpy(weight), value)
            np.testing.assert_array_equal(swapped, to_numpy(average))
            assert np.abs(swapped - value).max() > 1e-4
    fit(None, model=model)


def test_averages_by_path(fit):
    optimizer = AveragedOptimizer(keras.optimizers.SGD(0.1), [0.9, POWER])
    model, _ = fit(optimizer)
    averages = optimizer.averages_by_path(POWER)
    assert list(averages) == [w.path for w in model.trainable_variables]
    assert list(averages.values()) == list(optimizer.averages[1])


def test_new_profiles_start_from_the_first_average(fit):
    model, _ = fit(AveragedOptimizer(keras.optimizers.SGD(0.1), [0.9, POWER]))
    other = AveragedOptimizer(keras.optimizers.SGD(0.1), [POWER, 0.5])
    other.build(model.trainable_variables)
    other.copy_averages(model.optimizer)
    for i, j in ((0, 1), (1, 0)):
        np.testing.assert_array_equal(
            to_numpy(other.averages[i][0]),
            to_numpy(model.optimizer.averages[j][0]),
        )


def test_save_and_load(fit, tmp_path):
    optimizer = AveragedOptimizer(keras.optimizers.Adam(0.05), [0.9, POWER])
    model, _ = fit(optimizer)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(copy.optimizer, AveragedOptimizer)
    assert copy.optimizer.profiles == optimizer.profiles
    assert len(copy.optimizer.variables) == len(optimizer.variables)
    for a, b in zip(copy.optimizer.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


def test_learning_rate_is_the_inner_one():
    inner = keras.optimizers.SGD(0.1)
    optimizer = AveragedOptimizer(inner)
    optimizer.learning_rate = 0.02
    assert float(to_numpy(inner.learning_rate)) == pytest.approx(0.02)


def test_bad_arguments():
    with pytest.raises(ValueError, match="decay=1.0"):
        AveragedOptimizer(keras.optimizers.SGD(), decay=1.0)
    with pytest.raises(ValueError, match="use_ema=True"):
        AveragedOptimizer(keras.optimizers.SGD(use_ema=True))
    with pytest.raises(ValueError, match="different from each other"):
        AveragedOptimizer(keras.optimizers.SGD(), [0.9, 0.9])
    optimizer = AveragedOptimizer(keras.optimizers.SGD(), [0.9])
    optimizer.build([keras.Variable([1.0])])
    for wrong in (1, -1, 0.5, POWER):
        with pytest.raises(ValueError, match="no such average"):
            with optimizer.averaged_weights(wrong):
                pass
