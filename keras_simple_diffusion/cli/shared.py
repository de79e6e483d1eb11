"""Options, conditions and sheets that the drawing commands share."""

import contextlib
import dataclasses
import pathlib
import re
from typing import Annotated
from typing import Literal

import typer

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.terminal import say


def option(kind, *names, **settings):
    """Describe an option that may be left out.

    Args:
        kind: type of the value.
        *names: names on the command line, if not those of the parameter.
        **settings: arguments of `typer.Option`, such as `help`.

    Returns:
        The annotation of a parameter whose default is `None`.
    """
    return Annotated[kind | None, typer.Option(*names, **settings)]


Distribution = option(
    Literal["data"],
    help="data, to use all devices, and all processes of a cluster. "
    "(default: one device)",
)


@contextlib.contextmanager
def distributed(strategy):
    """Context in which a command uses all devices, of all processes.

    Args:
        strategy: string, see `keras_simple_diffusion.distribution.distribute`,
            or `None` for one device.
    """
    if strategy is None:
        yield
        return
    from keras_simple_diffusion import distribution

    distribution.initialize()
    with distribution.distribute(strategy):
        yield


_MAX_SHEET = 10**8  # Pixels on a sheet.
MAX_IMAGES = 10**6

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
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        help="Describe the image, for a model of texts; can be repeated: "
        "prompts are drawn in turn.",
    ),
]
NegativePrompt = Annotated[
    str | None, typer.Option(help="Negative prompt: what to avoid.")
]
Portrait = Annotated[
    bool,
    typer.Option(
        "--portrait",
        help="Generate portrait images (models with a portrait flag).",
    ),
]
Steps = Annotated[
    int | None, typer.Option(help="Sampling steps. (default: the model's)")
]
Guidance = Annotated[
    float | None,
    typer.Option(help="Guidance scale; 1 is none. (default: the model's)"),
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
    Literal["time", "log_snr", "power"] | None,
    typer.Option(help="Spacing of the steps. (default: time)"),
]
Scale = option(
    int,
    min=1,
    max=64,
    help="Factor by which a sheet enlarges images, without smoothing. "
    "(default: the smallest that makes them 64 pixels high)",
)
GuidanceInterval = option(
    str, help="Log-SNRs LOW,HIGH between which guidance applies."
)
Output = Annotated[
    str, typer.Option(help="The sheet of images, a .png or .webp file.")
]


def load_model(name, like=None):
    """Load the model of a run or preset, of classes or of texts.

    Args:
        name: string.
        like: path of the image whose settings the name may be from, or `None`.
    """
    from keras_simple_diffusion.models import Preset

    try:
        preset = Preset.open(name)
    except InputError as error:
        if like is None:
            raise
        raise InputError(
            f"The model '{name}' of '{like}' is not found here. Say where it "
            "is, by --model and --guidance-model."
        ) from error
    if not preset.has_weights:
        raise InputError(
            f"The preset '{preset.name}' is a configuration without weights. "
            "Train it first: keras-simple-diffusion train --data FOLDER "
            f"--preset {preset.name} --output RUN"
        )
    return preset.load()


# Network evaluations, times images, that TensorFlow computes in the time of
# tracing a program (`benchmarks/startup.py`).
_FEW_EVALUATIONS = 16


def choose_execution(task, count, num_steps):
    """Let TensorFlow draw a few images in a few steps without a program.

    Args:
        task: a `DiffusionModel` or `TextToImage`.
        count: int. Number of images.
        num_steps: int.
    """
    from keras_simple_diffusion.backend import native

    is_short = count * num_steps <= _FEW_EVALUATIONS
    if native.backend_name() == "tensorflow" and native.num_devices() == 1:
        task.run_eagerly = is_short


def read_interval(text):
    """Read two log-SNRs from a string, or `None`."""
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


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Conditions that a command was asked for, one per image.

    Args:
        count: int. Number of images.
        lists: dict from the name of an argument of `generate`, `"labels"` or
            `"prompts"`, to a list of `count` values.
        common: dict of further arguments, for all images.
        captions: list of strings for a sheet, or `None`.
        labels: string or `None`. The value of `--labels` with numbers of
            classes: equal images have equal settings.
    """

    count: int
    lists: dict
    common: dict = dataclasses.field(default_factory=dict)
    captions: list | None = None
    labels: str | None = None

    def arguments(self, indices=None):
        """Return arguments of `generate`, for some of the images."""
        if indices is None:
            indices = range(self.count)
        chosen = {k: [v[i] for i in indices] for k, v in self.lists.items()}
        return {**chosen, **self.common}


def choose_conditions(
    task,
    labels=None,
    prompts=None,
    negative_prompt=None,
    portrait=False,
    num_images=None,
):
    """Turn the options of a command into conditions.

    Args:
        task: a `DiffusionModel` or `TextToImage`.
        labels: value of `--labels`.
        prompts: values of `--prompt`, repeated in turn.
        negative_prompt: value of `--negative-prompt`.
        portrait: bool.
        num_images: int or `None` for one image per label or prompt, 16 without.

    Returns:
        A `Wanted`.

    Raises:
        InputError: if an option does not fit the model.
    """
    if task.backbone.context_dim is None:
        has_classes = task.backbone.num_classes is not None
        hint = "is unconditional: it takes no text"
        if has_classes:
            hint = f"has classes: choose them by {_suggest(task, prompts)}"
        _check_unused(hint, "--prompt", prompts and prompts[0])
        _check_unused(hint, "--negative-prompt", negative_prompt)
        _check_unused(hint, "--portrait", portrait)
        chosen = _choose_labels(task, labels)
        if chosen is None:
            return Wanted(num_images or 16, {})
        count = num_images or len(chosen)
        repeated = [chosen[i % len(chosen)] for i in range(count)]
        captions = [_caption(task, label) for label in repeated]
        lists = {"labels": repeated}
        given = labels and ",".join(map(str, chosen))
        return Wanted(count, lists, captions=captions, labels=given)
    _check_unused("draws texts: pass them by --prompt", "--labels", labels)
    if not prompts:
        raise InputError(
            "The model draws images of texts: pass --prompt, such as "
            '--prompt "a red apple".'
        )
    count = num_images or len(prompts)
    chosen = [prompts[i % len(prompts)] for i in range(count)]
    common = {"negative_prompts": negative_prompt, "portrait": portrait}
    return Wanted(count, {"prompts": chosen}, common, chosen)


def _choose_labels(task, labels):
    """Choose the classes to draw in turn.

    Args:
        task: a `DiffusionModel`.
        labels: string of numbers and class names separated by commas, or
            `None` for all classes.

    Returns:
        A list of numbers of classes, `None` for an unconditional model.

    Raises:
        InputError: if the model has no such classes.
    """
    from keras_simple_diffusion.generation.conditions import find_labels

    num_classes = task.backbone.num_classes
    chosen = None
    if labels is not None:
        names = task.class_names or []
        chosen = [_to_label(part, names) for part in _split(labels, names)]
    elif num_classes is not None:
        chosen = list(range(num_classes))
    numbers = find_labels(chosen, num_classes, task.class_names)
    return None if numbers is None else numbers.tolist()


def _suggest(task, prompts):
    """Suggest `--labels`, with the classes that prompts name."""
    names = task.class_names or []
    found = [_to_label(prompt, names) for prompt in prompts or []]
    chosen = ",".join(str(label) for label in found if label in names)
    if not chosen:
        return "--labels"
    return f'--labels "{chosen}"' if " " in chosen else f"--labels {chosen}"


def _split(text, class_names):
    """Split at commas, except those inside of a class name."""
    parts, rest = [], text
    while rest is not None:
        for text in (rest, rest.lstrip()):
            names = [name for name in class_names if _begins(text, name)]
            if names:
                break
        part = text[: max(map(len, names), default=0)]
        if not names:
            part = text.partition(",")[0]
        parts.append(part)
        after = text[len(part) :]
        rest = after[1:] if after else None
    return parts


def _begins(text, name):
    """Tell if a list of names begins with a name, in any case of letters."""
    same = text[: len(name)].casefold() == name.casefold()
    return same and text[len(name) :][:1] in ("", ",")


def _to_label(text, class_names):
    """Return the class of a name in any case of letters, or a number."""
    if text in class_names:
        return text
    text = text.strip()
    if re.fullmatch("-?[0-9]{1,18}", text):
        return int(text)
    same = [n for n in class_names if n.casefold() == text.casefold()]
    return same[0] if len(same) == 1 else text


def _caption(task, label):
    if isinstance(label, str):
        return label
    if label == task.backbone.num_classes:
        return "(none)"
    names = task.class_names or ()
    return names[label] if 0 <= label < len(names) else str(label)


def _check_unused(hint, option, value):
    if value:
        value = "" if value is True else f" {value}"
        raise InputError(f"The model {hint}. Received: {option}{value}")


def is_sheet(output):
    """Tell an image file from a folder, by its suffix.

    Raises:
        InputError: if the suffix is that of a file of another kind.
    """
    path = pathlib.Path(output)
    suffix = path.suffix.lower()
    if suffix in (".png", ".webp", ".jpg", ".jpeg"):
        return True
    # The end of `samples_1.5` is no suffix.
    if re.fullmatch(r"\.[a-z]+", suffix) and not path.is_dir():
        raise InputError(
            "The output is a .png, .webp or .jpg file, or a folder. Received: "
            f"--output {output}"
        )
    return False


def check_sheet(output):
    """Raise an `InputError` unless an output is an image file."""
    if not is_sheet(output):
        raise InputError(
            "The sheet of images is a .png, .webp or .jpg file. Received: "
            f"--output {output}"
        )


def check_sheet_size(task, count, scale=None):
    """Raise an `InputError` if images are too many for one sheet.

    Args:
        task: a `DiffusionModel` or `TextToImage`.
        count: int. Number of images.
        scale: int or `None`, see `show`.
    """
    height, width, _ = task.backbone.image_shape
    pixels = max(height * width * (scale or 1) ** 2, 64 * 64)
    most = max(1, _MAX_SHEET // pixels)
    if count > most:
        raise InputError(
            f"A sheet holds at most {most:,} images of {height} x {width}"
            f"{f', times {scale}' if scale else ''}. Received: {count:,} "
            "images. Draw less, or `generate` them into a folder: --output "
            "FOLDER"
        )


def save_sheet(images, output, settings, **layout):
    """Write a sheet whole or not at all.

    Args:
        images: `uint8` array of shape `(N, H, W, C)`.
        output: path of the file.
        settings: dict, see `save_image`.
        **layout: arguments of `show`.
    """
    from keras_simple_diffusion.utils.files import whole_file
    from keras_simple_diffusion.utils.image_files import save_image
    from keras_simple_diffusion.utils.sheets import show

    with whole_file(output) as draft:
        save_image(show(images, **layout), draft, settings)


def read_image(path, task, smaller=1, portrait=False):
    """Read an image file, cropped and resized for a model.

    Args:
        path: string.
        task: a `DiffusionModel` or `TextToImage`.
        smaller: int. Factor by which it is smaller than the model's images.
            Defaults to `1`.
        portrait: bool. Whether it is an upright portrait. Defaults to
            `False`.

    Returns:
        A `uint8` array of shape `(H, W, C)`.
    """
    from keras_simple_diffusion.data.containers import read_file
    from keras_simple_diffusion.data.decoding import Decoder
    from keras_simple_diffusion.data.formats import UNREADABLE

    height, width, channels = task.backbone.image_shape
    if portrait:
        height, width = width, height
    decoder = Decoder((height // smaller, width // smaller), channels)
    try:
        return decoder(read_file(path))["images"]
    except UNREADABLE as error:
        raise InputError(f"'{path}' is not a readable image: {error}") from (
            error
        )


def say_where(count, output, seed=None):
    """Say how many images are in a file or folder, and their seed if any."""
    images = "1 image is" if count == 1 else f"{count} images are"
    note = "" if seed is None else f" (seed {seed})"
    say(f"{images} in {output}{note}")
