import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion import InputError
from keras_simple_diffusion.samplers import ddim_sampler
from tests.helpers.checks import compiled
from tests.helpers.checks import run_sampler_test
from tests.reference import gaussian_oracle
from tests.reference.adams_bashforth import AdamsBashforthSampler

samplers = ksd.samplers
SCHEDULE = ksd.schedules.CosineSchedule()


def to_numpy(x):
    return ops.convert_to_numpy(x)


def to_tensor(x):
    return ops.convert_to_tensor(x, dtype="float32")


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


@pytest.mark.parametrize("spacing", ["log_snr", "power"])
@pytest.mark.parametrize(
    "schedule",
    [
        SCHEDULE,
        ksd.schedules.InterpolatedCosineSchedule(512, 32, 256),
        ksd.schedules.ShiftedCosineSchedule(256),
    ],
)
def test_spacing(schedule, spacing):
    grid = to_numpy(samplers.log_snr_grid(schedule, 10, spacing))
    ends = to_numpy(schedule(np.array([1.0, 0.0], "float32")))
    np.testing.assert_array_equal(grid[[0, -1]], ends)
    assert (np.diff(grid) > 0).all()
    levels = grid.astype("float64")
    if spacing == "power":  # Of sigma / alpha.
        levels = np.exp(-0.5 * levels) ** (1 / 7)
    steps = np.diff(levels)
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-4)


def test_bad_spacing():
    with pytest.raises(ValueError, match="spacing='even'"):
        samplers.log_snr_grid(SCHEDULE, 8, "even")


def orders(sampler, counts=(64, 128, 256), ends=(-8.0, 8.0)):
    """Measured order of accuracy on the exact flow of a Gaussian."""
    oracle = gaussian_oracle.GaussianOracle([0.3], [0.4], [1.0])
    noise = np.random.default_rng(0).normal(size=(16, 4, 4, 1))
    exact = oracle.flow(noise.astype("float32"), *ends)
    schedule = ksd.schedules.CosineSchedule(*ends)
    errors = []
    for count in counts:
        grid = samplers.log_snr_grid(schedule, count, "log_snr")
        x = sampler.sample(oracle.denoise, noise, grid)
        errors.append(np.sqrt(np.mean((to_numpy(x) - exact) ** 2)))
    return -np.diff(np.log(errors)) / np.diff(np.log(counts))


@pytest.mark.parametrize(
    "sampler, order",
    [
        (samplers.DDIMSampler(), 1.0),
        (samplers.DDIMSampler(adjusted=True), 1.0),
        (samplers.DPMSolverSampler(order=1), 1.0),
        (samplers.HeunSampler(), 2.0),
        (samplers.DPMSolverSampler(), 2.0),
    ],
    ids=["ddim", "addim", "dpm 1", "heun", "dpm 2"],
)
def test_order_of_accuracy(sampler, order):
    np.testing.assert_allclose(orders(sampler), order, atol=0.15)


def test_a_multistep_sampler_of_third_order():
    # More steps would reach float32's rounding.
    counts, ends = (32, 48, 64, 96), (-12.0, 6.0)
    second = orders(AdamsBashforthSampler(2), counts, ends)
    np.testing.assert_allclose(second, 2.0, atol=0.05)
    # Its error has no third-order term at these counts: 3.3 to 3.7.
    assert (orders(AdamsBashforthSampler(), counts, ends) > 2.95).all()
    first = AdamsBashforthSampler(1)
    np.testing.assert_allclose(orders(first), 1.0, atol=0.15)


def test_few_steps_of_heun_from_pure_noise():
    # The slope at log-SNR -15 is too steep for a second-order step.
    oracle = gaussian_oracle.GaussianOracle([0.0], [0.5], [1.0])
    noise = np.random.default_rng(0).normal(size=(16, 8, 8, 1))
    for count in (4, 8):
        grid = samplers.log_snr_grid(SCHEDULE, count)
        heun, ddim = (
            to_numpy(sampler.sample(oracle.denoise, noise, grid)).std()
            for sampler in (samplers.HeunSampler(), samplers.DDIMSampler())
        )
        assert abs(heun - 0.5) < abs(ddim - 0.5)


def test_first_order_solver_is_ddim():
    oracle = gaussian_oracle.GaussianOracle([-0.5, 0.5], [0.1, 0.1], [0.5, 0.5])
    noise = np.random.default_rng(0).normal(size=(4, 8, 8, 1))
    grid = samplers.log_snr_grid(SCHEDULE, 16)
    a = samplers.DDIMSampler().sample(oracle.denoise, noise, grid)
    b = samplers.DPMSolverSampler(order=1).sample(oracle.denoise, noise, grid)
    np.testing.assert_allclose(to_numpy(a), to_numpy(b), atol=2e-5)


@pytest.mark.any_backend  # A property of the formulas, over many steps.
@pytest.mark.parametrize(
    "sampler",
    [
        samplers.DDPMSampler(0.0),
        samplers.DDPMSampler(0.2),
        samplers.DDPMSampler(1.0),
        samplers.DDIMSampler(eta=1.0),
        samplers.DDIMSampler(eta=0.5),
        samplers.DPMSolverSampler(stochastic=True),
        samplers.HeunSampler(churn=20.0),
    ],
    ids=str,
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
        grid = to_tensor([log_snr, next_log_snr])
        at = samplers.SamplerStep(to_tensor(z), grid, index=0)
        x, predicted = sampler.step(
            lambda z, log_snr: to_tensor(clean), at, lambda: to_tensor(noise)
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


def pixel_variance(images):
    return float(to_numpy(ops.mean(ops.square(images))))


def test_adjusted_ddim_restores_the_variance_of_a_step():
    # Pixels of standard deviation 0.5; from time 0.7 to 0.55.
    oracle = gaussian_oracle.GaussianOracle([0.0], [0.5], [1.0])
    log_snr, next_log_snr = SCHEDULE(to_tensor([0.7, 0.55]))
    noise = np.random.default_rng(0).normal(size=(2, 50, 50, 4))
    noise /= noise.std()
    spread = {}
    for time, level in (("t", log_snr), ("s", next_log_snr)):
        signal = 1 / (1 + np.exp(-float(level)))
        spread[time] = np.sqrt(0.25 * signal + 1 - signal)
    noisy = to_tensor(spread["t"] * noise)
    clean = oracle.denoise(noisy, ops.broadcast_to(log_snr, (2,)))
    # The variance of a normal x given z.
    variance = 1.0 / (4.0 + ops.exp(log_snr))
    step = ddim_sampler.ddim_step
    short = step(clean, noisy, log_snr, next_log_snr)
    whole = step(clean, noisy, log_snr, next_log_snr, variance)
    assert abs(spread["s"] - 0.8268) < 1e-4
    assert abs(np.sqrt(pixel_variance(short)) - 0.8170) < 1e-4
    assert abs(np.sqrt(pixel_variance(whole)) - 0.8279) < 1e-4
    # The inverse returns the clean images, one level per image as well.
    back = ddim_sampler.invert_ddim_step(
        short,
        noisy,
        ops.broadcast_to(log_snr, (2,)),
        ops.broadcast_to(next_log_snr, (2,)),
    )
    np.testing.assert_allclose(to_numpy(back), to_numpy(clean), atol=2e-6)


def test_adjusted_ddim_is_closer_with_few_steps():
    # Its estimate of the variance is a tenth of that of these pixels.
    deviation = float(np.sqrt(0.5))
    oracle = gaussian_oracle.GaussianOracle([0.0], [deviation], [1.0])
    noise = np.random.default_rng(0).normal(size=(2, 50, 50, 4))
    noise /= noise.std()
    grid = samplers.log_snr_grid(SCHEDULE, 8)
    short, adjusted = (
        np.sqrt(pixel_variance(sampler.sample(oracle.denoise, noise, grid)))
        for sampler in (
            samplers.DDIMSampler(),
            samplers.DDIMSampler(adjusted=True),
        )
    )
    assert short < adjusted < deviation


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


class Euler(samplers.Sampler):
    """The sampler of the docs: DDIM in five lines."""

    def step(self, denoise, at, draw_noise):
        clean = denoise(at.noisy_images, at.log_snr)
        alpha, sigma = ksd.ops.alpha_sigma(at.log_snr)
        noise = (at.noisy_images - alpha * clean) / sigma
        alpha, sigma = ksd.ops.alpha_sigma(at.next_log_snr)
        return alpha * clean + sigma * noise, clean


def test_a_sampler_of_ones_own():
    oracle = gaussian_oracle.GaussianOracle([-0.5, 0.5], [0.1, 0.1], [0.5, 0.5])
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    grid = samplers.log_snr_grid(SCHEDULE, 8)
    a = Euler().sample(oracle.denoise, noise, grid)
    b = samplers.DDIMSampler().sample(oracle.denoise, noise, grid)
    np.testing.assert_allclose(to_numpy(a), to_numpy(b), atol=2e-5)


@pytest.mark.parametrize(
    "sampler", [samplers.DDIMSampler(), samplers.DDPMSampler()], ids=str
)
def test_steps_can_be_returned(sampler):
    oracle = gaussian_oracle.GaussianOracle([-0.5, 0.5], [0.1, 0.1], [0.5, 0.5])
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    grid = samplers.log_snr_grid(SCHEDULE, 6)
    x, noisy, clean = map(
        to_numpy, sampler.sample(oracle.denoise, noise, grid, return_steps=True)
    )
    assert noisy.shape == clean.shape == (6, 2, 8, 8, 1)
    np.testing.assert_array_equal(noisy[0], noise.astype("float32"))
    plain = sampler.sample(oracle.denoise, noise, grid)
    np.testing.assert_allclose(to_numpy(plain), x, atol=1e-6)
    for i in range(6):
        level = np.full(2, to_numpy(grid)[i], "float32")
        predicted = oracle.denoise(to_tensor(noisy[i]), to_tensor(level))
        np.testing.assert_allclose(to_numpy(predicted), clean[i], atol=1e-5)


def test_compiled_code_returns_the_same_steps():
    oracle = gaussian_oracle.GaussianOracle([-0.5, 0.5], [0.1, 0.1], [0.5, 0.5])
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    arguments = (
        to_tensor(noise),
        samplers.log_snr_grid(SCHEDULE, 5),
        ops.convert_to_tensor(ksd.ops.random.seed_to_key(3), "int32"),
    )

    def sample(noise, grid, key):
        return samplers.DDPMSampler().sample(
            oracle.denoise, noise, grid, key, return_steps=True
        )

    for a, b in zip(
        sample(*arguments), compiled(sample)(*arguments), strict=True
    ):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), atol=1e-5)


def test_rescaled_guidance_has_the_contrast_of_the_condition():
    guided, conditional = np.random.default_rng(0).normal(size=(2, 3, 8, 8, 2))
    guided *= 3.0

    def spread(share):
        x = samplers.rescale_guidance(guided, conditional, share)
        return to_numpy(x).std(axis=(1, 2, 3))

    np.testing.assert_allclose(
        spread(1.0), conditional.std(axis=(1, 2, 3)), rtol=1e-5
    )
    np.testing.assert_allclose(
        spread(0.0), guided.std(axis=(1, 2, 3)), rtol=1e-5
    )


def test_clipping():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 8, 8, 2)).astype("float32")
    x *= np.array([0.1, 1.0, 4.0], "float32")[:, None, None, None]
    np.testing.assert_array_equal(
        to_numpy(samplers.clip_static(x)), np.clip(x, -1, 1)
    )
    for i, value in enumerate(to_numpy(samplers.clip_dynamic(x, 0.9))):
        limit = max(1.0, np.quantile(np.abs(x[i]), 0.9))
        expected = np.clip(x[i], -limit, limit) / limit
        np.testing.assert_allclose(value, expected, atol=1e-5)


@pytest.mark.parametrize(
    "sampler",
    [
        samplers.DDPMSampler(0.7),
        samplers.DDIMSampler(),
        samplers.DDIMSampler(0.3),
        samplers.DDIMSampler(adjusted=True),
        samplers.HeunSampler(),
        samplers.HeunSampler(3.0, (-5.0, 4.0), 1.01),
        samplers.DPMSolverSampler(),
        samplers.DPMSolverSampler(1, stochastic=True),
        AdamsBashforthSampler(2),
    ],
    ids=repr,
)
def test_sampler(sampler):
    run_sampler_test(sampler)


class TwoDraws(samplers.Sampler):
    """Draws noise twice in a step, and returns it."""

    def step(self, denoise, at, draw_noise):
        return draw_noise(), draw_noise()


def test_draws_of_noise_are_independent():
    start = np.random.default_rng(0).normal(size=(1, 64, 64, 1))
    _, noisy, clean = TwoDraws().sample(
        None, start, np.arange(4.0), seed=5, return_steps=True
    )
    noisy, clean = to_numpy(noisy), to_numpy(clean)
    # What the next step starts from was drawn first.
    draws = np.stack([noisy[1], clean[0], noisy[2], clean[1]]).reshape(4, -1)
    correlations = np.cov(draws)
    np.testing.assert_allclose(correlations, np.eye(4), atol=5 / 64)
    np.testing.assert_array_equal(clean[2], 0.0)
    keys = ksd.ops.random.image_keys(
        ops.convert_to_tensor(ksd.ops.random.seed_to_key(5), "int32"),
        ops.arange(1, dtype="int32"),
    )
    for step in (1, 2):
        expected = ksd.ops.random.normal(keys, step, (64, 64, 1))
        np.testing.assert_allclose(noisy[step], to_numpy(expected), atol=1e-6)


def test_heun_evaluates_the_ends_once():
    if keras.backend.backend() != "torch":
        pytest.skip("only PyTorch runs the loop in Python")
    levels = []

    def denoise(z, log_snr):
        levels.append(float(log_snr[0]))
        return 0.5 * z

    noise = np.ones((1, 2, 2, 1))
    samplers.HeunSampler().sample(denoise, noise, np.arange(5.0))
    # The first and the last of four steps are of first order.
    assert levels == [0.0, 1.0, 2.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(
    "sampler",
    [
        samplers.DDPMSampler(),
        samplers.DDIMSampler(),
        samplers.HeunSampler(),
        samplers.DPMSolverSampler(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("spacing", ["time", "log_snr"])
def test_the_widest_schedule(sampler, spacing):
    oracle = gaussian_oracle.GaussianOracle([0.3], [0.4], [1.0])
    noise = np.random.default_rng(0).normal(size=(4, 25, 40, 1))
    schedule = ksd.schedules.CosineSchedule(-80.0, 80.0)
    grid = samplers.log_snr_grid(schedule, 256, spacing)
    x = to_numpy(sampler.sample(oracle.denoise, noise, grid))
    # Steps of 0.6 in log-SNR cost methods of first order 0.03.
    assert abs(x.mean() - 0.3) < 0.05 and abs(x.std() - 0.4) < 0.05


def test_samplers_by_name():
    assert samplers.get(None) is None
    for name, cls in (
        ("ddpm", samplers.DDPMSampler),
        ("ddim", samplers.DDIMSampler),
        ("heun", samplers.HeunSampler),
        ("dpm", samplers.DPMSolverSampler),
    ):
        assert samplers.get(name) == cls()
    assert samplers.get("ddpm:variance_interpolation=1") == (
        samplers.DDPMSampler(1.0)
    )
    adjusted = samplers.DDIMSampler(adjusted=True)
    assert samplers.get("ddim:adjusted=1") == adjusted
    assert samplers.get("ddim:adjusted=true") == adjusted
    assert samplers.get("dpm: order=1, stochastic=true") == (
        samplers.DPMSolverSampler(1, stochastic=True)
    )
    assert samplers.get("heun:churn=2e1,churn_interval=(-6,4.5)") == (
        samplers.HeunSampler(20.0, (-6.0, 4.5))
    )
    config = keras.saving.serialize_keras_object(samplers.HeunSampler(3.0))
    assert samplers.get(config) == samplers.HeunSampler(3.0)


SCHEDULE_CONFIG = keras.saving.serialize_keras_object(SCHEDULE)


@pytest.mark.parametrize(
    "identifier, message",
    [
        ("ddimm", 'Unknown Sampler \'ddimm\'. Use one of "ddpm", "ddim"'),
        ("", "Unknown Sampler ''"),
        ("dpm:orders=2", r"takes \(order=2, stochastic=False\). Received"),
        ("dpm:order", r"Valid arguments: \(order=2, stochastic=False\)"),
        ("dpm:2", "argument=value"),
        ("dpm:order=2)+f(", "argument=value"),
        ("dpm:order=open('x')", "argument=value"),
        ("dpm:order=2,order=1", "argument=value"),
        ("dpm:order=two", "order='two'"),
        ("ddim:eta=1e999", "eta=inf"),
        (samplers.DDIMSampler, "Received: <class"),
        (SCHEDULE, r"Received: CosineSchedule\(\)"),
        (SCHEDULE_CONFIG, "must be that of a Sampler"),
        ({}, "must be that of a Sampler"),
        ({"class_name": "Unknown", "config": {}}, "must be that of a Sampler"),
        (3, "Received: 3"),
    ],
    ids=str,
)
def test_wrong_identifiers(identifier, message):
    with pytest.raises(InputError, match=message):
        samplers.get(identifier)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: samplers.DDPMSampler(1.5), "variance_interpolation=1.5"),
        (lambda: samplers.DDIMSampler(-0.1), "eta=-0.1"),
        (lambda: samplers.DDIMSampler("a"), "at most 1. Received: eta='a'"),
        (lambda: samplers.DDIMSampler(np.nan), "eta=nan"),
        (lambda: samplers.DDIMSampler(True), "eta=True"),
        (lambda: samplers.DDIMSampler(adjusted=0.5), "adjusted=0.5"),
        (lambda: samplers.DDIMSampler(0.3, True), "leave one of them out"),
        (lambda: samplers.HeunSampler(-1.0), "churn=-1.0"),
        (lambda: samplers.HeunSampler(np.inf), "churn=inf"),
        (
            lambda: samplers.HeunSampler(1.0, (2.0, 1.0)),
            r"churn_interval=\(2.0, 1.0\)",
        ),
        (lambda: samplers.HeunSampler(1.0, 3.0), "churn_interval=3.0"),
        (lambda: samplers.DPMSolverSampler(3), "order=3"),
        (lambda: samplers.DPMSolverSampler(1.5), "an integer"),
        (lambda: samplers.DPMSolverSampler(2, "no"), "stochastic='no'"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InputError, match=message):
        make()
