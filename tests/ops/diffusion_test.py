import itertools

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion import InputError
from keras_simple_diffusion.ops import diffusion

LOG_SNR = np.linspace(-20.0, 20.0, 41).astype("float32")
TYPES = ("x", "epsilon", "v", "flow")


def to_numpy(x):
    return keras.ops.convert_to_numpy(x).astype("float64")


def truth(log_snr=LOG_SNR):
    """Clean images, noise, noisy images and velocity in float64."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (len(log_snr), 4, 6, 3))
    noise = rng.normal(size=x.shape)
    signal = 1 / (1 + np.exp(-log_snr.astype("float64")))
    alpha = np.sqrt(signal)[:, None, None, None]
    sigma = np.sqrt(1 - signal)[:, None, None, None]
    return {
        "x": x,
        "epsilon": noise,
        "v": alpha * noise - sigma * x,
        "flow": noise - x,
        "z": alpha * x + sigma * noise,
        "alpha": alpha,
        "sigma": sigma,
    }


def test_alpha_sigma_is_variance_preserving():
    alpha, sigma = map(to_numpy, ksd.ops.alpha_sigma(LOG_SNR))
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, atol=1e-6)
    np.testing.assert_allclose(
        2 * np.log(alpha / sigma), LOG_SNR, rtol=1e-6, atol=2e-6
    )


def test_diffuse():
    t = truth()
    z = to_numpy(ksd.ops.diffuse(t["x"], t["epsilon"], LOG_SNR))
    np.testing.assert_allclose(z, t["z"], atol=1e-6)
    one = to_numpy(ksd.ops.diffuse(t["x"][:1], t["epsilon"][:1], LOG_SNR[0]))
    np.testing.assert_allclose(one, z[:1], atol=1e-6)


@pytest.mark.parametrize(
    "from_type, to_type", list(itertools.product(TYPES, TYPES))
)
def test_convert_prediction(from_type, to_type):
    # Dividing by a small alpha or sigma magnifies float32's rounding.
    log_snr = np.linspace(-8.0, 8.0, 17).astype("float32")
    t = truth(log_snr)
    converted = ksd.ops.convert_prediction(
        t[from_type], t["z"], log_snr, from_type, to_type
    )
    tolerance = 2e-6 if from_type in ("v", "flow", to_type) else 5e-5
    np.testing.assert_allclose(to_numpy(converted), t[to_type], atol=tolerance)


def test_convert_prediction_rejects_unknown_type():
    with pytest.raises(ValueError, match="from_type='noise'"):
        ksd.ops.convert_prediction(0.0, 0.0, 0.0, "noise", "v")


@pytest.mark.parametrize(
    "from_type, to_type", list(itertools.product(TYPES, TYPES))
)
def test_error_scale_is_ratio_of_errors(from_type, to_type):
    log_snr = np.linspace(-8.0, 8.0, 17).astype("float32")
    t = truth(log_snr)
    wrong = t["v"] + 0.1
    errors = {
        "v": 0.1 * np.ones_like(wrong),
        "x": t["alpha"] * t["z"] - t["sigma"] * wrong - t["x"],
        "epsilon": t["sigma"] * t["z"] + t["alpha"] * wrong - t["epsilon"],
    }
    errors["flow"] = errors["epsilon"] - errors["x"]
    expected = np.abs(errors[to_type] / errors[from_type])[:, 0, 0, 0]
    scale = to_numpy(ksd.ops.error_scale(log_snr, from_type, to_type))
    np.testing.assert_allclose(scale, expected, rtol=1e-5)


@pytest.mark.parametrize("space", TYPES)
def test_make_target(space):
    t = truth()
    target = ksd.ops.make_target(t["x"], t["epsilon"], LOG_SNR, space)
    np.testing.assert_allclose(to_numpy(target), t[space], atol=1e-6)


@pytest.mark.parametrize("from_type", TYPES)
@pytest.mark.parametrize("to_type", TYPES)
def test_error_scale_at_any_noise_level(from_type, to_type):
    log_snr = np.array(
        [-1e4, -200, -80, -40, -15, -3, 0, 3, 15, 40, 80, 200, 1e4], "float32"
    )
    # |v error| / |eps error| = 1 / alpha, |v error| / |x error| = 1 / sigma.
    level = log_snr.astype("float64")
    per_v = {
        "v": 0.0 * level,
        "epsilon": -0.5 * np.logaddexp(0.0, -level),
        "x": -0.5 * np.logaddexp(0.0, level),
    }
    # |flow error| / |eps error| = 1 + sigma / alpha.
    per_v["flow"] = per_v["epsilon"] + np.logaddexp(0.0, -0.5 * level)
    expected = per_v[to_type] - per_v[from_type]
    logarithm = diffusion.log_error_scale(log_snr, from_type, to_type)
    np.testing.assert_allclose(
        to_numpy(logarithm), expected, rtol=2e-7, atol=1e-6
    )
    # The factor itself has a relative error of a few roundings.
    inside = np.abs(log_snr) <= 80
    scale = diffusion.error_scale(log_snr[inside], from_type, to_type)
    np.testing.assert_allclose(
        to_numpy(scale), np.exp(expected[inside]), rtol=5e-6
    )


@pytest.mark.parametrize("from_type", TYPES)
@pytest.mark.parametrize("to_type", TYPES)
def test_conversion_to_the_ends_is_as_exact_as_its_inputs(from_type, to_type):
    log_snr = np.array([-80, -40, -15, 15, 40, 80], "float32")
    t = truth(log_snr)
    # sigma = sqrt(1 - alpha^2) of `truth` has lost its digits.
    signal, noise = (
        (1 / (1 + np.exp(sign * log_snr.astype("float64")))).reshape(
            -1, 1, 1, 1
        )
        for sign in (-1, 1)
    )
    alpha, sigma = np.sqrt(signal), np.sqrt(noise)
    z = (alpha * t["x"] + sigma * t["epsilon"]).astype("float32")
    coefficients = {
        "x": (1.0, 0.0),
        "epsilon": (0.0, 1.0),
        "v": (-sigma, alpha),
        "flow": (-1.0, 1.0),
    }
    a, b = coefficients[from_type]
    c, d = coefficients[to_type]
    prediction = (a * t["x"] + b * t["epsilon"]).astype("float32")
    # In float64 of the same float32 inputs.
    determinant = alpha * b - sigma * a
    x = (b * z.astype("float64") - sigma * prediction) / determinant
    epsilon = (alpha * prediction - a * z.astype("float64")) / determinant
    converted = to_numpy(
        ksd.ops.convert_prediction(prediction, z, log_snr, from_type, to_type)
    )
    # Relative to what is divided by the determinant.
    size = (np.abs(z) + np.abs(prediction)) / np.abs(determinant)
    error = np.abs(converted - (c * x + d * epsilon)) / np.maximum(size, 1.0)
    assert error.max() < 1e-6


@pytest.fixture
def score(monkeypatch):
    """The score, `-eps / sigma`, as one line in the table."""
    monkeypatch.setitem(
        diffusion.PREDICTION_SPACES,
        "score",
        lambda alpha, sigma: (0.0, -1.0 / sigma),
    )


@pytest.mark.parametrize("other", TYPES)
def test_a_new_prediction_space(score, other):
    log_snr = np.linspace(-5.0, 5.0, 17).astype("float32")
    t = truth(log_snr)
    t["score"] = -t["epsilon"] / t["sigma"]
    target = ksd.ops.make_target(t["x"], t["epsilon"], log_snr, "score")
    np.testing.assert_allclose(to_numpy(target), t["score"], rtol=2e-6)
    for from_type, to_type in ((other, "score"), ("score", other)):
        converted = ksd.ops.convert_prediction(
            t[from_type], t["z"], log_snr, from_type, to_type
        )
        np.testing.assert_allclose(to_numpy(converted), t[to_type], atol=1e-4)
    # One and the same network output has one loss, whatever space it is in.
    weighting = ksd.losses.MinSNRWeighting()
    wrong = t["score"] + np.random.default_rng(1).normal(size=t["x"].shape)
    same = to_numpy(
        ksd.ops.convert_prediction(wrong, t["z"], log_snr, "score", other)
    )
    for error_type in ("score", "v"):
        loss = ksd.losses.get(error_type)
        assert loss.error_type == error_type
        weighted = ksd.losses.DiffusionLoss(error_type, weighting)
        for each in (loss, weighted):
            np.testing.assert_allclose(
                to_numpy(each(t["score"], wrong, log_snr, "score")),
                to_numpy(each(t[other], same, log_snr, other)),
                rtol=1e-3,
            )
    # A weighting means the same in every space.
    a, b = (
        to_numpy(
            ksd.losses.DiffusionLoss(space, weighting)(
                t["score"], wrong, log_snr, "score"
            )
        )
        for space in ("score", other)
    )
    np.testing.assert_allclose(a, b, rtol=1e-5)
    # The determinant is -alpha / sigma.
    scale = to_numpy(ksd.ops.error_scale(log_snr, "v", "score"))
    expected = (t["alpha"] / t["sigma"])[:, 0, 0, 0]
    np.testing.assert_allclose(scale, expected, rtol=1e-5)


def test_without_the_line_there_is_no_such_space():
    message = r"\('x', 'epsilon', 'v', 'flow'\)"
    with pytest.raises(InputError, match=message):
        ksd.ops.error_scale(0.0, "score", "v")


@pytest.mark.parametrize("noise_scale", [1.0, 2.0, 4.0])
def test_to_flow_gives_the_point_on_the_straight_line(noise_scale):
    # Times of a flow from noise at 0 to clean images at 1, as in JiT.
    s = np.array([1e-4, 0.02, 0.3, 0.5, 0.77, 0.98, 1 - 1e-4])
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (len(s), 4, 6, 3))
    noise = rng.normal(size=x.shape)
    # Doubling the noise subtracts 2 log 2 from log-SNR.
    log_snr = 2 * np.log(s / (1 - s)) - 2 * np.log(noise_scale)
    noisy = ksd.ops.diffuse(x, noise, log_snr)
    state, time = ksd.ops.to_flow(noisy, log_snr, noise_scale)
    assert keras.ops.convert_to_numpy(state).dtype == "float32"
    np.testing.assert_allclose(to_numpy(time), 1 - s, rtol=2e-6)
    s = s[:, None, None, None]
    expected = s * x + (1 - s) * noise_scale * noise
    np.testing.assert_allclose(to_numpy(state), expected, atol=2e-6)


def test_to_flow_of_one_log_snr_and_beyond_the_ends():
    noisy = np.ones((2, 4, 4, 1), "float32")
    state, time = ksd.ops.to_flow(noisy, 0.0)
    assert float(time) == 0.5
    # Halfway, the images times 0.5 / alpha.
    np.testing.assert_allclose(to_numpy(state), np.sqrt(0.5), rtol=1e-6)
    state, time = ksd.ops.to_flow(noisy, np.array([-200.0, 200.0], "float32"))
    np.testing.assert_allclose(to_numpy(time), [1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(to_numpy(state), 1.0, atol=1e-6)


def test_images_round_trip():
    images = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)
    inside = ksd.ops.from_uint8(images)
    assert to_numpy(inside).min() == -1.0 and to_numpy(inside).max() == 1.0
    back = keras.ops.convert_to_numpy(ksd.ops.to_uint8(inside))
    assert back.dtype == "uint8"
    np.testing.assert_array_equal(back, images)
    outside = keras.ops.convert_to_numpy(
        ksd.ops.to_uint8(np.array([-3.0, 3.0], "float32"))
    )
    np.testing.assert_array_equal(outside, [0, 255])
