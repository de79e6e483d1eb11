"""Checkpoints of a run, each complete and verified or absent."""

import contextlib
import hashlib
import json
import pathlib
import warnings
import zipfile

import ml_dtypes
import numpy as np

from keras_simple_diffusion.distribution.processes import to_numpy
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import new_folder
from keras_simple_diffusion.utils.files import remove_folder
from keras_simple_diffusion.utils.files import sync

_ARRAYS = "arrays.npz"
_MANIFEST = "manifest.json"


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
        self._damaged = set()

    def steps(self):
        """List the steps of the checkpoints, in increasing order.

        Links are not checkpoints: what they lead to belongs to others.
        """
        return sorted(
            int(path.name)
            for path in self.folder.glob("[0-9]*")
            if path.name.isdecimal() and not path.is_symlink()
        )

    def save(self, step, arrays, state):
        """Write a checkpoint, and remove earlier ones than the latest `keep`.

        Checkpoints of later steps are left: this step was reached without
        them, so they are damaged or those of another course of the run.

        Args:
            step: int. Number of steps done.
            arrays: iterable of tuples `(name, array)`, read one at a time.
            state: dict of JSON types.

        Raises:
            OSError: if it cannot be written, or reads back differently. The
                earlier checkpoints are untouched then.
        """
        with new_folder(self._path(step)) as draft:
            digest = _write_arrays(draft / _ARRAYS, arrays)
            content = {"step": step, "state": state, "arrays_sha256": digest}
            content["sha256"] = _digest_of_json(content)
            _write(draft / _MANIFEST, json.dumps(content, indent=2).encode())
            problem = _problem_with(draft, step)
            if problem is not None:
                raise OSError(f"it reads back differently: {problem}")
        self._damaged.discard(step)
        self.remove_before(step)

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
        problems = []
        for step in reversed(self.steps()):
            folder = self._path(step)
            problem = _problem_with(folder, step)
            if problem is None:
                manifest = json.loads((folder / _MANIFEST).read_bytes())
                return np.load(folder / _ARRAYS), manifest["state"]
            self._damaged.add(step)
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

    def remove_before(self, step):
        """Remove what is older than the last intact ones up to a step.

        A folder without a manifest is none of ours, and stays.
        """
        ours = [
            each
            for each in self.steps()
            if each <= step and (self._path(each) / _MANIFEST).is_file()
        ]
        kept = [each for each in ours if each not in self._damaged]
        for old in ours[: ours.index(kept[-self.keep :][0])]:
            with contextlib.suppress(OSError):
                remove_folder(self._path(old))

    def _path(self, step):
        return self.folder / f"{step:08d}"


def _problem_with(folder, step):
    """Describe the damage of a checkpoint; `None` if it is intact."""
    for name in (_MANIFEST, _ARRAYS):
        path = folder / name
        if path.exists() and (path.is_symlink() or not path.is_file()):
            return f"{name} is no regular file"
    try:
        content = json.loads((folder / _MANIFEST).read_bytes())
        expected = content.pop("sha256")
        if _digest_of_json(content) != expected:
            return f"{_MANIFEST} has changed"
        if content["step"] != step:
            return f"{_MANIFEST} is of step {content['step']}"
        with (folder / _ARRAYS).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != content["arrays_sha256"]:
            return f"{_ARRAYS} has changed"
    except OSError as error:
        name = pathlib.Path(error.filename or folder).name
        return f"{name}: {error.strerror or error}"
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
    sync(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path, content):
    path.write_bytes(content)
    sync(path)


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
