"""The folder of a run: its files, and the point at which a run is saved."""

import json
import pathlib

from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.training.checkpoint import Checkpoints
from keras_simple_diffusion.training.checkpoint import capture_state
from keras_simple_diffusion.training.checkpoint import restore_state
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file


class RunFolder:
    """Everything that a run writes, and reads when it is resumed.

    A run is saved when its checkpoint is. `resume_run` continues from
    `checkpoints/`, `config.json` and the configuration in `preset/`; all other
    files are results.

    Args:
        path: path of the folder.
        keep: int. Number of checkpoints to keep. Defaults to `3`.
    """

    def __init__(self, path, keep=3):
        self.path = pathlib.Path(path)
        self.preset = self.path / "preset"
        self.history = self.path / "history.csv"
        self.samples = self.path / "samples"
        self.snapshots = self.path / "snapshots"
        self.failure = self.path / "failure"
        self.checkpoints = Checkpoints(self.path / "checkpoints", keep)

    def check_is_free(self):
        """Raise an `InputError` if the folder holds anything."""
        if not self.path.exists():
            return
        if not self.path.is_dir() or any(self.path.iterdir()):
            raise InputError(
                f"'{self.path}' holds something already. Choose another "
                "--output, or continue the run there: train --resume "
                f"{self.path}"
            )

    def write_settings(self, settings):
        """Write `config.json`, and the recipe into the preset.

        The preset then describes the run completely: another run can be
        started with it.

        Args:
            settings: `RunSettings`.
        """
        if not is_main_process() or self._has(settings):
            return
        recipe = settings.to_dict()["recipe"]
        with whole_file(self.preset / "recipe.json") as draft:
            draft.write_text(json.dumps(recipe, indent=2) + "\n")
        settings.write(self.path)

    def save(self, model, position, settings):
        """Write a checkpoint, then the preset with the averaged weights.

        All processes must call it; the main one writes.

        Args:
            model: the compiled `DiffusionModel` or `TextToImage`.
            position: `Position` of the run.
            settings: `RunSettings`.

        Raises:
            OSError: if the checkpoint cannot be written. Earlier ones are
                untouched then.
        """
        state = {
            "step": position.step,
            "seconds": round(position.seconds(), 3),
            "settings": settings.to_dict(),
        }
        arrays = capture_state(model)
        if is_main_process():
            self.checkpoints.save(position.step, arrays, state)
        else:
            for _ in arrays:  # All processes take part in gathering them.
                pass
        model.save_to_preset(self.preset)

    def restore(self, model, position):
        """Restore model and position from the latest checkpoint.

        Args:
            model: a `DiffusionModel` or `TextToImage` that is built and
                compiled like the one that was saved.
            position: `Position` of the run, which is set.

        Returns:
            A list of tuples of the metrics' variables and their values, for
            `RestoringMetrics`; `None` if the run has no checkpoint yet.

        Raises:
            InputError: if no checkpoint is whole, or it is of another model.
        """
        found = self.checkpoints.latest()
        if found is None:
            return None
        arrays, state = found
        with arrays:
            metrics = restore_state(model, arrays)
        position.step = state["step"]
        position.earlier_seconds = state["seconds"]
        return metrics

    def _has(self, settings):
        """Return `True` if `config.json` holds these settings already."""
        try:
            return RunSettings.read(self.path) == settings
        except InputError:
            return False
