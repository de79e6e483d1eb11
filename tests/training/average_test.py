"""Averages that are reconstructed, and their folders."""

import json
import pathlib

import numpy as np
import pytest

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training import reconstruct
from keras_simple_diffusion.training.snapshots import PROFILES
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import locked_folder
from tests.helpers.commands import error_line
from tests.helpers.commands import run_command
from tests.helpers.models import make_model
from tests.helpers.models import values_of

pytestmark = pytest.mark.any_backend


def write_snapshot(path, model, profile, count=2):
    import keras

    meta = {
        "profile": keras.saving.serialize_keras_object(profile),
        "num_updates": count,
    }
    arrays = {w.path: np.array(w) for w in model.trainable_variables}
    np.savez(path, **{"meta.json": json.dumps(meta)}, **arrays)
    return meta, arrays


@pytest.fixture
def run(tmp_path):
    """The part of a run's folder that averages are made from."""
    model = make_model()
    model.save_to_preset(tmp_path / "run" / "preset")
    model = ksd.models.Preset.open(tmp_path / "run").load()
    folder = tmp_path / "run" / "snapshots"
    folder.mkdir()
    for index, profile in enumerate(PROFILES):
        write_snapshot(folder / f"00000002-{index}.npz", model, profile)
    return tmp_path / "run"


def average(run, output="averaged"):
    command = ("average", "--run", run, "--width", "0.1", "--output", output)
    return run_command(*command, cwd=run.parent)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_average_is_written_whole_and_can_be_written_again(run):
    assert average(run).returncode == 0
    output = run.parent / "averaged"
    expected = names_in(output)
    model = ksd.models.Preset.open(output).load()
    # Killed at the start, or between two of its files.
    (output / "config.json").unlink()
    (output / ".lock").write_text("process 1 on elsewhere\n")
    assert average(run).returncode == 0
    assert names_in(output) == expected
    again = ksd.models.Preset.open(output).load()
    pairs = zip(model.weights, again.weights, strict=True)
    for a, b in map(values_of, pairs):
        np.testing.assert_array_equal(a, b)
    assert names_in(run.parent) == ["averaged", "run"]


def test_what_is_no_average_is_not_replaced(run):
    for name in (run / "preset", run):
        (run / "preset" / "recipe.json").write_text("{}")
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        error = error_line(average(run, name))
        assert "holds something else than an average" in error
        after = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        assert after == before


def test_one_process_writes_an_average(run):
    with locked_folder(run.parent / "averaged"):
        assert "is in use by process" in error_line(average(run))


def test_errors_leave_nothing_behind(run):
    inside = run / "preset" / "config.json" / "averaged"
    assert "cannot be written" in error_line(average(run, inside))
    for path in (run / "snapshots").iterdir():
        path.unlink()
    assert "has no snapshots" in error_line(average(run))
    assert names_in(run.parent) == ["run"]


@pytest.mark.parametrize(
    "change",
    [
        {"profile": {}},
        {"profile": 3},
        {"profile": {"class_name": "Dense", "module": "keras.layers"}},
        {"num_updates": "2"},
        {"num_updates": 10**15},
        {"num_updates": 0},
        {"num_updates": None},
    ],
)
def test_foreign_snapshots_are_one_line(run, change):
    path = run / "snapshots" / "00000002-0.npz"
    model = ksd.models.Preset.open(run).load()
    meta, arrays = write_snapshot(path, model, PROFILES[0])
    meta |= change
    np.savez(path, **{"meta.json": json.dumps(meta)}, **arrays)
    with pytest.raises(InputError) as error:
        reconstruct(run, PROFILES[0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["cut", "text", "pickled", "shape", "missing"])
def test_damaged_snapshots_are_one_line(run, kind):
    path = run / "snapshots" / "00000002-1.npz"
    model = ksd.models.Preset.open(run).load()
    meta, arrays = write_snapshot(path, model, PROFILES[1])
    name = next(iter(arrays))
    if kind == "pickled":
        arrays[name] = np.array([{}], object)
    elif kind == "shape":
        arrays[name] = arrays[name].reshape(-1)
    elif kind == "missing":
        del arrays[name]
    np.savez(path, **{"meta.json": json.dumps(meta)}, **arrays)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "text":
        path.write_text("text")
    with pytest.raises(InputError, match="is not a snapshot of the run") as e:
        reconstruct(run, PROFILES[0])
    assert "\n" not in str(e.value) and pathlib.Path(path).exists()
