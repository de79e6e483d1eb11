"""The folder of a run: its files, and how a run is saved and restored."""

import contextlib
import json
import os
import pathlib
import zipfile

import numpy as np

from keras_simple_diffusion.backend.native import from_main_process
from keras_simple_diffusion.data.loading import PACKAGED
from keras_simple_diffusion.data.loading import parts_of
from keras_simple_diffusion.distribution.processes import entered_by_main
from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.training.checkpoint import Checkpoints
from keras_simple_diffusion.training.checkpoint import capture_state
from keras_simple_diffusion.training.checkpoint import restore_state
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import is_unused
from keras_simple_diffusion.utils.files import locked_folder
from keras_simple_diffusion.utils.files import to_path
from keras_simple_diffusion.utils.files import whole_file


class RunFolder:
    """Everything that a run writes, and reads when it is resumed.

    A run can be resumed once its checkpoint and `config.json` exist.
    `resume_run` continues from these and the configuration in `preset/`; all
    other files are results.

    Args:
        path: path of the folder.
        keep: int. Number of checkpoints to keep. Defaults to `3`.
    """

    def __init__(self, path, keep=3):
        self.path = to_path(path)
        self.preset_folder = self.path / "preset"
        self.history = self.path / "history.csv"
        self.samples = self.path / "samples"
        self.snapshots = self.path / "snapshots"
        self.failure = self.path / "failure"
        self.checkpoints = Checkpoints(self.path / "checkpoints", keep)

    def check_is_free(self):
        """Raise an `InputError` if the folder holds anything.

        A start that was killed before `config.json` counts as nothing. All
        processes must call it; the main one decides for all.
        """
        is_free = is_unused(self.path, ("preset", "checkpoints", "samples"))
        if not from_main_process(np.array(is_free)):
            raise InputError(
                f"'{self.path}' holds something already. Choose another "
                "--output, or continue the run there: train --resume "
                f"{self.path}"
            )

    def check_is_outside(self, data):
        """Raise an `InputError` if the run would lie among its own images.

        Its samples and plots would be images of the next training.

        Args:
            data: string, see `keras_simple_diffusion.data.open_data`.
        """
        for name in parts_of(data)[0] or [data]:
            folder = pathlib.Path(name)
            if (
                name not in PACKAGED
                and folder.is_dir()
                and self.path.resolve().is_relative_to(folder.resolve())
            ):
                raise InputError(
                    f"The run '{self.path}' would lie among its own images in "
                    f"'{name}'. Choose an --output outside of that folder."
                )

    def check_entries(self):
        """Raise an `InputError` if writing could leave the folder.

        A run writes to regular files inside its folder only; links that came
        with somebody else's run could lead anywhere.
        """
        for folder, names, files in os.walk(self.path):
            is_top = pathlib.Path(folder) == self.path
            for name in names + files * is_top:
                path = pathlib.Path(folder) / name
                if path.is_symlink() or not (path.is_file() or path.is_dir()):
                    raise InputError(
                        f"'{path}' is no regular file or folder, so the run "
                        "is not resumed. Put a copy of the content in its "
                        "place."
                    )

    @contextlib.contextmanager
    def held(self):
        """Hold the folder for this run alone, and remove drafts in it.

        All processes must enter it; the main one holds the folder.

        Raises:
            InputError: if another process holds it.
        """
        with entered_by_main(locked_folder(self.path)):
            yield

    def write_settings(self, settings):
        """Write `config.json`, and the recipe into the preset.

        The preset then describes the run completely: another run can be
        started with it.

        Args:
            settings: `RunSettings`.
        """
        if not is_main_process():
            return
        recipe = settings.to_dict()["recipe"]
        with whole_file(self.preset_folder / "recipe.json") as draft:
            draft.write_text(json.dumps(recipe, indent=2) + "\n")
        settings.write(self.path)

    def save(self, model, position, interval):
        """Write the preset with the averaged weights, then a checkpoint.

        All processes must call it; the main one writes. The checkpoint is
        last: if the preset cannot be written, the run is resumed before it.

        Args:
            model: the compiled `DiffusionModel` or `TextToImage`.
            position: `Position` of the run.
            interval: int. Steps between lines of the log.

        Raises:
            OSError: if preset or checkpoint cannot be written, in every
                process. Earlier checkpoints are untouched then.
        """
        problem = None
        try:
            model.save_to_preset(self.preset_folder)
        except (OSError, RuntimeError) as error:  # HDF5 raises RuntimeErrors.
            problem = error
        arrays = capture_state(model)
        if is_main_process() and problem is None:
            state = {
                "step": position.step,
                "seconds": round(position.seconds(), 3),
                "interval": interval,
            }
            try:
                self.checkpoints.save(position.step, arrays, state)
            except OSError as error:
                problem = error
        for _ in arrays:  # All processes take part in gathering all arrays.
            pass
        if from_main_process(np.array(problem is not None)):
            raise OSError(
                getattr(problem, "strerror", None)
                or str(problem or "the main process could not write")
            ) from problem

    def restore(self, model, position, interval):
        """Restore model and position from the latest checkpoint.

        Args:
            model: a `DiffusionModel` or `TextToImage` that is built and
                compiled like the one that was saved.
            position: `Position` of the run, which is set.
            interval: int. Steps between lines of the log from now on.

        Returns:
            A list of tuples of the metrics' variables and their values, for
            `RestoringMetrics`. It is empty at an interval boundary, where
            there is nothing to restore, and if the intervals have changed.

        Raises:
            InputError: if there is no intact checkpoint, or it is of another
                model.
        """
        found = self.checkpoints.latest()
        if found is None:
            raise InputError(
                f"The run at '{self.path}' cannot be resumed: there is no "
                f"checkpoint in '{self.checkpoints.folder}'. Restore one from "
                "a copy, or start a new run from its weights: train "
                f"--initialize-from {self.path}"
            )
        arrays, state = found
        try:
            with arrays:
                metrics = restore_state(model, arrays)
            position.step = int(state["step"])
            position.earlier_seconds = float(state["seconds"])
            is_same_interval = state["interval"] == interval
        except (KeyError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(
                f"The checkpoint of '{self.path}' is not one of this library: "
                f"{type(error).__name__}: {error}. Restore the folder from a "
                "copy."
            ) from error
        if is_main_process():  # A kill may have come before that.
            self.checkpoints.remove_before(position.step)
        is_divided = position.step % interval > 0
        return metrics if is_divided and is_same_interval else []
