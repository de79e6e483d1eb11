import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance

import keras_simple_diffusion as ksd
from keras_simple_diffusion.metrics.frechet import FrechetReference
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend

metrics = ksd.metrics


def statistics_of(features, batch=1000):
    result = metrics.FeatureStatistics(features.shape[1])
    for start in range(0, len(features), batch):
        result.add(features[start : start + batch])
    return result


def sets(count=400, size=24, seed=0):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(size, size)) / size**0.5
    a = rng.normal(size=(count, size)) @ mix + 3.0
    b = rng.normal(size=(count, size)) * 1.3 + 3.2
    return a.astype("float32"), b.astype("float32")


@pytest.mark.parametrize("batch", [1, 7, 400])
def test_statistics_do_not_depend_on_the_batches(batch):
    a, _ = sets()
    result = statistics_of(a + 1000.0, batch)
    exact = (a + 1000.0).astype("float64")
    assert result.count == 400
    np.testing.assert_allclose(result.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        result.covariance, np.cov(exact, rowvar=False), atol=1e-9
    )


def test_statistics_of_images_in_an_iterable():
    images = np.random.default_rng(0).integers(0, 255, (9, 2, 2, 3), "uint8")

    def features(batch):
        return batch.reshape(len(batch), -1).astype("float32")

    a = metrics.feature_statistics(images, features)
    b = metrics.feature_statistics([images[:4], images[4:]], features)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-12)
    with pytest.raises(InputError, match="no images"):
        metrics.feature_statistics([], features)


def test_statistics_are_stored(tmp_path):
    a = statistics_of(sets()[0])
    a.save(tmp_path / "a.npz")
    b = metrics.FeatureStatistics.load(tmp_path / "a.npz")
    assert b.count == 400
    np.testing.assert_array_equal(a.covariance, b.covariance)


@pytest.mark.filterwarnings("ignore:A Fréchet distance of")
@pytest.mark.parametrize("count", [15, 400])  # 15 is less than 24 features.
def test_frechet_distance_equals_scipys_root(count):
    a, b = sets(count)
    distance = metrics.frechet_distance(statistics_of(a), statistics_of(b))
    covariances = [np.cov(x.astype("float64"), rowvar=False) for x in (a, b)]
    values = scipy.linalg.eigvals(covariances[0] @ covariances[1])
    shift = a.mean(0, "float64") - b.mean(0, "float64")
    overlap = np.sqrt(np.maximum(values.real, 0.0)).sum()
    if count == 400:
        overlap = np.trace(scipy.linalg.sqrtm(covariances[0] @ covariances[1]))
    expected = shift @ shift + sum(map(np.trace, covariances)) - 2 * overlap
    assert distance == pytest.approx(np.real(expected), rel=1e-6)
    target = FrechetReference(statistics_of(b))
    once = np.ones(len(a), "int64")
    assert target.distance_of_chosen(a, once) == pytest.approx(
        distance, rel=1e-6
    )


@pytest.mark.filterwarnings("ignore:A Fréchet distance of")
@pytest.mark.parametrize("count", [15, 400])
def test_identical_sets_have_no_distance(count):
    a = statistics_of(sets(count)[0] * 10.0)
    assert metrics.frechet_distance(a, a) < 1e-6


def test_frechet_distance_of_known_gaussians():
    def gaussian(mean, deviations):
        result = metrics.FeatureStatistics(len(mean))
        result.count, result.mean = 20_000, np.array(mean)
        result._scatter = np.diag(np.square(deviations)) * 19_999
        return result

    a = gaussian([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    b = gaussian([1.0, 0.0, 3.0], [2.0, 2.0, 0.0])
    # |shift|^2 and the squared differences of the deviations.
    assert metrics.frechet_distance(a, b) == pytest.approx(4.0 + 1.0 + 9.0)


def test_few_images_are_warned_of():
    a = statistics_of(sets()[0])
    with pytest.warns(UserWarning, match="400 images"):
        metrics.frechet_distance(a, a)
    with pytest.raises(InputError, match="same features"):
        metrics.frechet_distance(a, statistics_of(sets(size=3)[0]))
    with pytest.raises(InputError, match="3 and 24 features"):
        FrechetReference(a).distance(statistics_of(sets(size=3)[0]))


def test_extrapolation_takes_the_bias_away():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 32))
    reference = metrics.FeatureStatistics(32)
    reference.count = 10**6
    reference._scatter = np.eye(32) * (10**6 - 1)
    with pytest.warns(UserWarning):
        biased = metrics.frechet_distance(statistics_of(features), reference)
    exact = metrics.extrapolated_frechet_distance(features, reference)
    assert biased > 0.1  # The true distance is 0.
    assert abs(exact) < 0.2 * biased


class Batches:
    """Features that are never all in memory."""

    def __init__(self, features):
        self.features = features

    def __len__(self):
        return len(self.features)

    def __iter__(self):
        yield from np.array_split(self.features, 7)


def test_batches_give_what_the_array_gives():
    a, b = sets()
    target = FrechetReference(statistics_of(b))
    for function in (
        metrics.extrapolated_frechet_distance,
        metrics.bootstrap_frechet_distance,
    ):
        value = function(a, target)
        assert function(Batches(a), target) == pytest.approx(value, rel=1e-9)


def test_bootstrap_is_the_spread_of_new_samples():
    rng = np.random.default_rng(0)
    reference = metrics.FeatureStatistics(4)
    reference.add(rng.normal(size=(5000, 4)))
    target = FrechetReference(reference)

    def sample():
        return rng.normal(size=(500, 4)) + 1.0

    once = np.ones(500, "int64")
    values = [target.distance_of_chosen(sample(), once) for _ in range(400)]
    error = metrics.bootstrap_frechet_distance(sample(), target, 200)
    assert error == pytest.approx(np.std(values), rel=0.25)


def test_kernel_distance_equals_its_definition():
    a, b = (x[:40] for x in sets())

    def k(x, y):
        return (np.dot(x.astype("float64"), y) / 24 + 1) ** 3

    pairs = [(i, j) for i in range(40) for j in range(40)]
    same = sum(k(a[i], a[j]) + k(b[i], b[j]) for i, j in pairs if i != j)
    other = sum(k(a[i], b[j]) for i, j in pairs)
    expected = same / (40 * 39) - 2 * other / 40**2
    value, deviation = metrics.kernel_distance(a, b)
    assert value == pytest.approx(expected, rel=1e-9)
    assert deviation < 1e-12  # All subsets are the whole.


def test_kernel_distance_is_unbiased():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 2000, 16))
    value, deviation = metrics.kernel_distance(x, y, 50, 200)
    assert abs(value) < 0.5 * deviation
    # What as many new images would spread by.
    subsets = [
        metrics.kernel_distance(*rng.normal(size=(2, 200, 16)), 2, 200)[0]
        for _ in range(100)
    ]
    assert deviation == pytest.approx(np.std(subsets), rel=0.35)
    value, deviation = metrics.kernel_distance(x + 1.0, y, 50, 200)
    assert value > 10 * deviation


def brute_force(a, b, k):
    """Distances, and the radius of each point of the second set."""
    within = scipy.spatial.distance.cdist(b, b)
    return scipy.spatial.distance.cdist(a, b), np.sort(within, 1)[:, k]


def test_precision_and_recall_equal_brute_force():
    a, b = sets(300, size=3)
    b = b[:200] + 1.5
    distances, radii = brute_force(a, b, 3)
    precision = np.mean((distances <= radii).any(1))
    distances, radii = brute_force(b, a, 3)
    recall = np.mean((distances <= radii).any(1))
    result = metrics.precision_recall(a, b)
    assert result == pytest.approx((precision, recall))
    assert 0.0 < precision < 1.0 and 0.0 < recall < 1.0


def density_by_loops(fake, real, k):
    """Equations 5 and 6 of Naeem et al., with balls that are open."""
    inside = np.zeros((len(real), len(fake)), bool)
    for i, center in enumerate(real):
        distances = np.sort(np.linalg.norm(real - center, axis=1))
        radius = distances[k]  # The first is the distance to itself.
        inside[i] = np.linalg.norm(fake - center, axis=1) < radius
    return inside.sum() / (k * len(fake)), inside.any(1).mean()


@pytest.mark.parametrize("has_ties", [False, True])
def test_density_and_coverage_equal_loops(has_ties):
    a, b = sets(300, size=3)
    b = b[:200]
    if has_ties:
        a, b = np.round(a), np.round(b)
    expected = density_by_loops(a.astype("float64"), b.astype("float64"), 5)
    assert metrics.density_coverage(a, b) == pytest.approx(expected)
    with pytest.raises(InputError, match="num_neighbors"):
        metrics.density_coverage(a, b[:5])


@pytest.mark.parametrize("count", [7, 40, 1100])
def test_a_set_has_density_and_coverage_of_one_against_itself(count):
    a = np.random.default_rng(0).normal(size=(count, 16)).astype("float32")
    assert metrics.density_coverage(a, a) == (1.0, 1.0)


def test_rows_are_done_some_at_a_time():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(1500, 4)), rng.normal(size=(30, 4))
    distances, numbers = metrics.nearest_distances(a, b)
    expected = scipy.spatial.distance.cdist(a, b)
    np.testing.assert_allclose(distances, expected.min(1), atol=1e-7)
    np.testing.assert_array_equal(numbers, expected.argmin(1))
    assert metrics.precision_recall(a, a) == (1.0, 1.0)
