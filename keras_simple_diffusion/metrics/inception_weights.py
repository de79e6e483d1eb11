"""Weights of Inception, downloaded or read from a file."""

import pathlib

import keras
import numpy as np

from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.tensor_files import UNREADABLE
from keras_simple_diffusion.utils.tensor_files import read_torch

_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_EPSILON = 1e-3  # Of the batch normalization.
_LOGITS = "logits/kernel"
_STEM = {
    "conv": "Conv2d_1a_3x3",
    "conv_1": "Conv2d_2a_3x3",
    "conv_2": "Conv2d_2b_3x3",
    "conv_3": "Conv2d_3b_1x1",
    "conv_4": "Conv2d_4a_3x3",
}
_SMALL = {
    "conv": "branch1x1",
    "tower/conv": "branch5x5_1",
    "tower/conv_1": "branch5x5_2",
    "tower_1/conv": "branch3x3dbl_1",
    "tower_1/conv_1": "branch3x3dbl_2",
    "tower_1/conv_2": "branch3x3dbl_3",
    "tower_2/conv": "branch_pool",
}
_FIRST_REDUCTION = {
    "conv": "branch3x3",
    "tower/conv": "branch3x3dbl_1",
    "tower/conv_1": "branch3x3dbl_2",
    "tower/conv_2": "branch3x3dbl_3",
}
_LONG = {
    "conv": "branch1x1",
    "tower/conv": "branch7x7_1",
    "tower/conv_1": "branch7x7_2",
    "tower/conv_2": "branch7x7_3",
    "tower_1/conv": "branch7x7dbl_1",
    "tower_1/conv_1": "branch7x7dbl_2",
    "tower_1/conv_2": "branch7x7dbl_3",
    "tower_1/conv_3": "branch7x7dbl_4",
    "tower_1/conv_4": "branch7x7dbl_5",
    "tower_2/conv": "branch_pool",
}
_SECOND_REDUCTION = {
    "tower/conv": "branch3x3_1",
    "tower/conv_1": "branch3x3_2",
    "tower_1/conv": "branch7x7x3_1",
    "tower_1/conv_1": "branch7x7x3_2",
    "tower_1/conv_2": "branch7x7x3_3",
    "tower_1/conv_3": "branch7x7x3_4",
}
_WIDE = {
    "conv": "branch1x1",
    "tower_conv": "branch3x3_1",
    "tower_mixed_conv": "branch3x3_2a",
    "tower_mixed_conv_1": "branch3x3_2b",
    "tower_1_conv": "branch3x3dbl_1",
    "tower_1_conv_1": "branch3x3dbl_2",
    "tower_1_mixed_conv": "branch3x3dbl_3a",
    "tower_1_mixed_conv_1": "branch3x3dbl_3b",
    "tower_2_conv": "branch_pool",
}
_BLOCKS = {
    "mixed": ("Mixed_5b", _SMALL),
    "mixed_1": ("Mixed_5c", _SMALL),
    "mixed_2": ("Mixed_5d", _SMALL),
    "mixed_3": ("Mixed_6a", _FIRST_REDUCTION),
    "mixed_4": ("Mixed_6b", _LONG),
    "mixed_5": ("Mixed_6c", _LONG),
    "mixed_6": ("Mixed_6d", _LONG),
    "mixed_7": ("Mixed_6e", _LONG),
    "mixed_8": ("Mixed_7a", _SECOND_REDUCTION),
    "mixed_9": ("Mixed_7b", _WIDE),
    "mixed_10": ("Mixed_7c", _WIDE),
}
# Layers by their names in this package, with those of the published file.
LAYERS = _STEM | {
    f"{block}/{ours}": f"{module}.{theirs}"
    for block, (module, names) in _BLOCKS.items()
    for ours, theirs in names.items()
}


def load_inception(path=None):
    """Load the weights of the 94 convolutions, and of the logits.

    Args:
        path: path of a `.npz` file with `"LAYER/kernel"`, `"LAYER/bias"` and
            optionally `"logits/kernel"`; or of the published `.pth` file, which
            needs PyTorch. Defaults to the published file, downloaded once.

    Returns:
        A tuple of a dict of float32 arrays; the kernel of the logits, of shape
        `(2048, num_classes)`, or `None`; and the SHA-256 of the file, a string.

    Raises:
        InputError: if there is no such file, if it has other content, or if
            it cannot be downloaded.
    """
    if path is None:
        path = _download()
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"There is no weights file at '{path}'.")
    digest = sha256(path.read_bytes())
    try:
        if path.suffix == ".npz":
            with path.open("rb") as opened, np.load(opened) as file:
                weights = {name: file[name] for name in file.files}
        else:
            weights = fold(read_torch(path))
    except UNREADABLE as error:
        raise InputError(
            f"'{path}' does not hold the weights of Inception: {error}"
        ) from error
    expected = {f"{n}/{part}" for n in LAYERS for part in ("kernel", "bias")}
    missing = sorted(expected - set(weights))
    if missing:
        raise InputError(
            f"'{path}' does not hold the weights of Inception: {missing[0]} "
            f"and {len(missing) - 1} others are missing."
        )
    convolutions = {name: weights[name] for name in sorted(expected)}
    for name, array in convolutions.items():
        is_kernel = name.endswith("kernel")
        is_float = np.issubdtype(array.dtype, np.floating)
        if array.ndim != (4 if is_kernel else 1) or not is_float:
            raise InputError(
                f"'{path}' does not hold the weights of Inception: {name} is "
                f"{array.dtype} of shape {array.shape}."
            )
        if not np.isfinite(array).all():
            raise InputError(
                f"'{path}' is damaged: {name} holds NaN or infinity. Restore "
                "it from a copy."
            )
    return convolutions, weights.get(_LOGITS), digest


def _download():
    """Download the published file, or find it where it was put before."""
    try:
        return keras.utils.get_file(origin=_URL, file_hash=_SHA256)
    except Exception as error:  # Keras's class for a failed download.
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"The weights of Inception cannot be downloaded: {reason}. Pass a "
            "file of them: `feature_weights` (--feature-weights)."
        ) from error


def fold(state):
    """Fold the batch normalization into the convolutions, in float64.

    Args:
        state: dict of arrays with the names of the published file.

    Returns:
        A dict of float32 arrays with the names of `LAYERS`.
    """
    weights = {}
    if "fc.weight" in state:
        weights[_LOGITS] = np.asarray(state["fc.weight"], "float32").T
    for ours, theirs in LAYERS.items():
        kernel, scale, offset, mean, variance = (
            np.asarray(state[f"{theirs}.{name}"], "float64")
            for name in (
                "conv.weight",
                "bn.weight",
                "bn.bias",
                "bn.running_mean",
                "bn.running_var",
            )
        )
        scale = scale / np.sqrt(variance + _EPSILON)
        kernel = kernel.transpose(2, 3, 1, 0) * scale
        weights[f"{ours}/kernel"] = kernel.astype("float32")
        weights[f"{ours}/bias"] = (offset - mean * scale).astype("float32")
    return weights
