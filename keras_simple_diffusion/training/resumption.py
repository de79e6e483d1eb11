"""Continuation of a run, whatever it trains."""

import pathlib

from keras_simple_diffusion.backend.choice import check_training
from keras_simple_diffusion.data.folders import has_images
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.training import setup
from keras_simple_diffusion.training import students
from keras_simple_diffusion.training.folder import RunFolder
from keras_simple_diffusion.training.run import Run
from keras_simple_diffusion.training.run import distributed
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.utils.errors import InputError


def resume_run(output, steps=None, minutes=None, data=None):
    """Continue a run of `train_run` or `distill_run` from its last checkpoint.

    The result is the same as that of a run without interruption. With a new
    number of `steps` it is not: the learning rate depends on it, and the steps
    done keep theirs. A run that has reached its end is not trained further.

    Args:
        output: path of the run folder.
        steps: int or `None`. New number of steps of the whole run.
        minutes: float or `None`. New maximum training time of the whole run.
        data: string or `None`. New place of the same images.

    Returns:
        The trained `DiffusionModel` or `TextToImage`.

    Raises:
        InputError: if the folder holds no run, its images have changed, or
            all checkpoints are missing or damaged.
        Interrupted: if a signal ended the training; the run is saved.
    """
    check_training()
    folder = RunFolder(output)
    settings = RunSettings.read(output).override(steps, minutes, data)
    place = pathlib.Path(settings.data)
    if place.is_absolute() and not has_images(place):
        raise InputError(
            f"The images of the run are no longer at '{place}'. Bring them "
            "back, or pass their new place by --data (in Python `data`)."
        )
    folder.check_entries()
    preset = Preset.open(folder.preset_folder)
    with distributed(settings, preset), folder.held():
        images, build = _parts(preset, settings)
        run = Run(output, settings, images, build)
        run.restore()
        return run.train()


def _parts(preset, settings):
    """Return the images of a run, and the function that builds its trainer."""
    if settings.student is None:
        images = setup.RunImages(preset, settings)
        return images, lambda: setup.build_model(preset, images, settings)
    # The checkpoint has the weights of the teacher, too.
    dtype = {"dtype": settings.dtype}
    model = preset.load(load_weights=False, **dtype, **preset.guide(**dtype))
    images = students.open_images(model, preset, settings)
    return images, lambda: students.build_distillation(model, images, settings)
