"""The table of a sampler's steps takes the same steps as the sampler."""

import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.export.steps import table_of_steps
from keras_simple_diffusion.ops import random

pytestmark = pytest.mark.any_backend

SHAPE = (2, 4, 4, 3)


def denoise(noisy_images, log_snr):
    """Predict something that is no linear function of the images."""
    noisy_images = ops.convert_to_tensor(noisy_images)
    log_snr = ops.convert_to_tensor(log_snr)
    return ops.tanh(noisy_images + 0.1 * ops.reshape(log_snr, (-1, 1, 1, 1)))


def follow(table, draws):
    """Take the steps of a table, and return both images of the last."""
    noisy, previous = draws[0], 0.0
    for i, step in enumerate(table):
        level = np.full(len(noisy), step["log_snr"], "float32")
        clean = ops.convert_to_numpy(denoise(noisy, level))
        noisy = step["noisy"] * noisy + step["clean"] * clean
        noisy = noisy + step["previous_clean"] * previous
        if step["noise"]:
            noisy = noisy + step["noise"] * draws[i + 1]
        noisy, previous = noisy.astype("float32"), clean
    return noisy, clean


@pytest.mark.parametrize("num_steps", [1, 2, 5])
@pytest.mark.parametrize(
    "name", ["ddpm", "ddim", "ddim:eta=0.5", "dpm", "dpm:stochastic=true"]
)
def test_the_table_takes_the_steps_of_the_sampler(name, num_steps):
    sampler = ksd.samplers.get(name)
    schedule = ksd.schedules.CosineSchedule(log_snr_min=-15, log_snr_max=4)
    grid = ksd.samplers.log_snr_grid(schedule, num_steps)
    key = ops.convert_to_tensor(random.seed_to_key(3), "int32")
    keys = random.image_keys(key, ops.arange(2, dtype="int32"))
    draws = [
        ops.convert_to_numpy(random.normal(keys, i, SHAPE[1:]))
        for i in range(num_steps)
    ]
    noise = ops.convert_to_tensor(draws[0])
    table = table_of_steps(sampler, grid)
    assert len(table) == num_steps
    assert table[-1]["noise"] == 0.0
    for return_clean, found in zip(
        (False, True), follow(table, draws), strict=True
    ):
        expected = sampler.sample(
            denoise, noise, grid, seed=3, return_clean=return_clean
        )
        np.testing.assert_allclose(
            found, ops.convert_to_numpy(expected), atol=2e-5
        )


@pytest.mark.parametrize("name", ["heun", "heun:churn=2", "ddim:adjusted=true"])
def test_other_steps_are_refused(name):
    schedule = ksd.schedules.CosineSchedule()
    grid = ksd.samplers.log_snr_grid(schedule, 4)
    with pytest.raises(ksd.InputError, match="Only samplers are exported"):
        table_of_steps(ksd.samplers.get(name), grid)
