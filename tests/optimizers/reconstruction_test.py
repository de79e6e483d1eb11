import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.optimizers.reconstruction import _gram_matrix
from keras_simple_diffusion.optimizers.reconstruction import coefficients
from keras_simple_diffusion.optimizers.reconstruction import combine
from keras_simple_diffusion.optimizers.reconstruction import shares

ExponentialProfile = ksd.optimizers.ExponentialProfile
PowerProfile = ksd.optimizers.PowerProfile
# What a run keeps.
WIDTHS = (PowerProfile(0.05), PowerProfile(0.10))


def snapshots_of(count, num_times=32):
    times = np.linspace(count / num_times, count, num_times).round()
    return [(width, int(n)) for n in times for width in WIDTHS]


def test_gram_matrix_equals_sums_over_all_updates(monkeypatch):
    # Blocks smaller than the training, so that several are joined.
    monkeypatch.setattr(
        "keras_simple_diffusion.optimizers.reconstruction._BLOCK", 64
    )
    profiles = (*WIDTHS, ExponentialProfile(0.9), ExponentialProfile(0.0))
    averages = [(p, n) for p in profiles for n in (1, 7, 100, 300)]
    rows = np.zeros((len(averages), 300))
    for row, (profile, n) in zip(rows, averages, strict=True):
        row[:n] = shares(profile, 1, n, n)
    np.testing.assert_allclose(
        _gram_matrix(averages), rows @ rows.T, rtol=1e-10, atol=1e-14
    )


def test_a_snapshot_is_its_own_reconstruction():
    snapshots = snapshots_of(200)
    weights, distance = coefficients(snapshots, snapshots[41])
    assert distance < 1e-5
    np.testing.assert_allclose(weights, np.eye(64)[41], atol=1e-4)


# With bounds a little above what is measured, and documented: the distance of
# the shares, and the error relative to how far the average is from the last
# weights. The widest reaches back to before the first snapshot.
TARGETS = {
    "narrower": (PowerProfile(0.03), 0.012, 3e-3),
    "between": (PowerProfile(0.07), 0.001, 1e-4),
    "wider": (PowerProfile(0.15), 0.003, 1e-4),
    "much_wider": (PowerProfile(0.25), 0.035, 1e-2),
    "exponential": (ExponentialProfile(0.999), 0.001, 1e-4),
}


@pytest.mark.parametrize("name", TARGETS)
def test_random_walks(name):
    target, largest_distance, largest_error = TARGETS[name]
    count, size = 10_000, 50
    walk = np.random.default_rng(0).normal(size=(count, size)).cumsum(axis=0)
    snapshots = snapshots_of(count)
    arrays = (
        {"w": (shares(p, 1, n, n) @ walk[:n]).astype("float32")}
        for p, n in snapshots
    )
    weights, distance = coefficients(snapshots, (target, count))
    assert distance < largest_distance
    assert weights.sum() == pytest.approx(1.0, abs=1e-10)
    found = combine(arrays, weights)["w"]
    direct = shares(target, 1, count, count) @ walk
    error = np.linalg.norm(found - direct)
    assert error < largest_error * np.linalg.norm(direct - walk[-1])


def test_an_earlier_time():
    snapshots = snapshots_of(1000)
    walk = np.random.default_rng(0).normal(size=(1000, 20)).cumsum(axis=0)
    target = PowerProfile(0.08)
    weights, _ = coefficients(snapshots, (target, 777))
    found = combine(
        ({"w": shares(p, 1, n, n) @ walk[:n]} for p, n in snapshots), weights
    )["w"]
    direct = shares(target, 1, 777, 777) @ walk[:777]
    error = np.linalg.norm(found - direct)
    # Between two snapshots: measured 3e-2.
    assert error < 0.05 * np.linalg.norm(direct - walk[776])


def test_an_average_that_cannot_be_had_is_far():
    _, distance = coefficients(
        snapshots_of(10_000), (ExponentialProfile(0.5), 10_000)
    )
    assert distance > 0.5


def test_a_million_updates_and_a_hundred_snapshots():
    snapshots = snapshots_of(1_000_000, num_times=50)
    weights, distance = coefficients(snapshots, (PowerProfile(0.07), 1_000_000))
    assert distance < 1e-3
    assert weights.sum() == pytest.approx(1.0, abs=1e-9)
    assert np.abs(weights).sum() < 3.0


def test_training():
    """Lengths never tracked, against those tracked beside them."""
    targets = (PowerProfile(0.07), PowerProfile(0.2), ExponentialProfile(0.97))
    optimizer = ksd.optimizers.AveragedOptimizer(
        keras.optimizers.Adam(0.01), [*WIDTHS, *targets]
    )
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="silu"),
            keras.layers.Dense(2),
        ]
    )
    model.compile(optimizer, loss="mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2560, 4)).astype("float32")
    y = np.sin(x[:, :2] * 2) + 0.3 * rng.normal(size=(2560, 2))
    snapshots, arrays = [], []

    def read(profile):
        return {
            path: ops.convert_to_numpy(average).copy()
            for path, average in optimizer.averages_by_path(profile).items()
        }

    def keep(batch, logs):
        if batch % 10 < 9:
            return
        if keras.backend.backend() == "jax":
            model.jax_state_sync()
        for width in WIDTHS:
            count = int(ops.convert_to_numpy(optimizer.num_averaged))
            snapshots.append((width, count))
            arrays.append(read(width))

    model.fit(
        x,
        y.astype("float32"),
        batch_size=8,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=keep)],
    )
    assert snapshots[-1][1] == 320
    raw = {w.path: ops.convert_to_numpy(w) for w in model.trainable_variables}
    for target in targets:
        weights, distance = coefficients(snapshots, (target, 320))
        found, direct = combine(iter(arrays), weights), read(target)
        error = np.sqrt(sum(np.sum((found[k] - direct[k]) ** 2) for k in raw))
        norm = np.sqrt(sum(np.sum(direct[k] ** 2) for k in raw))
        moved = np.sqrt(sum(np.sum((raw[k] - direct[k]) ** 2) for k in raw))
        # Measured below 1e-4 of the weights, and below 1e-2 even of how far
        # the average is from the last weights.
        assert error < 1e-3 * norm
        assert error < 1e-2 * moved
