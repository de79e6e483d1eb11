import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend

score = ksd.metrics.inception_score


def test_extremes():
    sure = 50.0 * np.eye(8)[np.arange(800) % 8]
    value, deviation = score(sure, np.eye(8), 1)
    assert (value, deviation) == (pytest.approx(8.0), 0.0)
    # Always the same class, and never any.
    assert score(sure[:1].repeat(40, axis=0), np.eye(8))[0] == 1.0
    assert score(np.zeros((40, 8)), np.eye(8))[0] == pytest.approx(1.0)


def test_it_equals_its_definition():
    rng = np.random.default_rng(0)
    features, kernel = rng.normal(size=(90, 6)), rng.normal(size=(6, 5))
    p = np.exp(features @ kernel)
    p /= p.sum(1, keepdims=True)
    expected = np.exp(np.mean(np.sum(p * np.log(p / p.mean(0)), axis=1)))
    assert score(features, kernel, 1)[0] == pytest.approx(expected)

    class Batches(list):
        def __len__(self):
            return 90

    batches = Batches(np.array_split(features, 7))
    assert score(batches, kernel) == pytest.approx(score(features, kernel))
    with pytest.raises(InputError, match="num_splits=10"):
        score(features[:9], kernel)
