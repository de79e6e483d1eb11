"""The report of `evaluate`: who drew which pictures, and their scores."""

import collections
import importlib.metadata
import io
import itertools
import json
import pathlib

import keras
import numpy as np
from PIL import Image

from keras_simple_diffusion import data
from keras_simple_diffusion import evaluation
from keras_simple_diffusion.cli import sampling
from keras_simple_diffusion.data.listing import MissingSplitError
from keras_simple_diffusion.data.listing import list_pictures
from keras_simple_diffusion.models.diffusion_model import DiffusionModel
from keras_simple_diffusion.utils.backend import device_name
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file

_SPLITS = ("train", "test")
_NUM_IMAGES = 10_000


def write_report(path, folder, settings, metrics, features, num_resamples):
    """Compute what is missing, and write the report.

    Args:
        path: path of the report.
        folder: path of the features of the generated pictures.
        settings: dict of what they depend on.
        metrics: list of names.
        features: `InceptionFeatures`.
        num_resamples: int.
    """
    if _is_pictures(settings["model"]):
        shape, entries = _stored(settings)
    else:
        shape, entries = _drawn(settings)
    references = _references(settings["data"], shape, features)
    results = []
    for facts, count, read in entries:
        name = f"steps-{facts.get('steps')}-guidance-{facts.get('guidance')}"
        shards = evaluation.FeatureShards(
            folder / name, count, settings["batch_size"]
        )
        shards.fill(read, features, name)
        scores = {
            split: evaluation.compute_scores(
                shards, *reference[1:], metrics, num_resamples
            )
            for split, reference in references.items()
        }
        results.append({**facts, "num_images": count, "scores": scores})
    report = {
        "settings": settings,
        "image_shape": list(shape),
        "features": features.name,
        "references": {
            split: {"fingerprint": source.fingerprint, "count": len(source)}
            for split, (source, *_) in references.items()
        },
        "results": results,
        "versions": _versions(),
        "device": device_name(),
    }
    with whole_file(path) as draft:
        draft.write_text(json.dumps(report, indent=2) + "\n")
    if len(results) > 1 and "fid" in metrics:
        _plot(results, path.with_suffix(".png"))


def _is_pictures(model):
    path = pathlib.Path(model)
    if path.is_dir():
        return not any(
            (path / name).exists() for name in ("config.json", "preset")
        )
    return path.is_file()


def _stored(settings):
    """Pictures that are there already."""
    if settings["steps"] != [None] or settings["guidance"] != [None]:
        raise InputError(
            "Pictures that are drawn already have their steps and guidance: "
            "leave --steps and --guidance out."
        )
    listing = list_pictures(settings["model"])
    content = listing.container.read(listing.names[0])
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    source = data.open_data(settings["model"], (height, width))
    count = min(settings["num_images"] or len(source), len(source))
    facts = {"fingerprint": source.fingerprint}

    def read(numbers):
        return np.stack([source[i]["images"] for i in numbers])

    return source.image_shape, [(facts, count, read)]


def _drawn(settings):
    """Pictures that a model draws, for all steps and guidances."""
    task = DiffusionModel.from_preset(settings["model"])
    count, labels = sampling.choose_labels(
        task, None, settings["num_images"] or _NUM_IMAGES
    )
    interval = sampling.read_interval(settings["guidance_interval"])
    sampler = sampling.make_sampler(settings["sampler"])

    def entry(steps, guidance):
        facts = {
            "steps": task.num_steps if steps is None else steps,
            "guidance": task.guidance_scale if guidance is None else guidance,
            "guidance_interval": interval and list(interval),
            "sampler": type(sampler or task.sampler).__name__,
            "seed": settings["seed"],
            "weights": "average",
            "class_balance": labels and dict(collections.Counter(labels)),
        }

        def read(numbers):
            return task.generate(
                len(numbers),
                labels and [labels[i] for i in numbers],
                indices=numbers,
                seed=settings["seed"],
                num_steps=facts["steps"],
                guidance_scale=facts["guidance"],
                guidance_interval=interval,
                sampler=sampler,
                batch_size=settings["batch_size"],
            )

        return facts, count, read

    pairs = itertools.product(settings["steps"], settings["guidance"])
    return task.backbone.image_shape, [entry(*pair) for pair in pairs]


def _references(name, shape, features):
    """Source, features and statistics of each split that there is."""
    found, error = {}, None
    for split in _SPLITS:
        try:
            source = data.open_data(name, shape[:2], split, shape[2])
        except MissingSplitError as missing:
            error = missing
            continue
        found[split] = (
            source,
            *evaluation.reference_features(source, features, title=split),
        )
    if not found:
        raise error
    return found


def _versions():
    names = ("keras-simple-diffusion", "keras", keras.config.backend(), "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def _plot(results, path):
    """FID against what the list was of: the guidance, or else the steps."""
    from matplotlib import pyplot

    guidances = {result["guidance"] for result in results}
    across, lines = ("guidance", "steps")
    if len(guidances) == 1:
        across, lines = lines, across
    figure, axes = pyplot.subplots(figsize=(5, 4), layout="constrained")
    for split in results[0]["scores"]:
        for value in sorted({result[lines] for result in results}):
            points = sorted(
                (result[across], result["scores"][split]["fid"])
                for result in results
                if result[lines] == value
            )
            label = f"{split}, {lines} {value}"
            axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set_xlabel(across)
    axes.set_ylabel("FID")
    axes.legend()
    with whole_file(path) as draft:
        figure.savefig(draft)
    pyplot.close(figure)
