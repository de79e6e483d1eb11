"""Networks of keras_hub, from a preset."""

import hashlib
import pathlib

from keras import ops
from keras_hub.src.utils.preset_utils import get_preset_loader

from keras_simple_diffusion.utils.errors import InputError


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
