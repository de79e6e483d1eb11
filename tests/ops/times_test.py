import numpy as np
import pytest
import scipy.stats
from keras import ops

from keras_simple_diffusion.ops.diffusion import stratify


def draw(rng, count):
    times = stratify(
        ops.convert_to_tensor(rng.uniform(size=count), "float32"),
        ops.convert_to_tensor(rng.uniform(size=1), "float32"),
    )
    return ops.convert_to_numpy(times)


@pytest.mark.parametrize("count", [1, 7, 64, 1000])
def test_every_range_has_one_time(count):
    times = draw(np.random.default_rng(0), count)
    ranges = np.floor(times.astype("float64") * count + 1e-4)
    np.testing.assert_array_equal(np.sort(ranges), np.arange(count))


def test_each_time_alone_is_uniform():
    rng = np.random.default_rng(0)
    times = np.stack([draw(rng, 5) for _ in range(1000)])
    for i in range(5):
        assert scipy.stats.kstest(times[:, i], "uniform").pvalue > 0.01


def test_the_largest_float_below_one():
    # B times it rounds up to B, which must not lead out of the ranges.
    largest = ops.convert_to_tensor([np.float32(1) - np.float32(2**-24)])
    times = ops.convert_to_numpy(stratify(ops.zeros(10), largest))
    assert sorted(np.round(times * 10)) == list(range(10))
