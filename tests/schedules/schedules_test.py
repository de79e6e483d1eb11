from statistics import NormalDist

import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion import InputError
from tests.helpers.checks import run_schedule_test

schedules = ksd.schedules
CASES = {
    "cosine": schedules.CosineSchedule(),
    "narrow range": schedules.CosineSchedule(-4.0, 9.0),
    "shift 64 at 256": schedules.ShiftedCosineSchedule(256, 64),
    "shift 32 at 512x640": schedules.ShiftedCosineSchedule((512, 640), 32),
    "interpolated": schedules.InterpolatedCosineSchedule(512, 32, 256),
    "as printed in eq. 6": schedules.InterpolatedCosineSchedule(512, 256, 32),
    "equal sizes": schedules.InterpolatedCosineSchedule(64, 64, 64),
    "normal": schedules.NormalSchedule(),
    "normal at 512": schedules.NormalSchedule(image_size=512),
    "narrow normal": schedules.NormalSchedule(2.0, 1.0, log_snr_min=-1.0),
    "flow": schedules.FlowSchedule(),
    "flow at 1024x2048": schedules.FlowSchedule((1024, 2048)),
    "steep": schedules.InterpolatedCosineSchedule(1024, 32, 1024),
}
EACH = pytest.mark.parametrize("schedule", CASES.values(), ids=CASES.keys())
EACH_COSINE = pytest.mark.parametrize(
    "schedule",
    [each for each in CASES.values() if "Cosine" in type(each).__name__],
    ids=repr,
)


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
    if config.get("image_size") is not None:
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


@EACH_COSINE
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
def test_schedule(schedule):
    run_schedule_test(schedule)


@pytest.mark.parametrize("size, scale", [(256, 1.0), (512, 2.0), (1024, 4.0)])
def test_the_normal_schedule_is_the_logit_normal_time_of_a_flow(size, scale):
    """JiT: s = sigmoid(-0.8 + 0.8 n), x from s x + (1 - s) scale eps."""
    quantiles = np.linspace(0.0005, 0.9995, 999)
    normal = np.array([NormalDist().inv_cdf(q) for q in quantiles])
    s = 1 / (1 + np.exp(0.8 - 0.8 * normal))
    log_snr = 2 * np.log(s / (1 - s)) - 2 * np.log(scale)
    schedule = schedules.NormalSchedule(image_size=size)
    # The clean end is at time 0. A rounding of t is worth 3e-5.
    np.testing.assert_allclose(
        to_numpy(schedule(1.0 - quantiles)), log_snr, atol=5e-5
    )
    assert schedule == schedules.get("normal", size)


def test_the_normal_schedule_near_its_ends():
    schedule = schedules.NormalSchedule(1.0, 2.0, log_snr_max=11.0)
    # All times that float32 tells apart from 1, and the smallest drawn ones.
    for t in (1e-3, 1e-5, 2.0**-20, 1 - 1e-3, 1 - 2.0**-20, 1 - 2.0**-24):
        # Truncated at 5 and at -8 standard deviations.
        share = NormalDist().cdf(5.0) - t * (
            NormalDist().cdf(5.0) - NormalDist().cdf(-8.0)
        )
        np.testing.assert_allclose(
            float(schedule(t)),
            1.0 + 2.0 * NormalDist().inv_cdf(share),
            atol=2e-2 if t < 1e-5 else 2e-3,
        )
    ends = np.array([0.0, 1e-30, 1.0], "float32")
    assert np.isfinite(to_numpy(schedule.derivative(ends))).all()
    np.testing.assert_allclose(
        to_numpy(schedule(ends)), [11.0, 11.0, -15.0], atol=0.1
    )
    # However wide the limits are, a time of 0 has no enormous weight.
    schedule = schedules.NormalSchedule(0.0, 1.0, None, 256, -80.0, 80.0)
    slope = to_numpy(schedule.derivative(np.array([0.0, 2.0**-24])))
    np.testing.assert_allclose(slope[0], slope[1], rtol=0.05)


def test_the_flow_schedule_is_a_straight_line():
    # SD3: a resolution s times as large shifts t to s t / (1 + (s - 1) t).
    t = np.linspace(0.05, 0.95, 19)
    for size, s in ((128, 0.5), (256, 1.0), (1024, 4.0)):
        shifted = s * t / (1 + (s - 1) * t)
        schedule = schedules.FlowSchedule(size, log_snr_min=-40, log_snr_max=40)
        np.testing.assert_allclose(
            to_numpy(schedule(t)),
            2 * np.log((1 - shifted) / shifted),
            atol=5e-6,
        )


def test_steps_of_samplers_with_the_normal_schedule_are_those_of_a_flow():
    # JiT's steps at 512 pixels: uniform in s, with doubled noise.
    schedule = schedules.NormalSchedule(image_size=512)
    grid = to_numpy(ksd.samplers.log_snr_grid(schedule, 50))
    s = np.linspace(0.0, 1.0, 51)[1:-1]
    exact = 2 * np.log(s / (1 - s)) - 2 * np.log(2)
    # The grid begins at 5.5e-4 instead of 0.
    np.testing.assert_allclose(grid[1:-1], exact, atol=0.06)
    ends = to_numpy(schedule(np.array([1.0, 0.0])))
    np.testing.assert_array_equal(grid[[0, -1]], ends)
    cosine = schedules.CosineSchedule()
    assert cosine.sampling_schedule is cosine


class LinearSchedule(schedules.NoiseSchedule):
    """A schedule of one's own, without an image size."""

    def __init__(self, limit=10.0):
        self.limit = limit


def test_the_same_schedule_for_another_size():
    shifted = schedules.ShiftedCosineSchedule(256, 32, -9.0, 12.0)
    assert shifted.for_image_size(64) == schedules.ShiftedCosineSchedule(
        64, 32, -9.0, 12.0
    )
    pair = schedules.InterpolatedCosineSchedule((512, 640), 32, 256)
    # A pair stays a pair, as after a way through JSON.
    assert pair.for_image_size(64).image_size == (64, 64)
    assert pair.for_image_size([96, 64]).image_size == (96, 64)
    assert schedules.get("normal:std=2", 64).for_image_size(512) == (
        schedules.NormalSchedule(std=2, image_size=512)
    )
    for schedule in (
        schedules.CosineSchedule(-5.0, 5.0),
        schedules.NormalSchedule(),
        schedules.FlowSchedule(),
        LinearSchedule(),
    ):
        assert schedule.for_image_size(64) is schedule


def test_representation_has_what_differs_from_the_defaults():
    assert repr(schedules.CosineSchedule()) == "CosineSchedule()"
    schedule = schedules.ShiftedCosineSchedule(64, 32)
    assert repr(schedule) == (
        "ShiftedCosineSchedule(image_size=64, noise_size=32)"
    )


def test_schedules_by_name():
    assert schedules.get(None) is None
    assert schedules.get("cosine") == schedules.CosineSchedule()
    shifted = schedules.ShiftedCosineSchedule(64, 32)
    assert schedules.get("shifted_cosine:image_size=64,noise_size=32") == (
        shifted
    )
    assert schedules.get("shifted_cosine:noise_size=32", 64) == shifted
    interpolated = schedules.get("interpolated_cosine", image_size=(96, 64))
    assert interpolated == schedules.InterpolatedCosineSchedule((96, 64))
    # A size that is stated holds.
    assert schedules.get("shifted_cosine:image_size=8", 64).image_size == 8


@pytest.mark.parametrize(
    "identifier, message",
    [
        ("cosines", '"cosine", "shifted_cosine", "interpolated_cosine"'),
        ("shifted_cosine", "missing a required argument: 'image_size'"),
        (ksd.samplers.DDIMSampler(), "Expected a NoiseSchedule"),
        (schedules.CosineSchedule, "Expected a NoiseSchedule"),
        (15.0, "Received: 15.0"),
    ],
)
def test_wrong_identifiers(identifier, message):
    with pytest.raises(InputError, match=message):
        schedules.get(identifier)


@pytest.mark.parametrize("limit", [20.0, 80.0])
def test_wide_limits_are_finite_and_invert(limit):
    schedule = schedules.CosineSchedule(-limit, limit)
    assert np.isfinite(to_numpy(schedule.derivative(T))).all()
    log_snr = to_numpy(schedule(T))
    np.testing.assert_array_equal(log_snr[[0, -1]], [limit, -limit])
    alpha, sigma = map(to_numpy, ksd.ops.alpha_sigma(log_snr))
    assert (alpha > 0).all() and (sigma > 0).all()
    np.testing.assert_allclose(to_numpy(schedule.time(log_snr)), T, atol=6e-7)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: schedules.CosineSchedule(3.0, 3.0), "log_snr_min=3.0"),
        (lambda: schedules.CosineSchedule("a"), "log_snr_min='a'"),
        (lambda: schedules.CosineSchedule(-200.0, 15.0), r"within \+-80"),
        (lambda: schedules.CosineSchedule(0.0, np.inf), "log_snr_max=inf"),
        (lambda: schedules.CosineSchedule(np.nan), "log_snr_min=nan"),
        (
            lambda: schedules.ShiftedCosineSchedule(4096, 32, -78.0),
            "after the shift",
        ),
        (lambda: schedules.ShiftedCosineSchedule(0), "image_size=0"),
        (lambda: schedules.ShiftedCosineSchedule("64"), "image_size='64'"),
        (lambda: schedules.ShiftedCosineSchedule((4, 4, 3)), "a pair"),
        (lambda: schedules.ShiftedCosineSchedule(64, -1), "noise_size=-1"),
        (lambda: schedules.NormalSchedule(std=0.0), "std=0.0"),
        (lambda: schedules.NormalSchedule(-15.0), "`mean` must be between"),
        (lambda: schedules.NormalSchedule(image_size=0), "image_size=0"),
        (lambda: schedules.FlowSchedule(64, -1), "noise_size=-1"),
        (
            lambda: schedules.InterpolatedCosineSchedule(512, 1024, 32),
            "less than 23.1 times",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.ShiftedCosineSchedule(2048, 256, log_snr_max=82.0),
        schedules.InterpolatedCosineSchedule(2048, 64, 256, log_snr_max=82.0),
        schedules.FlowSchedule(2048, 256, log_snr_max=82.0),
    ],
    ids=repr,
)
def test_limits_are_those_after_the_shift(schedule):
    log_snr = to_numpy(schedule(T))
    np.testing.assert_allclose(log_snr[0], 82 + 2 * np.log(256 / 2048))
    assert np.isfinite(log_snr).all() and (np.diff(log_snr) < 0.0).all()
    assert np.isfinite(to_numpy(schedule.derivative(T))).all()


@pytest.mark.parametrize(
    "low, high, flattest_at",
    [(-4.0, 4.0, 0.5), (-10.0, 10.0, 0.5), (-15.0, -3.0, 0.0), (2.0, 9.0, 1.0)],
)
def test_the_largest_ratio_of_sizes_follows_from_the_limits(
    low, high, flattest_at
):
    limits = {"log_snr_min": low, "log_snr_max": high}
    # The shift adds 2 log(ratio) to the derivative, flattest near log-SNR 0.
    flattest = schedules.CosineSchedule(**limits).derivative(flattest_at)
    ratio = np.exp(-0.5 * float(flattest))

    def make(ratio):
        return schedules.InterpolatedCosineSchedule(
            64, 32 * ratio, 32, **limits
        )

    nearly = make(0.999 * ratio)
    assert (to_numpy(nearly.derivative(T)) < 0.0).all()
    np.testing.assert_allclose(
        to_numpy(nearly(nearly.time(nearly(T)))), nearly(T), atol=1e-3
    )
    with pytest.raises(InputError, match=f"less than {ratio:.3g} times"):
        make(1.001 * ratio)
