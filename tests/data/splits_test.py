import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.splits import MissingSplitError
from keras_simple_diffusion.data.splits import matching_splits
from keras_simple_diffusion.data.splits import role_of
from keras_simple_diffusion.data.splits import roles_within

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "role, names",
    [
        ("train", "train Train TRAINING train2017 training_set images-train"),
        ("test", "test Test_Set testing holdout hold-out Held_Out test1"),
        ("validation", "val valid Validation val2017 eval evaluation dev"),
        (None, "cats trainer trains devices testament set data images 2017 É"),
    ],
)
def test_spellings(role, names):
    for name in names.split():
        assert role_of(name) == role, name


def test_best_match_first():
    names = ["Dev", "Train", "eval", "test_set", "val"]
    assert matching_splits("train", names) == ["Train"]
    assert matching_splits("test", names) == ["test_set", "val", "eval", "Dev"]
    assert matching_splits("validation", names) == ["val", "eval", "Dev"]
    assert matching_splits("eval", names) == ["eval", "val", "Dev"]
    assert matching_splits("holdout", ["Train", "val"]) == ["val"]
    assert not matching_splits("validation", ["train", "test"])
    assert not matching_splits("extra", names)
    assert matching_splits("extra", ["extra"]) == ["extra"]


def test_open_splits(folder, tmp_path, write_images):
    sources = ksd.data.open_splits(folder, 8, crop="random")
    assert [*sources] == ["train", "test"]
    assert [len(each) for each in sources.values()] == [6, 2]
    assert [each.crop for each in sources.values()] == ["random", "center"]
    write_images(tmp_path / "flat", "1.png")
    assert [*ksd.data.open_splits(tmp_path / "flat", 8)] == ["train"]
    write_images(tmp_path / "held", "val/1.png")
    assert [*ksd.data.open_splits(tmp_path / "held", 8)] == ["test"]
    write_images(tmp_path / "only", "dev/1.png")
    (tmp_path / "only" / "dev").rename(tmp_path / "only" / "train")
    with pytest.raises(MissingSplitError, match="It has: train"):
        ksd.data.open_data(tmp_path / "only", 8, "validation")
    assert len(ksd.data.open_data(tmp_path / "held", 8, "validation")) == 1


def test_parts_of_tensorflow_splits_are_no_roles():
    for name in ("train[:50%]", "train+test", "train[10:20]"):
        assert role_of(name) is None
    assert not matching_splits("train[:50%]", ["train", "test"])


def test_roles_within_a_name():
    assert roles_within("trainA") == {"train"}
    assert roles_within("TEST_old") == {"test"}
    assert roles_within("train-val") == {"train", "validation"}
    assert roles_within("strain detest validity") == set()
