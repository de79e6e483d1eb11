"""What folders mean, and what is told about those that may mean another."""

import os
import warnings

import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.folders import list_images

pytestmark = pytest.mark.any_backend


def remarks_on(path, split="train"):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list_images(path, split)
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(
    "names, remark",
    [
        (["trainA/1.png", "testA/1.png"], "The folders called 'trainA' and"),
        (["clean_train/1.png", "val_b/1.png"], "'clean_train' and 'val_b'"),
        (["train_001.png", "test_001.png"], "The files called 'train' and"),
        (["a/val12.png", "a/Train-7.png"], "The files called 'Train' and"),
        (["a/1.png", "a/test/2.png", "b/1.png"], "Images in a/test are train"),
        (["Cat/1.png", "cat/2.png", "dog/1.png"], "'Cat' and 'cat' differ in"),
        (["a  b/1.png", "a b/2.png"], "differ in letter case or spaces only"),
        (["1/a.png", "2/a.png", "10/a.png"], "0 is the class '1', and label 2"),
        (["test/a/1.png", "test/b/1.png", "train/a/1.png"], "train on: b."),
    ],
)
def test_remarks(names, remark, tmp_path, write_images):
    write_images(tmp_path, *names)
    (message,) = remarks_on(tmp_path)
    assert remark in message and str(tmp_path) in message


@pytest.mark.parametrize(
    "names",
    [
        ["test tube/1.png", "goblet/1.png"],
        ["train/1.png", "test/train_2.png"],
        ["steam train.png", "test tube.png"],
        ["0/a.png", "1/a.png", "2/a.png"],
        ["train/a/1.png", "train/b/1.png", "val/b/1.png"],
    ],
)
def test_no_remarks(names, tmp_path, write_images):
    write_images(tmp_path, *names)
    assert not remarks_on(tmp_path)


def test_numbers_are_sorted_by_value(tmp_path, write_images):
    numbers = [str(number) for number in range(12)]
    write_images(tmp_path, *(f"{number}/a.png" for number in numbers))
    source = ksd.data.open_data(tmp_path, 8)
    assert source.class_names == numbers
    assert source[2]["labels"] == source.class_names.index(
        source.name(2).split("/")[0]
    )
    # Names come after them.
    write_images(tmp_path, "0x/a.png")
    assert ksd.data.open_data(tmp_path, 8).class_names == [*numbers, "0x"]


def test_names_of_classes_are_text(tmp_path, write_images):
    write_images(tmp_path, "a\x1b[31m\n/1.png", "b\u202e/1.png")
    place = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(place)
    os.rename(tmp_path / "b\u202e" / "1.png", place + b"/1.png")
    (tmp_path / "b\u202e").rmdir()
    names = ksd.data.open_data(tmp_path, 8).class_names
    assert names == ["a\\x1b[31m\\n", "\\xff"]


def test_splits_that_are_not_used(tmp_path, write_images):
    write_images(tmp_path, "train/1.png", "val/2.png", "val/3.png")
    assert not remarks_on(tmp_path)
    write_images(tmp_path, "test/4.png")
    for split in ("train", "test"):
        (message,) = remarks_on(tmp_path, split)
        assert "2 are left out, in 'val', which is not the held-out" in message
    assert not remarks_on(tmp_path, "val")


def test_what_is_hidden_is_told_if_nothing_else_is_there(
    tmp_path, write_images
):
    write_images(tmp_path, ".photos/1.png")
    with pytest.raises(ValueError, match="Of it, 1 is left out, hid.*photos"):
        list_images(tmp_path)


def test_tables_that_are_not_read_are_told(tmp_path, write_images):
    write_images(tmp_path, "1.png")
    unread = ("captions.json", "labels.CSV", "LICENSE", "notes.txt")
    for name in (*unread, "settings.json"):  # The last is `generate`'s own.
        (tmp_path / name).write_text("{}")
    (message,) = remarks_on(tmp_path)
    assert "2 are left out, a table that is not" in message
    assert "captions.json, labels.CSV" in message and "notes" not in message
