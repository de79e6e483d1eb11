"""Snapshots of averaged weights, and averages reconstructed from them."""

import contextlib
import json
import pathlib
import zipfile
import zlib

import keras
import numpy as np

from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.distribution.processes import to_numpy
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.optimizers import reconstruction
from keras_simple_diffusion.optimizers.averaged_optimizer import (
    AveragedOptimizer,
)
from keras_simple_diffusion.optimizers.profiles import AverageProfile
from keras_simple_diffusion.optimizers.profiles import PowerProfile
from keras_simple_diffusion.optimizers.wrapper import find_optimizer
from keras_simple_diffusion.training.lifecycle import result_warnings
from keras_simple_diffusion.utils.configurable import resolve
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_number
from keras_simple_diffusion.utils.files import whole_file

# Averages of lengths between and around these two are reconstructed from
# their snapshots.
PROFILES = (PowerProfile(0.05), PowerProfile(0.10))

_META = "meta.json"
_MAX_UPDATES = 10**9  # The time of a reconstruction grows with them.


class Snapshots(keras.callbacks.Callback):
    """Write the averages of `PROFILES` at equal distances of a run.

    Args:
        position: the run's `Position`.
        folder: path of the folder of snapshots.
        steps: int. Steps of the whole run.
        count: int. Number of snapshots in the whole run. Each is taken at the
            end of the interval that reaches its step.
        interval: int. Steps between lines of the log.
    """

    def __init__(self, position, folder, steps, count, interval):
        super().__init__()
        self.position = position
        self.folder = pathlib.Path(folder)
        self.steps = steps
        self.count = count
        self.taken = self._due(position.last_boundary(interval))

    def on_epoch_end(self, epoch, logs=None):
        due = self._due(self.position.step)
        if due == self.taken:
            return
        self.taken = due
        optimizer = find_optimizer(self.model.optimizer, AveragedOptimizer)
        count = int(keras.ops.convert_to_numpy(optimizer.num_averaged))
        for index, profile in enumerate(PROFILES):
            meta = {
                "profile": keras.saving.serialize_keras_object(profile),
                "num_updates": count,
            }
            arrays = {
                path: to_numpy(average)
                for path, average in optimizer.averages_by_path(profile).items()
            }
            if not is_main_process():
                continue
            name = f"{self.position.step:08d}-{index}.npz"
            path = self.folder / name
            with result_warnings(path), whole_file(path) as draft:
                np.savez(draft, **{_META: json.dumps(meta)}, **arrays)

    def _due(self, step):
        return step * self.count // self.steps


def reconstruct(run, profile):
    """Reconstruct an average of a run's weights from its snapshots.

    The average is that at the last snapshot.

    Args:
        run: path of the folder of a run that was trained with snapshots.
        profile: an `AverageProfile`, such as
            `keras_simple_diffusion.optimizers.PowerProfile(0.15)`.

    Returns:
        A tuple of the model with the averaged weights, and the relative
        distance of the reconstructed profile from `profile`, see
        `keras_simple_diffusion.optimizers.reconstruction`.

    Raises:
        InputError: if the run has no snapshots, or if they are damaged or of
            another model.

    Example:
    ```python
    model.save_to_preset("start")
    keras_simple_diffusion.training.train_run(
        "digits", "runs/digits", "start", steps=4, snapshots=2
    )
    model, distance = keras_simple_diffusion.training.reconstruct(
        "runs/digits", keras_simple_diffusion.optimizers.PowerProfile(0.15)
    )
    ```

    References:
        - [Karras et al., 2024](https://arxiv.org/abs/2312.02696), sec. 3
    """
    paths = sorted((pathlib.Path(run) / "snapshots").glob("*.npz"))
    if not paths:
        raise InputError(
            f"'{run}' has no snapshots to reconstruct an average from. Train "
            "with --snapshots 32, for example."
        )
    snapshots = [_read_meta(path) for path in paths]
    last = max(count for _, count in snapshots)
    shares, distance = reconstruction.coefficients(snapshots, (profile, last))
    model = Preset.open(run).load()
    shapes = {w.path: tuple(w.shape) for w in model.trainable_variables}
    arrays = reconstruction.combine(
        (_read_arrays(path, shapes) for path in paths), shares
    )
    for weight in model.trainable_variables:
        weight.assign(arrays[weight.path])
    return model, distance


def _read_meta(path):
    """Read the profile of a snapshot and its number of updates."""
    with _opened(path) as file:
        meta = json.loads(str(file[_META]))
        profile = resolve(AverageProfile, dict(meta["profile"]), {})
        count = meta["num_updates"]
        check_number("num_updates", count, 1, _MAX_UPDATES, whole=True)
        return profile, count


def _read_arrays(path, shapes):
    """Read the averages of a snapshot, of the weights of a model."""
    with _opened(path) as file:
        arrays = {name: file[name] for name in shapes}
        if {name: array.shape for name, array in arrays.items()} != shapes:
            raise ValueError("its arrays have other shapes than the weights")
        return arrays


@contextlib.contextmanager
def _opened(path):
    """Open a snapshot; errors while it is read become one line."""
    try:
        if not path.is_file():
            raise OSError("it is no regular file")
        with path.open("rb") as file, np.load(file) as arrays:
            yield arrays
    except (
        AttributeError,
        EOFError,
        KeyError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = str(error).partition("\n")[0][:200]
        raise InputError(
            f"'{path}' is not a snapshot of the run's model: {reason}. Remove "
            "it, or restore it from a copy."
        ) from error
