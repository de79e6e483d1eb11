import concurrent.futures
import os
import pickle
import shutil
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend


def test_images_are_read_when_asked_for(folder):
    source = ksd.data.open_data(folder, 8)
    loaded = ksd.data.load_images(folder, 8)
    assert len(source) == 6 and source.class_names == ["cat", "dog"]
    for i in range(6):
        np.testing.assert_array_equal(source[i]["images"], loaded.images[i])
        assert source[i]["labels"] == loaded.labels[i]
    path = folder / "train" / "cat" / "0.png"
    path.write_bytes((folder / "train" / "dog" / "1.png").read_bytes())
    np.testing.assert_array_equal(source[0]["images"], loaded.images[4])


def test_random_crops_and_captions(tmp_path, encode):
    ramp = np.tile(np.arange(200, dtype="uint8"), (8, 1))
    (tmp_path / "1.png").write_bytes(encode(ramp))
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "1.png", "text": ["a", "b", "c"]}'
    )
    source = ksd.data.open_data(tmp_path, 8, num_channels=1, crop="random")
    assert source[0]["images"][0, 0, 0] == 96 and source[0]["captions"] == "a"
    seen = [source.example(0, np.random.default_rng(i)) for i in range(60)]
    starts = {int(example["images"][0, 0, 0]) for example in seen}
    assert len(starts) > 40 and min(starts) < 20 and max(starts) > 172
    assert {example["captions"] for example in seen} == {"a", "b", "c"}
    again = source.example(0, np.random.default_rng(7))
    np.testing.assert_array_equal(again["images"], seen[7]["images"])
    with pytest.raises(InputError, match="crop='corner'"):
        ksd.data.open_data(tmp_path, 8, crop="corner")


def zipped(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for each in folder.rglob("*.png"):
            file.write(each, each.relative_to(folder))
    return path


def test_zip_in_threads_and_processes(folder, tmp_path):
    source = ksd.data.open_data(zipped(folder, tmp_path / "a.zip"), 8)
    expected = [source[i]["images"] for i in range(6)]
    order = np.random.default_rng(0).integers(0, 6, 300).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: source[i]["images"], order))
    for i, images in zip(order, found, strict=True):
        np.testing.assert_array_equal(images, expected[i])
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[3]["images"], expected[3])
    # As after a fork: the file that was opened is another process's.
    container = source.listing.container
    opened = container._opened
    container._opened = (os.getpid() + 1, *opened[1:])
    np.testing.assert_array_equal(source[3]["images"], expected[3])
    assert container._opened[1] is not opened[1]


def test_broken_images_are_replaced_and_named_once(folder):
    cat = folder / "train" / "cat"
    source = ksd.data.open_data(folder, 8)
    expected = [source[i] for i in range(6)]
    (cat / "1.png").write_bytes(b"")
    (cat / "2.png").unlink()
    with pytest.warns(UserWarning) as caught:
        example = source[1]
    text = [str(each.message) for each in caught]
    assert len(text) == 2 and "'train/cat/1.png'" in text[0]
    assert "'train/cat/2.png'" in text[1] and "No such file" in text[1]
    # The next one that can be read, with its own label.
    np.testing.assert_array_equal(example["images"], expected[3]["images"])
    assert example["labels"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert source[2]["labels"] == 1  # Not named again.
    assert list(source.broken) == ["train/cat/1.png", "train/cat/2.png"]
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="6 images in a row .*dog/2.png"):
        with pytest.warns(UserWarning):
            source[4]


def test_not_everything_is_named(tmp_path, write_images):
    write_images(tmp_path, *(f"{i:02}.png" for i in range(40)))
    for i in range(31):
        (tmp_path / f"{i:02}.png").write_bytes(b"")
    source = ksd.data.open_data(tmp_path, 8)
    with pytest.warns(UserWarning) as caught:
        source[0]  # The 32nd can be read.
    assert len(caught) == 11
    assert "More than 10 images" in str(caught[-1].message)
    assert len(source.broken) == 31
    (tmp_path / "31.png").write_bytes(b"")
    with pytest.raises(InputError, match="32 images in a row"):
        source[0]


def test_data_that_are_gone(folder, tmp_path):
    path = zipped(folder, tmp_path / "a.zip")
    of_folder = ksd.data.open_data(folder, 8)
    of_zip = pickle.loads(pickle.dumps(ksd.data.open_data(path, 8)))
    shutil.rmtree(folder)
    path.unlink()
    with pytest.raises(InputError, match="The folder '.*pets' is gone"):
        of_folder[0]
    with pytest.raises(InputError, match="The zip file '.*a.zip' is gone"):
        of_zip[0]


def test_names_in_warnings_are_escaped(tmp_path, encode, image):
    (tmp_path / "a\x1b[2J.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(encode(image(0)))
    source = ksd.data.open_data(tmp_path, 8)
    with pytest.warns(UserWarning, match=r"'a\\x1b\[2J.png' of") as caught:
        source[0]
    assert not any("\x1b" in str(each.message) for each in caught)


def test_color_is_noticed(tmp_path, encode, image):
    gray = image(0, (9, 9))
    palette = Image.new("P", (9, 9))
    palette.putpalette([7, 7, 7, 200, 200, 200])
    for i, content in enumerate(
        (encode(gray), encode(palette), encode(gray.astype("uint16")), b"")
    ):
        (tmp_path / f"{i}.png").write_bytes(content)
    assert not ksd.data.open_data(tmp_path, 8).has_color()
    palette.putpalette([7, 7, 9])
    for content in (encode(palette), encode(image(0)), encode(image(0), "gif")):
        (tmp_path / "4.png").write_bytes(content)
        assert ksd.data.open_data(tmp_path, 8).has_color()
