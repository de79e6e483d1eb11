"""An image at a noise level, and the prediction from it."""

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.app import noise
from keras_simple_diffusion.ops import random
from tests.helpers.models import make_model
from tests.helpers.models import randomize


@pytest.mark.parametrize("time", [0.0, 0.4, 1.0])
def test_noise_and_prediction(time):
    model = make_model()
    randomize(model.backbone)
    image = model.generate(labels=[1], num_steps=2, seed=0)[0]
    noisy, clean = noise.denoise(model, image, time, {"labels": [1]}, seed=7)
    # The same, from the public parts.
    log_snr = float(model.schedule(np.float32(time)))
    alpha, sigma = ksd.ops.alpha_sigma(np.float32(log_snr))
    key = keras.ops.convert_to_tensor(random.seed_to_key(7), "int32")
    keys = random.image_keys(key, keras.ops.zeros(1, dtype="int32"))
    drawn = keras.ops.convert_to_numpy(random.normal(keys, 0, (4, 4, 1)))
    z = float(alpha) * (image / 127.5 - 1) + float(sigma) * drawn
    inputs = {
        "noisy_images": z.astype("float32"),
        "log_snr": np.full(1, log_snr, "float32"),
        "labels": np.array([1], "int32"),
    }
    inputs = {k: keras.ops.convert_to_tensor(v) for k, v in inputs.items()}
    v = keras.ops.convert_to_numpy(model.backbone(inputs))
    x = float(alpha) * z - float(sigma) * v
    for result, expected in ((noisy, z[0]), (clean, x[0])):
        expected = (np.clip(expected, -1, 1) + 1) * 127.5
        np.testing.assert_allclose(result, expected, atol=1.01)


@pytest.mark.any_backend
def test_a_student_that_takes_the_guidance_scale():
    student = ksd.distillation.ConsistencyDistillation(
        make_model(), num_steps=1, guidance_scale=(1.0, 4.0)
    ).finished_model()
    image = np.zeros((4, 4, 1), "uint8")
    _, clean = noise.denoise(student, image, 1.0, {"labels": [0]}, seed=3)
    drawn = student.generate(labels=[0], seed=3)[0]
    np.testing.assert_allclose(clean, drawn.astype("int32"), atol=1)


@pytest.mark.any_backend
def test_the_noise_is_that_of_generate():
    model = make_model()
    image = np.zeros((4, 4, 1), "uint8")
    noisy, _ = noise.denoise(model, image, 1.0, {"labels": [0]}, seed=3)
    _, steps, _ = model.generate(
        labels=[0], seed=3, num_steps=1, return_steps=True
    )
    np.testing.assert_allclose(noisy, np.float64(steps[0, 0]), atol=1)


@pytest.mark.any_backend
def test_the_schedule_is_drawn():
    drawn = noise.draw_schedule(make_model(), 0.25)
    assert len(drawn) == 2
    for svg in drawn:
        assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>")
