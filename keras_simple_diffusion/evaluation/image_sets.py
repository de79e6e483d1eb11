"""The images that `evaluate` compares: generated, stored, and real ones."""

import collections
import contextlib
import dataclasses
import pathlib
import warnings

import numpy as np

from keras_simple_diffusion.data.decoding import upright_size
from keras_simple_diffusion.data.folders import has_images
from keras_simple_diffusion.data.folders import list_images
from keras_simple_diffusion.data.formats import UNREADABLE
from keras_simple_diffusion.data.formats import open_image
from keras_simple_diffusion.data.loading import open_data
from keras_simple_diffusion.data.loading import open_splits
from keras_simple_diffusion.data.sources import ArraySource
from keras_simple_diffusion.data.sources import ImageSource
from keras_simple_diffusion.data.splits import MissingSplitError
from keras_simple_diffusion.generation.conditions import Conditions
from keras_simple_diffusion.models.content import model_digest
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.models.text_to_image import TextToImage
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.presets import builtin_presets
from keras_simple_diffusion.utils.presets import read_json

_CLASS_PROMPT = "a photo of a {}"  # The caption of a class, for CLIP.


@dataclasses.dataclass(frozen=True)
class Requests:
    """The conditions of each image that a model is asked to draw.

    Attributes:
        count: int. Number of images.
        labels: list of ints, one per image, or `None` without classes.
        prompts: list of strings, one per image, or `None` without text.
        captions: list of strings that describe the images asked for: the
            prompts, or the names of the classes. `None` without either.
    """

    count: int
    labels: list | None = None
    prompts: list | None = None
    captions: list | None = None

    @classmethod
    def of(cls, task, count, prompts=None):
        """Choose what a model draws.

        Args:
            task: a `DiffusionModel`, whose classes take turns, or a
                `TextToImage`.
            count: int. Number of images.
            prompts: list of strings for a `TextToImage`. Fewer prompts than
                images are repeated in turn; from more prompts than images,
                evenly spaced ones are chosen.

        Returns:
            `Requests`.
        """
        if isinstance(task, TextToImage):
            if not prompts:
                raise InputError(
                    "A text-to-image model draws captions, and the data have "
                    "none. Pass data with captions, such as a folder with "
                    "metadata.jsonl."
                )
            n, span = len(prompts), max(len(prompts), count)
            chosen = [prompts[i * span // count % n] for i in range(count)]
            return cls(count, prompts=chosen, captions=chosen)
        num_classes = task.backbone.num_classes
        if num_classes is None:
            return cls(count)
        labels = [i % num_classes for i in range(count)]
        captions = None
        if task.class_names:
            captions = [
                _CLASS_PROMPT.format(task.class_names[i]) for i in labels
            ]
        return cls(count, labels, captions=captions)

    def names(self, class_names):
        """Return what is asked for in each image, as strings, or `None`.

        Args:
            class_names: list of strings, or `None`.
        """
        if self.labels is not None:
            return [
                class_names[i] if class_names else f"{i}" for i in self.labels
            ]
        return self.prompts

    @property
    def are_conditional(self):
        """`True` if the images have labels or prompts."""
        return self.labels is not None or self.prompts is not None

    def arguments(self, numbers=None):
        """Return the arguments of `generate` for some of the images.

        Args:
            numbers: list of ints. Defaults to all images.

        Returns:
            A dict.
        """
        numbers = range(self.count) if numbers is None else numbers
        if self.labels is not None:
            return {"labels": [self.labels[i] for i in numbers]}
        if self.prompts is not None:
            return {"prompts": [self.prompts[i] for i in numbers]}
        return {"num_images": len(numbers)}


class DrawnImages:
    """Images that a model draws with one setting of its sampler.

    Args:
        task: a `DiffusionModel` or a `TextToImage`.
        requests: `Requests`.
        options: `keras_simple_diffusion.generation.arguments.SamplingOptions`,
            with a seed.
        weights: dict that describes the weights of the model, for the report.

    Attributes:
        name: string, of the folder of their features.
        title: string, the same for people.
        facts: dict of how they are made, for the report.
        requests: `Requests`.
    """

    def __init__(self, task, requests, options, weights):
        # One image is enough to check the options.
        given = requests.arguments([0]) if requests.are_conditional else {}
        options = options.resolve(task, Conditions(1, given))
        interval = options.guidance_interval
        labels = requests.labels
        self.requests = requests
        self.name = (
            f"steps-{options.num_steps}-guidance-{options.guidance_scale}"
        )
        self.title = (
            f"drawing, {options.num_steps} steps, guidance "
            f"{options.guidance_scale}"
        )
        self.facts = {
            "steps": options.num_steps,
            "guidance": options.guidance_scale,
            "guidance_interval": interval and list(interval),
            "sampler": repr(options.sampler),
            "seed": options.seed,
            "weights": weights,
            "class_balance": labels and dict(collections.Counter(labels)),
        }
        self._task = task
        self._options = {
            name: getattr(options, name)
            for name in (
                "num_steps",
                "guidance_scale",
                "guidance_interval",
                "sampler",
                "seed",
                "batch_size",
            )
        }

    def __len__(self):
        return self.requests.count

    def read(self, numbers):
        """Draw images by number.

        Args:
            numbers: list of ints.

        Returns:
            A `uint8` array of shape `(N, H, W, C)`.
        """
        return self._task.generate(
            **self.requests.arguments(numbers),
            indices=numbers,
            **self._options,
        )


class StoredImages:
    """Images that exist already, or a random choice of them.

    Args:
        source: an `ImageSource`.
        count: int, or `None` for all.
        seed: int. Decides which images are chosen.

    Attributes:
        name, title, facts, requests: as in `DrawnImages`.
    """

    name = "stored"
    title = "images"
    requests = Requests(0)

    def __init__(self, source, count, seed):
        if count is not None and count > len(source):
            raise InputError(
                f"There are {len(source)} images to evaluate. Received: "
                f"num_images={count}"
            )
        self._source = source
        self._chosen = choose(len(source), count, seed)
        self.facts = {"fingerprint": source.content_digest(), "seed": seed}

    def __len__(self):
        return len(self._chosen)

    def read(self, numbers):
        """Read images by number, see `DrawnImages.read`."""
        return np.stack(
            [self._source[int(self._chosen[i])]["images"] for i in numbers]
        )


def choose(total, count, seed):
    """Choose `count` of `total` images at random, in increasing order."""
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def open_subject(model):
    """Open what is evaluated.

    Args:
        model: a task, the name of a preset or run, a folder or zip of images,
            an `ImageSource`, or a `uint8` array of images. A built-in name is
            the preset, also where there is a folder of this name.

    Returns:
        A task, or an `ImageSource` of stored images.

    Raises:
        InputError: if it is none of these, or images of several sizes.
    """
    if hasattr(model, "generate") or isinstance(model, ImageSource):
        return model
    if not isinstance(model, str | pathlib.Path):
        return _array_source(model, "model")
    path = pathlib.Path(model)
    is_model = str(model) in builtin_presets() or any(
        (path / name).exists() for name in ("config.json", "preset")
    )
    if has_images(path) and not (path.is_dir() and is_model):
        return open_data(path, _common_size(path))
    return Preset.open(model).load()


def open_references(data, image_shape):
    """Open the real images, cropped and resized to the shape of the others.

    Args:
        data: a name for `keras_simple_diffusion.data.open_data`; an
            `ImageSource` or a `uint8` array, taken as the held-out split; or
            a dict from names of splits to either.
        image_shape: `(height, width, channels)`.

    Returns:
        A dict from names of splits to `ImageSource`s.

    Raises:
        InputError: if there are no such images, or they have another size.
    """
    if isinstance(data, str | pathlib.Path):
        return open_splits(str(data), image_shape[:2], image_shape[2])
    splits = data if isinstance(data, dict) else {"test": data}
    sources = {}
    for split, images in splits.items():
        if not isinstance(images, ImageSource):
            images = _array_source(images, "data")
        if images.image_shape[:2] != tuple(image_shape[:2]):
            raise InputError(
                "The images of `data` must have the size of the evaluated "
                f"ones, {image_shape[0]} x {image_shape[1]}. Received: "
                f"{images.image_shape[0]} x {images.image_shape[1]}. A folder "
                "or zip is cropped and resized."
            )
        sources[split] = images
    return sources


def split_roles(sources):
    """Tell training images from held-out ones.

    Args:
        sources: dict from names of splits to `ImageSource`s.

    Returns:
        A tuple of two names of splits: of the training images, or the images
        that take their place; and of the held-out images, whose captions are
        the prompts, or `None` if there is no second split.
    """
    training = "train" if "train" in sources else next(iter(sources))
    held_out = "test" if "test" in sources else list(sources)[-1]
    return training, None if held_out == training else held_out


def drawing_facts(task, model):
    """Describe the weights that a model draws with.

    Args:
        task: a task.
        model: what it was opened from, see `open_subject`.

    Returns:
        A dict of the kind of weights, the decay of their average if it is the
        model of a run, and the digest of the model.

    Raises:
        InputError: if a weight is not finite.
    """
    facts = {"kind": "average"}
    if isinstance(model, str | pathlib.Path):
        folder = pathlib.Path(model)
        if (folder / "preset").exists():
            settings = read_json(folder / "config.json")
            if settings.get("aspect_buckets"):
                height, width, _ = task.backbone.image_shape
                warnings.warn(
                    f"The run '{model}' has images of several shapes. It is "
                    f"evaluated at {height} x {width}, and real images are cut "
                    "to this shape.",
                    stacklevel=2,
                )
            recipe = settings.get("recipe")
            if isinstance(recipe, dict) and "ema_decay" in recipe:
                facts["ema_decay"] = recipe["ema_decay"]
    return {**facts, "sha256": model_digest(task)}


def _array_source(images, name):
    """Check an array of images, and return a source of them."""
    images = np.asarray(images)
    if images.dtype != "uint8" or images.ndim != 4 or not len(images):
        raise InputError(
            f"`{name}` must be a name, a folder or images as a uint8 array of "
            f"shape (N, H, W, C). Received: {images.dtype} of shape "
            f"{images.shape}"
        )
    return ArraySource(images)


def _common_size(path):
    """Return the height and width that all images of a folder or zip have."""
    listing = list_images(path)
    with contextlib.suppress(MissingSplitError):
        held_out = list_images(path, "test")
        warnings.warn(
            f"Of '{path}' the {len(listing.names)} images to train on are "
            f"evaluated, not the {len(held_out.names)} to hold out.",
            stacklevel=4,
        )
    names = collections.defaultdict(list)
    for name in listing.names:
        try:
            with open_image(listing.container.read(name)) as image:
                width, height = upright_size(image)
        except UNREADABLE:
            continue  # The source replaces it, with a warning.
        names[height, width].append(name)
    if len(names) > 1:
        counts = sorted(names.items(), key=lambda item: -len(item[1]))
        found = ", ".join(
            f"{len(each)} of {height} x {width} (such as '{each[0]}')"
            for (height, width), each in counts[:3]
        )
        raise InputError(
            f"The images of '{path}' must have one size to be compared at it. "
            f"Received: {found}. Resize them first."
        )
    if not names:
        raise InputError(f"None of the images of '{path}' can be read.")
    return next(iter(names))
