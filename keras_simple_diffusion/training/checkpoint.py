"""Checkpoints of a run, each complete and verified or absent."""

import hashlib
import json
import os
import pathlib
import shutil
import warnings
import zipfile

import ml_dtypes
import numpy as np

from keras_simple_diffusion.distribution.processes import to_numpy
from keras_simple_diffusion.utils.errors import InputError

_ARRAYS = "arrays.npz"
_MANIFEST = "manifest.json"
_DRAFT = ".draft-"


class Checkpoints:
    """The checkpoints of a run, one folder each, named after their step.

    A folder holds `arrays.npz`, the arrays by name, and `manifest.json`, the
    other state and the SHA-256 of both files. It is written under a draft
    name, read back and then renamed, so an interruption at any moment leaves
    the earlier checkpoints intact.

    Args:
        folder: path of the folder of all checkpoints.
        keep: int. Number of checkpoints to keep, at least 2, so that a
            damaged one has a predecessor. Defaults to `3`.
    """

    def __init__(self, folder, keep=3):
        if keep < 2:
            raise InputError(
                "At least 2 checkpoints must be kept: a damaged one needs a "
                f"predecessor. Received: keep={keep}"
            )
        self.folder = pathlib.Path(folder)
        self.keep = keep

    def steps(self):
        """List the steps of the checkpoints, in increasing order."""
        return sorted(
            int(path.name)
            for path in self.folder.glob("[0-9]*")
            if path.name.isdigit()
        )

    def save(self, step, arrays, state):
        """Write a checkpoint, and remove all but the latest `keep`.

        Args:
            step: int. Number of steps done.
            arrays: iterable of tuples `(name, array)`, read one at a time.
            state: dict of JSON types.

        Raises:
            OSError: if it cannot be written, or reads back differently. The
                earlier checkpoints are untouched then.
        """
        target = self.folder / f"{step:08d}"
        draft = self.folder / f"{_DRAFT}{step:08d}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            digest = _write_arrays(draft / _ARRAYS, arrays)
            content = {"step": step, "state": state, "arrays_sha256": digest}
            content["sha256"] = _digest_of_json(content)
            _write(draft / _MANIFEST, json.dumps(content, indent=2).encode())
            if _problem_with(draft) is not None:
                raise OSError(
                    f"it reads back differently: {_problem_with(draft)}"
                )
            shutil.rmtree(target, ignore_errors=True)
            draft.rename(target)
            _sync_folder(self.folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.folder / f"{old:08d}", ignore_errors=True)

    def latest(self):
        """Open the latest intact checkpoint.

        Damaged ones are skipped with a warning.

        Returns:
            A tuple `(arrays, state)`: an open mapping from names to NumPy
            arrays that reads each on access, and the state; `None` if the run
            has no checkpoint.

        Raises:
            InputError: if all checkpoints are damaged.
        """
        steps = self.steps()
        problems = []
        for step in reversed(steps):
            folder = self.folder / f"{step:08d}"
            problem = _problem_with(folder)
            if problem is None:
                manifest = json.loads((folder / _MANIFEST).read_bytes())
                return np.load(folder / _ARRAYS), manifest["state"]
            problems.append(f"'{folder}' ({problem})")
            warnings.warn(
                f"The checkpoint {problems[-1]} is damaged and skipped; trying "
                "its predecessor.",
                stacklevel=2,
            )
        if problems:
            raise InputError(
                "All checkpoints are damaged, so the run cannot be resumed: "
                f"{', '.join(problems)}. Restore one from a copy, or start a "
                "new run."
            )
        return None


def _problem_with(folder):
    """Describe the damage of a checkpoint; `None` if it is intact."""
    try:
        content = json.loads((folder / _MANIFEST).read_bytes())
        expected = content.pop("sha256")
        if _digest_of_json(content) != expected:
            return f"{_MANIFEST} has changed"
        if content["step"] != int(folder.name.removeprefix(_DRAFT)):
            return f"{_MANIFEST} is of step {content['step']}"
        with (folder / _ARRAYS).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != content["arrays_sha256"]:
            return f"{_ARRAYS} has changed"
    except OSError as error:
        return f"{pathlib.Path(error.filename).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{_MANIFEST} cannot be read"
    return None


def _write_arrays(path, arrays):
    """Write arrays as NumPy does, one at a time in memory."""
    with zipfile.ZipFile(path, "w", allowZip64=True) as file:
        for name, array in arrays:
            # A fixed date: equal arrays make equal files.
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            with file.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(
                    member, np.asanyarray(array), allow_pickle=False
                )
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path, content):
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest_of_json(content):
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def variables_of(model):
    """Name all variables of a compiled and built model.

    These are weights, states of random numbers, the optimizer's variables
    with the averages of the weights, and the metrics of the current interval.

    Args:
        model: a `DiffusionModel` whose optimizer is built.

    Returns:
        A dict from names, the same in every process that builds the same
        model, to `keras.Variable`s.
    """
    groups = {
        "model": model.own_variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    return {
        f"{group}-{index:05d}": variable
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def capture_state(model):
    """Yield names and values of a model's variables, one at a time.

    Args:
        model: a compiled `DiffusionModel` whose optimizer is built.

    Yields:
        Tuples of a name of `variables_of` and a NumPy array.
    """
    for name, variable in variables_of(model).items():
        value = to_numpy(variable)
        if value.dtype.kind == "V":  # bfloat16, which NumPy cannot store.
            value = value.view("uint16")
        yield name, value


def restore_state(model, arrays):
    """Assign the values of `capture_state` to the variables of a model.

    Args:
        model: a `DiffusionModel` built and compiled like the one that was
            captured.
        arrays: mapping from names to arrays.

    Returns:
        A list of tuples of the metrics' variables and their values, for
        `RestoringMetrics`: `fit` resets them at its start.

    Raises:
        InputError: if names or shapes of the arrays are those of another
            model.
    """
    variables = variables_of(model)
    if set(arrays.keys()) != set(variables):
        raise InputError(
            f"The checkpoint is of another model: it holds "
            f"{len(arrays.keys())} arrays, and the model has {len(variables)} "
            "variables. Resume it with the version of the library that wrote "
            "it."
        )
    for name, variable in variables.items():
        value = arrays[name]
        if value.shape != tuple(variable.shape):
            raise InputError(
                f"The checkpoint's array for '{variable.path}' has the shape "
                f"{value.shape}, the model's {tuple(variable.shape)}: it is of "
                "another model. Resume the run with the version of the library "
                "that wrote it."
            )
        if value.dtype == np.uint16:
            value = value.view(ml_dtypes.bfloat16)
        variable.assign(value)
    return [
        (variable, arrays[name])
        for name, variable in variables.items()
        if name.startswith("metrics-")
    ]
