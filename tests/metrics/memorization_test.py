import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.metrics import memorization
from keras_simple_diffusion.metrics.pixels import PixelFeatures

pytestmark = pytest.mark.any_backend

find = ksd.metrics.find_training_neighbors


def points(count, seed, size=3):
    return np.random.default_rng(seed).normal(size=(count, size))


def in_parts(array):
    return [array[:7], array[7:8], array[8:]]


def distance_to(point, views, number):
    return min(np.linalg.norm(point - view[number]) for view in views)


def test_the_definition_pair_by_pair():
    generated, held_out = points(40, 0), points(15, 1)
    views = [points(30, 2), points(30, 3)]
    found, real = find(
        generated, [in_parts(view) for view in views], in_parts(held_out)
    )
    for each, images, is_real in (
        (found, generated, False),
        (real, held_out, True),
    ):
        memorized = []
        for i, image in enumerate(images):
            distances = [distance_to(image, views, j) for j in range(30)]
            nearest = int(np.argmin(distances))
            assert each.numbers[i] == nearest
            assert each.distances[i] == pytest.approx(distances[nearest])
            view = views[each.views[i]][nearest]
            assert np.linalg.norm(image - view) == pytest.approx(
                distances[nearest]
            )
            others = [
                distance_to(other, views, nearest)
                for j, other in enumerate(held_out)
                if not (is_real and j == i)
            ]
            memorized.append(distances[nearest] < min(others))
        np.testing.assert_array_equal(each.ratios < 1, memorized)
        assert each.memorized == np.mean(memorized)
        assert 0 < each.memorized < 1


def test_copies_are_memorized_and_mirrored_ones_too():
    training, held_out = points(30, 0), points(20, 1)
    mirrored = training[:, ::-1]
    copies = np.concatenate([training[:10], mirrored[10:20]])
    found, _ = find(copies + 1e-6, [[training], [mirrored]], [held_out])
    assert found.memorized == 1.0
    np.testing.assert_array_equal(found.numbers, np.arange(20))
    np.testing.assert_array_equal(found.views, [0] * 10 + [1] * 10)
    # Without the mirrored view only the others are found.
    found, _ = find(copies + 1e-6, [[training]], [held_out])
    assert 0.5 <= found.memorized < 1.0


def test_one_training_image_is_memorized_as_often_as_chance_says():
    # One of M + 1 images of the same distribution is the nearest of a training
    # image; the held-out ones are compared with M - 1 others.
    count, rates, real_rates = 4, [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        training, held_out, one = (
            rng.normal(size=(n, 2)) for n in (1, count, 1)
        )
        found, real = find(one, [[training]], [held_out])
        rates.append(found.memorized)
        real_rates.append(real.memorized)
    assert np.mean(real_rates) == pytest.approx(1 / count)  # Exactly one.
    error = np.sqrt(0.2 * 0.8 / 400)
    assert abs(np.mean(rates) - 1 / (count + 1)) < 4 * error


def test_equal_held_out_images_excuse_copies():
    training = points(5, 0)
    found, _ = find(training, [[training]], [training])
    assert found.memorized == 0.0
    found, real = find(training, [[training]])
    assert found.ratios is None and real is None


def test_only_some_held_out_images_are_measured():
    held_out = points(9, 1)
    _, real = find(points(3, 0), [[points(5, 2)]], [held_out], 4)
    _, whole = find(points(3, 0), [[points(5, 2)]], [held_out])
    np.testing.assert_allclose(real.ratios, whole.ratios[[0, 2, 4, 6]])


def test_the_nearest_of_parts_is_that_of_all():
    features, reference = points(9, 0), points(21, 1)
    distances, numbers = memorization.nearest_of_parts(
        features, in_parts(reference)
    )
    squares = np.square(features[:, None] - reference).sum(-1)
    np.testing.assert_array_equal(numbers, squares.argmin(1))
    np.testing.assert_allclose(distances, np.sqrt(squares.min(1)))


def test_pixels_differ_by_grey_levels():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 1, 20, 30, 3), "uint8")
    x, y = PixelFeatures()(a), PixelFeatures()(b)
    difference = a.astype("float64") - b
    expected = np.sqrt(np.square(difference).mean())
    assert np.linalg.norm(x - y) == pytest.approx(expected, rel=1e-5)
    # Larger images are made smaller, of any shape: mirroring commutes.
    large = rng.integers(0, 256, (2, 128, 96, 3), "uint8")
    features = PixelFeatures()(large)
    assert features.shape == (2, 32 * 24 * 3)
    mirrored = PixelFeatures()(large[:, :, ::-1]).reshape(2, 32, 24, 3)
    np.testing.assert_allclose(
        mirrored[:, :, ::-1].reshape(2, -1), features, atol=1e-4
    )
    gray = PixelFeatures()(np.full((2, 64, 64, 1), [[[[9]]]], "uint8"))
    np.testing.assert_allclose(np.linalg.norm(gray, axis=1), 9, rtol=1e-5)
