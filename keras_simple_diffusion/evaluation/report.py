"""The report of `evaluate`: who drew which images, and their scores."""

import importlib.metadata
import json

import keras
import numpy as np

from keras_simple_diffusion import data
from keras_simple_diffusion import evaluation
from keras_simple_diffusion.backend.choice import device_name
from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.evaluation import image_sets
from keras_simple_diffusion.evaluation.card import draw_scores
from keras_simple_diffusion.evaluation.card import write_card
from keras_simple_diffusion.evaluation.scores import networks_of
from keras_simple_diffusion.evaluation.shards import digest_of
from keras_simple_diffusion.evaluation.shards import image_digests
from keras_simple_diffusion.metrics import bits_per_dimension
from keras_simple_diffusion.models.loading import load_model
from keras_simple_diffusion.models.text_to_image import TextToImage
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file

SETTINGS = "settings.json"  # In the folder of features, to resume.


def write_report(path, folder, settings, networks):
    """Compute what is missing, and write the report.

    Beside it go a card in Markdown and, of several results, a plot.

    Args:
        path: path of the report.
        folder: path of the features of the generated images.
        settings: dict of what they depend on.
        networks: dict from names, see
            `keras_simple_diffusion.evaluation.METRICS`, to functions of
            images.
    """
    metrics = settings["metrics"]
    if image_sets.is_stored(settings["model"]):
        task = None
        shape, entry = image_sets.stored_entry(settings)
        entries = [entry]
    else:
        task = load_model(settings["model"])
        shape = task.backbone.image_shape
    _check(task, metrics)
    sources = data.open_splits(settings["data"], shape[:2], shape[2])
    if task is not None:
        captions = list(sources.values())[-1].captions()  # Held out.
        entries = image_sets.drawn_entries(task, settings, captions)
    _check_labels(task, metrics, sources)
    settings = _keep_settings(folder, settings, entries, sources)
    references = {
        split: {
            name: evaluation.reference_features(
                source, networks[name], title=f"{split}, {name}"
            )
            for name in networks_of(metrics, comparing=True)
        }
        for split, source in sources.items()
    }
    results = []
    if networks:
        results = [
            _measure(entry, folder, settings, networks, references)
            for entry in entries
        ]
    report = {
        "settings": settings,
        "image_shape": list(shape),
        "references": {s: len(source) for s, source in sources.items()},
        "results": results,
        "device": device_name(),
    }
    if "bits_per_dimension" in metrics:
        report["bits_per_dimension"] = {
            split: _likelihood(task, source, folder / f"bits-{split}", settings)
            for split, source in sources.items()
        }
    if not is_main_process():
        return
    with whole_file(path) as draft:
        draft.write_text(json.dumps(report, indent=2) + "\n")
    with whole_file(path.with_suffix(".md")) as draft:
        draft.write_text(write_card(report))
    if len(results) > 1 and "fid" in metrics:
        with whole_file(path.with_suffix(".png")) as draft:
            draw_scores(results, draft)


def _check(task, metrics):
    """Raise an `InputError` if a metric does not suit the images."""
    is_conditional = task is not None and task.backbone.num_classes is not None
    if "class_accuracy" in metrics and not is_conditional:
        raise InputError(
            "`class_accuracy` needs a model with classes, whose images were "
            "asked for by class."
        )
    is_of_text = isinstance(task, TextToImage)
    has_words = is_of_text or (is_conditional and task.class_names)
    if task is not None and getattr(task.backbone, "portrait_flag", False):
        raise InputError(
            "Models of images lying and standing are not evaluated yet: "
            "both kinds would have to be drawn as often as the real ones."
        )
    if "clip_score" in metrics and not has_words:
        raise InputError(
            "`clip_score` needs a model whose images are asked for in words: "
            "one of text, or one whose classes have names."
        )
    if "bits_per_dimension" in metrics and (task is None or is_of_text):
        raise InputError(
            "`bits_per_dimension` needs a model, without text, not images."
        )


def _check_labels(task, metrics, sources):
    """Raise an `InputError` if labels do not mean to a model what they say."""
    if "bits_per_dimension" not in metrics or task.backbone.num_classes is None:
        return
    for split, source in sources.items():
        names = source.class_names
        if names is None or names != (task.class_names or names):
            raise InputError(
                "`bits_per_dimension` of a model with classes needs images "
                f"of the same classes. The model has {task.class_names}; the "
                f"{split} images have {names}."
            )


def _keep_settings(folder, settings, entries, sources):
    """Write the settings down, with what must not change before a resume.

    Returns:
        The settings with `"made_with"`: digests of weights and images, and
        versions.
    """
    made_with = {
        "images": [
            entry.facts.get("weights", entry.facts) for entry in entries[:1]
        ],
        "data": {s: source.content_digest() for s, source in sources.items()},
        "versions": _versions(),
    }
    begun = settings.get("made_with", made_with)
    changed = [name for name in begun if begun[name] != made_with[name]]
    if changed:
        raise InputError(
            f"'{folder}' was begun with other {' and '.join(changed)}: "
            f"{begun[changed[0]]}, now {made_with[changed[0]]}. Begin a new "
            "evaluation with another --output."
        )
    settings = {**settings, "made_with": made_with}
    if is_main_process():
        with whole_file(folder / SETTINGS) as draft:
            draft.write_text(json.dumps(settings, indent=2) + "\n")
    return settings


def _measure(entry, folder, settings, networks, references):
    """Draw one set of images, and score them."""
    metrics, size = settings["metrics"], settings["batch_size"]

    def shards_of(name):
        return evaluation.FeatureShards(
            folder / entry.name / name, entry.count, size
        )

    drawn = {name: shards_of(name) for name in networks}
    digests = shards_of("sha256")
    outputs = [(drawn[name], networks[name]) for name in networks]
    outputs.append((digests, image_digests))
    evaluation.fill_shards(entry.read, outputs, entry.name)
    scores = {split: {} for split in references}
    for split, reference in references.items():
        for name, (shards, statistics) in reference.items():
            scores[split].update(
                evaluation.compare_features(
                    drawn[name],
                    shards,
                    statistics,
                    metrics,
                    settings["resamples"],
                )
            )
    text_features = None
    if "clip_score" in metrics:
        text_features = networks["clip"].embed_text(entry.captions)
    scores["generated"] = evaluation.score_alone(
        drawn, networks, entry.labels, text_features, metrics
    )
    return {
        **entry.facts,
        "num_images": entry.count,
        "images_sha256": digest_of(digests),
        "scores": scores,
    }


def _likelihood(task, source, folder, settings):
    """Bits per dimension of real images, and their standard error."""
    count = min(len(source), settings["num_images"] or len(source))
    chosen = image_sets.choose(len(source), count, settings["seed"])
    shards = evaluation.FeatureShards(folder, count, settings["batch_size"])

    def bits(numbers):
        examples = [source[int(chosen[i])] for i in numbers]
        images = np.stack([example["images"] for example in examples])
        labels = None
        if task.backbone.num_classes is not None:
            labels = [int(example["labels"]) for example in examples]
        bound = bits_per_dimension(
            task, images, labels, seed=settings["seed"], indices=numbers
        )
        return bound.bits[:, None]

    evaluation.fill_shards(list, [(shards, bits)], folder.name)
    values = np.concatenate(list(shards))
    return {
        "mean": float(values.mean()),
        "standard_error": float(values.std(ddof=1) / np.sqrt(count)),
        "count": count,
    }


def _versions():
    names = ("keras-simple-diffusion", "keras", keras.config.backend(), "numpy")
    return {name: importlib.metadata.version(name) for name in names}
