import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.optimizers.reconstruction import shares
from tests.helpers.checks import run_configurable_test

ExponentialProfile = ksd.optimizers.ExponentialProfile
PowerProfile = ksd.optimizers.PowerProfile
PROFILES = [
    ExponentialProfile(0.0),
    ExponentialProfile(0.9),
    ExponentialProfile(0.9999),
    PowerProfile(0.02),
    PowerProfile(0.1),
    PowerProfile(12.0**-0.5),
]


@pytest.mark.parametrize("profile", PROFILES, ids=repr)
def test_shares_are_those_of_the_updates(profile):
    # The recurrence of the training step, in float64, against closed forms.
    count = 3000
    gains = ops.convert_to_numpy(
        profile.gain(ops.arange(1, count + 1, dtype="float32"))
    ).astype("float64")
    assert gains[0] == 1.0
    recurrence = np.zeros(count)
    for n in range(count):
        recurrence[: n + 1] *= 1.0 - gains[n]
        recurrence[n] += gains[n]
    closed = shares(profile, 1, count, count)
    assert closed.sum() == pytest.approx(1.0, abs=1e-12)
    # float32 gains: 1e-7 each, over thousands of updates.
    np.testing.assert_allclose(closed, recurrence, rtol=2e-4, atol=1e-12)


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.2, 12.0**-0.5])
def test_relative_width_is_the_standard_deviation(width):
    profile = PowerProfile(width)
    count = 20000
    weights = shares(profile, 1, count, count)
    time = (np.arange(count) + 0.5) / count
    mean = weights @ time
    deviation = np.sqrt(weights @ (time - mean) ** 2)
    assert deviation == pytest.approx(width, rel=1e-5)
    # The telescoped shares.
    k = np.arange(1, count + 1)
    power = profile.gamma + 1.0
    expected = (k / count) ** power - ((k - 1) / count) ** power
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-15)


def test_the_widest_weighs_all_updates_the_same():
    weights = shares(PowerProfile(12.0**-0.5), 1, 10, 10)
    np.testing.assert_allclose(weights, 0.1, rtol=1e-6)


def test_gains_keep_their_digits_after_a_million_updates():
    count = 1_000_000
    gain = ops.convert_to_numpy(
        PowerProfile(0.05).gain(ops.convert_to_tensor(float(count)))
    )
    expected = shares(PowerProfile(0.05), count, count, count)[0]
    assert float(gain) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("profile", PROFILES, ids=repr)
def test_configuration(profile):
    run_configurable_test(profile, PowerProfile(0.15))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PowerProfile(0.3), "relative_width=0.3"),
        (lambda: PowerProfile("wide"), "relative_width='wide'"),
        (lambda: ExponentialProfile(1.5), "decay=1.5"),
        (lambda: ExponentialProfile(1.0), "below 1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ksd.InputError, match=message):
        make()
