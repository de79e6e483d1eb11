import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError
from tests.reference import gaussian_backbone

SHAPE = (4, 6, 2)
SIZE = 48
# The other two, which are converted by the same code, on one backend only.
KINDS = ["v"]
if keras.config.backend() == "torch":
    KINDS = ["v", "x", "epsilon"]
PLAIN = ksd.schedules.CosineSchedule()
SHIFTED = ksd.schedules.ShiftedCosineSchedule(4, noise_size=2)


def gaussian(num_classes=1, seed=0):
    """Means and a covariance; deviations are from 7 to 25 grey levels."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(-0.1, 0.1, (num_classes, SIZE))
    axes, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    deviations = np.geomspace(0.055, 0.2, SIZE)
    return means, (axes * deviations**2) @ axes.T


def draw(means, covariance, count, seed=1):
    """`uint8` images, and their labels in turn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(means)
    x = means[labels] + rng.multivariate_normal(
        np.zeros(SIZE), covariance, count
    )
    levels = np.round((x + 1.0) * 127.5)
    assert levels.min() > 0 and levels.max() < 255
    return levels.astype("uint8").reshape(-1, *SHAPE), labels


def exact_bits(images, labels, means, covariance):
    """-log2 of the density of the levels, a dimension."""
    variances, axes = np.linalg.eigh(covariance * 127.5**2)
    x = images.reshape(-1, SIZE) - (means[labels] + 1.0) * 127.5
    squares = (x @ axes) ** 2 / variances
    nats = 0.5 * (squares + np.log(2 * np.pi * variances)).mean(1)
    return nats / np.log(2)


def entropy(covariance):
    _, logarithm = np.linalg.slogdet(covariance * 127.5**2)
    return 0.5 * (logarithm / SIZE + np.log(2 * np.pi * np.e)) / np.log(2)


def make_model(means, covariance, schedule, kind="v", num_classes=None):
    backbone = gaussian_backbone.GaussianBackbone(
        SHAPE, means, covariance, kind, num_classes
    )
    return ksd.models.DiffusionModel(
        backbone, schedule=schedule, prediction_type=kind, label_dropout=0.0
    )


@pytest.mark.parametrize("schedule", [PLAIN, SHIFTED])
def test_bound_of_a_known_gaussian_is_its_entropy(schedule):
    means, covariance = gaussian()
    images, labels = draw(means, covariance, 2000)
    model = make_model(means, covariance, schedule)
    bound = ksd.metrics.bits_per_dimension(
        model, images, num_times=64, batch_size=500
    )
    exact = exact_bits(images, labels, means, covariance)
    # The estimate is noisy, by 0.12 an image.
    assert abs(bound.mean - exact.mean()) < 0.01
    assert np.std(bound.bits - exact) < 0.15
    assert abs(bound.mean - entropy(covariance)) < 0.01
    assert bound.standard_error == pytest.approx(
        np.std(bound.bits, ddof=1) / 2000**0.5
    )
    # What is left of the images at the noisy end, in closed form.
    signal = 1 / (1 + np.exp(-float(schedule(1.0))))
    prior = signal * square_of(images) - signal - np.log(1 - signal)
    np.testing.assert_allclose(bound.prior, prior / np.log(4), atol=1e-8)


def square_of(images):
    """Mean square of images and the noise within a level."""
    square = np.square(images / 127.5 - 1.0).mean((1, 2, 3))
    return square + 1 / (12 * 127.5**2)


@pytest.mark.parametrize("kind", KINDS)
def test_bound_of_a_image_is_its_density(kind):
    means, covariance = gaussian(num_classes=3)
    images, labels = draw(means, covariance, 3)
    model = make_model(means, covariance, SHIFTED, kind, num_classes=3)
    exact = exact_bits(images, labels, means, covariance)

    def bits(labels, copies):
        # Many copies of each, as the noise of one is 0.12.
        bound = ksd.metrics.bits_per_dimension(
            model,
            np.repeat(images, copies, 0),
            np.repeat(labels, copies),
            num_times=64,
            batch_size=500,
        )
        return bound.bits.reshape(3, copies).mean(1)

    np.testing.assert_allclose(bits(labels, 1000), exact, atol=0.01)
    other = np.array([1, 2, 0])
    others = exact_bits(images, other, means, covariance)
    assert (others > exact + 0.1).all()
    np.testing.assert_allclose(bits(other, 100), others, atol=0.05)


def test_a_new_network_has_the_bound_of_no_prediction():
    keras.config.set_dtype_policy("mixed_bfloat16")
    images, labels = ksd.data.load_digits(4)
    images, labels = images[:200], labels[:200] % 4  # 3 is the null label.
    backbone = ksd.models.UViTBackbone(
        (4, 4, 1), channels=(8,), blocks=(1,), num_heads=1, num_classes=3
    )
    model = ksd.models.DiffusionModel(backbone, schedule=SHIFTED)
    bound = ksd.metrics.bits_per_dimension(
        model, images, labels, num_times=64, batch_size=200
    )
    # It predicts v = 0, so the error in epsilon is alpha (alpha eps - sigma
    # x). Of alpha^4 the integral is log(1 + exp l) - alpha^2.
    levels = np.array([float(SHIFTED(1.0)), float(SHIFTED(0.0))])
    signal = 1 / (1 + np.exp(-levels))
    (fixed,) = np.diff(np.log1p(np.exp(levels)) - signal)
    (share,) = np.diff(signal)
    expected = 0.5 * (fixed + share * square_of(images)) / np.log(2)
    errors = bound.diffusion - expected
    assert abs(errors.mean()) < 4 * errors.std() / 200**0.5 < 0.2


def small_model():
    means, covariance = gaussian(num_classes=3)
    images, labels = draw(means, covariance, 10)
    model = make_model(means, covariance, PLAIN, num_classes=3)
    return model, images, labels


def test_bits_of_a_image_depend_on_seed_and_number_alone():
    model, images, labels = small_model()

    def bits(count=10, **kwargs):
        return ksd.metrics.bits_per_dimension(
            model, images[:count], labels[:count], num_times=3, **kwargs
        ).bits

    first = bits(seed=5)
    np.testing.assert_allclose(bits(seed=5, batch_size=7), first, atol=1e-5)
    np.testing.assert_allclose(bits(7, seed=5), first[:7], atol=1e-5)
    last = ksd.metrics.bits_per_dimension(
        model, images[7:], labels[7:], 3, seed=5, indices=[7, 8, 9]
    )
    np.testing.assert_allclose(last.bits, first[7:], atol=1e-5)
    count = len(model.programs)
    assert count <= 3  # One for batches of 10, of 7 and of 3.
    assert np.abs(bits(seed=6) - first).min() > 1e-4
    assert len(model.programs) == count


@pytest.mark.skipif(
    keras.config.backend() != "jax", reason="keras.distribution is JAX's"
)
def test_bits_do_not_depend_on_the_number_of_devices():
    def bits():
        model, images, labels = small_model()
        return ksd.metrics.bits_per_dimension(
            model, images, labels, num_times=3, batch_size=4
        ).bits

    alone = bits()
    devices = keras.distribution.list_devices()[:3]
    with keras.distribution.DataParallel(devices=devices).scope():
        together = bits()
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_averaged_weights_are_measured():
    model, images, labels = small_model()
    model.compile(optimizer=keras.optimizers.SGD(0.1), ema_decay=0.5)
    data = {"images": images, "labels": labels}
    model.fit(data, epochs=2, batch_size=10, verbose=0)
    (raw,) = model.get_weights()
    with model.averaged_weights():
        (averaged,) = model.get_weights()
    assert raw != averaged

    def bits():
        return ksd.metrics.bits_per_dimension(
            model, images, labels, num_times=2
        ).bits

    measured = bits()
    assert model.get_weights() == [raw]
    model.compile(ema_decay=None)
    assert np.abs(bits() - measured).max() > 1e-5
    model.set_weights([averaged])
    np.testing.assert_allclose(bits(), measured, atol=1e-6)


def test_wrong_inputs_are_told():
    model, images, labels = small_model()
    measure = ksd.metrics.bits_per_dimension
    with pytest.raises(InputError, match="uint8"):
        measure(model, images / 127.5 - 1.0, labels)
    with pytest.raises(InputError, match=r"\(N, 4, 6, 2\)"):
        measure(model, images[:, :3], labels)
    with pytest.raises(InputError, match="labels"):
        measure(model, images)
    with pytest.raises(InputError, match="one label per image"):
        measure(model, images, labels[:1])
    with pytest.raises(InputError, match="num_times=0"):
        measure(model, images, labels, num_times=0)
