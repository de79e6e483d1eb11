import itertools

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd

LOG_SNR = np.linspace(-20.0, 20.0, 41).astype("float32")
TYPES = ("x", "epsilon", "v")


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
    tolerance = 1e-6 if from_type in ("v", to_type) else 5e-5
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
    expected = np.abs(errors[to_type] / errors[from_type])[:, 0, 0, 0]
    scale = to_numpy(ksd.ops.error_scale(log_snr, from_type, to_type))
    np.testing.assert_allclose(scale, expected, rtol=1e-5)


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
