"""Drawings that visitors ask for: checked, bounded, followed step by step."""

import collections
import dataclasses
import math
import pathlib
import queue
import re
import secrets
import shutil
import threading

import numpy as np
from PIL import Image

from keras_simple_diffusion.generation.arguments import SamplingOptions
from keras_simple_diffusion.generation.conditions import Conditions
from keras_simple_diffusion.generation.conditions import find_labels
from keras_simple_diffusion.generation.programs import DrawingStep
from keras_simple_diffusion.models.content import model_digest
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integer
from keras_simple_diffusion.utils.image_files import save_image
from keras_simple_diffusion.utils.sheets import to_pil

MAX_STEPS = 512
MAX_TEXT = 500  # Characters of a prompt.
SAMPLERS = ("ddpm", "ddim", "heun", "dpm")
_MAX_IMAGES = 16
_MAX_VALUES = 2**22  # Pixels drawn at once.
_MAX_SHOWN = 40  # Steps of a drawing that are shown.
_MAX_FILES = 2000  # Files that are kept, of all visitors.
_MAX_SEED = 10**9  # Of random seeds, which people copy.


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a drawing, as a visitor chose them.

    Args:
        classes: list of class numbers, drawn in turn. Empty for all of them.
        prompt: string, for a model of texts.
        negative_prompt: string, for a model of texts.
        count: int. Number of images.
        seed: int or `None` for a random one.
        steps: int or `None` for the model's.
        guidance: float or `None` for the model's.
        low: float or `None`, the lowest log-SNR that is guided.
        high: float or `None`, the highest one.
        sampler: string, one of `SAMPLERS`, or `None` for the model's.
        first: int. The number of the first image of the seed.
    """

    classes: list = dataclasses.field(default_factory=list)
    prompt: str = ""
    negative_prompt: str = ""
    count: int = 1
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    low: float | None = None
    high: float | None = None
    sampler: str | None = None
    first: int = 0

    def check(self, max_images):
        """Raise an `InputError` if a setting exceeds its bounds."""
        for name in ("prompt", "negative_prompt"):
            if len(getattr(self, name) or "") > MAX_TEXT:
                raise InputError(f"A prompt has at most {MAX_TEXT} characters.")
        if self.sampler not in (None, *SAMPLERS):
            raise InputError(f"The samplers are {', '.join(SAMPLERS)}.")
        for name, most in (("count", max_images), ("steps", MAX_STEPS)):
            value = getattr(self, name)
            if value is not None and check_integer(name, value) > most:
                raise InputError(
                    f"`{name}` is at most {most} here. Received: {value}"
                )
        check_integer("seed", self.seed, 0, optional=True)
        check_integer("first", self.first, 0)

    @property
    def interval(self):
        """The tuple of log-SNRs between which to guide, or `None`."""
        if self.low is None and self.high is None:
            return None
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        # Finite numbers, beyond every schedule.
        return max(low, -1000.0), min(high, 1000.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """An image that a visitor has drawn, kept in a file.

    Args:
        caption: string.
        settings: `Settings` of this image alone.
        recorded: dict, the settings in the file.
        path: string. The `.png` file.
    """

    caption: str
    settings: Settings
    recorded: dict
    path: str

    @property
    def image(self):
        """The image, a `uint8` array of shape `(H, W, C)`."""
        try:
            with Image.open(self.path, formats=["PNG"]) as image:
                pixels = np.asarray(image)
        except OSError:
            raise InputError(
                "The image is no longer kept: draw it again."
            ) from None
        return pixels if pixels.ndim == 3 else pixels[..., None]


class Studio:
    """A model that draws for several visitors at once.

    Nothing of a drawing is kept here except for its files: the settings of
    one visitor cannot enter the images of another.

    Args:
        task: a `DiffusionModel` or `TextToImage`.
        name: string. The model's name, for the settings in files.
        folder: path of a folder for files, of this process alone.
        at_once: int. Number of drawings that are computed at once. Defaults
            to `2`.
    """

    def __init__(self, task, name, folder, at_once=2):
        self.task = task
        self.name = name
        self.folder = pathlib.Path(folder)
        self.at_once = at_once
        self._model = {"model": name, "model_content": model_digest(task)}
        self._slots = threading.BoundedSemaphore(at_once)
        self._folders = collections.deque()

    @property
    def takes_text(self):
        """`True` if the model draws images of texts."""
        return self.task.backbone.context_dim is not None

    @property
    def max_images(self):
        """The number of images that one drawing has at most."""
        height, width, _ = self.task.backbone.image_shape
        return max(1, min(_MAX_IMAGES, _MAX_VALUES // (height * width)))

    def generate(self, settings):
        """Draw images from noise.

        Args:
            settings: `Settings`.

        Yields:
            `DrawingStep`s, and at the end the list of `Drawn`.
        """
        yield from self._draw("generate", settings, self.task.generate)

    def vary(self, settings, image, strength):
        """Make variations of an image.

        Args:
            settings: `Settings`.
            image: `uint8` array of the model's shape.
            strength: float in `[0, 1]`, see `DiffusionTask.edit`.

        Yields:
            See `generate`.
        """
        images = _repeat(image, settings.count)
        recorded = {"strength": strength}
        yield from self._draw(
            *("edit", settings, self.task.edit, recorded),
            images=images,
            strength=strength,
        )

    def inpaint(self, settings, image, mask):
        """Draw a part of an image anew.

        Args:
            settings: `Settings`.
            image: `uint8` array of the model's shape.
            mask: bool array of shape `(H, W)`, `True` where to draw.

        Yields:
            See `generate`.
        """
        if not mask.any():
            raise InputError("Paint over the part that is to be drawn anew.")
        yield from self._draw(
            *("inpaint", settings, self.task.inpaint, {}),
            images=_repeat(image, settings.count),
            mask=mask,
        )

    def upscale(self, settings, image, factor):
        """Make an image smaller, and draw large images that it may come from.

        Args:
            settings: `Settings`.
            image: `uint8` array of the model's shape.
            factor: int that divides height and width.

        Yields:
            See `generate`.
        """
        height, width, channels = image.shape
        if factor not in self.factors:
            raise InputError(
                f"The factor is one of {', '.join(map(str, self.factors))}."
            )
        blocks = (height // factor, factor, width // factor, factor, channels)
        small = image.reshape(blocks).mean((1, 3)).round().astype("uint8")
        yield from self._draw(
            *("upscale", settings, self.task.upscale, {"factor": factor}),
            images=_repeat(small, settings.count),
        )

    @property
    def factors(self):
        """The factors by which `upscale` may enlarge."""
        height, width, _ = self.task.backbone.image_shape
        return [f for f in (2, 4, 8, 16) if height % f == 0 == width % f]

    def interpolate(self, settings, first, second):
        """Draw images between two others.

        Args:
            settings: `Settings`.
            first: int, a seed, or an image of the model's shape.
            second: like `first`.

        Yields:
            See `generate`.
        """
        ends = [first, second]
        names = ["given" if isinstance(e, np.ndarray) else e for e in ends]
        for name in names:
            if name != "given":
                check_integer("seed", name, 0)
        # One class, or none, and the sampler without noise of its own.
        classes = settings.classes[:1] or [self.task.backbone.num_classes]
        settings = dataclasses.replace(
            settings, classes=classes, sampler="ddim", seed=0, first=0
        )
        recorded = {"first": names[0], "second": names[1], "seed": None}
        if "given" in names:  # Then the image is reached.
            settings = dataclasses.replace(settings, guidance=1.0)
        yield from self._draw(
            *("interpolate", settings, self.task.interpolate, recorded),
            first=ends[0],
            second=ends[1],
            num_images=settings.count,
        )

    def choose(self, settings):
        """Turn the conditions that a visitor chose into arguments.

        Args:
            settings: `Settings`.

        Returns:
            A tuple of the arguments of `generate`, of the settings to record
            and of a list of captions.
        """
        numbers = range(settings.first, settings.first + settings.count)
        if self.takes_text:
            prompt = settings.prompt or ""
            chosen = {
                "prompts": [prompt] * len(numbers),
                "negative_prompts": settings.negative_prompt or None,
            }
            recorded = {
                "prompt": [prompt],
                "negative_prompt": settings.negative_prompt or None,
            }
            return chosen, recorded, [prompt] * len(numbers)
        count = self.task.backbone.num_classes
        if count is None:
            return {}, {}, [""] * len(numbers)
        given = list(settings.classes or [])
        labels = find_labels(
            given or list(range(count)), count, self.task.class_names
        ).tolist()
        in_turn = [labels[i % len(labels)] for i in numbers]
        names = self.task.class_names or list(map(str, range(count)))
        captions = [[*names, "(none)"][label] for label in in_turn]
        recorded = {"labels": ",".join(map(str, labels)) if given else None}
        return {"labels": in_turn}, recorded, captions

    def _draw(self, command, settings, method, recorded=None, **arguments):
        settings.check(self.max_images)
        if settings.seed is None:
            seed = secrets.randbelow(_MAX_SEED)
            settings = dataclasses.replace(settings, seed=seed)
        chosen, conditions, captions = self.choose(settings)
        options = {
            "num_steps": settings.steps,
            "guidance_scale": settings.guidance,
            "guidance_interval": settings.interval,
            "sampler": settings.sampler,
            "seed": settings.seed,
        }
        resolved = SamplingOptions(**options).resolve(
            self.task, Conditions(settings.count, chosen)
        )
        recorded = {
            "command": command,
            **conditions,
            **self._model,
            **resolved.describe(),
            **(recorded or {}),
        }
        if command == "generate" and not chosen:
            arguments["num_images"] = settings.count
        numbers = list(range(settings.first, settings.first + settings.count))

        def draw(on_step_end):
            return method(
                **arguments,
                **chosen,
                **options,
                indices=numbers,
                on_step_end=on_step_end,
            )

        for event in follow(draw, self._slots):
            if isinstance(event, DrawingStep):
                yield event
            else:
                yield [
                    self._keep(image, settings, number, caption, recorded)
                    for image, number, caption in zip(
                        event, numbers, captions, strict=True
                    )
                ]

    def _keep(self, image, settings, number, caption, recorded):
        """Write the file of an image, with its settings, and return `Drawn`."""
        recorded = {
            **recorded,
            "number": number,
            "num_images": 1,
            "captions": [caption] if caption else None,
        }
        # Nobody can guess the place of another visitor's image.
        folder = self.folder / secrets.token_urlsafe(16)
        folder.mkdir(parents=True)
        name = re.sub(r"[^\w.-]+", "_", self.name)
        path = folder / f"{name}-{settings.seed}-{number}.png"
        save_image(to_pil(image), path, recorded)
        self._folders.append(folder)
        while len(self._folders) > _MAX_FILES:
            shutil.rmtree(self._folders.popleft(), ignore_errors=True)
        own = dataclasses.replace(settings, count=1, first=number)
        return Drawn(caption, own, recorded, str(path))


def follow(draw, slots):
    """Run a drawing in a thread of its own, and yield its steps.

    If the generator is closed, the drawing ends after its current step.

    Args:
        draw: function of `on_step_end` that returns images.
        slots: semaphore that bounds the drawings computed at once.

    Yields:
        Up to 40 `DrawingStep`s, and at the end the images.
    """
    events = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(event):
        while not stopped.is_set():
            try:
                return events.put(event, timeout=0.1)
            except queue.Full:
                pass
        raise _StoppedError

    def show(step):
        if stopped.is_set():
            raise _StoppedError
        every = math.ceil(step.num_steps / _MAX_SHOWN)
        if step.number % every == 0:
            put(step)

    def work():
        try:
            with slots:
                images = None if stopped.is_set() else draw(show)
            put(images)
        except _StoppedError:
            pass
        except Exception as error:
            try:
                put(error)
            except _StoppedError:
                pass

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            event = events.get()
            if isinstance(event, Exception):
                raise event
            yield event
            if not isinstance(event, DrawingStep):
                return
    finally:
        stopped.set()


class _StoppedError(Exception):
    """Nobody waits for the drawing any more."""


def _repeat(image, count):
    return np.asarray(image)[None].repeat(max(1, count), axis=0)
