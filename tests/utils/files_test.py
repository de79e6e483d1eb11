"""Files are written whole, and a folder belongs to one process at a time."""

import errno
import os
import pathlib
import subprocess
import sys

import pytest

from keras_simple_diffusion.utils import files
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend

# Writes half of a file, says so, and waits to be killed.
WRITER = """
import sys
from keras_simple_diffusion.utils import files
with files.locked_folder("held"), files.whole_file("a/half.txt") as draft:
    draft.write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def writer(place):
    root = pathlib.Path(files.__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def names(folder):
    return sorted(p.name for p in pathlib.Path(folder).rglob("*"))


def test_a_file_is_replaced_at_the_end_or_not_at_all():
    path = pathlib.Path("new/file.txt")
    with files.whole_file(path) as draft:
        draft.write_text("first")
        assert not path.exists()
    with pytest.raises(KeyError), files.whole_file(path) as draft:
        draft.write_text("second")
        raise KeyError
    assert path.read_text() == "first" and names("new") == ["file.txt"]


def test_a_folder_is_replaced_as_a_whole_or_file_by_file():
    for name in ("a", "b"):
        with files.whole_folder("folder") as draft:
            (draft / name).write_text(name)
    assert names("folder") == ["a", "b"]
    with files.new_folder("folder") as draft:
        (draft / "c").write_text("c")
    assert names("folder") == ["c"]
    with pytest.raises(KeyError), files.new_folder("folder") as draft:
        raise KeyError
    assert names(".") == ["c", "folder"]


def test_a_link_in_the_place_of_a_folder_is_replaced_not_followed(place):
    (place / "other").mkdir()
    (place / "other" / "kept").write_text("")
    (place / "folder").symlink_to("other")
    with files.new_folder("folder") as draft:
        (draft / "c").write_text("c")
    assert not (place / "folder").is_symlink()
    assert names("other") == ["kept"]


def test_only_drafts_of_ended_processes_are_removed(writer):
    (draft,) = pathlib.Path("a").glob(".draft-*")
    with files.whole_file("a/half.txt") as path:
        path.write_text("whole")
    files.remove_drafts(".")
    assert draft.exists()
    writer.kill()
    writer.wait()
    # A draft of another file is none of ours, one of the same file goes.
    with files.whole_file("a/half") as path:
        path.write_text("")
    assert draft.exists()
    with files.whole_file("a/half.txt") as path:
        path.write_text("again")
    assert names("a") == ["half", "half.txt"]


def test_a_killed_process_releases_its_folder(writer):
    message = f"'held' is in use by process {writer.pid} on "
    with pytest.raises(InputError, match=message):
        with files.locked_folder("held"):
            pass
    assert files.is_unused("held")
    writer.kill()
    writer.wait()
    with files.locked_folder("held"):
        pass
    assert names("held") == []


def test_a_killed_start_is_no_content(writer):
    assert files.is_unused("absent")
    pathlib.Path("held/preset").mkdir()
    assert not files.is_unused("held")
    assert files.is_unused("held", ("preset", "checkpoints"))
    pathlib.Path("held/mine.txt").write_text("")
    assert not files.is_unused("held", ("preset", "checkpoints"))
    # Without a lock it is a folder like any other.
    pathlib.Path("other/preset").mkdir(parents=True)
    assert not files.is_unused("other", ("preset", "checkpoints"))


def test_a_folder_that_cannot_be_written_is_one_line(monkeypatch):
    pathlib.Path("file").write_text("")
    with pytest.raises(InputError, match="'file/in' cannot be written: Not a"):
        with files.locked_folder("file/in"):
            pass


@pytest.mark.parametrize("name", ["open", "rename", "replace"])
def test_a_disk_without_space_leaves_no_draft(monkeypatch, name):
    call, failed = getattr(os, name), []

    def fail_once(*args, **kwargs):
        if failed:
            return call(*args, **kwargs)
        failed.append(args)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, name, fail_once)
    with pytest.raises(OSError, match="No space"):
        with files.new_folder("folder") as draft:
            (draft / "a").write_text("")
        with files.whole_file("file") as draft:
            draft.write_text("")
    assert failed and not list(pathlib.Path(".").glob(".draft-*"))
