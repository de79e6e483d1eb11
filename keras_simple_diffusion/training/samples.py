import pathlib

import keras
import numpy as np

from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.sheets import draw_sheet


class Samples(keras.callbacks.Callback):
    """Draw a sheet of images, from the same noise, every so many steps.

    Args:
        position: the run's `Position`.
        folder: path of the folder of sheets, named after their steps.
        every: int. Steps between sheets; they are drawn at the end of the
            interval that reaches them.
        seed: int.
        prompts: list of strings for a model of texts, else `None`.
    """

    def __init__(self, position, folder, every, seed=0, prompts=None):
        super().__init__()
        self.position = position
        self.folder = pathlib.Path(folder)
        self.every = every
        self.seed = seed
        self.prompts = prompts
        self.drawn = position.step // every

    def on_epoch_end(self, epoch, logs=None):
        step = self.position.step
        if step // self.every == self.drawn:
            return
        self.drawn = step // self.every
        sheet = draw_samples(self.model, self.seed, self.prompts)
        if is_main_process():
            with whole_file(self.folder / f"{step:08d}.png") as draft:
                sheet.save(draft)


def draw_samples(model, seed=0, prompts=None, per_class=10):
    """A sheet of generated images, one class a row for up to 10 classes.

    Args:
        model: a `DiffusionModel` or `TextToImage`, whose defaults of sampling
            are used.
        seed: int. Defaults to `0`.
        prompts: list of strings, one an image, for a `TextToImage`.
        per_class: int. Number of columns. Defaults to `10`.

    Returns:
        A `PIL.Image.Image`.
    """
    if prompts is not None:
        return draw_sheet(model.generate(prompts, seed=seed), captions=prompts)
    num_classes = model.backbone.num_classes
    if num_classes is None:
        return draw_sheet(model.generate(per_class**2, seed=seed), per_class)
    classes = np.linspace(0, num_classes - 1, min(num_classes, 10))
    classes = classes.round().astype("int32")
    images = model.generate(labels=np.repeat(classes, per_class), seed=seed)
    names = model.class_names or [str(i) for i in range(num_classes)]
    return draw_sheet(images, per_class, row_names=[names[i] for i in classes])
