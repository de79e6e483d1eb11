"""Models of rectified flow are drawn and trained as they are elsewhere."""

import contextlib
from statistics import NormalDist

import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from tests.helpers.models import make_model
from tests.reference.flow_backbone import FlowBackbone
from tests.reference.flow_backbone import velocity

NOISE = np.random.default_rng(0).normal(size=(3, 4, 4, 1))


def euler(state, times):
    """Follow the velocity from time to time, in float64.

    Returns:
        The state at the last time, and the clean images seen from the one
        before it.
    """
    for time, following in zip(times, times[1:], strict=False):
        step = velocity(state, time, np)
        clean = state - time * step
        state = state + (following - time) * step
    return state, clean


@pytest.mark.parametrize("num_steps", [3, 40])
@pytest.mark.parametrize("space", ["flow", "x"])
def test_ddim_is_the_euler_method_on_the_flow(space, num_steps):
    network = FlowBackbone(prediction_type=space)
    times = np.linspace(0.999, 0.001, num_steps + 1) ** 1.5
    grid = 2 * np.log((1 - times) / times)

    def denoise(noisy, log_snr):
        prediction = network({"noisy_images": noisy, "log_snr": log_snr})
        return ksd.ops.convert_prediction(
            prediction, noisy, log_snr, space, "x"
        )

    noisy = ksd.samplers.DDIMSampler().sample(denoise, NOISE, grid)
    # The norm of the coefficients 1 - t and t leads to the state and back.
    norm = np.hypot(1 - times, times)
    state, _ = euler(norm[0] * NOISE, times)
    np.testing.assert_allclose(
        norm[-1] * ops.convert_to_numpy(noisy), state, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "space, size, scale",
    [("flow", None, 1.0), ("x", None, 1.0), ("x", 512, 2.0)],
)
def test_a_model_draws_what_the_euler_method_does(space, size, scale):
    schedule = ksd.schedules.NormalSchedule(image_size=size)
    with pytest.warns() if size else contextlib.nullcontext():
        model = ksd.models.DiffusionModel(
            FlowBackbone(scale, space), schedule, prediction_type=space
        )
    images = model.generate(
        3, noise=NOISE, num_steps=20, sampler="ddim", clipping=None
    )
    # Uniform steps in the flow's time between the ends of log-SNR.
    end = 1 / (1 + np.exp(7.5))
    times = np.linspace(1 - end, end, 21)
    norm = np.hypot(1 - times[0], scale * times[0])
    _, clean = euler(norm * NOISE, times)
    assert 0.1 < np.abs(clean).mean() < 0.9
    expected = np.clip(np.round((clean + 1) * 127.5), 0, 255)
    assert np.abs(images - expected).max() <= 1


def jit_loss(x, noise, s, predict, noise_scale, min_time):
    """The loss of JiT in float64, from noise at s = 0 to images at s = 1."""
    column = s[:, None, None, None]
    state = column * x + (1 - column) * noise_scale * noise
    divisor = np.maximum(1 - column, min_time)
    target = (x - state) / divisor
    predicted = (predict(state, column) - state) / divisor
    return ((predicted - target) ** 2).mean((1, 2, 3))


@pytest.mark.parametrize("noise_scale", [1.0, 2.0])
def test_the_loss_of_jit_is_ours_with_a_flow_weighting(noise_scale):
    # Over the range of log-SNR, and on both sides of the limit.
    log_snr = np.linspace(-15.0, 15.0, 121)
    s = 1 / (1 + np.exp(-0.5 * log_snr) / noise_scale)
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (len(s), 4, 4, 3))
    noise = rng.normal(size=x.shape)

    def predict(state, s):
        return np.tanh(0.7 * state) - 0.2 * s

    expected = jit_loss(x, noise, s, predict, noise_scale, 0.05)
    column = s[:, None, None, None]
    predicted = predict(column * x + (1 - column) * noise_scale * noise, column)
    loss = ksd.losses.DiffusionLoss(
        weighting=ksd.losses.FlowWeighting(0.05, noise_scale)
    )
    # Of a network that predicts x, from the same state.
    ours = ops.convert_to_numpy(loss(x, predicted, log_snr, "x"))
    np.testing.assert_allclose(ours, expected, rtol=2e-6)
    # Without its limit it is the error of the velocity.
    if noise_scale == 1.0:
        expected = jit_loss(x, noise, s, predict, 1.0, 0.0)
        ours = ksd.losses.DiffusionLoss("flow")(x, predicted, log_snr, "x")
        ours = ops.convert_to_numpy(ours)
        np.testing.assert_allclose(ours, expected, rtol=2e-6)


def test_training_draws_normal_log_snr():
    model = make_model(None, schedule="normal:mean=-1,std=2,image_size=none")
    images = np.zeros((4096, 4, 4, 1), "uint8")
    batch = model.noisy_batch({"images": ops.convert_to_tensor(images)})
    log_snr = ops.convert_to_numpy(batch.log_snr)
    normal = NormalDist(-1.0, 2.0)
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        # Three standard deviations of a share of 4096.
        error = 3 * np.sqrt(share * (1 - share) / 4096)
        assert abs((log_snr < normal.inv_cdf(share)).mean() - share) < error


def test_a_preset_keeps_the_schedule_and_the_loss_of_jit(tmp_path):
    model = make_model(
        None,
        schedule="normal:image_size=none",
        loss=ksd.losses.DiffusionLoss(weighting=ksd.losses.FlowWeighting()),
        prediction_type="x",
    )
    model.save_to_preset(tmp_path / "preset")
    same = ksd.models.DiffusionModel.from_preset(tmp_path / "preset")
    assert same.schedule == ksd.schedules.NormalSchedule()
    assert same.diffusion_loss.weighting == ksd.losses.FlowWeighting()
    assert same.prediction_type == "x"
