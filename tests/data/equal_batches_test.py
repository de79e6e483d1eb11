"""The same images in every format give the same batches."""

import io
import json
import tarfile

import numpy as np
import pytest

import keras_simple_diffusion as ksd

pytestmark = pytest.mark.any_backend

COUNT = 6  # An epoch is one and a half batches.
CLASSES = ["cat", "dog"]
KEYS = ("images", "labels", "captions")


def members(encode, image):
    """Files of samples as WebDataset names them, with class and caption."""
    for i in range(COUNT):
        yield f"{i:03}.png", encode(image(i))
        yield f"{i:03}.cls", CLASSES[i % 2].encode()
        yield f"{i:03}.txt", f"caption {i}".encode()


def as_folder(root, encode, image):
    (root / "folder").mkdir()
    for name, content in members(encode, image):
        (root / "folder" / name).write_bytes(content)
    return root / "folder"


def as_tar(root, encode, image):
    with tarfile.open(root / "photos.tar", "w") as tar:
        for name, content in members(encode, image):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return root / "photos.tar"


def as_parquet(root, encode, image):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    numbers = range(COUNT)
    table = pyarrow.table(
        {
            "image": [{"bytes": encode(image(i))} for i in numbers],
            "label": [i % 2 for i in numbers],
            "caption": [f"caption {i}" for i in numbers],
        }
    )
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": CLASSES},
    }
    noted = json.dumps({"info": {"features": features}})
    table = table.replace_schema_metadata({"huggingface": noted})
    parquet.write_table(table, root / "photos.parquet", row_group_size=4)
    return root / "photos.parquet"


def as_tfds(root, encode, image):
    tfds = pytest.importorskip("tensorflow_datasets")
    examples = [
        (
            i,
            {
                "image": image(i),
                "label": i % 2,
                "caption": f"caption {i}",
            },
        )
        for i in range(COUNT)
    ]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="photos",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=CLASSES),
                "caption": tfds.features.Text(),
            }
        ),
        split_datasets={"train": examples},
        data_dir=root / "tfds",
        file_format="array_record",
        disable_shuffling=True,
    )
    return "tfds:photos"


FORMATS = [as_tar, as_parquet, as_tfds]


@pytest.fixture
def places(tmp_path, encode, image, monkeypatch):
    """A function that writes the images in a format, and returns the place."""

    def write(write_format):
        if write_format is as_tfds:
            tfds = pytest.importorskip("tensorflow_datasets")
            folder = str(tmp_path / "tfds")
            monkeypatch.setattr(tfds.core.constants, "DATA_DIR", folder)
        return write_format(tmp_path, encode, image)

    return write


def take(count, place, **options):
    source = ksd.data.open_data(place, 8, crop="random")
    batches = ksd.data.training_batches(
        source, 4, flip=True, keys=KEYS, **options
    )
    iterator = iter(batches)
    return [next(iterator) for _ in range(count)]


def check_equal(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert sorted(batch) == sorted(KEYS) == sorted(other)
        for key in KEYS:
            np.testing.assert_array_equal(batch[key], other[key])


@pytest.mark.parametrize("write_format", FORMATS)
def test_equal_batches_from_any_step(write_format, places):
    expected = take(5, places(as_folder))
    assert len({batch["images"].tobytes() for batch in expected}) == 5
    place = places(write_format)
    for start in range(4):
        found = take(5 - start, place, start_step=start)
        check_equal(found, expected[start:])


@pytest.mark.large
@pytest.mark.parametrize("write_format", [as_folder, *FORMATS])
def test_another_number_of_workers(write_format, places):
    place = places(write_format)
    expected = take(4, place)
    check_equal(take(3, place, num_workers=2, start_step=1), expected[1:])
