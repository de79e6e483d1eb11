import numpy as np
import pytest
from keras import ops

from keras_simple_diffusion.ops import random


def words(pair):
    return [int(ops.convert_to_numpy(w)) & 0xFFFFFFFF for w in pair]


def int32(values):
    return [ops.convert_to_tensor(np.uint32(v).astype("int32")) for v in values]


# Known answers of Random123, the authors' own implementation.
@pytest.mark.parametrize(
    "key, counter, expected",
    [
        ((0, 0), (0, 0), [0x6B200159, 0x99BA4EFE]),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, [0x1CB996FC, 0xBB002BE7]),
        (
            (0x13198A2E, 0x03707344),
            (0x243F6A88, 0x85A308D3),
            [0xC4923A9C, 0x483DF7A0],
        ),
    ],
)
def test_threefry_known_answers(key, counter, expected):
    assert words(random.threefry2x32(int32(key), int32(counter))) == expected


def draw(indices, seed=0, stream=0, shape=(16, 16, 1)):
    key = ops.convert_to_tensor(np.array(random.seed_to_key(seed), "int32"))
    keys = random.image_keys(
        key, ops.convert_to_tensor(np.array(indices, "int32"))
    )
    return ops.convert_to_numpy(random.normal(keys, stream, shape))


@pytest.mark.parametrize("shape", [(16, 16, 1), (30, 41, 3), (1,)])
def test_noise_of_a_image_does_not_depend_on_the_batch(shape):
    together = draw(range(8), shape=shape)
    assert together.shape == (8, *shape) and together.dtype == "float32"
    for i in (0, 3, 7):
        np.testing.assert_array_equal(draw([i], shape=shape)[0], together[i])


def test_noise_is_standard_normal():
    noise = draw(range(64), shape=(128, 128, 1)).reshape(64, -1)
    count = noise.size
    # Four standard errors of the first four moments.
    assert abs(noise.mean()) < 4 / np.sqrt(count)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / count)
    assert abs((noise**3).mean()) < 4 * np.sqrt(15 / count)
    assert abs((noise**4).mean() - 3) < 4 * np.sqrt(96 / count)
    inside = (np.abs(noise) < 1.0).mean()
    assert abs(inside - 0.682689) < 4 * np.sqrt(0.2166 / count)
    # Images, and the two numbers of one Box-Muller pair, are uncorrelated.
    correlation = np.corrcoef(noise)[np.triu_indices(64, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(noise.shape[1])
    half = noise.shape[1] // 2
    pairs = (noise[:, :half] * noise[:, half:]).mean()
    assert abs(pairs) < 4 / np.sqrt(count / 2)


def test_seeds_and_streams_differ():
    base = draw([0])
    for other in (draw([0], seed=1), draw([0], stream=1), draw([1])):
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 0.3
    assert not np.array_equal(draw([0], seed=1 << 40), base)


def test_negative_and_large_seeds():
    assert random.seed_to_key(-1) == [-1, -1]
    assert random.seed_to_key((1 << 63) + 5) == [5, -(1 << 31)]


def numpy_threefry(key, counter):
    """An independent Threefry-2x32-20 on NumPy's unsigned integers."""
    k0, k1 = (np.uint32(k) for k in key)
    ks = [k0, k1, k0 ^ k1 ^ np.uint32(0x1BD11BDA)]
    x = [np.uint32(counter[0]) + k0, np.uint32(counter[1]) + k1]
    rotations = [13, 15, 26, 6, 17, 29, 16, 24]
    for i in range(20):
        r = np.uint32(rotations[i % 8])
        x[0] = x[0] + x[1]
        x[1] = (x[1] << r | x[1] >> np.uint32(32 - r)) ^ x[0]
        if i % 4 == 3:
            j = i // 4 + 1
            x[0] = x[0] + ks[j % 3]
            x[1] = x[1] + ks[(j + 1) % 3] + np.uint32(j)
    return x


def test_noise_equals_an_independent_version_on_every_backend():
    count = 16 * 16
    with np.errstate(over="ignore"):
        key = numpy_threefry((7, 0), (np.array([5]), 0))
        bits = numpy_threefry(key, (np.arange(count // 2), np.array([3])))
    unit = [(b >> np.uint32(8)).astype("float64") / 2**24 for b in bits]
    radius = np.sqrt(-2 * np.log(unit[0] + 2**-24))
    angle = 2 * np.pi * unit[1]
    expected = [radius * np.cos(angle), radius * np.sin(angle)]
    # Measured: 5e-7 between float32 on the backends and float64.
    np.testing.assert_allclose(
        draw([5], seed=7, stream=3).ravel(),
        np.concatenate(expected),
        atol=2e-6,
    )


def test_uniform_numbers():
    key = ops.convert_to_tensor(np.array(random.seed_to_key(3), "int32"))
    keys = random.image_keys(key, ops.arange(9, dtype="int32"))
    numbers = ops.convert_to_numpy(random.uniform(keys, 1, (33, 31, 3)))
    assert numbers.shape == (9, 33, 31, 3) and numbers.dtype == "float32"
    assert numbers.min() >= 0.0 and numbers.max() < 1.0
    # Four standard errors of the shares of ten equal ranges.
    shares = np.histogram(numbers, 10, (0.0, 1.0))[0] / numbers.size
    assert np.abs(shares - 0.1).max() < 4 * np.sqrt(0.09 / numbers.size)
    correlation = np.corrcoef(numbers.reshape(9, -1))[np.triu_indices(9, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(33 * 31 * 3)
