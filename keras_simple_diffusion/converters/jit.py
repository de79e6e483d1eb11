"""Models from checkpoints of JiT (https://github.com/LTH14/JiT)."""

import argparse
import math
import pathlib

import keras
import numpy as np

from keras_simple_diffusion.converters.name_map import assign_weights
from keras_simple_diffusion.converters.name_map import convolution
from keras_simple_diffusion.converters.name_map import dense
from keras_simple_diffusion.converters.name_map import first
from keras_simple_diffusion.converters.name_map import pointwise
from keras_simple_diffusion.converters.name_map import same
from keras_simple_diffusion.layers import SinusoidalPositions2D
from keras_simple_diffusion.losses import DiffusionLoss
from keras_simple_diffusion.losses import FlowWeighting
from keras_simple_diffusion.models import DiffusionModel
from keras_simple_diffusion.models import PixelTransformerBackbone
from keras_simple_diffusion.samplers import HeunSampler
from keras_simple_diffusion.schedules import NormalSchedule
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.errors import check_integer
from keras_simple_diffusion.utils.tensor_files import UNREADABLE
from keras_simple_diffusion.utils.tensor_files import read_safetensors
from keras_simple_diffusion.utils.tensor_files import read_torch

# === Names ===


def _layer(path, name, layout=dense):
    return {
        f"{path}/kernel": (f"{name}.weight", layout),
        f"{path}/bias": (f"{name}.bias", same),
    }


_NAMES = {
    "patch_conv/kernel": ("x_embedder.proj1.weight", convolution),
    **_layer("patch_dense", "x_embedder.proj2", pointwise),
    **_layer("conditioning/hidden", "t_embedder.mlp.0"),
    **_layer("conditioning/output", "t_embedder.mlp.2"),
    "conditioning/label/embeddings": (
        "y_embedder.embedding_table.weight",
        same,
    ),
    "class_tokens/positions": ("in_context_posemb", first),
    "output_norm/norm/scale": ("final_layer.norm_final.weight", same),
    **_layer("output_norm/modulation", "final_layer.adaLN_modulation.1"),
    **_layer("output_dense", "final_layer.linear"),
}
_BLOCK_NAMES = {
    "norm_attention/scale": ("norm1.weight", same),
    "attention/norm_q/scale": ("attn.q_norm.weight", same),
    "attention/norm_k/scale": ("attn.k_norm.weight", same),
    **_layer("attention/qkv", "attn.qkv"),
    **_layer("attention/output", "attn.proj"),
    "norm_perceptron/scale": ("norm2.weight", same),
    **_layer("perceptron_in", "mlp.w12"),
    **_layer("perceptron_out", "mlp.w3"),
    **_layer("modulation", "adaLN_modulation.1"),
}
# Arrays of the checkpoints that the network computes.
_POSITIONS = "pos_embed"
COMPUTED = (
    _POSITIONS,
    *(
        f"{table}.freqs_{function}"
        for table in ("feat_rope", "feat_rope_incontext")
        for function in ("cos", "sin")
    ),
)
_PREFIX = "net."  # Of all names in the checkpoints.


def name_map(depth):
    """Return the map of names of a network, see `assign_weights`.

    Args:
        depth: int. Number of blocks.
    """
    blocks = {
        f"transformer_{i}/{path}": (f"blocks.{i}.{name}", layout)
        for i in range(depth)
        for path, (name, layout) in _BLOCK_NAMES.items()
    }
    return {**_NAMES, **blocks}


# === Settings that no weight shows ===

# First block with tokens of the class, dropout, and guidance scales at 256 and
# 512 pixels of the networks of the paper, by depth.
_SETTINGS = {
    12: (4, 0.0, (3.0, 3.0)),
    24: (8, 0.0, (2.4, 2.5)),
    32: (10, 0.2, (2.2, 2.3)),
    40: (10, 0.2, (2.2, 2.2)),
}
_OTHER_SCALE = 2.2
_LOWEST_TIME, _HIGHEST_LOG_SNR = 0.1, 15.0  # Of guidance.


def settings_of_depth(depth):
    """Return arguments of the network that follow from its depth.

    Args:
        depth: int. Number of blocks.

    Returns:
        A dict of arguments of `PixelTransformerBackbone`; a third of the depth
        is the first block with tokens of the class in networks of other depths
        than those of the paper.
    """
    start, dropout, _ = _SETTINGS.get(depth, (depth // 3, 0.0, None))
    return {"class_token_block": start, "dropout": dropout}


def velocity_loss(noise_scale):
    """Return JiT's loss, the squared error in the velocity of the flow.

    Args:
        noise_scale: float. Standard deviation of the noise.
    """
    return DiffusionLoss(weighting=FlowWeighting(noise_scale=noise_scale))


def task_arguments(
    depth, image_size, noise_scale, time_mean=-0.8, time_std=0.8
):
    """Return the arguments of a `DiffusionModel` of JiT.

    Args:
        depth: int. Number of blocks.
        image_size: int. Height and width of the images.
        noise_scale: float. Standard deviation of the noise.
        time_mean: float. Mean of the logit of JiT's time. Defaults to `-0.8`.
        time_std: float. Its standard deviation. Defaults to `0.8`.

    Returns:
        A dict.
    """
    scales = _SETTINGS.get(depth, (None, None, (_OTHER_SCALE,) * 2))[-1]
    odds = _LOWEST_TIME / (1.0 - _LOWEST_TIME)
    return {
        "schedule": NormalSchedule(
            mean=2.0 * time_mean,
            std=2.0 * time_std,
            image_size=image_size,
            noise_size=image_size / noise_scale,
        ),
        "loss": velocity_loss(noise_scale),
        "prediction_type": "x",
        "label_dropout": 0.1,
        "sampler": HeunSampler(),
        "num_steps": 50,
        "guidance_scale": scales[image_size > 256],
        "guidance_interval": (
            round(2.0 * math.log(odds / noise_scale), 4),
            _HIGHEST_LOG_SNR,
        ),
    }


# === Conversion ===


def from_jit(path, ema=1, class_token_block=None):
    """Make a model of a checkpoint of JiT.

    Size, patches, width, depth, heads and classes follow from the shapes of
    the weights; time distribution and noise scale from the command line that
    the checkpoint keeps, or else from the paper.

    Args:
        path: path of a `.pth` file, which needs PyTorch on any backend, or of
            a `.safetensors` file. Code in a file is never run.
        ema: int. 1 or 2, the average of the weights; 0 for the weights
            themselves. A file with a single set has only the first. Defaults
            to `1`, the one of which the authors draw.
        class_token_block: int. Index of the first block with tokens of the
            class, for networks other than those of the paper, whose depths
            tell. Defaults to `None`.

    Returns:
        A `keras_simple_diffusion.models.DiffusionModel` with the sampler,
        number of steps, guidance and guidance interval of the source.

    Raises:
        InputError: if the file cannot be read, or does not fit.

    References:
        - [Li & He, 2025](https://arxiv.org/abs/2511.13720)
    """
    arrays, options = _read(pathlib.Path(path), ema)
    source = f"'{path}'"
    network = _read_network(arrays, source)
    size = network["image_shape"][0]
    noise_scale = float(options.get("noise_scale", size / 256))
    network |= settings_of_depth(network["depth"])
    network["noise_scale"] = noise_scale
    if class_token_block is not None:
        network["class_token_block"] = class_token_block
    backbone = PixelTransformerBackbone(**network)
    assign_weights(backbone, arrays, name_map(backbone.depth), COMPUTED, source)
    _check_positions(arrays[_POSITIONS], backbone, source)
    times = {
        ours: float(options[theirs])
        for ours, theirs in (("time_mean", "P_mean"), ("time_std", "P_std"))
        if theirs in options
    }
    task = task_arguments(backbone.depth, size, noise_scale, **times)
    return DiffusionModel(backbone, **task)


def _read(path, ema):
    """Read one set of weights, and the options of the training."""
    check_integer("ema", ema, minimum=0)
    if not path.is_file():
        raise InputError(f"There is no file '{path}'.")
    try:
        if path.suffix == ".safetensors":
            content, options = read_safetensors(path)[0], {}
        else:
            content = read_torch(path)
            options = content.get("args", {})
    except InputError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"'{path}' cannot be read as tensors: {reason}"
        ) from error
    if isinstance(options, argparse.Namespace):
        options = vars(options)
    name = "model" if ema == 0 else f"model_ema{ema}"
    sets = [key for key, each in content.items() if isinstance(each, dict)]
    if name in sets:
        content = content[name]
    elif "model" in sets or ema != 1:
        held = ", ".join(key for key in sets if key.startswith("model"))
        raise InputError(
            f"'{path}' holds no '{name}', but {held or 'a single set'}. "
            "Choose another `ema`: 0 for model, 1 for model_ema1."
        )
    return {
        name.removeprefix(_PREFIX): array for name, array in content.items()
    }, options


def _read_network(arrays, source):
    """Read the arguments of the network from the shapes of its weights."""

    def shape(name, rank):
        found = np.shape(arrays.get(name))
        if len(found) != rank:
            raise InputError(
                f"{source} does not fit: it has no {name} of {rank} axes, as "
                "checkpoints of JiT have."
            )
        return found

    bottleneck, channels, patch, _ = shape("x_embedder.proj1.weight", 4)
    _, count, width = shape(_POSITIONS, 3)
    (head_dim,) = shape("blocks.0.attn.q_norm.weight", 1)
    classes, _ = shape("y_embedder.embedding_table.weight", 2)
    _, tokens, _ = shape("in_context_posemb", 3)
    depth = sum(name.endswith(".attn.qkv.weight") for name in arrays)
    size = math.isqrt(count) * patch
    return {
        "image_shape": (size, size, channels),
        "patch_size": patch,
        "width": width,
        "depth": depth,
        "num_heads": width // max(head_dim, 1),
        "bottleneck_dim": bottleneck,
        "num_class_tokens": tokens,
        "num_classes": classes - 1,
    }


def _check_positions(found, backbone, source):
    side = backbone.image_shape[0] // backbone.patch_size
    zeros = np.zeros((1, side, side, backbone.width), "float32")
    layer = SinusoidalPositions2D(dtype="float32")
    expected = keras.ops.convert_to_numpy(layer(zeros)).reshape(found.shape)
    if np.abs(np.asarray(found, "float32") - expected).max() > 1e-2:
        raise InputError(
            f"{source} does not fit: {_POSITIONS} holds other positions than "
            "the sinusoids of JiT."
        )
