"""Initialization of a network from the weights of a similar one."""

import math
import warnings

from keras import ops

from keras_simple_diffusion.models.backbone import DiffusionBackbone
from keras_simple_diffusion.utils.errors import InputError

_MIN_SHARE = 0.9
_MAX_NAMED = 8


def transfer_weights(source, target):
    """Copy the weights that have the same path and shape in both networks.

    A network for another resolution or patch size has the same layers; only
    its first and last convolution and its position embeddings may differ. The
    weights that are not copied keep their values, and a warning names them.

    Args:
        source: a trained `keras_simple_diffusion.models.DiffusionModel`, whose
            averaged weights are copied, or a backbone, or the preset or run
            folder to load the backbone from.
        target: a `keras_simple_diffusion.models.DiffusionBackbone`.

    Returns:
        A list with the paths of the weights of `target` that were not copied.

    Raises:
        InputError: if less than 90 % of the parameters of `target` can be
            copied; `target` is then unchanged.

    Example:
    ```python
    large = keras_simple_diffusion.models.UViTBackbone(
        (32, 32, 1),
        channels=(8,),
        blocks=(1,),
        num_classes=10,
        downsampling="dwt",
        downsampling_factor=2,
    )
    # `backbone` has the same layers for images of 16 pixels.
    fresh = keras_simple_diffusion.models.transfer_weights(backbone, large)
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
    total = target.count_params()
    names = _name(fresh)
    if copied < _MIN_SHARE * total:
        raise InputError(
            f"Only {copied:,} of {total:,} parameters have the same path and "
            f"shape in both networks; at least {_MIN_SHARE:.0%} must. Not "
            f"found: {names}. Use networks with the same channels, blocks and "
            "heads."
        )
    for found, weight in pairs:
        weight.assign(ops.copy(ops.convert_to_tensor(found)))
    if fresh:
        warnings.warn(
            f"{copied:,} of {total:,} parameters were copied. The others keep "
            f"their values: {names}.",
            stacklevel=2,
        )
    return [weight.path for weight in fresh]


def _name(weights):
    names = [f"{w.path} {tuple(w.shape)}" for w in weights[:_MAX_NAMED]]
    if len(weights) > _MAX_NAMED:
        names.append(f"and {len(weights) - _MAX_NAMED} more")
    return ", ".join(names)
