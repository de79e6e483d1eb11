"""Checkpoints of a run: whole or not there, verified, the last few kept."""

import hashlib
import json
import os
import pathlib
import shutil
import warnings
import zipfile

import keras
import ml_dtypes
import numpy as np

from keras_simple_diffusion.distribution.processes import to_numpy
from keras_simple_diffusion.utils.errors import InputError

_ARRAYS = "arrays.npz"
_MANIFEST = "manifest.json"
_DRAFT = ".draft-"


class Checkpoints:
    """The checkpoints of a run, one folder each, named after their step.

    A folder holds `arrays.npz`, the arrays by name, and `manifest.json`: the
    state beside them, and the SHA-256 of both files. It is written aside, read
    back, and only then given its name; so whatever interrupts the writing, the
    checkpoints before it stay as they are.

    Args:
        folder: path of the folder of all checkpoints.
        keep: int. How many to keep, at least 2, so that there is one to fall
            back to. Defaults to `3`.
    """

    def __init__(self, folder, keep=3):
        if keep < 2:
            raise InputError(
                "At least 2 checkpoints must be kept, so that there is one to "
                f"fall back to. Received: keep={keep}"
            )
        self.folder = pathlib.Path(folder)
        self.keep = keep

    def steps(self):
        """Steps of the checkpoints there are, in increasing order."""
        return sorted(
            int(path.name)
            for path in self.folder.glob("[0-9]*")
            if path.name.isdigit()
        )

    def save(self, step, arrays, state):
        """Write a checkpoint, and remove those that are too old.

        Args:
            step: int. Number of steps done.
            arrays: iterable of tuples `(name, array)`, read one at a time.
            state: dict of JSON types.

        Raises:
            OSError: if it cannot be written, or reads back otherwise. The
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
                    f"it reads back otherwise: {_problem_with(draft)}"
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
        """The last checkpoint that is whole.

        Damaged ones are named in a warning and passed over.

        Returns:
            A tuple `(arrays, state)`: a mapping from names to NumPy arrays
            that reads each on access, and the state; `None` if there is no
            checkpoint at all.

        Raises:
            InputError: if there are checkpoints, and none is whole.
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
                f"The checkpoint {problems[-1]} is damaged and passed over; "
                "trying the one before.",
                stacklevel=2,
            )
        if problems:
            raise InputError(
                "No checkpoint is whole, so the run cannot go on: "
                f"{', '.join(problems)}. Bring one back from a copy, or start "
                "a new run."
            )
        return None


def _problem_with(folder):
    """What is wrong with a checkpoint, or `None`."""
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
    """All variables of a compiled and built model.

    Weights, states of random numbers, the optimizer's variables with the
    averages of the weights, and the metrics of the interval under way.

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


def read_state(model):
    """Yield names and values of the model's variables, one at a time."""
    for name, variable in variables_of(model).items():
        value = to_numpy(variable)
        if value.dtype.kind == "V":  # bfloat16, which NumPy cannot store.
            value = value.view("uint16")
        yield name, value


def write_state(model, arrays):
    """Give all variables of a model the values of `read_state`.

    Args:
        model: a `DiffusionModel` built and compiled like the one that was
            read.
        arrays: mapping from names to arrays.

    Returns:
        A list of the metrics' variables and their values, for
        `RestoringMetrics`.

    Raises:
        InputError: if they are not those of such a model.
    """
    variables = variables_of(model)
    if set(arrays.keys()) != set(variables):
        raise InputError(
            f"The checkpoint holds {len(arrays.keys())} arrays and the model "
            f"has {len(variables)} variables: it is of another model. Continue "
            "it with the version of the library that wrote it."
        )
    for name, variable in variables.items():
        value = arrays[name]
        if value.shape != tuple(variable.shape):
            raise InputError(
                f"The checkpoint's array for '{variable.path}' has the shape "
                f"{value.shape}, the model's {tuple(variable.shape)}: it is of "
                "another model."
            )
        if value.dtype == np.uint16:
            value = value.view(ml_dtypes.bfloat16)
        variable.assign(value)
    return [
        (variable, arrays[name])
        for name, variable in variables.items()
        if name.startswith("metrics-")
    ]


class RestoringMetrics(keras.callbacks.Callback):
    """Give metrics their values back, once, after `fit` has reset them.

    Args:
        values: list of tuples, a `keras.Variable` and its value.
    """

    def __init__(self, values):
        super().__init__()
        self.values = list(values)

    def on_epoch_begin(self, epoch, logs=None):
        for variable, value in self.values:
            variable.assign(value)
        self.values = []
