"""Networks that turn images into features: base class and loading."""

import contextlib
import pathlib

import numpy as np
from keras import ops

from keras_simple_diffusion.backend import keras_internals
from keras_simple_diffusion.backend.compilation import compile_function
from keras_simple_diffusion.distribution.batches import run_batches
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.presets import check_folder


class ImageFeatures:
    """Base class of the networks that turn images into features.

    Images pass through the network in batches of one size, the last one
    padded, so that the features of an image do not depend on the batch.

    Args:
        name: string that identifies the network, its weights and resizing.
        size: int. Number of features per image.
        batch_size: int. Images per pass.
        function: function of a `uint8` tensor of shape
            `(batch_size, H, W, C)` that returns features.
        variables: list of the `keras.Variable`s that `function` reads.

    Attributes:
        name, size, batch_size: as the arguments.

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
        InputError: if `preset` is none of these, of another class, damaged, or
            cannot be downloaded.
    """
    preset = str(preset)
    is_folder = (pathlib.Path(preset) / "config.json").exists()
    if not (is_folder or preset in kind.presets or "://" in preset):
        raise InputError(
            f"`preset` must be a preset folder of a {kind.__name__}, a handle, "
            f"or one of: {', '.join(kind.presets)}. Received: preset={preset!r}"
        )
    with hub_errors(preset):
        if is_folder:
            check_folder(preset)
        loader = keras_internals.get_preset_loader(preset)
        found = loader.check_backbone_class()
        if not issubclass(found, kind):
            raise InputError(
                f"`preset` must be of a {kind.__name__}. Received: "
                f"preset={preset!r}, which is of a {found.__name__}"
            )
        return kind.from_preset(preset, dtype="float32", **kwargs)


@contextlib.contextmanager
def hub_errors(preset):
    """Turn errors of a preset of keras_hub, or of a network, into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # Each client of a hub has its own.
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"The preset '{preset}' cannot be loaded: {type(error).__name__}: "
            f"{reason} Without a network, name the folder of a copy instead "
            "(--clip or --dinov2, in Python `preset`)."
        ) from error


def weights_digest(backbone):
    """Compute a digest of the weights of a backbone, as a string."""
    weights = [ops.convert_to_numpy(weight) for weight in backbone.weights]
    return sha256(*(weight.astype("float32") for weight in weights))[:16]
