"""From the settings of a run to its model and its images."""

import warnings

import keras
import numpy as np

from keras_simple_diffusion.data.embedding_cache import EmbeddingCache
from keras_simple_diffusion.data.loading import open_data
from keras_simple_diffusion.data.loading import open_splits
from keras_simple_diffusion.data.sources import EmbeddedSource
from keras_simple_diffusion.data.sources import stack
from keras_simple_diffusion.data.sources import take
from keras_simple_diffusion.evaluation.quick_frechet import QuickFrechet
from keras_simple_diffusion.evaluation.shards import reference_features
from keras_simple_diffusion.metrics.inception import InceptionFeatures
from keras_simple_diffusion.models.backbone import DiffusionBackbone
from keras_simple_diffusion.models.loading import load_model
from keras_simple_diffusion.models.loading import task_class
from keras_simple_diffusion.models.text_to_image import TextToImage
from keras_simple_diffusion.models.transfer import transfer_weights
from keras_simple_diffusion.text.text_transformer import TextTransformer
from keras_simple_diffusion.text.text_transformer import learn_vocabulary
from keras_simple_diffusion.training.settings import Recipe
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.presets import read_json

_NUM_VALIDATION = 512
_NUM_PROMPTS = 36


def read_recipe(folder, overrides):
    """The recipe of a preset, changed where the user wishes."""
    fields = read_json(folder, "recipe.json")
    fields.update({k: v for k, v in overrides.items() if v is not None})
    return Recipe(**fields)


def network_class(folder):
    """The class of a preset's network."""
    name = read_json(folder, "config.json")["registered_name"]
    return keras.saving.get_registered_object(name)


def takes_text(folder):
    """Whether a preset is of a model of images with captions."""
    return issubclass(task_class(folder), TextToImage)


def keys_of(folder, settings):
    """Names of what a preset's model takes of each example."""
    if not takes_text(folder):
        return ("images", "labels")
    if settings.embeddings is not None:
        return ("images", "context", "context_mask", "portrait")
    return ("images", "captions", "portrait")


def open_sources(folder, settings):
    """Images to train on, and to measure the loss on.

    Args:
        folder: path of the preset.
        settings: a `RunSettings`.

    Returns:
        A tuple of a `ImageSource` and a dict of arrays, `None` if the data
        has no held-out split.
    """
    config = read_json(folder, "config.json")["config"]
    sources = open_splits(
        settings.data,
        tuple(settings.image_size),
        config["image_shape"][2],
        settings.crop,
        config.get("portrait_flag", False),
    )
    if "train" not in sources:
        raise InputError(
            f"'{settings.data}' has no split to train on, only a held-out "
            "one. Expected a folder `train` beside it."
        )
    if settings.embeddings is not None:
        cache = EmbeddingCache(settings.embeddings)
        length = cache.encoder["sequence_length"]
        for split, source in sources.items():
            sources[split] = EmbeddedSource(source, cache, length)
    if "test" not in sources:
        return sources["train"], None
    test = take(sources["test"], _NUM_VALIDATION)
    examples = [test[index] for index in range(len(test))]
    return sources["train"], stack(examples, keys_of(folder, settings))


def build_model(folder, source, settings):
    """A new model of a preset's configuration, for certain images.

    Args:
        folder: path of the preset.
        source: a `ImageSource`.
        settings: a `RunSettings`.

    Returns:
        A `DiffusionModel` or `TextToImage` that is not compiled for training
        yet.
    """
    image_shape, task = source.image_shape, task_class(folder)
    overrides = {}
    if takes_text(folder):
        num_classes = None
        encoder = text_encoder(folder, source.captions())
        if settings.embeddings is not None:
            _use_embeddings(source.cache, encoder)
            if settings.samples_every:  # They need it while training.
                encoder.load()
        overrides["text_encoder"] = encoder
    else:
        num_classes = source.class_names and len(source.class_names)
        overrides["class_names"] = source.class_names
        if num_classes is None:
            overrides["guidance_scale"] = 1.0
    backbone = DiffusionBackbone.from_preset(
        folder,
        load_weights=False,
        image_shape=image_shape,
        num_classes=num_classes,
        dtype=settings.dtype,
        rematerialize=settings.rematerialize,
    )
    config = read_json(folder, "task.json").get("config", {})
    schedule = config.get("schedule", {})
    size = min(image_shape[:2])
    if schedule.get("config", {}).get("image_size", size) != size:
        schedule["config"]["image_size"] = size
        overrides["schedule"] = keras.saving.deserialize_keras_object(schedule)
    return task.from_preset(
        folder,
        load_weights=False,
        backbone=backbone,
        stratified=settings.recipe.stratified,
        **overrides,
    )


def text_encoder(folder, captions):
    """The encoder of a preset, with a vocabulary of the data's if it has none.

    Args:
        folder: path of the preset.
        captions: list of strings, or `None`.

    Returns:
        A `TextEncoder`.

    Raises:
        InputError: if there are no captions.
    """
    if captions is None:
        raise InputError(
            "The preset is for images with captions, and the data has none. "
            "Put them into a metadata.jsonl beside the images, with lines "
            'such as {"file_name": "1.jpg", "text": "a red apple"}.'
        )
    encoder = read_json(folder, "task.json")["config"]["text_encoder"]
    config = encoder["config"]
    if "vocabulary" in config and config["vocabulary"] is None:
        config["vocabulary"] = learn_vocabulary(captions)
    return keras.saving.deserialize_keras_object(encoder)


def initialize(model, preset):
    """Give a new model the weights of a trained one.

    Args:
        model: a `DiffusionModel` or `TextToImage`.
        preset: string. The preset or run of the trained one.
    """
    source = load_model(preset)
    transfer_weights(source.backbone, model.backbone)
    ours = getattr(model, "text_encoder", None)
    if not isinstance(ours, TextTransformer):
        return  # One that was trained elsewhere is so already.
    theirs = getattr(source, "text_encoder", None)
    if not isinstance(theirs, TextTransformer):
        warnings.warn(
            f"'{preset}' has no text encoder to start from.", stacklevel=2
        )
        return
    fresh = ours.copy_weights(theirs)
    if fresh:
        warnings.warn(
            f"{len(fresh)} of {len(ours.vocabulary)} words and signs are not "
            f"known to '{preset}' and start anew: {' '.join(fresh[:20])}",
            stacklevel=2,
        )


def _use_embeddings(cache, encoder):
    """Give an encoder that is not loaded the null embedding of a cache."""
    if cache.encoder != encoder.identity():
        raise InputError(
            f"'{cache.folder}' holds embeddings of another encoder. Received: "
            f"{cache.encoder}. The model's is {encoder.identity()}."
        )
    context, mask = cache.read("", encoder.sequence_length)
    encoder.set_null(context[None], mask[None])


def choose_prompts(source):
    """Some captions of the data, for sheets of samples, or `None`."""
    captions = sorted(set(source.captions() or ()))
    if not captions:
        return None
    chosen = np.linspace(0, len(captions) - 1, _NUM_PROMPTS).round()
    return [captions[index] for index in sorted(set(chosen.astype(int)))]


def follow_frechet(settings, model):
    """The callback that a run's `quick_fid` asks for."""
    features = InceptionFeatures(settings.feature_weights)
    height, width, channels = model.backbone.image_shape
    source = open_data(settings.data, (height, width), "train", channels)
    is_of_text = isinstance(model, TextToImage)
    _, statistics = reference_features(source, features)
    return QuickFrechet(
        statistics,
        features,
        settings.quick_fid,
        source.captions() if is_of_text else None,
        seed=settings.seed,
    )
