"""The digest of a model: of all that its images depend on."""

import json

import numpy as np

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.text.pretrained_text_encoder import (
    PretrainedTextEncoder,
)
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import sha256


def model_digest(task):
    """Compute a digest of a model's configuration and averaged weights.

    It is the same in every process that loads the same preset.

    Args:
        task: a `DiffusionModel` or `TextToImage`.

    Returns:
        A string, a SHA-256.

    Raises:
        InputError: if a weight is NaN or infinite: all images would be black.
    """
    backbone = task.backbone
    config = {
        **task.get_config(),
        "class": type(task).__name__,
        "backbone": {type(backbone).__name__: backbone.get_config()},
    }
    if task.guidance_model is not None:
        config["guidance_model"] = model_digest(task.guidance_model)
    weights = task.weights
    encoder = getattr(task, "text_encoder", None)
    if isinstance(encoder, PretrainedTextEncoder):
        # Its revision is in the configuration. What it stores of the empty
        # text is computed anew when it is loaded.
        stored = set(map(id, encoder.weights))
        weights = [weight for weight in weights if id(weight) not in stored]
    with task.reading_averages(weights) as values:
        arrays = [native.to_numpy(value) for value in values]
    for weight, array in zip(weights, arrays, strict=True):
        if not np.isfinite(array.astype("float32")).all():
            raise InputError(
                f"The weights of the model are not finite: '{weight.path}' "
                "holds NaN or infinity, so its training diverged. Use weights "
                "of an earlier step."
            )
    return sha256(json.dumps(_without_names(config), sort_keys=True), *arrays)


def _without_names(config):
    """Remove the names of layers, which Keras numbers within a process."""
    if isinstance(config, dict):
        return {
            key: _without_names(value)
            for key, value in config.items()
            if key != "name"
        }
    if isinstance(config, (list, tuple)):
        return [_without_names(value) for value in config]
    return config
