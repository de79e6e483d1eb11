import shutil

import numpy as np
import pytest

import keras_simple_diffusion as ksd
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
