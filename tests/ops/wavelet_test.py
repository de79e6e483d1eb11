import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.ops import wavelet

pywt = pytest.importorskip("pywt", reason="needs PyWavelets")


def to_numpy(x):
    return ops.convert_to_numpy(x)


def make_images(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    "shape, levels",
    [((2, 8, 8, 3), 1), ((2, 16, 12, 3), 2), ((1, 2, 6, 1), 1)]
    + [((2, 24, 40, 2), 3), ((1, 4, 4, 5), 2)],
)
def test_inverse_is_exact(shape, levels):
    images = make_images(shape)
    coefficients = ksd.ops.dwt2(images, levels)
    batch, height, width, channels = shape
    assert tuple(coefficients.shape) == (
        batch,
        height // 2**levels,
        width // 2**levels,
        channels * 4**levels,
    )
    back = to_numpy(ksd.ops.idwt2(coefficients, levels))
    np.testing.assert_allclose(back, images, atol=2e-6 * levels)
    # And the other way round: it is a bijection.
    there = to_numpy(
        ksd.ops.dwt2(ksd.ops.idwt2(images_like(shape, levels), levels), levels)
    )
    np.testing.assert_allclose(
        there, images_like(shape, levels), atol=4e-6 * levels
    )


def images_like(shape, levels):
    batch, height, width, channels = shape
    return make_images(
        (batch, height // 2**levels, width // 2**levels, channels * 4**levels),
        1,
    )


def analysis_matrix(size, filters):
    """Both bands of PyWavelets' filters with mirrored borders, as a matrix."""
    low, high = filters
    rows = np.zeros((size, size))
    for i in range(size // 2):
        for taps, row, centre in (
            (low, i, 2 * i),
            (high, size // 2 + i, 2 * i + 1),
        ):
            for k, tap in enumerate(taps):
                j = abs(centre + k - len(taps) // 2)
                j = 2 * (size - 1) - j if j >= size else j
                rows[row, j] += tap
    return rows


@pytest.mark.parametrize("size", [8, 12, 16])
def test_equals_pywavelets_bior22_up_to_the_scales(size):
    filters = pywt.Wavelet("bior2.2")
    low = np.array([tap for tap in filters.dec_lo if tap != 0])
    high = np.array([tap for tap in filters.dec_hi if tap != 0])
    # The high filter's sign is a convention of PyWavelets.
    matrix = analysis_matrix(size, (low, -high))
    matrix[: size // 2] *= wavelet.LOW_SCALE / np.sqrt(2)
    matrix[size // 2 :] *= wavelet.HIGH_SCALE * np.sqrt(2)
    images = make_images((2, size, size, 1))
    expected = matrix @ images[..., 0] @ matrix.T
    half = size // 2
    bands = [
        expected[:, :half, :half],
        expected[:, :half, half:],
        expected[:, half:, :half],
        expected[:, half:, half:],
    ]
    np.testing.assert_allclose(
        to_numpy(ksd.ops.dwt2(images)), np.stack(bands, -1), atol=2e-6
    )


def test_equals_pywavelets_function_inside():
    # Away from the borders, where PyWavelets' own transform pads otherwise.
    images = make_images((1, 32, 32, 1))
    approximation, (horizontal, vertical, diagonal) = pywt.dwt2(
        images[0, ..., 0].astype("float64"), "bior2.2", mode="reflect"
    )
    ours = to_numpy(ksd.ops.dwt2(images))[0]
    low, high = wavelet.LOW_SCALE / np.sqrt(2), wavelet.HIGH_SCALE * np.sqrt(2)
    inside = slice(3, 13)
    # PyWavelets puts one coefficient more in front, and its "horizontal"
    # detail is high in the vertical direction.
    for band, theirs, scale in (
        (0, approximation, low * low),
        (1, vertical, -low * high),
        (2, horizontal, -low * high),
        (3, diagonal, high * high),
    ):
        shifted = scale * theirs[1:, 1:]
        np.testing.assert_allclose(
            ours[inside, inside, band], shifted[inside, inside], atol=1e-5
        )


def test_constants_and_ramps_have_no_detail():
    constant = np.full((1, 16, 16, 1), 0.7, "float32")
    for levels in (1, 2):
        bands = to_numpy(ksd.ops.dwt2(constant, levels))
        np.testing.assert_allclose(bands[..., 1:], 0.0, atol=1e-6)
        np.testing.assert_allclose(
            bands[..., 0], 0.7 * (64 / 46) ** levels, rtol=1e-6
        )
    rows, columns = np.indices((16, 16)).astype("float32")
    ramp = (0.3 * rows - 0.2 * columns)[None, ..., None]
    bands = to_numpy(ksd.ops.dwt2(ramp))
    np.testing.assert_allclose(bands[:, :-1, :-1, 1:], 0.0, atol=1e-5)


def test_white_noise_keeps_its_variance():
    noise = make_images((4, 256, 256, 1))
    bands = to_numpy(ksd.ops.dwt2(noise))
    # 65,536 coefficients a band, correlated with their neighbours.
    np.testing.assert_allclose(bands.std((0, 1, 2)), 1.0, atol=0.015)
    # The second level's bands stay comparable: 0.85 to 1.23.
    deviations = to_numpy(ksd.ops.dwt2(noise, 2)).std((0, 1, 2))
    assert 0.8 < deviations.min() and deviations.max() < 1.3


def test_bad_sizes():
    with pytest.raises(ValueError, match=r"multiples of 4.*\(1, 6, 8, 1\)"):
        ksd.ops.dwt2(np.zeros((1, 6, 8, 1), "float32"), 2)
    with pytest.raises(ValueError, match=r"multiple of 4.*\(1, 4, 4, 6\)"):
        ksd.ops.idwt2(np.zeros((1, 4, 4, 6), "float32"))
