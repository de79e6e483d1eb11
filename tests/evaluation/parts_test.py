import hashlib

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion import evaluation
from keras_simple_diffusion.evaluation.shards import image_digests
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import seal


class Colours:
    """Features that are cheap: the pixels of a small image."""

    name = "colours"

    def __init__(self):
        self.count = 0

    def __call__(self, images):
        self.count += len(images)
        return images.reshape(len(images), -1).astype("float32") / 255


METRICS = [
    name
    for name, network in evaluation.METRICS.items()
    if network == "inception"
]


def make_images(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 2, 2, 3), "uint8")


@pytest.mark.any_backend
def test_shards_go_on_where_they_stopped(tmp_path):
    images, features = make_images(50), Colours()

    def broken(numbers):
        if numbers[0] >= 24:
            raise KeyboardInterrupt
        return images[numbers]

    shards = evaluation.FeatureShards(tmp_path / "colours", 50, 8)
    with pytest.raises(KeyboardInterrupt):
        evaluation.fill_shards(broken, [(shards, features)])
    assert features.count == 24
    # What is new is computed of all images, the rest is not done again.
    digests = evaluation.FeatureShards(tmp_path / "sha256", 50, 8)
    outputs = [(shards, features), (digests, image_digests)]
    evaluation.fill_shards(lambda numbers: images[numbers], outputs)
    assert features.count == 50
    np.testing.assert_array_equal(
        np.concatenate(list(shards)), Colours()(images)
    )
    expected = hashlib.sha256(images[9].tobytes()).hexdigest()
    assert np.concatenate(list(digests))[9].tobytes().hex() == expected
    assert shards.statistics().count == 50
    taken = shards.take(20)
    assert taken.shape == (20, 12)
    assert len(np.unique(taken, axis=0)) == 20
    np.testing.assert_array_equal(taken, shards.take(20))
    for count in (3, 8, 20, 60):
        numbers, found = shards.spread(count)
        np.testing.assert_array_equal(found, Colours()(images)[numbers])
        gaps = np.diff([*numbers, 50])
        assert numbers[0] == 0 and gaps.max() - gaps.min() <= 1


@pytest.mark.any_backend
def test_files_that_are_not_features_are_missing(tmp_path):
    shards = evaluation.FeatureShards(tmp_path, 10, 8, "key")
    path = shards.path(8)
    path.parent.mkdir(exist_ok=True)
    kinds = {
        "rows": np.zeros((3, 2)),
        "one number": np.float32(1.0),
        "objects": np.array([{}, {}], object),
    }
    for kind, array in kinds.items():
        np.save(path, array, allow_pickle=True)
        seal(path, "key 8")
        assert shards.load(8) is None, kind
    for content in (b"", b"no array", bytes(100)):
        path.write_bytes(content)
        assert shards.load(8) is None
        seal(path, "key 8")
        assert shards.load(8) is None
    path.unlink()
    path.mkdir()
    assert shards.load(8) is None
    path.rmdir()
    shards.save(8, np.ones((2, 3)))
    assert shards.load(8).shape == (2, 3)
    with pytest.raises(InputError, match="00000000.npy' is missing or damaged"):
        shards.statistics()


@pytest.mark.any_backend
def test_reference_is_computed_once(tmp_path):
    source = ksd.data.ArraySource(make_images(20))
    features = Colours()
    shards, statistics = evaluation.reference_features(
        source, features, tmp_path
    )
    again = evaluation.reference_features(source, features, tmp_path)
    assert features.count == 20
    np.testing.assert_array_equal(again[1].mean, statistics.mean)
    assert len(shards) == 20
    # Damaged statistics are computed from the features again.
    (path,) = tmp_path.rglob("statistics.npz")
    for content in (b"", path.read_bytes()[:-9], bytes(5000)):
        path.write_bytes(content)
        again = evaluation.reference_features(source, features, tmp_path)
        np.testing.assert_array_equal(again[1].mean, statistics.mean)
    assert features.count == 20
    # Other data, or another network, are another reference.
    other = ksd.data.ArraySource(make_images(20, seed=1))
    evaluation.reference_features(other, features, tmp_path)
    features.name = "others"
    evaluation.reference_features(source, features, tmp_path)
    assert features.count == 60


@pytest.mark.any_backend
@pytest.mark.filterwarnings("ignore:A Fréchet distance of")
def test_scores_equal_the_metrics(tmp_path):
    fake, real = make_images(64, 1), make_images(80, 2)
    source = ksd.data.ArraySource(real)
    reference = evaluation.reference_features(source, Colours(), tmp_path)
    shards = evaluation.FeatureShards(tmp_path / "fake", 64, 16)
    evaluation.fill_shards(lambda numbers: fake[numbers], [(shards, Colours())])
    scores = evaluation.compare_features(shards, *reference, METRICS)
    x, y = Colours()(fake), Colours()(real)
    statistics = ksd.metrics.feature_statistics(fake, Colours())
    fid = ksd.metrics.frechet_distance(statistics, reference[1])
    assert scores["fid"] == pytest.approx(fid, rel=1e-9)
    low, high = scores["fid_interval_95"]
    assert low < scores["fid"] < high
    assert scores["fid_infinity"] < scores["fid"]
    recall = ksd.metrics.precision_recall(x, y)
    assert (scores["precision"], scores["recall"]) == recall


@pytest.mark.any_backend
def test_a_replaced_image_is_noticed(tmp_path):
    image = Image.fromarray(make_images(1)[0])
    image.save(tmp_path / "0.bmp")
    digest = ksd.data.open_data(tmp_path, 2).content_digest()
    Image.fromarray(make_images(1, seed=1)[0]).save(tmp_path / "0.bmp")
    again = ksd.data.open_data(tmp_path, 2)
    assert again.content_digest() != digest


@pytest.mark.any_backend
def test_scores_that_need_no_real_images(tmp_path):
    votes = np.eye(4)[np.arange(40) % 4]
    shards = evaluation.FeatureShards(tmp_path, 40, 16)
    evaluation.fill_shards(lambda numbers: votes[numbers], [(shards, np.copy)])
    labels = list(np.arange(40) % 4)
    labels[:10] = [3] * 10  # Two of them are read so.
    scores = evaluation.score_alone(
        {"classifier": shards}, {}, labels, None, ["class_accuracy"]
    )
    assert scores == {"class_accuracy": 32 / 40}


@pytest.fixture
def model():
    backbone = ksd.models.UViTBackbone(
        (4, 4, 3), channels=(8, 8), blocks=(1, 1), num_classes=2
    )
    model = ksd.models.DiffusionModel(backbone)
    model.compile()
    return model


def test_quick_distance_keeps_to_its_share(model):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 4, 4, 3), "uint8")
    real = ksd.metrics.feature_statistics(images, Colours())
    follow = evaluation.QuickFrechet(
        real, Colours(), num_images=6, share=1e-6, num_steps=2
    )
    data = {"images": images, "labels": np.arange(8) % 2}
    history = model.fit(data, epochs=3, verbose=0, callbacks=[follow]).history
    assert len(history["quick_fid"]) == 1  # The first, which is always done.
    assert follow.seconds > 0
    # A budget that is never used up: after each epoch, of today's weights.
    follow = evaluation.QuickFrechet(
        real, Colours(), num_images=6, share=1.0, num_steps=2
    )
    follow.began = -1e6
    history = model.fit(data, epochs=2, verbose=0, callbacks=[follow]).history
    assert len(history["quick_fid"]) == 2
    drawn = model.generate(6, [0, 1] * 3, seed=0, num_steps=2)
    with pytest.warns(UserWarning, match="6 images"):
        expected = ksd.metrics.frechet_distance(
            ksd.metrics.feature_statistics(drawn, Colours()), real
        )
    assert history["quick_fid"][-1] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(InputError, match="share=0"):
        evaluation.QuickFrechet(real, Colours(), share=0)


def test_quick_distance_of_a_student(model):
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), "uint8")
    real = ksd.metrics.feature_statistics(images, Colours())
    student = ksd.distillation.ConsistencyDistillation(model, num_steps=2)
    follow = evaluation.QuickFrechet(real, Colours(), num_images=6)
    data = {"images": images, "labels": np.arange(8) % 2}
    history = student.fit(data, verbose=0, callbacks=[follow]).history
    drawn = student.generate(6, [0, 1] * 3, seed=0)
    with pytest.warns(UserWarning, match="6 images"):
        expected = ksd.metrics.frechet_distance(
            ksd.metrics.feature_statistics(drawn, Colours()), real
        )
    assert history["quick_fid"] == [pytest.approx(expected, rel=1e-6)]
