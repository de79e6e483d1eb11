"""What the commands that draw images share: options, model, labels, sheet."""

import pathlib
from typing import Annotated
from typing import Literal

import typer

from keras_simple_diffusion.utils.errors import InputError

Model = Annotated[
    str, typer.Option(help="Folder of a run, or a preset with weights.")
]
Labels = Annotated[
    str | None,
    typer.Option(
        help="Classes, by number or name, separated by commas and repeated in "
        "turn. (default: all)"
    ),
]
Steps = Annotated[
    int | None, typer.Option(help="Sampling steps. (default: the model's)")
]
Guidance = Annotated[
    float | None,
    typer.Option(help="Guidance; 1 is none. (default: the model's)"),
]
Seed = Annotated[int | None, typer.Option(help="(default: a random one)")]
SamplerName = Annotated[
    str | None,
    typer.Option(
        help="ddpm, ddim, heun or dpm, with arguments as in "
        "ddpm:variance_interpolation=1. (default: the model's)"
    ),
]
Spacing = Annotated[
    Literal["time", "log_snr", "power"],
    typer.Option(help="How the steps are spaced."),
]
Output = Annotated[str, typer.Option(help="The sheet of images, a .png file.")]


def load_model(name):
    """The `DiffusionModel` of a run or preset."""
    from keras_simple_diffusion.models.diffusion_model import DiffusionModel

    return DiffusionModel.from_preset(name)


def load_any_model(name):
    """The `DiffusionModel` or `TextToImage` of a run or preset."""
    from keras_simple_diffusion.models.loading import load_model

    return load_model(name)


def make_sampler(identifier):
    """Return the sampler that `--sampler` stands for, or `None`."""
    from keras_simple_diffusion import samplers

    return samplers.get(identifier)


def read_interval(text):
    """Two log-SNRs from a string, or `None`."""
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise InputError(
            "`--guidance-interval` is two log-SNRs, such as -3,3. Received: "
            f"{text}"
        ) from None
    if not low < high:
        raise InputError(
            "`--guidance-interval` is a lower and a higher log-SNR. Received: "
            f"{text}"
        )
    return low, high


def captions_of(task, labels):
    """What is written below images with labels, or `None`."""
    return labels and [_caption(task, label) for label in labels]


def _caption(task, label):
    if isinstance(label, str):
        return label
    if label == task.backbone.num_classes:
        return "(none)"
    return task.class_names[label] if task.class_names else str(label)


def is_sheet(output):
    """Whether an output is an image file rather than a folder.

    Raises:
        InputError: if it is a file of another kind.
    """
    suffix = pathlib.Path(output).suffix.lower()
    if suffix and suffix not in (".png", ".jpg", ".jpeg"):
        raise InputError(
            "The output is a .png or .jpg file, or a folder. Received: "
            f"--output {output}"
        )
    return bool(suffix)


def check_sheet(output):
    """Raise an `InputError` unless an output is an image file."""
    if not is_sheet(output):
        raise InputError(
            "The sheet of images is a .png or .jpg file. Received: "
            f"--output {output}"
        )


def save_sheet(images, output, **kwargs):
    """Write a sheet whole or not at all."""
    from keras_simple_diffusion.utils.files import whole_file
    from keras_simple_diffusion.utils.sheets import draw_sheet

    with whole_file(output) as draft:
        draw_sheet(images, **kwargs).save(draft)


def read_image(path, task, smaller=1):
    """An image file, cut and resized for a model.

    Args:
        path: string.
        task: a `DiffusionModel`.
        smaller: int. How many times smaller than the model's images.

    Returns:
        A `uint8` array of shape `(H, W, C)`.
    """
    from keras_simple_diffusion.data.decoding import UNREADABLE
    from keras_simple_diffusion.data.decoding import Decoder

    height, width, channels = task.backbone.image_shape
    decoder = Decoder((height // smaller, width // smaller), channels)
    try:
        return decoder(pathlib.Path(path).read_bytes())["images"]
    except UNREADABLE as error:
        raise InputError(f"'{path}' is not a readable image: {error}") from (
            error
        )
