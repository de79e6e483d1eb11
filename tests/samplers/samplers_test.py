import importlib.util
import pathlib

import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd

_SPEC = importlib.util.spec_from_file_location(
    "gaussian_oracle",
    pathlib.Path(__file__).parents[1] / "reference" / "gaussian_oracle.py",
)
gaussian_oracle = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gaussian_oracle)

samplers = ksd.samplers
SCHEDULE = ksd.schedules.CosineSchedule()


def to_numpy(x):
    return ops.convert_to_numpy(x)


def test_grid():
    grid = to_numpy(samplers.log_snr_grid(SCHEDULE, 8))
    assert grid.shape == (9,) and grid.dtype == "float32"
    np.testing.assert_array_equal(grid[[0, -1]], np.float32([-15.0, 15.0]))
    np.testing.assert_allclose(
        to_numpy(SCHEDULE.time(grid)), np.linspace(1, 0, 9), atol=1e-6
    )
    for wrong in (0, -3, 2.5):
        with pytest.raises(ValueError, match=f"num_steps={wrong}"):
            samplers.log_snr_grid(SCHEDULE, wrong)


def test_guidance_is_the_same_in_every_space():
    rng = np.random.default_rng(0)
    z, conditional, unconditional = rng.normal(size=(3, 4, 6, 6, 1))
    log_snr = np.array([-6.0, -1.0, 1.0, 6.0])

    def guided(space):
        def convert(v, to_type, from_type="v"):
            return ksd.ops.convert_prediction(v, z, log_snr, from_type, to_type)

        prediction = samplers.classifier_free_guidance(
            convert(conditional, space), convert(unconditional, space), 2.5
        )
        return to_numpy(convert(prediction, "v", space))

    # Eq. 7 with 1 + eta = 2.5, in v.
    expected = 2.5 * conditional - 1.5 * unconditional
    for space in ("v", "x", "epsilon"):
        np.testing.assert_allclose(guided(space), expected, atol=5e-4)


def test_ddim_has_order_one():
    oracle = gaussian_oracle.GaussianOracle([0.3], [0.4], [1.0])
    noise = np.random.default_rng(0).normal(size=(16, 4, 4, 1))
    exact = oracle.flow(noise.astype("float32"), -6.0, 6.0)
    errors = []
    counts = (64, 128, 256)
    for count in counts:
        # Uniform in time between the two log-SNRs.
        schedule = ksd.schedules.CosineSchedule(-6.0, 6.0)
        grid = samplers.log_snr_grid(schedule, count)
        x = samplers.DDIMSampler().sample(oracle.denoise, noise, grid)
        errors.append(np.sqrt(np.mean((to_numpy(x) - exact) ** 2)))
    slopes = -np.diff(np.log(errors)) / np.diff(np.log(counts))
    np.testing.assert_allclose(slopes, 1.0, atol=0.15)


@pytest.mark.parametrize(
    "sampler",
    [
        samplers.DDPMSampler(0.0),
        samplers.DDPMSampler(0.2),
        samplers.DDPMSampler(1.0),
        samplers.DDIMSampler(eta=1.0),
        samplers.DDIMSampler(eta=0.5),
    ],
    ids=["ddpm 0", "ddpm 0.2", "ddpm 1", "ddim eta 1", "ddim eta 0.5"],
)
def test_stochastic_samplers_reproduce_a_mixture(sampler):
    oracle = gaussian_oracle.GaussianOracle(
        [-0.6, 0.5], [0.15, 0.3], [0.35, 0.65]
    )
    count = 20_000  # The pixels are independent draws.
    noise = np.random.default_rng(0).normal(size=(20, 25, 40, 1))
    grid = samplers.log_snr_grid(SCHEDULE, 256)
    x = to_numpy(sampler.sample(oracle.denoise, noise, grid, seed=3)).ravel()
    mean, variance = oracle.mean(), oracle.variance()
    fourth = np.mean((x - x.mean()) ** 4)
    assert abs(x.mean() - mean) < 4 * np.sqrt(variance / count)
    spread = np.sqrt((fourth - variance**2) / count)
    assert abs(x.var() - variance) < 4 * spread


def test_ddpm_extremes_are_the_posterior_and_the_forward_variance():
    # Eq. 2 and 3, written with alpha and sigma in float64.
    def levels(log_snr):
        signal = 1 / (1 + np.exp(-log_snr))
        return np.sqrt(signal), np.sqrt(1 - signal)

    rng = np.random.default_rng(0)
    z, clean, noise = rng.normal(size=(3, 2, 3, 3, 1))
    log_snr, next_log_snr = -1.3, 0.4
    alpha_t, sigma_t = levels(log_snr)
    alpha_s, sigma_s = levels(next_log_snr)
    alpha_ts = alpha_t / alpha_s
    var_ts = sigma_t**2 - alpha_ts**2 * sigma_s**2
    mean = (
        alpha_ts * sigma_s**2 / sigma_t**2 * z
        + alpha_s * var_ts / sigma_t**2 * clean
    )
    variances = {0.0: var_ts * sigma_s**2 / sigma_t**2, 1.0: var_ts}
    variances[0.2] = variances[0.0] ** 0.8 * variances[1.0] ** 0.2
    for share, variance in variances.items():
        sampler = samplers.DDPMSampler(share)
        x, predicted = sampler.step(
            lambda z, log_snr: ops.convert_to_tensor(clean, dtype="float32"),
            ops.convert_to_tensor(z, dtype="float32"),
            ops.convert_to_tensor(log_snr, dtype="float32"),
            ops.convert_to_tensor(next_log_snr, dtype="float32"),
            lambda: ops.convert_to_tensor(noise, dtype="float32"),
        )
        np.testing.assert_allclose(
            to_numpy(x), mean + np.sqrt(variance) * noise, atol=2e-6
        )
        np.testing.assert_allclose(to_numpy(predicted), clean, atol=1e-6)


def test_ddim_with_eta_one_is_ddpm_with_the_smaller_variance():
    oracle = gaussian_oracle.GaussianOracle([0.1], [0.5], [1.0])
    noise = np.random.default_rng(0).normal(size=(4, 8, 8, 1))
    grid = samplers.log_snr_grid(SCHEDULE, 16)
    a = samplers.DDIMSampler(1.0).sample(oracle.denoise, noise, grid, seed=1)
    b = samplers.DDPMSampler(0.0).sample(oracle.denoise, noise, grid, seed=1)
    # Measured: 3e-5, from the division by sigma at log-SNR 15.
    np.testing.assert_allclose(to_numpy(a), to_numpy(b), atol=2e-4)


@pytest.mark.parametrize(
    "sampler", [samplers.DDPMSampler(), samplers.DDIMSampler(0.5)]
)
def test_a_picture_does_not_depend_on_its_batch(sampler):
    oracle = gaussian_oracle.GaussianOracle([-0.5, 0.5], [0.1, 0.1], [0.5, 0.5])
    noise = np.random.default_rng(0).normal(size=(4, 8, 8, 1))
    grid = samplers.log_snr_grid(SCHEDULE, 16)
    together = to_numpy(sampler.sample(oracle.denoise, noise, grid, seed=5))
    alone = sampler.sample(
        oracle.denoise, noise[2:3], grid, seed=5, indices=[2]
    )
    np.testing.assert_allclose(to_numpy(alone)[0], together[2], atol=1e-5)
    other = to_numpy(sampler.sample(oracle.denoise, noise, grid, seed=6))
    assert np.abs(other - together).mean() > 0.05


def test_return_clean_gives_the_last_prediction():
    oracle = gaussian_oracle.GaussianOracle([0.2], [0.5], [1.0])
    noise = np.random.default_rng(0).normal(size=(2, 4, 4, 1))
    grid = np.linspace(-5.0, 5.0, 9).astype("float32")
    seen = []

    def denoise(z, log_snr):
        seen.append(oracle.denoise(z, log_snr))
        return seen[-1]

    sampler = samplers.DDIMSampler()
    noisy = to_numpy(sampler.sample(oracle.denoise, noise, grid))
    clean = to_numpy(
        sampler.sample(oracle.denoise, noise, grid, return_clean=True)
    )
    # The last step is z = alpha clean + sigma eps at grid[-1].
    _, sigma = map(float, ksd.ops.alpha_sigma(5.0))
    assert 0 < np.abs(noisy - clean).max() < 5 * sigma
    if keras.backend.backend() == "torch":  # Its loop is a Python loop.
        sampler.sample(denoise, noise, grid)
        np.testing.assert_allclose(to_numpy(seen[-1]), clean, atol=1e-6)


@pytest.mark.parametrize(
    "sampler", [samplers.DDPMSampler(0.7), samplers.DDIMSampler(0.3)]
)
def test_serialization(sampler):
    config = keras.saving.serialize_keras_object(sampler)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(sampler)
    assert copy.get_config() == sampler.get_config()


def test_bad_arguments():
    with pytest.raises(ValueError, match="variance_interpolation=1.5"):
        samplers.DDPMSampler(1.5)
    with pytest.raises(ValueError, match="eta=-0.1"):
        samplers.DDIMSampler(-0.1)
