import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd


def results(metric):
    return [float(ops.convert_to_numpy(v)) for v in metric.result().values()]


def update(metric, times, losses):
    metric.update_state(
        ops.convert_to_tensor(times, "float32"),
        ops.convert_to_tensor(losses, "float32"),
    )


def test_means_of_the_ranges():
    rng = np.random.default_rng(0)
    times, losses = rng.uniform(size=(2, 50)).astype("float32")
    times[:2] = 0.0, 1.0
    metric = ksd.losses.LevelLoss()
    update(metric, times[:20], losses[:20])
    update(metric, times[20:], losses[20:])
    totals, _ = np.histogram(times, 8, (0, 1), weights=losses)
    counts, _ = np.histogram(times, 8, (0, 1))
    np.testing.assert_allclose(results(metric), totals / counts, rtol=1e-5)
    assert list(metric.result()) == [f"level_loss_{i}" for i in range(8)]
    metric.reset_state()
    assert results(metric) == [0.0] * 8


def test_an_empty_range_is_zero_and_infinity_stays_in_its_own():
    metric = ksd.losses.LevelLoss(num_bins=3)
    update(metric, [0.1, 0.5, 0.2], [1.0, np.inf, 2.0])
    assert results(metric) == [1.5, np.inf, 0.0]


def test_serialization():
    metric = ksd.losses.LevelLoss(num_bins=5)
    config = keras.saving.serialize_keras_object(metric)
    assert keras.saving.deserialize_keras_object(config).num_bins == 5


@pytest.mark.parametrize("num_bins", [0, 2.5])
def test_bad_arguments(num_bins):
    with pytest.raises(ksd.utils.errors.InputError, match="num_bins="):
        ksd.losses.LevelLoss(num_bins)
