import json
import subprocess
import warnings

import numpy as np
import pytest

from keras_simple_diffusion.training.checkpoint import Checkpoints
from keras_simple_diffusion.utils.errors import InputError

pytestmark = pytest.mark.any_backend

FILES = ("arrays.npz", "manifest.json")


def arrays_of(step):
    rng = np.random.default_rng(step)
    yield "weights", rng.normal(size=(30, 7)).astype("float32")
    yield "step", np.array(step, "int64")


@pytest.fixture
def checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (10, 20):
        checkpoints.save(step, arrays_of(step), {"step": step, "name": "a"})
    return checkpoints


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


def test_latest_returns_what_was_saved(checkpoints):
    arrays, state = checkpoints.latest()
    assert state == {"step": 20, "name": "a"}
    expected = dict(arrays_of(20))
    assert set(arrays.keys()) == set(expected)
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_there_may_be_none(tmp_path):
    assert Checkpoints(tmp_path / "none").latest() is None


def test_the_last_few_are_kept(checkpoints):
    for step in (30, 40):
        checkpoints.save(step, arrays_of(step), {})
    assert checkpoints.steps() == [20, 30, 40]
    with pytest.raises(InputError, match="at least 2|At least 2"):
        Checkpoints(checkpoints.folder, keep=1)


def test_only_whole_checkpoints_count_as_kept(checkpoints):
    for step in (30, 40):
        checkpoints.save(step, arrays_of(step), {"step": step})
    for step in (30, 40):
        flip_a_byte(checkpoints.folder / f"{step:08d}" / "arrays.npz")
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoints.latest()[1]["step"] == 20
    # The run continues from 20: later ones are of another course of it.
    for step in (25, 27, 35):
        checkpoints.save(step, arrays_of(step), {"step": step})
    assert checkpoints.steps() == [25, 27, 30, 35, 40]
    checkpoints.save(40, arrays_of(40), {"step": 40})
    assert checkpoints.steps() == [27, 30, 35, 40]
    assert checkpoints.latest()[1]["step"] == 40


def test_what_is_no_checkpoint_is_not_removed(checkpoints, tmp_path):
    (checkpoints.folder / "00000001").mkdir()
    (checkpoints.folder / "00000001" / "notes.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (checkpoints.folder / "00000002").symlink_to(tmp_path / "elsewhere")
    (checkpoints.folder / "00000030").symlink_to(tmp_path / "elsewhere")
    for step in (30, 40, 50, 60):
        checkpoints.save(step, arrays_of(step), {})
    assert checkpoints.steps() == [1, 40, 50, 60]
    assert (checkpoints.folder / "00000001" / "notes.txt").exists()
    assert (tmp_path / "elsewhere").is_dir()


def test_a_file_that_cannot_be_read_counts_as_damaged(checkpoints):
    for name in FILES:
        path = checkpoints.folder / "00000020" / name
        path.unlink()
        path.mkdir()
        with pytest.warns(UserWarning, match=f"{name} is no regular file"):
            assert checkpoints.latest()[1]["step"] == 10
        path.rmdir()
        path.symlink_to(checkpoints.folder / "00000010" / name)
        with pytest.warns(UserWarning, match=f"{name} is no regular file"):
            assert checkpoints.latest()[1]["step"] == 10


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, empty, delete])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_one_is_passed_over_aloud(checkpoints, name, damage):
    damage(checkpoints.folder / "00000020" / name)
    with pytest.warns(UserWarning, match=f"00000020.*{name}.*skipped"):
        arrays, state = checkpoints.latest()
    assert state["step"] == 10
    np.testing.assert_array_equal(arrays["step"], 10)


def test_every_byte_of_the_manifest_counts(checkpoints):
    path = checkpoints.folder / "00000020" / "manifest.json"
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 0x01
        path.write_bytes(changed)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            _, state = checkpoints.latest()
        # White space alone may differ.
        equal = False
        try:
            equal = json.loads(changed) == json.loads(content)
        except ValueError:
            pass
        assert state["step"] == (20 if equal else 10)
        assert bool(said) is not equal


def test_swapped_checkpoints_are_noticed(checkpoints):
    first, second = (checkpoints.folder / f"000000{n}" for n in (10, 20))
    first.rename(checkpoints.folder / "00000030")
    with pytest.warns(UserWarning, match="of step 10"):
        _, state = checkpoints.latest()
    assert state["step"] == 20


def test_all_damaged_is_an_error(checkpoints):
    for step in checkpoints.steps():
        truncate(checkpoints.folder / f"{step:08d}" / "arrays.npz")
    with (
        pytest.warns(UserWarning),
        pytest.raises(InputError, match="All checkpoints are damaged"),
    ):
        checkpoints.latest()


def test_an_interrupted_save_leaves_nothing_behind(checkpoints):
    def failing():
        yield "weights", np.ones(1000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(30, failing(), {})
    names = {path.name for path in checkpoints.folder.iterdir()}
    assert names == {"00000010", "00000020"}
    assert checkpoints.latest()[1]["step"] == 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with room for 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system needs more rights than these")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_disk):
    checkpoints = Checkpoints(small_disk / "checkpoints")
    checkpoints.save(1, [("a", np.ones(10000, "float32"))], {"step": 1})
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(2, [("a", np.ones(100000, "float32"))], {"step": 2})
    assert checkpoints.steps() == [1]
    assert checkpoints.latest()[1] == {"step": 1}
    checkpoints.save(3, [("a", np.ones(10000, "float32"))], {"step": 3})
    assert checkpoints.steps() == [1, 3]
