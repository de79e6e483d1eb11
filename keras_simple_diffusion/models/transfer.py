"""Start a network from the weights of another one, at another resolution."""

import math
import warnings

from keras import ops

from keras_simple_diffusion.models.backbone import DiffusionBackbone
from keras_simple_diffusion.utils.errors import InputError

_MIN_SHARE = 0.9
_MAX_NAMED = 8


def transfer_weights(source, target):
    """Copy every weight whose place and shape agree.

    A network for larger images, or for half the patch, has the layers of
    the one that it starts from; only the first and last convolution and the
    position embeddings may differ. What is not copied is named in a warning
    and keeps the values that it has.

    Args:
        source: a trained `keras_simple_diffusion.models.DiffusionModel`, of
            which the averaged weights are taken, or a backbone, or the preset
            or run folder that it is loaded from.
        target: a `keras_simple_diffusion.models.DiffusionBackbone`.

    Returns:
        A list with the paths of the target's weights that were not copied.

    Raises:
        InputError: if less than 90 % of the target's parameters can be
            copied; the target then stays as it is.

    Example:
    ```python
    backbone = keras_simple_diffusion.models.UViTBackbone.from_preset(
        "uvit_imagenet_256", load_weights=False
    )
    keras_simple_diffusion.models.transfer_weights("runs/uvit_128", backbone)
    ```
    """
    if hasattr(source, "averaged_weights"):
        with source.averaged_weights():
            return transfer_weights(source.backbone, target)
    if not isinstance(source, DiffusionBackbone):
        source = DiffusionBackbone.from_preset(source)
    sources = {weight.path: weight for weight in source.weights}
    pairs, fresh = [], []
    for weight in target.weights:
        found = sources.get(weight.path)
        if found is not None and found.shape == weight.shape:
            pairs.append((found, weight))
        else:
            fresh.append(weight)
    copied = sum(math.prod(weight.shape) for _, weight in pairs)
    share = copied / target.count_params()
    names = _name(fresh)
    if share < _MIN_SHARE:
        raise InputError(
            f"Only {share:.1%} of the parameters agree in place and shape; at "
            f"least {_MIN_SHARE:.0%} must. Not found: {names}. Take networks "
            "with the same channels, blocks and heads."
        )
    for found, weight in pairs:
        weight.assign(ops.copy(ops.convert_to_tensor(found)))
    if fresh:
        warnings.warn(
            f"{share:.2%} of the parameters were copied. These start anew: "
            f"{names}.",
            stacklevel=2,
        )
    return [weight.path for weight in fresh]


def _name(weights):
    names = [f"{w.path} {tuple(w.shape)}" for w in weights[:_MAX_NAMED]]
    if len(weights) > _MAX_NAMED:
        names.append(f"and {len(weights) - _MAX_NAMED} more")
    return ", ".join(names)
