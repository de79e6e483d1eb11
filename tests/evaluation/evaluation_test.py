import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion import evaluation


class Colours:
    """Features that are cheap: the pixels of a small picture."""

    name = "colours"

    def __init__(self):
        self.count = 0

    def __call__(self, pictures):
        self.count += len(pictures)
        return pictures.reshape(len(pictures), -1).astype("float32") / 255


def pictures(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 2, 2, 3), "uint8")


def test_shards_go_on_where_they_stopped(tmp_path):
    images, features = pictures(50), Colours()

    def broken(numbers):
        if numbers[0] >= 24:
            raise KeyboardInterrupt
        return images[numbers]

    shards = evaluation.FeatureShards(tmp_path, 50, 8)
    with pytest.raises(KeyboardInterrupt):
        shards.fill(broken, features)
    assert features.count == 24
    shards.fill(lambda numbers: images[numbers], features)
    assert features.count == 50
    np.testing.assert_array_equal(
        np.concatenate(list(shards)), Colours()(images)
    )
    assert shards.statistics().count == 50
    taken = shards.take(20)
    assert taken.shape == (20, 12)
    assert len(np.unique(taken, axis=0)) == 20
    np.testing.assert_array_equal(taken, shards.take(20))


def test_reference_is_computed_once(tmp_path):
    source = ksd.data.ArraySource(pictures(20))
    features = Colours()
    shards, statistics = evaluation.reference_features(
        source, features, tmp_path
    )
    again = evaluation.reference_features(source, features, tmp_path)
    assert features.count == 20
    np.testing.assert_array_equal(again[1].mean, statistics.mean)
    assert len(shards) == 20
    # Other data, or another network, are another reference.
    other = ksd.data.ArraySource(pictures(20, seed=1))
    evaluation.reference_features(other, features, tmp_path)
    features.name = "others"
    evaluation.reference_features(source, features, tmp_path)
    assert features.count == 60


@pytest.mark.filterwarnings("ignore:A Fréchet distance of")
def test_scores_equal_the_metrics(tmp_path):
    fake, real = pictures(64, 1), pictures(80, 2)
    source = ksd.data.ArraySource(real)
    reference = evaluation.reference_features(source, Colours(), tmp_path)
    shards = evaluation.FeatureShards(tmp_path / "fake", 64, 16)
    shards.fill(lambda numbers: fake[numbers], Colours())
    scores = evaluation.compute_scores(shards, *reference, evaluation.METRICS)
    x, y = Colours()(fake), Colours()(real)
    statistics = ksd.metrics.feature_statistics(fake, Colours())
    fid = ksd.metrics.frechet_distance(statistics, reference[1])
    assert scores["fid"] == pytest.approx(fid, rel=1e-9)
    low, high = scores["fid_interval_95"]
    assert low < scores["fid"] < high
    assert scores["fid_infinity"] < scores["fid"]
    recall = ksd.metrics.precision_recall(x, y)
    assert (scores["precision"], scores["recall"]) == recall
    nearest, _ = ksd.metrics.nearest_distances(x, y)
    assert scores["nearest_distance_smallest"] == nearest.min()
