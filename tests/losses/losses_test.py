import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion import InputError
from tests.helpers.checks import run_configurable_test

losses = ksd.losses
LOG_SNR = np.linspace(-20, 20, 81).astype("float32")


def to_numpy(x):
    return ops.convert_to_numpy(x)


def make_batch(size=8, count=6, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(count, size, size, 2)).astype("float32")
    prediction = rng.normal(size=target.shape).astype("float32")
    log_snr = rng.uniform(-6, 6, count).astype("float32")
    return target, prediction, log_snr


def in_space(space, v, z, log_snr):
    alpha = np.sqrt(1 / (1 + np.exp(-log_snr)))[:, None, None, None]
    sigma = np.sqrt(1 / (1 + np.exp(log_snr)))[:, None, None, None]
    if space == "v":
        return v
    return alpha * z - sigma * v if space == "x" else sigma * z + alpha * v


@pytest.mark.parametrize("error_type", ["v", "epsilon", "x"])
@pytest.mark.parametrize("prediction_type", ["v", "epsilon", "x"])
def test_error_is_measured_in_its_space(error_type, prediction_type):
    target, prediction, log_snr = make_batch()
    z = np.random.default_rng(1).normal(size=target.shape)
    loss = losses.DiffusionLoss(error_type)(
        in_space(prediction_type, target, z, log_snr),
        in_space(prediction_type, prediction, z, log_snr),
        log_snr,
        prediction_type,
    )
    error = in_space(error_type, prediction, z, log_snr) - in_space(
        error_type, target, z, log_snr
    )
    np.testing.assert_allclose(
        to_numpy(loss), (error**2).mean((1, 2, 3)), rtol=2e-4
    )


def test_epsilon_error_is_sigmoid_weighted_v_error():
    target, prediction, log_snr = make_batch()
    epsilon = losses.DiffusionLoss("epsilon")(target, prediction, log_snr)
    v = losses.DiffusionLoss("v")(target, prediction, log_snr)
    np.testing.assert_allclose(
        to_numpy(epsilon),
        to_numpy(v) / (1 + np.exp(-log_snr)),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    "weighting",
    [
        losses.SigmoidWeighting(0.0),
        losses.SigmoidWeighting(-3.0),
        losses.MinSNRWeighting(5.0),
    ],
)
def test_weights_of_the_three_spaces_agree(weighting):
    epsilon, v, x = (
        to_numpy(weighting(LOG_SNR, space)).astype("float64")
        for space in ("epsilon", "v", "x")
    )
    assert np.isfinite([epsilon, v, x]).all()
    log_snr = LOG_SNR.astype("float64")
    np.testing.assert_allclose(
        np.log(v),
        np.log(epsilon) - np.log1p(np.exp(-log_snr)),
        rtol=1e-6,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        np.log(x), np.log(epsilon) + log_snr, rtol=1e-6, atol=1e-6
    )


def test_sigmoid_weighting_closed_forms():
    bias = -1.5
    log_snr = LOG_SNR.astype("float64")
    weighting = losses.SigmoidWeighting(bias)
    np.testing.assert_allclose(
        to_numpy(weighting(LOG_SNR)),
        1 / (1 + np.exp(log_snr - bias)),
        rtol=3e-6,
    )
    # e^log_snr sigmoid(b - log_snr) = e^b sigmoid(log_snr - b).
    np.testing.assert_allclose(
        to_numpy(weighting(LOG_SNR, "x")),
        np.exp(bias) / (1 + np.exp(bias - log_snr)),
        rtol=3e-6,
    )


def test_min_snr_weighting_closed_form():
    snr = np.exp(LOG_SNR.astype("float64"))
    np.testing.assert_allclose(
        to_numpy(losses.MinSNRWeighting(5.0)(LOG_SNR, "x")),
        np.minimum(snr, 5.0),
        rtol=3e-6,
    )


def test_a_density_is_multiplied_by_the_derivative():
    target, prediction, log_snr = make_batch()
    schedule = ksd.schedules.CosineSchedule()
    derivative = to_numpy(schedule.derivative(schedule.time(log_snr)))
    values = {
        space: to_numpy(
            losses.DiffusionLoss(space, losses.SigmoidWeighting(-1.0))(
                target, prediction, log_snr, log_snr_derivative=derivative
            )
        )
        for space in ("epsilon", "v", "x")
    }
    plain = to_numpy(losses.DiffusionLoss()(target, prediction, log_snr))
    expected = -0.5 * derivative / (1 + np.exp(log_snr + 1.0)) * plain
    for value in values.values():
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="log_snr_derivative=None"):
        losses.DiffusionLoss(weighting=losses.SigmoidWeighting())(
            target, prediction, log_snr
        )


def multiscale_reference(error, base_size):
    """Section 3.2, with sums over blocks written out, in float64."""
    error = error.astype("float64")
    count, height, width, channels = error.shape
    size = min(height, width)
    total = np.zeros(count)
    while True:
        factor = min(height, width) // size
        pooled = np.zeros((count, height // factor, width // factor, channels))
        for i in range(factor):
            for j in range(factor):
                pooled += error[:, i::factor, j::factor] / factor**2
        total += (pooled**2).mean((1, 2, 3)) / size
        if size % 2 or size // 2 < base_size:
            return total
        size //= 2


@pytest.mark.parametrize(
    "shape, base_size, num_sizes",
    [
        ((3, 128, 128, 3), 32, 3),
        ((2, 96, 160, 3), 24, 3),
        ((2, 64, 32, 1), 8, 3),
        ((2, 32, 32, 3), 32, 1),
        ((2, 16, 16, 3), 32, 1),
    ],
)
def test_multiscale_mse(shape, base_size, num_sizes):
    error = np.random.default_rng(0).normal(size=shape).astype("float32")
    value = to_numpy(losses.multiscale_mse(error, base_size))
    assert value.shape == shape[:1]
    np.testing.assert_allclose(
        value, multiscale_reference(error, base_size), rtol=1e-6
    )
    ones = to_numpy(losses.multiscale_mse(np.ones(shape, "float32"), base_size))
    size = min(shape[1:3])
    expected = sum(2.0**i / size for i in range(num_sizes))
    np.testing.assert_allclose(ones, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "prediction_type, error_type", [("v", "epsilon"), ("x", "v")]
)
def test_multiscale_error_is_measured_in_its_space(prediction_type, error_type):
    target, prediction, log_snr = make_batch()
    z = np.random.default_rng(1).normal(size=target.shape)
    loss = losses.DiffusionLoss(error_type, base_size=2)(
        in_space(prediction_type, target, z, log_snr),
        in_space(prediction_type, prediction, z, log_snr),
        log_snr,
        prediction_type,
    )
    error = in_space(error_type, prediction - target, 0.0 * z, log_snr)
    np.testing.assert_allclose(
        to_numpy(loss), multiscale_reference(error, 2), rtol=2e-4
    )


def test_multiscale_loss_has_the_posterior_mean_as_minimiser():
    # Two images that a noisy one may come from, with probabilities 0.3 and
    # 0.7: for every error space the best answer is their mean.
    rng = np.random.default_rng(0)
    choices = rng.normal(size=(2, 16, 16, 1)).astype("float32")
    probabilities = np.array([0.3, 0.7])
    mean = np.tensordot(probabilities, choices, 1)[None].astype("float32")

    def risk(answer):
        answers = np.concatenate([answer, answer])
        values = losses.multiscale_mse(answers - choices, base_size=4)
        return to_numpy(values).astype("float64") @ probabilities

    best = risk(mean)
    for scale in (0.02, 0.1):
        for _ in range(10):
            change = scale * rng.normal(size=mean.shape).astype("float32")
            assert risk(mean + change) > best
            # Quadratic around the minimum: both directions cost the same.
            np.testing.assert_allclose(
                risk(mean + change), risk(mean - change), rtol=1e-4
            )


@pytest.mark.parametrize(
    "loss",
    [
        losses.DiffusionLoss("x", losses.MinSNRWeighting(2.0), 32),
        losses.DiffusionLoss("v"),
        losses.DiffusionLoss(weighting=losses.SigmoidWeighting(-3.0)),
        losses.DiffusionLoss(weighting=losses.FlowWeighting(0.1, 2.0)),
        losses.DiffusionLoss("flow"),
    ],
    ids=repr,
)
def test_configuration(loss):
    run_configurable_test(loss, losses.DiffusionLoss("x", base_size=7))
    if loss.weighting is not None:
        run_configurable_test(loss.weighting, losses.SigmoidWeighting(0.5))


def test_losses_by_name():
    assert losses.get(None) is None
    for space in ("epsilon", "v", "x", "flow"):
        assert losses.get(space) == losses.DiffusionLoss(space)
    assert losses.get("epsilon:base_size=32") == (
        losses.DiffusionLoss("epsilon", base_size=32)
    )
    loss = losses.DiffusionLoss("x", losses.MinSNRWeighting(2.0))
    assert losses.get(keras.saving.serialize_keras_object(loss)) == loss


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: losses.DiffusionLoss("noise"), "error_type='noise'"),
        (lambda: losses.DiffusionLoss(["v"]), r"error_type=\['v'\]"),
        (lambda: losses.DiffusionLoss(base_size=0), "base_size=0"),
        (lambda: losses.DiffusionLoss(base_size=8.5), "base_size=8.5"),
        (lambda: losses.DiffusionLoss("v", "sigmoid"), "weighting='sigmoid'"),
        (lambda: losses.MinSNRWeighting(0.0), "gamma=0.0"),
        (lambda: losses.FlowWeighting(0.0), "min_time=0.0"),
        (lambda: losses.FlowWeighting(noise_scale=-1), "noise_scale=-1"),
        (lambda: losses.SigmoidWeighting("0"), "bias='0'"),
        (lambda: losses.get("mse"), 'one of "x", "epsilon", "v", "flow"'),
        (lambda: losses.get("v:base=8"), "error_type='v'|base_size=None"),
        (lambda: losses.get(losses.MinSNRWeighting()), "a DiffusionLoss"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InputError, match=message):
        make()


class LinearSchedule(ksd.schedules.NoiseSchedule):
    """Log-SNR from 20 to -20, all levels alike."""

    def __call__(self, t):
        return 20.0 - 40.0 * ops.convert_to_tensor(t, dtype="float32")

    def derivative(self, t):
        return -40.0 * ops.ones_like(ops.convert_to_tensor(t, dtype="float32"))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    "loss",
    [
        losses.DiffusionLoss("epsilon"),
        losses.DiffusionLoss("v", base_size=4),
        losses.DiffusionLoss("x", losses.SigmoidWeighting(-1.0), 4),
        losses.DiffusionLoss("epsilon", losses.MinSNRWeighting()),
        losses.DiffusionLoss("x", losses.FlowWeighting()),
    ],
)
def test_nothing_overflows_in_half_precision(loss, policy):
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), (16,), (1,), embedding_dim=16, dtype=policy
    )
    model = ksd.models.DiffusionModel(backbone, LinearSchedule(), loss)
    before = [to_numpy(w).copy() for w in backbone.weights]
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3))
    history = model.fit(
        images.astype("uint8"), batch_size=16, epochs=1, verbose=0
    )
    assert np.isfinite(history.history["loss"]).all()
    after = [to_numpy(w) for w in backbone.weights]
    assert all(np.isfinite(value).all() for value in after)
    # No step was skipped by the loss scaling.
    assert int(model.optimizer.iterations) == 4
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    # Log-SNRs to the ends, one by one.
    rng = np.random.default_rng(0)
    target, prediction = rng.normal(size=(2, 81, 8, 8, 3)).astype("float32")
    values = loss(
        target,
        ops.cast(prediction, policy[6:]),
        LOG_SNR,
        log_snr_derivative=np.full(81, -40.0, "float32"),
    )
    assert np.isfinite(to_numpy(values)).all()
