import pickle
import shutil

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.splits import MissingSplitError
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def stored(tmp_path_factory, image):
    """A function that prepares a small dataset in a format."""
    root = tmp_path_factory.mktemp("tfds")
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "captions": tfds.features.Sequence(tfds.features.Text()),
        }
    )

    def examples(split):
        labels = [-1, -1, -1] if split == "test" else [0, 1, 1]
        return [
            (
                i,
                {
                    "id": f"no. {i}",
                    "image": image(i, (10, 12 + i, 3)),
                    "label": label,
                    "captions": [f"a {i}", f"the {i}"],
                },
            )
            for i, label in enumerate(labels)
        ]

    def store(name, file_format):
        splits = ("train", "validation", "test")
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=features,
            split_datasets={split: examples(split) for split in splits},
            data_dir=root,
            file_format=file_format,
            disable_shuffling=True,
        )
        return root / name / "1.0.0"

    def store_other(name, features, examples):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict(features),
            split_datasets={"train": examples},
            data_dir=root,
            file_format="array_record",
            disable_shuffling=True,
        )

    images = {"image": tfds.features.Image(shape=(8, 8, 3))}
    store_other(
        "no_images",
        {"text": tfds.features.Text()},
        [(0, {"text": "a"})],
    )
    # A number called text, and a class that only some images have.
    store_other(
        "odd_features",
        {
            **images,
            "text": np.int64,
            "label": tfds.features.ClassLabel(num_classes=2),
        },
        [
            (i, {"image": image(i, (8, 8, 3)), "text": i, "label": 1 - 2 * i})
            for i in range(2)
        ],
    )
    store("tiny_images", "array_record")
    store("old_images", "tfrecord")
    return root


@pytest.fixture
def data_dir(stored, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(stored))
    return stored


def test_a_dataset_on_disk(data_dir, image):
    source = ksd.data.open_data("tfds:tiny_images", (10, 12))
    assert len(source) == 3 and source.image_shape == (10, 12, 3)
    assert source.class_names == ["cat", "dog"]
    example = source[0]
    np.testing.assert_array_equal(example["images"], image(0, (10, 12, 3)))
    assert [source[i]["labels"] for i in range(3)] == [0, 1, 1]
    assert source[2]["captions"] == "a 2"
    seen = [source.example(2, np.random.default_rng(i)) for i in range(20)]
    assert {each["captions"] for each in seen} == {"a 2", "the 2"}
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[1]["images"], source[1]["images"])
    assert copy.fingerprint == source.fingerprint
    keys = ("images", "captions")
    batch = next(iter(ksd.data.training_batches(source, 2, keys=keys)))
    assert batch.keys() == set(keys)


def test_held_out_images_have_labels(data_dir):
    source = ksd.data.open_data("tfds:tiny_images:1.0.0", 8, "test")
    assert source.split == "validation"
    train = ksd.data.open_data("tfds:tiny_images", 8)
    assert train.fingerprint != source.fingerprint
    with pytest.raises(MissingSplitError, match="It has: train, valid"):
        ksd.data.open_data("tfds:tiny_images", 8, "extra")


def test_other_formats_are_converted_once(data_dir, capsys):
    source = ksd.data.open_data("tfds:old_images", 8)
    assert "converting 'tfds:old_images'" in capsys.readouterr().out
    expected = ksd.data.open_data("tfds:tiny_images", 8)
    for i in range(3):
        assert source[i].keys() == expected[i].keys()
        for key in source[i]:
            np.testing.assert_array_equal(source[i][key], expected[i][key])
    assert len(ksd.data.open_data("tfds:old_images", 8, "validation")) == 3
    assert not capsys.readouterr().out
    # What was there is still there.
    builder = tfds.builder("old_images")
    assert builder.info.file_format.value == "tfrecord"
    assert len(list(builder.data_path.glob("*.tfrecord*"))) == 3


def test_mocked_dataset(data_dir):
    with tfds.testing.mock_data(num_examples=5):
        source = ksd.data.open_data("tfds:mnist", 16, num_channels=1)
        assert len(source) == 5 and len(source.class_names) == 10
        assert source[4]["images"].shape == (16, 16, 1)
        assert 0 <= source[4]["labels"] < 10
        batch = next(iter(ksd.data.training_batches(source, 8)))
        assert batch["images"].shape == (8, 16, 16, 1)


def test_features_that_are_missing(data_dir):
    with pytest.raises(InputError, match="has no images. It has: text"):
        ksd.data.open_data("tfds:no_images", 8)
    source = ksd.data.open_data("tfds:odd_features", 8)
    assert source.captions() is None and source.class_names == ["0", "1"]
    assert source[0]["labels"] == 1 and "captions" not in source[0]
    with pytest.raises(InputError, match=r"without a class, such as train\[1"):
        source[1]
    with pytest.raises(MissingSplitError, match="It has: train"):
        ksd.data.open_data("tfds:odd_features", 8, "train[:50%]")


def test_files_that_are_missing(data_dir, tmp_path, monkeypatch):
    shutil.copytree(data_dir / "tiny_images", tmp_path / "tiny_images")
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    for path in tmp_path.rglob("*-train.array_record*"):
        path.unlink()
    with pytest.raises(InputError, match="split 'train' of 'tfds:tiny_images"):
        ksd.data.open_data("tfds:tiny_images", 8)


def test_names_that_do_not_exist(data_dir):
    with pytest.raises(InputError, match="no dataset 'cifar'. Did you .*10"):
        ksd.data.open_data("tfds:cifar", 8)
    with pytest.raises(InputError, match="at version 9.9.9"):
        ksd.data.open_data("tfds:mnist:9.9.9", 8)
