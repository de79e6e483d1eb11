"""The settings in the file of an image: what it was drawn with."""

import numbers
import pathlib
import secrets
import warnings

from keras_simple_diffusion.cli.shared import MAX_IMAGES
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.image_sizes import size_as_text

_MAX_SEED = 10**9  # Of random seeds, which people copy.
_MODEL = "model_content"
# Types of the settings that `generate` repeats.
_TYPES = {
    "model": str,
    "num_images": int,
    "number": int,
    "labels": str,
    "prompt": list,
    "negative_prompt": str,
    "portrait": bool,
    "image_size": str,
    "steps": int,
    "guidance": numbers.Real,
    "guidance_interval": str,
    "guidance_rescale": numbers.Real,
    "guidance_model": str,
    "sampler": str,
    "spacing": str,
    "clipping": str,
    "seed": int,
}


def read(path):
    """Read what `generate` needs to draw an image again.

    Args:
        path: path of a `.png` or `.webp` file that `generate` wrote.

    Returns:
        A dict from names of options to values.

    Raises:
        InputError: if the file holds no such settings.
    """
    from keras_simple_diffusion.utils.image_files import read_settings

    settings = read_settings(path)
    command = settings.pop("command", None)
    if command != "generate":
        raise InputError(
            "`--like` repeats images of `generate`. Received: "
            f"'{path}', which is of `{command}`."
        )
    known = {k: v for k, v in settings.items() if k in {*_TYPES, _MODEL}}
    is_valid = all(isinstance(known[k], _TYPES.get(k, str)) for k in known)
    if (
        not is_valid
        or not all(isinstance(each, str) for each in known.get("prompt", []))
        or not 0 <= known.get("number", 0) < MAX_IMAGES
        or not 1 <= known.get("num_images", 1) <= MAX_IMAGES
    ):
        raise InputError(
            f"The settings in '{path}' are damaged. Pass a whole copy of it."
        )
    return {"num_images": 1, **known}


def describe(task, model, wanted, guide=None, seed=None, **options):
    """Describe all that images depend on, beside their conditions.

    Args:
        task: a `DiffusionModel` or `TextToImage`.
        model: string, the name that it was loaded by.
        wanted: a `Wanted`.
        guide: string or `None`, the name of `options["guidance_model"]`.
        seed: int or `None` for a random one.
        **options: of `SamplingOptions`; they are checked.

    Returns:
        A dict of JSON values.
    """
    from keras_simple_diffusion.generation.arguments import SamplingOptions
    from keras_simple_diffusion.generation.conditions import Conditions
    from keras_simple_diffusion.models.content import model_digest
    from keras_simple_diffusion.samplers import log_snr_grid

    if seed is None:
        seed = secrets.randbelow(_MAX_SEED)
    options = SamplingOptions(seed=seed, **options)
    options = options.resolve(task, Conditions(1, wanted.lists))
    log_snr_grid(task.schedule, options.num_steps, options.spacing)
    weak = options.guidance_model
    size = {}
    if options.image_size != task.backbone.image_shape[:2]:
        size["image_size"] = size_as_text(options.image_size)
    return {
        "model": short_name(model),
        _MODEL: model_digest(task),
        "guidance_model": guide and short_name(guide),
        "guidance_model_content": weak and model_digest(weak),
        **options.describe(),
        **size,
    }


def short_name(model):
    """Name a model without its place on this machine.

    Args:
        model: string. A built-in name, a handle, or the folder of a run or a
            preset.

    Returns:
        A string.
    """
    if "://" in model:
        return model
    path = pathlib.Path(model).resolve()
    return path.parent.name if path.name == "preset" else path.name


def check_is_same_model(before, now, path):
    """Warn if settings are repeated with another model.

    Args:
        before: dict of the settings of an image, empty if none is repeated.
        now: dict of the settings of new images.
        path: path of the image.
    """
    if before.get(_MODEL) not in (None, now[_MODEL]):
        warnings.warn(
            f"The model is not the one that drew '{path}': its weights or its "
            "configuration differ. The images will, too.",
            stacklevel=2,
        )
