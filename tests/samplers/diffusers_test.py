"""Step by step the same as the schedulers of diffusers, on one grid."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd

if keras.backend.backend() != "torch":
    pytest.skip("diffusers runs on torch", allow_module_level=True)
diffusers = pytest.importorskip("diffusers")
import torch  # noqa: E402

samplers = ksd.samplers
SEED, COUNT, SHAPE = 7, 20, (3, 8, 8, 2)
SCHEDULE = ksd.schedules.ShiftedCosineSchedule(128, 64, -9.0, 9.0)
NOISE = np.random.default_rng(0).normal(size=SHAPE).astype("float32")


def grid():
    return ops.convert_to_numpy(samplers.log_snr_grid(SCHEDULE, COUNT))


def denoise(z, log_snr):
    """Some smooth function of both arguments."""
    level = ops.reshape(ops.cast(log_snr, "float32"), (-1, 1, 1, 1))
    return ops.tanh(1.3 * z - 0.2) * ops.sigmoid(0.4 * level + 1.0)


def fresh_noise(i):
    key = ops.convert_to_tensor(ksd.ops.random.seed_to_key(SEED))
    indices = ops.arange(SHAPE[0], dtype="int32")
    keys = ksd.ops.random.image_keys(key, indices)
    return ksd.ops.random.normal(keys, i + 1, SHAPE[1:])


def ours(sampler):
    """Collect the images before each step, and the result."""
    x, noisy, _ = sampler.sample(
        denoise, NOISE, grid(), seed=SEED, return_steps=True
    )
    return np.concatenate([ops.convert_to_numpy(noisy)[1:], x[None].numpy()])


def theirs(scheduler, timesteps):
    x, steps = torch.from_numpy(NOISE), []
    for t, log_snr in zip(timesteps, grid(), strict=False):
        clean = denoise(x, torch.full(SHAPE[:1], float(log_snr)))
        x = scheduler.step(clean, t, x).prev_sample.float()
        steps.append(x.numpy())
    return np.stack(steps)


def discrete(cls, **kwargs):
    """A scheduler whose training levels are the grid, cleanest first."""
    scheduler = cls(
        num_train_timesteps=COUNT + 1,
        prediction_type="sample",
        clip_sample=False,
        **kwargs,
    )
    levels = torch.from_numpy(grid().astype("float64")[::-1].copy())
    scheduler.alphas_cumprod = torch.sigmoid(levels)
    ratios = scheduler.alphas_cumprod[1:] / scheduler.alphas_cumprod[:-1]
    scheduler.alphas = torch.cat([scheduler.alphas_cumprod[:1], ratios])
    scheduler.betas = 1.0 - scheduler.alphas
    return scheduler


@pytest.fixture
def injected(monkeypatch):
    """Our noise in place of that of diffusers."""

    def inject(module):
        # Steps are counted from the noisy end; the last one has no noise.
        draws = iter([*map(fresh_noise, range(COUNT - 1)), 0 * fresh_noise(0)])
        monkeypatch.setattr(module, "randn_tensor", lambda *a, **k: next(draws))

    return inject


def test_ddim():
    scheduler = discrete(diffusers.DDIMScheduler, set_alpha_to_one=False)
    scheduler.num_inference_steps = COUNT + 1
    expected = theirs(scheduler, range(COUNT, 0, -1))
    np.testing.assert_allclose(
        ours(samplers.DDIMSampler()), expected, atol=1e-5
    )


@pytest.mark.parametrize(
    "share, kind", [(0, "fixed_small"), (1, "fixed_large")]
)
def test_ddpm(share, kind, injected):
    from diffusers.schedulers import scheduling_ddpm

    injected(scheduling_ddpm)
    scheduler = discrete(diffusers.DDPMScheduler, variance_type=kind)
    expected = theirs(scheduler, range(COUNT, 0, -1))
    np.testing.assert_allclose(
        ours(samplers.DDPMSampler(share)), expected, atol=1e-5
    )


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("order", [1, 2])
def test_dpm_solver(order, stochastic, injected):
    from diffusers.schedulers import scheduling_dpmsolver_multistep

    injected(scheduling_dpmsolver_multistep)
    scheduler = diffusers.DPMSolverMultistepScheduler(
        solver_order=order,
        prediction_type="sample",
        algorithm_type="sde-dpmsolver++" if stochastic else "dpmsolver++",
        final_sigmas_type="sigma_min",
        euler_at_final=True,
    )
    scheduler.set_timesteps(COUNT)
    levels = torch.from_numpy(grid().astype("float64"))
    scheduler.sigmas = torch.exp(-0.5 * levels)
    expected = theirs(scheduler, scheduler.timesteps)
    sampler = samplers.DPMSolverSampler(order, stochastic)
    np.testing.assert_allclose(ours(sampler), expected, atol=1e-5)
