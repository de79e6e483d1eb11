import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError


def test_outputs_are_the_models(tmp_path):
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Dense(5)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    model.save(tmp_path / "a.keras")
    outputs = ksd.metrics.ClassifierOutputs(tmp_path / "a.keras", 4)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 4, 4, 3), "uint8")
    expected = model(images.astype("float32"))
    np.testing.assert_allclose(
        outputs(images), keras.ops.convert_to_numpy(expected), atol=1e-5
    )
    assert outputs.size == 5
    with pytest.raises(InputError, match="4, 4, 3"):
        outputs(images[:, :2])
    with pytest.raises(InputError, match="b.keras"):
        ksd.metrics.ClassifierOutputs(tmp_path / "b.keras")
    keras.Model(inputs, inputs).save(tmp_path / "c.keras")
    with pytest.raises(InputError, match="one score per class"):
        ksd.metrics.ClassifierOutputs(tmp_path / "c.keras")
