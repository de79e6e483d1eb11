import pathlib
import shutil

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data import remote
from keras_simple_diffusion.data.loading import absolute_name
from keras_simple_diffusion.utils.errors import InputError

fsspec = pytest.importorskip("fsspec")

pytestmark = pytest.mark.any_backend


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty object store in memory, and a cache of its own."""
    monkeypatch.setenv("KSD_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.rm("/", recursive=True) if system.ls("/") else None
    yield system
    for path in system.ls("/", detail=False):
        system.rm(path, recursive=True)


def put(system, path, place):
    """Copy a file or folder into the store."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    for file in (each for each in files if each.is_file()):
        inside = "" if path.is_file() else f"/{file.relative_to(path)}"
        system.pipe_file(f"{place}{inside}", file.read_bytes())


def assert_same(source, other):
    assert len(source) == len(other) and source.class_names == other.class_names
    for i in range(len(source)):
        np.testing.assert_array_equal(source[i]["images"], other[i]["images"])
        assert source[i]["labels"] == other[i]["labels"]


@pytest.mark.parametrize("kind", ["folder", "zip", "packed", "several", "tars"])
def test_formats(kind, store, folder, tmp_path, capsys):
    url = "memory://bucket/pets"
    if kind == "folder":
        put(store, folder, "/bucket/pets")
    elif kind == "zip":
        shutil.make_archive(tmp_path / "pets", "zip", folder)
        put(store, tmp_path / "pets.zip", "/bucket/pets.zip")
        url += ".zip"
    elif kind == "tars":
        shutil.make_archive(tmp_path / "pets", "tar", folder)
        put(store, tmp_path / "pets.tar", "/bucket/pets-000.tar")
        url += "-{000..000}.tar"
    else:
        url += ".array_record"
        count = 3 if kind == "several" else 1
        ksd.data.pack(folder, tmp_path / "p.array_record", num_files=count)
        for path in tmp_path.glob("p.array_record*"):
            place = path.name.replace("p.", "/bucket/pets.")
            put(store, path, place)
    for split in ("train", "test"):
        expected = ksd.data.open_data(folder, 8, split)
        assert_same(ksd.data.open_data(url, 8, split), expected)
    told = capsys.readouterr().out.splitlines()
    # Each file is copied once, whatever it is asked for.
    assert len(told) == len(set(told)) >= 1
    assert all(line.startswith("copying /bucket/pets") for line in told)
    assert absolute_name(url) == url
    assert not list((tmp_path / "cache").rglob(".draft*"))


def test_files_that_change_are_copied_again(store, folder, tmp_path, capsys):
    url = "memory://bucket/pets"
    put(store, folder, "/bucket/pets")
    first = ksd.data.open_data(url, 8)
    capsys.readouterr()
    cat = folder / "train" / "cat" / "0.png"
    cat.write_bytes((folder / "train" / "dog" / "1.png").read_bytes())
    put(store, cat, "/bucket/pets/train/cat/0.png")
    second = ksd.data.open_data(url, 8)
    assert_same(second, ksd.data.open_data(folder, 8))
    assert (first[0]["images"] == second[0]["images"]).all()  # The same file.
    (line,) = capsys.readouterr().out.splitlines()
    assert "copying /bucket/pets/train/cat/0.png" in line


def test_what_is_gone_at_the_origin_is_removed(
    store, folder, tmp_path, write_images, capsys
):
    url = "memory://bucket/pets"
    old = write_images(folder / "train" / "dog" / "old", "8.png", "9.png")
    put(store, folder, "/bucket/pets")
    put(store, folder / "README.md", "/bucket/pets-2")
    ksd.data.open_splits(url, 8)
    remote.copy_here(f"{url}-2")
    capsys.readouterr()
    # One image is held out now, and another one is gone.
    (old / "8.png").rename(folder / "test" / "dog" / "8.png")
    shutil.rmtree(old)
    store.mv("/bucket/pets/train/dog/old/8.png", "/bucket/pets/test/dog/8.png")
    store.rm("/bucket/pets/train/dog/old/9.png")
    for split in ("train", "test"):
        found = ksd.data.open_data(url, 8, split)
        assert_same(found, ksd.data.open_data(folder, 8, split))
    told = capsys.readouterr().out.splitlines()
    words = [line.split()[0] for line in told]
    assert words == ["removing", "removing", "copying"]
    (files,) = (tmp_path / "cache").glob("data/*/files")
    assert not (files / "pets" / "train" / "dog" / "old").exists()
    assert (files / "pets-2").is_file()
    store.rm("/bucket/pets", recursive=True)
    with pytest.raises(InputError, match="no files at"):
        ksd.data.open_data(url, 8)
    assert (files / "pets" / "test" / "dog" / "8.png").is_file()


def test_data_that_are_packed_anew(store, folder, tmp_path):
    for count in (1, 3, 2, 1):
        path = tmp_path / str(count) / "p.array_record"
        ksd.data.pack(folder, path, num_files=count)
        put(store, path.parent, "/bucket")
        source = ksd.data.open_data("memory://bucket/p.array_record", 8)
        assert_same(source, ksd.data.open_data(folder, 8))
        store.rm("/bucket", recursive=True)


def test_what_another_process_copies_stays(store, folder, monkeypatch):
    put(store, folder, "/bucket/pets")
    ksd.data.open_data("memory://bucket/pets", 8)
    find = remote._find

    def find_late(system, path):
        found = find(system, path)
        if system is store:  # After this listing another one copies more.
            monkeypatch.setattr(remote, "_find", find)
            new = "/bucket/pets/train/cat/new.png"
            store.copy("/bucket/pets/train/cat/0.png", new)
            remote.copy_here("memory://bucket/pets")
        return found

    monkeypatch.setattr(remote, "_find", find_late)
    copy = remote.copy_here("memory://bucket/pets")
    assert (pathlib.Path(copy) / "train" / "cat" / "new.png").is_file()


def test_a_file_system_and_a_mixture(store, folder):
    url = f"file://{folder}"
    source = ksd.data.open_data(f"mix:{url}=1,vehicles=1", 8)
    assert source.class_names[:2] == ["cat", "dog"]
    assert len(source) == 6 + 620
    assert absolute_name(f"mix:{url}=1,vehicles=1") == f"mix:{url}=1,vehicles=1"


def test_what_cannot_be_read(store):
    for url, message in (
        ("memory://bucket/nothing.zip", "no files at 'memory://bucket/noth"),
        ("nosuch://bucket/a.zip", "nosuch://bucket/a.zip' cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            ksd.data.open_data(url, 8)
