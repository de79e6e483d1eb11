"""What the networks that measure images share."""

import hashlib
import pathlib

import numpy as np
from keras import ops
from keras_hub.src.utils.preset_utils import get_preset_loader

from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.distribution.batches import run_batches
from keras_simple_diffusion.utils.errors import InputError


class ImageFeatures:
    """Base class of the networks that turn images into features.

    All images go through the network in batches of one size, so that an
    image has the same features whatever batches it comes in.

    Args:
        name: string.
        size: int. Number of features of an image.
        batch_size: int. Images in one pass.
        function: function of a `uint8` tensor of shape
            `(batch_size, H, W, C)` that returns features.
        variables: list of the `keras.Variable`s that it reads.

    Attributes:
        name: string that changes whenever the features do.
        size: int. Number of features of an image.
        batch_size: int. Images in one pass.

    Call arguments:
        images: `uint8` array of shape `(N, H, W, C)`, with 1 or 3 channels.

    Returns:
        A float32 array of shape `(N, size)`.
    """

    def __init__(self, name, size, batch_size, function, variables):
        if batch_size < 1:
            raise InputError(
                f"`batch_size` must be at least 1. Received: {batch_size}"
            )
        self.name = name
        self.size = size
        self.batch_size = batch_size
        self._compiled = compile_function(
            lambda rows, shared: function(rows["images"]), variables, False
        )

    def __call__(self, images):
        images = np.asarray(images)
        if (
            images.dtype != "uint8"
            or images.ndim != 4
            or images.shape[-1] not in (1, 3)
        ):
            raise InputError(
                "Images must be uint8 of shape (N, H, W, 1 or 3). Received: "
                f"{images.dtype} of shape {images.shape}"
            )
        if not len(images):
            return np.zeros((0, self.size), "float32")
        rows = {"images": images}
        return run_batches(
            self._compiled, rows, {}, self.batch_size, fixed=True
        )


def load_network(kind, preset, **kwargs):
    """Load a backbone with its weights, in float32.

    Args:
        kind: class of `keras_hub.models.Backbone`.
        preset: string. The name of one of its presets, a preset folder, or a
            `kaggle://` or `hf://` handle.
        **kwargs: overrides of the preset's configuration.

    Returns:
        The backbone.

    Raises:
        InputError: if it is none of these, or of another network.
    """
    preset = str(preset)
    is_folder = (pathlib.Path(preset) / "config.json").exists()
    if not (is_folder or preset in kind.presets or "://" in preset):
        raise InputError(
            f"`preset` must be a preset folder of a {kind.__name__}, a handle, "
            f"or one of: {', '.join(kind.presets)}. Received: preset={preset!r}"
        )
    found = get_preset_loader(preset).check_backbone_class()
    if not issubclass(found, kind):
        raise InputError(
            f"`preset` must be of a {kind.__name__}. Received: "
            f"preset={preset!r}, which is of a {found.__name__}"
        )
    return kind.from_preset(preset, dtype="float32", **kwargs)


def weights_digest(backbone):
    """A string that changes whenever the weights do."""
    digest = hashlib.sha256()
    for weight in backbone.weights:
        values = ops.convert_to_numpy(weight).astype("float32")
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]
