"""The images that `evaluate` measures: stored ones, or a model's."""

import collections
import dataclasses
import io
import itertools
import pathlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from keras_simple_diffusion import data
from keras_simple_diffusion import samplers
from keras_simple_diffusion.backend import native
from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.data.folders import list_images
from keras_simple_diffusion.evaluation.shards import digest_of
from keras_simple_diffusion.generation.conditions import choose_labels
from keras_simple_diffusion.models.text_to_image import TextToImage
from keras_simple_diffusion.training import RunSettings
from keras_simple_diffusion.utils.errors import InputError

_NUM_IMAGES = 10_000
_PROMPT = "a photo of a {}"  # What CLIP is told of a class.


@dataclasses.dataclass
class Entry:
    """One set of images to measure.

    Args:
        facts: dict of how they were made.
        count: int.
        read: function of a list of their numbers that returns a `uint8` array
            of shape `(N, H, W, C)`.
        labels: list of ints, the classes asked for, or `None`.
        captions: list of strings, what was asked for, or `None`.
    """

    facts: dict
    count: int
    read: Callable
    labels: list | None = None
    captions: list | None = None

    @property
    def name(self):
        """Name of the folder of their features."""
        facts = self.facts
        return f"steps-{facts.get('steps')}-guidance-{facts.get('guidance')}"


def is_stored(model):
    """Whether it is a folder or zip of images, rather than a model."""
    path = pathlib.Path(model)
    if path.is_dir():
        return not any(
            (path / name).exists() for name in ("config.json", "preset")
        )
    return path.is_file()


def stored_entry(settings):
    """Images that are there already.

    Returns:
        A tuple of their shape and an `Entry`.
    """
    drawn = ("steps", "guidance", "guidance_interval", "sampler")
    if any(settings[name] not in (None, [None]) for name in drawn):
        raise InputError(
            "Images that are there are not drawn: leave --steps, --guidance, "
            "--guidance-interval, --sampler and --protocol out."
        )
    listing = list_images(settings["model"])
    content = listing.container.read(listing.names[0])
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    source = data.open_data(settings["model"], (height, width))
    count = settings["num_images"] or len(source)
    if count > len(source):
        raise InputError(
            f"'{settings['model']}' holds {len(source)} images. Received: "
            f"--num-images {count}"
        )
    chosen = choose(len(source), count, settings["seed"])

    def read(numbers):
        return np.stack([source[int(chosen[i])]["images"] for i in numbers])

    facts = {"fingerprint": source.content_digest()}
    return source.image_shape, Entry(facts, count, read)


def choose(total, count, seed):
    """Numbers of some of the images, at random, in order."""
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def drawn_entries(task, settings, captions):
    """Images that a model draws, for all steps and guidances.

    Args:
        task: a `DiffusionModel`, or a `TextToImage`.
        settings: dict of the evaluation's settings.
        captions: list of strings, what to draw for a text model: in turn,
            or, where there are more than images, spread over all of them; or
            `None`.

    Returns:
        A list of `Entry`s.
    """
    count = settings["num_images"] or _NUM_IMAGES
    labels = None
    if isinstance(task, TextToImage):
        if captions is None:
            raise InputError(
                f"'{settings['data']}' has no captions for the model to draw."
            )
        n, span = len(captions), max(len(captions), count)
        captions = [captions[i * span // count % n] for i in range(count)]
    else:
        count, labels = choose_labels(task, None, count)
        captions = None
        if labels and task.class_names:
            captions = [_PROMPT.format(task.class_names[i]) for i in labels]
    interval = shared.read_interval(settings["guidance_interval"])
    sampler = samplers.get(settings["sampler"])
    weights = _weights_facts(task, settings["model"])

    def entry(steps, guidance):
        facts = {
            "steps": task.num_steps if steps is None else steps,
            "guidance": task.guidance_scale if guidance is None else guidance,
            "guidance_interval": interval and list(interval),
            "sampler": type(sampler or task.sampler).__name__,
            "seed": settings["seed"],
            "weights": weights,
            "class_balance": labels and dict(collections.Counter(labels)),
        }

        def read(numbers):
            if labels:
                what = {"labels": [labels[i] for i in numbers]}
            elif captions:
                what = {"prompts": [captions[i] for i in numbers]}
            else:
                what = {"num_images": len(numbers)}
            return task.generate(
                **what,
                indices=numbers,
                seed=settings["seed"],
                num_steps=facts["steps"],
                guidance_scale=facts["guidance"],
                guidance_interval=interval,
                sampler=sampler,
                batch_size=settings["batch_size"],
            )

        return Entry(facts, count, read, labels, captions)

    pairs = itertools.product(settings["steps"], settings["guidance"])
    return [entry(*pair) for pair in pairs]


def _weights_facts(task, name):
    """Which weights draw: the average's decay where it is known, a digest."""
    facts = {"kind": "average"}
    if (pathlib.Path(name) / "preset").exists():
        facts["ema_decay"] = RunSettings.read(name).recipe.ema_decay
    with task.averaged_weights():
        facts["sha256"] = digest_of(
            native.to_numpy(variable.value)
            for variable in task.trainable_variables
        )
    return facts
