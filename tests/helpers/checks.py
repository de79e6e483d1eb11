"""Checks that hold for every sampler, schedule, loss and profile."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from tests.reference.gaussian_oracle import GaussianOracle


def compiled(function):
    """Compile a function of tensors with JAX or TensorFlow."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False, jit_compile=True)
    return function


def run_configurable_test(thing, other):
    """Check configuration, equality, representation and immutability.

    Args:
        thing: instance of a `Configurable` that is registered with Keras.
        other: instance that is not equal to it.
    """
    # The configuration survives a file and names the registered class.
    config = keras.saving.serialize_keras_object(thing)
    assert config["registered_name"].endswith(f">{type(thing).__name__}")
    copy = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert type(copy) is type(thing) and copy is not thing
    assert type(thing).from_config(thing.get_config()) == thing
    # Equal objects have one hash, and share what is compiled for them.
    assert copy == thing and hash(copy) == hash(thing)
    assert thing != other and thing != config
    assert len({thing, copy, other}) == 2
    # The representation is the call that makes the object.
    names = {
        name: getattr(namespace, name)
        for namespace in (
            ksd.losses,
            ksd.optimizers,
            ksd.samplers,
            ksd.schedules,
        )
        for name in dir(namespace)
    }
    assert eval(repr(thing), {**names, type(thing).__name__: type(thing)}) == (
        thing
    )
    for name in thing.get_config():
        with pytest.raises(AttributeError, match=f"another `{name}`"):
            setattr(thing, name, 0)


def run_schedule_test(schedule, other=None):
    """Check what `keras_simple_diffusion.schedules.NoiseSchedule` promises.

    Args:
        schedule: a `NoiseSchedule`.
        other: a schedule that is not equal to it. Defaults to a cosine
            schedule from -7 to 7.
    """
    other = other or ksd.schedules.CosineSchedule(-7.0, 7.0)
    run_configurable_test(schedule, other)
    assert ksd.schedules.get(schedule) is schedule
    t = np.linspace(0.0, 1.0, 257)
    results = {
        name: ops.convert_to_numpy(function(t))
        for name, function in (
            ("log_snr", schedule),
            ("derivative", schedule.derivative),
            ("time", lambda t: schedule.time(schedule(t))),
        )
    }
    for name, value in results.items():
        assert value.dtype == "float32" and value.shape == t.shape, name
    # Strictly decreasing, with an inverse that is exact at the ends. Where
    # log-SNR is nearly flat its rounding is worth 4e-7 in time.
    assert (np.diff(results["log_snr"]) < 0).all()
    assert (results["derivative"] < 0).all()
    np.testing.assert_allclose(results["time"], t, atol=6e-7)
    np.testing.assert_array_equal(results["time"][[0, -1]], [0.0, 1.0])
    # Simpson's rule over the derivative, away from the steep ends.
    inside = np.linspace(0.05, 0.95, 1001)
    slope = ops.convert_to_numpy(schedule.derivative(inside)).astype("float64")
    weights = np.where(np.arange(1001) % 2, 4.0, 2.0)
    weights[[0, -1]] = 1.0
    low, high = ops.convert_to_numpy(schedule(np.array([0.05, 0.95])))
    np.testing.assert_allclose(
        weights @ slope * (inside[1] - inside[0]) / 3, high - low, rtol=1e-5
    )
    # Compiled, for scalars, for any shape and in other precisions.
    times = ops.convert_to_tensor(t, "float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(compiled(schedule)(times)),
        results["log_snr"],
        rtol=1e-6,
        atol=5e-4,  # Near t = 1 a rounding of t is worth 3e-4.
    )
    assert ops.convert_to_numpy(schedule(0.5)).shape == ()
    assert ops.convert_to_numpy(schedule.time(0)).shape == ()
    assert schedule(np.full((2, 3), 0.5)).shape == (2, 3)
    half = schedule(ops.cast(times, "bfloat16"))
    assert ops.convert_to_numpy(half).dtype == "float32"


def run_sampler_test(sampler, other=None, num_steps=12):
    """Check what `keras_simple_diffusion.samplers.Sampler` promises.

    Args:
        sampler: a `Sampler`.
        other: a sampler that is not equal to it. Defaults to DDPM with an
            uncommon variance.
        num_steps: int. Number of steps. Defaults to `12`.
    """
    run_configurable_test(sampler, other or ksd.samplers.DDPMSampler(0.456))
    assert ksd.samplers.get(sampler) is sampler
    oracle = GaussianOracle([-0.5, 0.5], [0.1, 0.1], [0.5, 0.5])
    noise = np.random.default_rng(0).normal(size=(4, 8, 8, 1))
    schedule = ksd.schedules.CosineSchedule(-8.0, 8.0)
    grid = ksd.samplers.log_snr_grid(schedule, num_steps, "log_snr")

    def sample(noise, grid, **kwargs):
        return sampler.sample(oracle.denoise, noise, grid, **kwargs)

    images, noisy, clean = map(
        ops.convert_to_numpy, sample(noise, grid, seed=5, return_steps=True)
    )
    # Images come out, in float32, and steps are what they are said to be.
    assert images.dtype == "float32" and images.shape == noise.shape
    assert 0.2 < np.abs(images).mean() < 0.8
    assert noisy.shape == clean.shape == (num_steps, *noise.shape)
    np.testing.assert_array_equal(noisy[0], noise.astype("float32"))
    last = sample(noise, grid, seed=5, return_clean=True)
    np.testing.assert_allclose(ops.convert_to_numpy(last), clean[-1], atol=1e-5)
    # An image depends on seed and index, not on the batch.
    alone = sample(noise[2:3], grid, seed=5, indices=[2])
    np.testing.assert_allclose(
        ops.convert_to_numpy(alone)[0], images[2], atol=1e-5
    )
    # Compiled, with everything that changes as an argument.
    run = compiled(lambda noise, grid, key: sample(noise, grid, seed=key))
    for scale in (1.0, 0.5):
        arguments = (
            ops.convert_to_tensor(scale * noise, "float32"),
            ops.convert_to_tensor(scale * ops.convert_to_numpy(grid)),
        )
        key = ops.convert_to_tensor(ksd.ops.random.seed_to_key(5), "int32")
        np.testing.assert_allclose(
            ops.convert_to_numpy(run(*arguments, key)),
            ops.convert_to_numpy(sample(*arguments, seed=5)),
            atol=2e-4,
        )
