import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd

schedules = ksd.schedules
CASES = {
    "cosine": schedules.CosineSchedule(),
    "narrow range": schedules.CosineSchedule(-4.0, 9.0),
    "shift 64 at 256": schedules.ShiftedCosineSchedule(256, 64),
    "shift 32 at 512x640": schedules.ShiftedCosineSchedule((512, 640), 32),
    "interpolated": schedules.InterpolatedCosineSchedule(512, 32, 256),
    "as printed in eq. 6": schedules.InterpolatedCosineSchedule(512, 256, 32),
    "equal sizes": schedules.InterpolatedCosineSchedule(64, 64, 64),
    "steep": schedules.InterpolatedCosineSchedule(1024, 32, 1024),
}
EACH = pytest.mark.parametrize("schedule", CASES.values(), ids=CASES.keys())


def cosine(t, low=-15.0, high=15.0):
    """The appendix of the paper, in float64."""
    t_min = np.arctan(np.exp(-0.5 * high))
    t_max = np.arctan(np.exp(-0.5 * low))
    return -2 * np.log(np.tan(t_min + t * (t_max - t_min)))


def to_numpy(x):
    return ops.convert_to_numpy(x)


T = np.linspace(0, 1, 257)


def test_cosine_equals_the_appendix():
    log_snr = to_numpy(schedules.CosineSchedule()(T))
    assert log_snr.dtype == "float32"
    # Near t = 1 the rounding of t itself is worth 3e-4.
    np.testing.assert_allclose(log_snr[:-8], cosine(T)[:-8], atol=5e-5)
    np.testing.assert_allclose(log_snr, cosine(T), atol=5e-4)
    middle = to_numpy(schedules.CosineSchedule()(0.25))
    # Untruncated: -2 log tan(pi t / 2); the limits change it by 1e-3.
    np.testing.assert_allclose(
        middle, -2 * np.log(np.tan(np.pi / 8)), atol=2e-3
    )


def test_shift():
    shifted = schedules.ShiftedCosineSchedule(256, 64)
    np.testing.assert_allclose(
        to_numpy(shifted(T) - schedules.CosineSchedule()(T)),
        2 * np.log(64 / 256),
        atol=1e-6,
    )


def test_interpolation_equals_its_definition():
    low, high = 2 * np.log(32 / 512), 2 * np.log(256 / 512)
    broad = to_numpy(CASES["interpolated"](T))
    expected = cosine(T) + T * low + (1 - T) * high
    np.testing.assert_allclose(broad, expected, atol=5e-4)
    # papers.md 1.3: log-SNR at t = .1, .25, .5, .75, .9 at 512, 32 to 256,
    # with the untruncated cosine, in both orientations.
    t = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    np.testing.assert_allclose(
        to_numpy(CASES["interpolated"](t)),
        [1.88, -0.66, -3.47, -6.27, -8.81],
        atol=1.5e-2,
    )
    np.testing.assert_allclose(
        to_numpy(CASES["as printed in eq. 6"](t)),
        [-1.45, -2.74, -3.47, -4.19, -5.48],
        atol=1.5e-2,
    )


@EACH
def test_ends_are_exact(schedule):
    config = schedule.get_config()
    shifts = [0.0, 0.0]
    if "image_size" in config:
        size = np.min(config["image_size"])
        high = config.get("noise_size_high", config.get("noise_size"))
        low = config.get("noise_size_low", config.get("noise_size"))
        shifts = [2 * np.log(high / size), 2 * np.log(low / size)]
    ends = to_numpy(schedule(np.array([0.0, 1.0])))
    expected = [
        config["log_snr_max"] + shifts[0],
        config["log_snr_min"] + shifts[1],
    ]
    np.testing.assert_allclose(ends, expected, rtol=2e-7, atol=1e-6)
    np.testing.assert_array_equal(
        to_numpy(schedule.time(schedule(np.array([0.0, 1.0])))), [0.0, 1.0]
    )


def test_ends_of_the_plain_cosine_are_the_limits_to_the_bit():
    ends = to_numpy(schedules.CosineSchedule()(np.array([0.0, 1.0])))
    np.testing.assert_array_equal(ends, np.float32([15.0, -15.0]))


@EACH
def test_strictly_decreasing(schedule):
    assert (np.diff(to_numpy(schedule(T))) < 0).all()
    assert (to_numpy(schedule.derivative(T)) < 0).all()


@EACH
def test_time_inverts(schedule):
    # Where log-SNR is nearly flat, as in the middle of the printed eq. 6,
    # its rounding is worth 4e-7 in time.
    np.testing.assert_allclose(
        to_numpy(schedule.time(schedule(T))), T, atol=6e-7
    )


@EACH
def test_derivative(schedule):
    config = schedule.get_config()
    t = np.linspace(0.02, 0.98, 97)
    step = 1e-6
    slope = 0.0
    if "noise_size_low" in config:
        slope = 2 * np.log(config["noise_size_low"] / config["noise_size_high"])
    limits = config["log_snr_min"], config["log_snr_max"]
    difference = cosine(t + step, *limits) - cosine(t - step, *limits)
    np.testing.assert_allclose(
        to_numpy(schedule.derivative(t)),
        difference / (2 * step) + slope,
        rtol=1e-5,
        atol=1e-5,
    )


@EACH
def test_serialization(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(schedule)
    np.testing.assert_array_equal(to_numpy(copy(T)), to_numpy(schedule(T)))


def test_scalars_and_shapes():
    schedule = schedules.CosineSchedule()
    assert to_numpy(schedule(0.5)).shape == ()
    assert to_numpy(schedule.time(0)).shape == ()
    assert to_numpy(schedule(np.full((2, 3), 0.5))).shape == (2, 3)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: schedules.CosineSchedule(3.0, 3.0), "log_snr_min=3.0"),
        (lambda: schedules.ShiftedCosineSchedule(0), "image_size=0"),
        (lambda: schedules.ShiftedCosineSchedule(64, -1), "noise_size=-1"),
        (
            lambda: schedules.InterpolatedCosineSchedule(512, 1024, 32),
            "factor of about 23",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
