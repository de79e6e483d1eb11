import zipfile

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd

pytestmark = pytest.mark.any_backend


def test_folder_with_splits_and_classes(folder):
    images = ksd.data.load_images(folder, 8)
    assert images.images.shape == (6, 8, 8, 3)
    assert images.class_names == ["cat", "dog"]
    np.testing.assert_array_equal(images.labels, [0, 0, 0, 1, 1, 1])
    assert len(ksd.data.load_images(folder, 8, "test").images) == 2
    one_class = ksd.data.load_images(
        folder / "train" / "dog", (4, 6), num_channels=1
    )
    assert one_class.images.shape == (3, 4, 6, 1)
    assert one_class.labels is None and one_class.class_names is None
    with pytest.raises(ValueError, match="no split 'val'. It has: test, train"):
        ksd.data.load_images(folder, 8, "val")


def test_zip_is_read_like_a_folder(folder, tmp_path):
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w") as file:
        for each in folder.rglob("*.*"):
            file.write(each, each.relative_to(folder))
    a, b = ksd.data.load_images(path, 8), ksd.data.load_images(folder, 8)
    np.testing.assert_array_equal(a.images, b.images)
    assert a.class_names == b.class_names


def test_real_zip(shared_data):
    images = ksd.data.load_images(shared_data / "imagenette_64.zip", 16, "val")
    assert images.images.shape == (3925, 16, 16, 3)
    assert len(images.class_names) == 10


def test_unreadable_images_are_named(folder, encode, image):
    broken = folder / "train" / "cat" / "broken.jpg"
    broken.write_bytes(b"no image")
    cut = folder / "train" / "cat" / "cut.png"
    cut.write_bytes(encode(image(9))[:200])
    with pytest.warns(UserWarning, match="2 of 8 .*broken.jpg, train/cat/cut"):
        images = ksd.data.load_images(folder, 8)
    assert len(images.images) == 6
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="None of the 8 images"):
        ksd.data.load_images(folder, 8)


def test_bad_folders(tmp_path, folder, encode, image):
    with pytest.raises(ValueError, match="no folder or zip file"):
        ksd.data.load_images(tmp_path / "nowhere", 8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        ksd.data.load_images(tmp_path / "empty", 8)
    for arguments in (("image_size", 0), ("num_channels", 4)):
        options = {"image_size": 8, **dict([arguments])}
        with pytest.raises(ValueError, match="=".join(map(str, arguments))):
            ksd.data.load_images(folder, **options)
    (tmp_path / "wrong.zip").write_text("text")
    with pytest.raises(ValueError, match="not a readable zip"):
        ksd.data.load_images(tmp_path / "wrong.zip", 8)
    (folder / "train" / "stray.png").write_bytes(encode(image(0)))
    with pytest.raises(ValueError, match="both inside and outside"):
        ksd.data.load_images(folder, 8)


def test_the_outermost_folder_is_the_class(tmp_path, write_images):
    write_images(tmp_path, "dog/2020/1.png", "cat/2020/1.png", "cat/2.png")
    images = ksd.data.load_images(tmp_path, 8)
    assert images.class_names == ["cat", "dog"]
    np.testing.assert_array_equal(images.labels, [0, 0, 1])


def test_a_folder_around_everything_counts_for_nothing(tmp_path, write_images):
    write_images(
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
    assert len(ksd.data.load_images(path, 8).images) == 2
    assert ksd.data.load_images(tmp_path / "flat", 8).class_names is None


def test_a_class_has_the_same_number_in_every_split(tmp_path, write_images):
    write_images(
        tmp_path,
        "training/ant/1.png",
        "training/cat/1.png",
        "training/dog/1.png",
        "val/cat/2.png",
        "val/dog/2.png",
    )
    train = ksd.data.load_images(tmp_path, 8)
    test = ksd.data.load_images(tmp_path, 8, "test")
    assert train.class_names == test.class_names == ["ant", "cat", "dog"]
    np.testing.assert_array_equal(test.labels, [1, 2])


def test_damaged_file_in_a_zip_is_skipped(tmp_path, encode, image):
    path = tmp_path / "images.zip"
    contents = [encode(image(i)) for i in range(3)]
    with zipfile.ZipFile(path, "w") as file:
        for i, content in enumerate(contents):
            file.writestr(f"{i}.png", content)
    whole = path.read_bytes()
    start = whole.index(contents[1]) + 100
    path.write_bytes(whole[:start] + b"damage" + whole[start + 6 :])
    with pytest.warns(UserWarning, match="1 of 3 .* skipped: 1.png"):
        images = ksd.data.load_images(path, 8)
    assert len(images.images) == 2


def test_each_image_is_resized_by_itself(tmp_path, encode, image):
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = [
        encode(image(0, (8, 8, 3))),
        encode(image(1, (64, 40, 3))),
        encode(image(2, (40, 64))),
        encode(image(3, (24, 30, 4))),
        encode(image(4, (33, 30, 3)), "jpeg", exif=exif),
        encode(image(5, (200, 300, 3)), "webp", lossless=True),
    ]
    for order in (contents, contents[::-1]):
        for i, content in enumerate(order):
            (tmp_path / f"{i}.png").write_bytes(content)
        source = ksd.data.open_data(tmp_path, 16)
        for i, content in enumerate(order):
            np.testing.assert_array_equal(
                source[i]["images"], ksd.data.Decoder(16)(content)["images"]
            )
