import numpy as np
import pytest

import keras_simple_diffusion as ksd

pytestmark = pytest.mark.any_backend


def test_digits():
    images, labels = ksd.data.load_digits(image_size=16)
    assert images.shape == (1797, 16, 16, 1) and images.dtype == "uint8"
    assert labels.shape == (1797,) and labels.dtype == "int32"
    assert images.min() == 0 and images.max() == 255
    np.testing.assert_array_equal(np.unique(labels), np.arange(10))
    assert ksd.data.load_digits((8, 12))[0].shape == (1797, 8, 12, 1)
    train, train_labels = ksd.data.load_digits(16, "train")
    test, test_labels = ksd.data.load_digits(16, "test")
    assert len(train) == 1437 and len(test) == 360
    assert np.bincount(test_labels).min() >= 34
    everything = {image.tobytes() for image in images}
    both = {image.tobytes() for image in np.concatenate([train, test])}
    assert both == everything
    with pytest.raises(ValueError, match="split='dev'"):
        ksd.data.load_digits(16, "dev")


def test_digits_are_the_originals_enlarged():
    images, _ = ksd.data.load_digits(image_size=8)
    from sklearn.datasets import load_digits

    np.testing.assert_allclose(
        images[..., 0], load_digits().images * 255 / 16, atol=0.5
    )
