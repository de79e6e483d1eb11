import io
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.decoding import Decoder


def decode(content, image_size, num_channels):
    return Decoder(image_size, num_channels)(content)["images"]


def encode(array, suffix="png", **kwargs):
    file = io.BytesIO()
    Image.fromarray(array).save(file, format=suffix, **kwargs)
    return file.getvalue()


def picture(seed, shape=(20, 30, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, "uint8")


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 3), ("test", 1)):
        for name in ("dog", "cat"):
            place = tmp_path / "pets" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                (place / f"{i}.png").write_bytes(encode(picture(i)))
    (tmp_path / "pets" / "README.md").write_text("not a picture")
    (tmp_path / "pets" / "train" / ".hidden.png").write_text("neither")
    return tmp_path / "pets"


def test_digits():
    images, labels = ksd.data.load_digits(image_size=16)
    assert images.shape == (1797, 16, 16, 1) and images.dtype == "uint8"
    assert labels.shape == (1797,) and labels.dtype == "int32"
    assert images.min() == 0 and images.max() == 255
    np.testing.assert_array_equal(np.unique(labels), np.arange(10))
    assert ksd.data.load_digits((8, 12))[0].shape == (1797, 8, 12, 1)
    train, train_labels = ksd.data.load_digits(16, "train")
    test, test_labels = ksd.data.load_digits(16, "test")
    assert len(train) == 1437 and len(test) == 360
    assert np.bincount(test_labels).min() >= 34
    everything = {image.tobytes() for image in images}
    both = {image.tobytes() for image in np.concatenate([train, test])}
    assert both == everything
    with pytest.raises(ValueError, match="split='dev'"):
        ksd.data.load_digits(16, "dev")


def test_digits_are_the_originals_enlarged():
    images, _ = ksd.data.load_digits(image_size=8)
    from sklearn.datasets import load_digits

    np.testing.assert_allclose(
        images[..., 0], load_digits().images * 255 / 16, atol=0.5
    )


def test_folder_with_splits_and_classes(folder):
    pictures = ksd.data.load_pictures(folder, 8)
    assert pictures.images.shape == (6, 8, 8, 3)
    assert pictures.class_names == ["cat", "dog"]
    np.testing.assert_array_equal(pictures.labels, [0, 0, 0, 1, 1, 1])
    assert len(ksd.data.load_pictures(folder, 8, "test").images) == 2
    one_class = ksd.data.load_pictures(
        folder / "train" / "dog", (4, 6), num_channels=1
    )
    assert one_class.images.shape == (3, 4, 6, 1)
    assert one_class.labels is None and one_class.class_names is None
    with pytest.raises(ValueError, match="no split 'val'. It has: test, train"):
        ksd.data.load_pictures(folder, 8, "val")


def test_zip_is_read_like_a_folder(folder, tmp_path):
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w") as file:
        for each in folder.rglob("*.*"):
            file.write(each, each.relative_to(folder))
    a, b = ksd.data.load_pictures(path, 8), ksd.data.load_pictures(folder, 8)
    np.testing.assert_array_equal(a.images, b.images)
    assert a.class_names == b.class_names


def test_real_zip(shared_data):
    pictures = ksd.data.load_pictures(
        shared_data / "imagenette_64.zip", 16, "val"
    )
    assert pictures.images.shape == (3925, 16, 16, 3)
    assert len(pictures.class_names) == 10


def test_unreadable_pictures_are_named(folder):
    broken = folder / "train" / "cat" / "broken.jpg"
    broken.write_bytes(b"no picture")
    cut = folder / "train" / "cat" / "cut.png"
    cut.write_bytes(encode(picture(9))[:200])
    with pytest.warns(UserWarning, match="2 of 8 .*broken.jpg, train/cat/cut"):
        pictures = ksd.data.load_pictures(folder, 8)
    assert len(pictures.images) == 6
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="None of the 8 pictures"):
        ksd.data.load_pictures(folder, 8)


def test_bad_folders(tmp_path, folder):
    with pytest.raises(ValueError, match="no folder or zip file"):
        ksd.data.load_pictures(tmp_path / "nowhere", 8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        ksd.data.load_pictures(tmp_path / "empty", 8)
    for arguments in (("image_size", 0), ("num_channels", 4)):
        options = {"image_size": 8, **dict([arguments])}
        with pytest.raises(ValueError, match="=".join(map(str, arguments))):
            ksd.data.load_pictures(folder, **options)
    (tmp_path / "wrong.zip").write_text("text")
    with pytest.raises(ValueError, match="not a readable zip"):
        ksd.data.load_pictures(tmp_path / "wrong.zip", 8)
    (folder / "train" / "stray.png").write_bytes(encode(picture(0)))
    with pytest.raises(ValueError, match="both inside and outside"):
        ksd.data.load_pictures(folder, 8)


def test_decode_crops_the_centre_and_averages():
    halves = np.zeros((40, 80, 3), "uint8")
    halves[:, :20] = 255  # Outside of the central square.
    np.testing.assert_array_equal(decode(encode(halves), 8, 3), 0)
    checkers = np.indices((64, 64)).sum(0) % 2 * 255
    grey = decode(encode(checkers.astype("uint8")), 16, 1)
    assert abs(grey.astype(int) - 127).max() <= 1


def test_decode_modes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deep = np.full((8, 8), 32896, "uint16")
        np.testing.assert_array_equal(decode(encode(deep), 8, 1), 128)
        clear = np.zeros((8, 8, 4), "uint8")
        np.testing.assert_array_equal(decode(encode(clear), 8, 3), 255)
        grey = np.full((8, 8), 77, "uint8")
        np.testing.assert_array_equal(decode(encode(grey), 8, 3), 77)
        palette = Image.fromarray(picture(0)).convert("P")
        file = io.BytesIO()
        palette.save(file, format="png")
        assert decode(file.getvalue(), 8, 3).shape == (8, 8, 3)


def test_decode_turns_upright():
    upright = picture(3, (8, 8, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # Rotated by 90 degrees.
    turned = encode(np.rot90(upright).copy(), exif=exif)
    np.testing.assert_array_equal(decode(turned, 8, 3), upright)


def test_training_batches():
    images = np.arange(10, dtype="uint8").reshape(10, 1, 1, 1)
    images = np.broadcast_to(images, (10, 4, 4, 1)).copy()
    images[:, :, 0] += 100  # Left and right differ.
    source = ksd.data.ArraySource(images, np.arange(10))

    def take(count, **kwargs):
        batches = iter(ksd.data.training_batches(source, 4, **kwargs))
        return [next(batches) for _ in range(count)]

    batches = take(5)
    assert batches[0]["images"].shape == (4, 4, 4, 1)
    assert batches[0]["images"].dtype == "uint8"
    labels = np.concatenate([batch["labels"] for batch in batches])
    # Two epochs, each a permutation, and not the same one.
    for epoch in (labels[:10], labels[10:]):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(10))
    assert not np.array_equal(labels[:10], labels[10:])
    again = np.concatenate([batch["labels"] for batch in take(5)])
    np.testing.assert_array_equal(again, labels)
    other = np.concatenate([batch["labels"] for batch in take(5, seed=1)])
    assert not np.array_equal(other, labels)
    for batch in batches:
        np.testing.assert_array_equal(
            batch["images"][:, 0, 1, 0], batch["labels"]
        )
        assert (batch["images"][:, :, 0] >= 100).all()
    flipped = np.concatenate([batch["images"] for batch in take(50, flip=True)])
    share = (flipped[:, 0, -1, 0] >= 100).mean()
    assert 0.35 < share < 0.65


def test_pictures_without_classes_give_no_labels():
    images = np.zeros((4, 2, 2, 1), "uint8")
    source = ksd.data.ArraySource(images)
    batch = next(iter(ksd.data.training_batches(source, 2)))
    assert set(batch) == {"images"}


def write_pictures(root, *names):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(i)))


def test_the_outermost_folder_is_the_class(tmp_path):
    write_pictures(tmp_path, "dog/2020/1.png", "cat/2020/1.png", "cat/2.png")
    pictures = ksd.data.load_pictures(tmp_path, 8)
    assert pictures.class_names == ["cat", "dog"]
    np.testing.assert_array_equal(pictures.labels, [0, 0, 1])


def test_a_folder_around_everything_counts_for_nothing(tmp_path):
    write_pictures(
        tmp_path,
        "pets/train/cat/1.png",
        "pets/train/dog/1.png",
        "pets/test/cat/2.png",
        "flat/photos/1.png",
    )
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w") as file:
        for each in (tmp_path / "pets").rglob("*.png"):
            file.write(each, each.relative_to(tmp_path))
    assert len(ksd.data.load_pictures(path, 8).images) == 2
    assert ksd.data.load_pictures(tmp_path / "flat", 8).class_names is None


def test_a_class_has_the_same_number_in_every_split(tmp_path):
    write_pictures(
        tmp_path,
        "training/ant/1.png",
        "training/cat/1.png",
        "training/dog/1.png",
        "val/cat/2.png",
        "val/dog/2.png",
    )
    train = ksd.data.load_pictures(tmp_path, 8)
    test = ksd.data.load_pictures(tmp_path, 8, "test")
    assert train.class_names == test.class_names == ["ant", "cat", "dog"]
    np.testing.assert_array_equal(test.labels, [1, 2])


def test_damaged_file_in_a_zip_is_skipped(tmp_path):
    path = tmp_path / "pictures.zip"
    contents = [encode(picture(i)) for i in range(3)]
    with zipfile.ZipFile(path, "w") as file:
        for i, content in enumerate(contents):
            file.writestr(f"{i}.png", content)
    whole = path.read_bytes()
    start = whole.index(contents[1]) + 100
    path.write_bytes(whole[:start] + b"damage" + whole[start + 6 :])
    with pytest.warns(UserWarning, match="1 of 3 .* skipped: 1.png"):
        pictures = ksd.data.load_pictures(path, 8)
    assert len(pictures.images) == 2
