import io
import json
import pickle
import tarfile

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.shards import find_shards
from keras_simple_diffusion.data.shards import splits_of_shards
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend


def to_bytes(content):
    return content if isinstance(content, bytes) else content.encode()


def write_tar(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            content = (
                content if isinstance(content, bytes) else content.encode()
            )
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_folder(folder, members):
    for name, content in members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_bytes(content))
    return folder


@pytest.fixture
def samples(encode, image):
    """Six samples with classes and captions, as WebDataset writes them."""
    members = {}
    for i in range(6):
        members[f"{i:03}.cls"] = str(i % 3)
        members[f"{i:03}.png"] = encode(image(i))
        members[f"{i:03}.txt"] = f"caption {i} of\nan image"
        members[f"{i:03}.json"] = json.dumps({"caption": "not used", "id": i})
    return members


def assert_equal_sources(source, other):
    assert len(source) == len(other) > 0
    assert source.class_names == other.class_names
    assert source.annotations() == other.annotations()
    for index in range(len(source)):
        example, expected = source[index], other[index]
        assert example.keys() == expected.keys()
        for key in example:
            np.testing.assert_array_equal(example[key], expected[key])


def batches_of(source, count=3, **options):
    keys = ("images", "labels", "captions")
    batches = ksd.data.training_batches(source, 4, keys=keys, **options)
    iterator = iter(batches)
    return [next(iterator) for _ in range(count)]


def test_samples(samples, tmp_path):
    path = write_tar(tmp_path / "photos.tar", samples)
    source = ksd.data.open_data(path, 8)
    assert source.class_names == ["0", "1", "2"]
    assert [source[i]["labels"] for i in range(6)] == [0, 1, 2, 0, 1, 2]
    assert source[4]["captions"] == "caption 4 of"
    folder = write_folder(tmp_path / "photos", samples)
    files = ksd.data.open_data(folder, 8)
    assert_equal_sources(source, files)
    for start in (0, 5):
        found, expected = (
            batches_of(s, start_step=start) for s in (source, files)
        )
        for batch, other in zip(found, expected, strict=True):
            for key in batch:
                np.testing.assert_array_equal(batch[key], other[key])
    copy = pickle.loads(pickle.dumps(source))
    assert_equal_sources(copy, source)
    for name in samples:
        assert copy.listing.container.read(name) == (folder / name).read_bytes()


def test_captions_in_json(samples, tmp_path):
    for i in range(6):
        del samples[f"{i:03}.txt"], samples[f"{i:03}.cls"]
        samples[f"{i:03}.json"] = json.dumps({"prompt": f"no. {i}"})
    source = ksd.data.open_data(write_tar(tmp_path / "a.tar", samples), 8)
    assert source.class_names is None
    assert source.captions() == [f"no. {i}" for i in range(6)]


def test_classes_that_are_folders(tmp_path, encode, image):
    members = {
        f"{split}/{name}/{i}.png": encode(image(i))
        for split, count in (("train", 3), ("test", 1))
        for name in ("cat", "dog")
        for i in range(count)
    }
    path = write_tar(tmp_path / "pets.tar", members)
    folder = write_folder(tmp_path / "pets", members)
    for split in ("train", "test"):
        source = ksd.data.open_data(path, 8, split)
        assert source.class_names == ["cat", "dog"]
        assert_equal_sources(source, ksd.data.open_data(folder, 8, split))


@pytest.mark.parametrize("name", ["*", "{00..02}", "folder"])
def test_several_tars(samples, tmp_path, name):
    # Equal names in two tars are two samples.
    expected = ksd.data.open_data(write_folder(tmp_path / "all", samples), 8)
    renamed = []
    for part in range(3):
        members = {
            f"{int(name[:3]) % 2:03}{name[3:]}": content
            for name, content in samples.items()
            if int(name[:3]) // 2 == part
        }
        renamed.append(members)
        write_tar(tmp_path / "tars" / f"part-{part:02}.tar", members)
    path = tmp_path / "tars"
    if name != "folder":
        path = path / f"part-{name}.tar"
    source = ksd.data.open_data(path, 8)
    assert source.name(3) == "part-01:001.png"
    assert_equal_sources(source, expected)
    (tmp_path / "tars" / "part-01.tar").unlink()
    if name == "{00..02}":
        with pytest.raises(InputError, match="1 are missing, such as .*-01"):
            ksd.data.open_data(path, 8)
    else:
        assert len(ksd.data.open_data(path, 8)) == 4


def test_equal_names_of_tars_in_two_folders(samples, tmp_path):
    for name in ("a", "b"):
        write_tar(tmp_path / name / "photos.tar", samples)
    source = ksd.data.open_data(tmp_path / "*" / "photos.tar", 8)
    assert len(source) == 12 and not source.left_out
    assert source.name(6) == "b:photos:000.png"
    assert source[7]["captions"] == "caption 1 of"


def test_splits_of_tars(samples, tmp_path, encode, image):
    write_tar(tmp_path / "imagenet-train-000.tar", samples)
    held_out = {"0.png": encode(image(9)), "0.cls": "1", "0.txt": "held out"}
    write_tar(tmp_path / "imagenet-val-000.tar", held_out)
    sources = ksd.data.open_splits(tmp_path / "*.tar", 8)
    assert len(sources["train"]) == 6 and len(sources["test"]) == 1
    assert sources["test"].class_names == sources["train"].class_names
    assert sources["test"][0]["labels"] == 1
    assert sources["test"][0]["captions"] == "held out"
    # One tar is what it is, whatever its name.
    source = ksd.data.open_data(tmp_path / "imagenet-val-000.tar", 8)
    assert len(source) == 1


def test_names_of_splits():
    names = ["a/x-train-00.tar", "a/x-train-01.tar", "a/x-test-00.tar"]
    assert splits_of_shards(names) == ["train", "train", "test"]
    assert splits_of_shards(names[:2]) == [None, None]
    folders = ["a/train/0.tar", "a/test/0.tar"]
    assert splits_of_shards(folders) == ["train", "test"]
    assert splits_of_shards(["test/a.tar", "test/b.tar"]) == [None, None]
    assert splits_of_shards([*names[:2], "a/x-extra.tar"]) == [None] * 3
    for other in ("a/x-extra.tar", "a/x-train-and-test.tar"):
        with pytest.raises(InputError, match=f"'{other}' names no split, or "):
            splits_of_shards([*names, other])


def test_ranges(tmp_path):
    for i in range(8, 12):
        for part in ("a", "b"):
            (tmp_path / f"{part}-{i:03}.tar").touch()
    found = find_shards(tmp_path / "a-{008..011}.tar", ".tar")
    assert found == [str(tmp_path / f"a-{i:03}.tar") for i in range(8, 12)]
    assert find_shards(tmp_path / "c-{000..001}.tar", ".tar") == []
    assert len(find_shards(tmp_path / "*-01?.tar", ".tar")) == 4


def test_tars_that_cannot_be_read(samples, tmp_path):
    path = write_tar(tmp_path / "a.tar", samples)
    whole = path.read_bytes()
    source = ksd.data.open_data(path, 8)
    path.write_bytes(whole[: whole.index(samples["005.png"]) + 100])
    with pytest.raises(InputError, match="is compressed, damaged or cut off"):
        ksd.data.open_data(path, 8)
    with pytest.warns(
        UserWarning, match="'005.png' of '.*a.tar' .* is cut off"
    ):
        assert source[5]["captions"] == "caption 0 of"
    path.unlink()
    with pytest.raises(InputError, match="The file '.*a.tar' is gone"):
        pickle.loads(pickle.dumps(source))[0]
    write_tar(path, samples, "w:gz")
    with pytest.raises(InputError, match="Expected a tar that is not compress"):
        ksd.data.open_data(path, 8)
    del samples["003.cls"]
    write_tar(path, samples)
    with pytest.raises(InputError, match="classes in .cls files, .* '003.png'"):
        ksd.data.open_data(path, 8)


def test_classes_by_name(samples, tmp_path):
    for i in range(6):
        samples[f"{i:03}.cls"] = ("dog", "cat")[i % 2]
    source = ksd.data.open_data(write_tar(tmp_path / "a.tar", samples), 8)
    assert source.class_names == ["cat", "dog"]
    assert [source[i]["labels"] for i in range(3)] == [1, 0, 1]
    samples["002.cls"] = " \n"
    write_tar(tmp_path / "a.tar", samples)
    with pytest.raises(InputError, match="'002.cls' of '.*' is empty"):
        ksd.data.open_data(tmp_path / "a.tar", 8)


def test_members_that_are_no_files(samples, tmp_path):
    path = write_tar(
        tmp_path / "a.tar", {**samples, "../b.png": b"", "._1": b""}
    )
    with tarfile.open(path, "a") as tar:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("p", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/hostname"
            tar.addfile(info)
    with pytest.warns(UserWarning, match="1 is left out, a link: link.png"):
        source = ksd.data.open_data(path, 8)
    assert len(source) == 6
    assert source.left_out["its path leads out of the data"] == ["../b.png"]
    assert source.left_out["not a regular file"] == ["p"]
