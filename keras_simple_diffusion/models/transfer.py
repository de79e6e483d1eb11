"""Initialization of a network from the weights of a similar one."""

import collections
import math
import warnings

import numpy as np
from keras import ops

from keras_simple_diffusion.distribution.processes import to_numpy
from keras_simple_diffusion.models.backbone import DiffusionBackbone
from keras_simple_diffusion.utils.errors import InputError

_MIN_SHARE = 0.9
_MAX_NAMED = 8
LABELS = "conditioning/label/embeddings"
_MEAN_OF_TEXT = "conditioning/context/kernel"
# Parts of the paths of weights that only a network of texts has.
_OF_TEXTS = (
    "/cross_attention/",
    "conditioning/context/",
    "conditioning/norm_context/",
)
_BIAS = "conditioning/output/bias"
# Axes of the bands of a wavelet.
_BANDS = {
    "input_conv/kernel": -2,
    "output_conv/kernel": -1,
    "output_conv/bias": -1,
}


def transfer_weights(source, target):
    """Copy the weights that have the same path and shape in both networks.

    A network for another resolution or patch size has the same layers; only
    its first and last convolution and its position embeddings may differ.
    Position embeddings are interpolated linearly to another grid. If `target`
    has more levels of the wavelet, it starts as `source` on the lowest bands,
    and with zeros in the others, so growing resolution continues from images
    of half the size. The weights that are not copied keep their values, and a
    warning names them.

    Classes are matched by name if both arguments are models with names.
    Without a class the target starts as the source is without a class, whether
    both have classes or one of them.

    Args:
        source: a trained `keras_simple_diffusion.models.DiffusionModel`, whose
            averaged weights are copied, or a backbone, or the preset or run
            folder to load the backbone from.
        target: a `keras_simple_diffusion.models.DiffusionModel`, or a
            `keras_simple_diffusion.models.DiffusionBackbone`.

    Returns:
        A list with the paths of the weights of `target` that were not copied
        as a whole.

    Raises:
        InputError: if less than 90 % of the parameters of `target` can be
            copied, not counting those for texts if `source` has none;
            `target` is then unchanged.

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
    transfer = copy_weights(source, target)
    if transfer.fresh:
        warnings.warn(
            f"{transfer.text}. The others keep their values: {transfer.names}.",
            stacklevel=2,
        )
    return transfer.fresh


Transfer = collections.namedtuple("Transfer", "values text names fresh unused")
Transfer.__doc__ = """Weights that a network can take over from another one.

Args:
    values: list of pairs of a weight and its new value.
    text: string. Number of the parameters that are copied.
    names: string. Names of the others.
    fresh: list of their paths.
    unused: list of the paths of further weights of the source, without the
        vectors of classes.
"""


def copy_weights(source, target):
    """Copy weights as `transfer_weights` does, without a warning.

    Args:
        source: see `transfer_weights`.
        target: see `transfer_weights`.

    Returns:
        A named tuple `Transfer`.
    """
    transfer = plan_transfer(source, target)
    for weight, value in transfer.values:
        weight.assign(value)
    return transfer


def plan_transfer(source, target):
    """Find the weights that `copy_weights` would copy, and copy none.

    Args:
        source: see `transfer_weights`.
        target: see `transfer_weights`.

    Returns:
        A named tuple `Transfer`.
    """
    classes = match_classes(source, target)
    target = getattr(target, "backbone", target)
    if hasattr(source, "averaged_weights"):
        with source.averaged_weights():
            return _compare(source.backbone, target, classes)
    if not isinstance(source, DiffusionBackbone):
        source = DiffusionBackbone.from_preset(source)
    return _compare(source, target, classes)


def copy_model(model):
    """Copy a model with its averaged weights, without a guidance model.

    Args:
        model: a `DiffusionModel`.

    Returns:
        A `DiffusionModel`, compiled with the defaults.

    Raises:
        InputError: if the network has weights of LoRA or of a quantization.
    """
    config = {**model.get_config(), "guidance_model": None}
    copy = type(model).from_config({**config, "guidance_scale": 1.0})
    ours, theirs = copy.backbone.weights, model.backbone.weights
    if len(ours) != len(theirs):
        raise InputError(
            "A model with LoRA or quantized weights cannot be copied. Use it "
            "without."
        )
    with model.averaged_weights():
        for weight, value in zip(ours, theirs, strict=True):
            # Weights of several processes must not be read as a whole.
            weight.assign(ops.copy(ops.convert_to_tensor(value)))
    return copy


def match_classes(source, target):
    """Match the classes of two models by name, whatever the case of letters.

    Args:
        source: a model with `class_names`, or anything else.
        target: another.

    Returns:
        A dict from numbers of classes of `target` to those of `source`;
        `None` if one of them has no names.
    """
    theirs = getattr(source, "class_names", None)
    ours = getattr(target, "class_names", None)
    return match_names(theirs, ours) if theirs and ours else None


def match_names(theirs, ours):
    """Match names of classes, whatever the case of letters.

    Args:
        theirs: list of strings.
        ours: list of strings.

    Returns:
        A dict from numbers of `ours` to those of `theirs`.
    """
    numbers = {_fold(name): number for number, name in enumerate(theirs)}
    return {
        number: numbers[_fold(name)]
        for number, name in enumerate(ours)
        if _fold(name) in numbers
    }


def _fold(name):
    return " ".join(name.casefold().replace("_", " ").split())


def _compare(source, target, classes):
    sources = {weight.path: weight for weight in source.weights}
    values, fresh, names = [], [], []
    copied = 0
    for weight in target.weights:
        found = sources.get(weight.path)
        is_equal = found is not None and found.shape == weight.shape
        if weight.path == LABELS and _differ(found, weight, classes):
            known = classes or {}
            values.append((weight, _copy_rows(weight, found, known)))
            missing = weight.shape[0] - 1 - len(known)
            if found is not None:
                copied += math.prod(weight.shape) - missing * weight.shape[1]
            if missing:
                fresh.append(weight.path)
                names.append(f"the vectors of {missing} new classes")
        elif found is None and weight.path == _MEAN_OF_TEXT:
            values.append((weight, np.zeros(weight.shape)))
            fresh.append(weight.path)
            names.append(f"{weight.path} {tuple(weight.shape)}, now zero")
        elif is_equal:
            value = ops.copy(ops.convert_to_tensor(found))
            if weight.path == _BIAS and target.num_classes is None:
                if LABELS in sources:  # No class is the last of them.
                    value += ops.convert_to_tensor(sources[LABELS])[-1]
            values.append((weight, value))
            copied += math.prod(weight.shape)
        elif found is not None and _is_grid(found) and _is_grid(weight):
            values.append((weight, _interpolate(found, weight.shape)))
            copied += math.prod(weight.shape)
        elif found is not None and _adds_bands(source, target, found, weight):
            values.append((weight, _pad_bands(found, weight)))
            copied += math.prod(found.shape)
            fresh.append(weight.path)
            names.append(f"the high bands of {weight.path}")
        else:
            fresh.append(weight.path)
            names.append(f"{weight.path} {tuple(weight.shape)}")
    total = target.count_params()
    common = total - _num_of_texts(source, target)
    named = ", ".join(names[:_MAX_NAMED])
    if len(names) > _MAX_NAMED:
        named += f", and {len(names) - _MAX_NAMED} more"
    if copied < _MIN_SHARE * common:
        raise InputError(
            f"Only {copied:,} of {common:,} parameters have the same path and "
            f"shape in both networks; at least {_MIN_SHARE:.0%} must. Not "
            f"found: {named}. Use networks with the same channels, blocks and "
            "heads."
        )
    text = f"{copied:,} of {total:,} parameters were copied"
    left = sources.keys() - {weight.path for weight in target.weights}
    return Transfer(values, text, named, fresh, sorted(left - {LABELS}))


def _differ(found, weight, classes):
    """Test if the vectors of classes must be copied one by one.

    Without names, as many classes keep their order.
    """
    if found is None:
        return True
    is_known = found.shape[1:] == weight.shape[1:]
    return is_known and (classes is not None or found.shape != weight.shape)


def _num_of_texts(source, target):
    """Count the parameters for texts that only `target` has."""
    if source.context_dim is not None:
        return 0
    return sum(
        math.prod(weight.shape)
        for weight in target.weights
        if any(part in weight.path for part in _OF_TEXTS)
    )


def _is_grid(weight):
    """Test if a weight is a position embedding, of shape `(H, W, C)`."""
    return weight.path.endswith("/embedding") and len(weight.shape) == 3


def _interpolate(grid, shape):
    """Interpolate a grid of vectors that covers the image."""
    grid = ops.convert_to_tensor(grid)[None]
    return ops.image.resize(
        grid, shape[:2], "bilinear", data_format="channels_last"
    )[0]


def _adds_bands(source, target, found, weight):
    """Test if a weight differs from another by more levels of the wavelet."""
    if weight.path not in _BANDS:
        return False
    sizes, known = list(weight.shape), list(found.shape)
    if len(sizes) != len(known):
        return False
    axis = _BANDS[weight.path]
    added = sizes.pop(axis) > known.pop(axis)
    return (
        added
        and sizes == known
        and target.downsampling == "dwt"
        and source.downsampling in (None, "dwt")
    )


def _pad_bands(found, weight):
    """Return zeros for all but the lowest bands, which are those of `found`."""
    found = to_numpy(found)
    missing = [
        (0, size - known)
        for size, known in zip(weight.shape, found.shape, strict=True)
    ]
    return np.pad(found, missing)


def _copy_rows(weight, found, classes):
    """Return the vectors of classes, of which those of `found` are copied.

    The last is that of no class, which adds nothing to a network without.
    """
    rows = to_numpy(weight).copy()
    if found is None:
        rows[-1] = 0.0
        return rows
    theirs = to_numpy(found)
    rows[-1] = theirs[-1]
    for number, other in classes.items():
        rows[number] = theirs[other]
    return rows
