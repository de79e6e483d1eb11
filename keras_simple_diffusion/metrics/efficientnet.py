"""Features of EfficientNet-Lite0, a small classifier of ImageNet."""

import pathlib
import pickle
import zipfile

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.metrics.image_features import ImageFeatures
from keras_simple_diffusion.metrics.resizing import resize_cubic
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import sha256

_SIZE = 224
_EPSILON = 1e-3  # Of the batch normalization.
_STEM, _HEAD = 32, 1280  # Channels.
# Blocks of each stage: number, kernel size, stride of the first, expansion,
# channels. Table 1 of Tan & Le, 2019, without squeeze-and-excitation.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_NORM = ("weight", "bias", "running_mean", "running_var")
_UNREADABLE = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    ValueError,
    EOFError,
    OSError,
)


class EfficientNetFeatures(ImageFeatures):
    """Features of EfficientNet-Lite0, the mean activations before its logits.

    A second network, of another design than Inception, shows if images only
    suit the one that they were tuned with. It has a tenth of Inception's
    multiplications. Images are resized to 224 pixels.

    Args:
        weights: path of a `.npz` file with the names of EfficientNet's PyTorch
            versions, such as `"_blocks.0._depthwise_conv.weight"`; kernels
            have the shape `(height, width, in, out)`.
        batch_size: int. Images in one pass. Defaults to `32`.

    Attributes:
        name: string that changes whenever the features do.
        size: int. Number of features of an image, 1280.
        batch_size: int. Images in one pass.

    Call arguments:
        images: `uint8` array of shape `(N, H, W, C)`, with 1 or 3 channels.

    Returns:
        A float32 array of shape `(N, 1280)`.

    Raises:
        InputError: if there is no such file, or it has other content.

    Example:
    >>> features = keras_simple_diffusion.metrics.EfficientNetFeatures(
    ...     "efficientnet_lite0.npz"
    ... )
    >>> features(images).shape
    (16, 1280)

    References:
        - [Tan & Le, 2019](https://arxiv.org/abs/1905.11946)
    """

    def __init__(self, weights, batch_size=32):
        arrays, digest = load_efficientnet(weights)
        self._variables = {
            name: keras.Variable(array, dtype="float32", trainable=False)
            for name, array in arrays.items()
        }
        super().__init__(
            f"efficientnet-lite0-{digest[:16]}-cubic-{_SIZE}",
            _HEAD,
            batch_size,
            self._compute,
            list(self._variables.values()),
        )

    def _compute(self, images):
        images = (resize_cubic(images, _SIZE) - 127.0) / 128.0
        if images.shape[-1] == 1:
            images = ops.repeat(images, 3, axis=-1)
        return efficientnet(images, self._variables)


def efficientnet(images, weights):
    """Compute the features of EfficientNet-Lite0.

    Args:
        images: float tensor of shape `(B, 224, 224, 3)`, about in [-1, 1].
        weights: dict of tensors, see `load_efficientnet`.

    Returns:
        A float tensor of shape `(B, 1280)`.
    """

    def conv(layer, x):
        name, _, kernel, stride = layer
        is_depthwise = kernel[2] == 1 and kernel[3] == x.shape[-1] > 1
        apply = ops.depthwise_conv if is_depthwise else ops.conv
        array = weights[f"{name}/kernel"]
        if is_depthwise:
            array = ops.transpose(array, (0, 1, 3, 2))
        return apply(x, array, stride, "same") + weights[f"{name}/bias"]

    stem, *blocks, head = _layers()
    x = ops.relu6(conv(stem, images))
    for block in blocks:
        start = x
        for layer in block[:-1]:
            x = ops.relu6(conv(layer, x))
        x = conv(block[-1], x)
        if x.shape == start.shape:
            x = x + start
    return ops.mean(ops.relu6(conv(head, x)), axis=(1, 2))


def load_efficientnet(path):
    """Load the weights of the convolutions, batch normalization folded in.

    Args:
        path: path of a `.npz` file, see `EfficientNetFeatures`.

    Returns:
        A tuple of a dict of float32 arrays, `"LAYER/kernel"` and
        `"LAYER/bias"`, and the SHA-256 of the file, a string.

    Raises:
        InputError: if there is no such file, or it has other content.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"There is no weights file at '{path}'.")
    digest = sha256(path.read_bytes())
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            stored = {name: file[name] for name in file.files}
    except (*_UNREADABLE, AttributeError, TypeError) as error:
        raise InputError(
            f"'{path}' is not a .npz file of EfficientNet-Lite0's weights: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error

    def read(name, shape):
        array = stored.get(name)
        found = "missing" if array is None else f"of shape {array.shape}"
        if array is None or array.shape != shape:
            raise InputError(
                f"'{path}' does not hold the weights of EfficientNet-Lite0: "
                f"{name} must be of shape {shape}, and is {found}."
            )
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise InputError(
                f"'{path}' is damaged: {name} must be finite floats, and is "
                f"of dtype {array.dtype}. Restore it from a copy."
            )
        return array.astype("float64")

    weights = {}
    stem, *blocks, head = _layers()
    for name, norm, shape, _ in (stem, *sum(blocks, ()), head):
        kernel = read(f"{name}.weight", shape)
        scale, offset, mean, variance = (
            read(f"{norm}.{part}", shape[-1:]) for part in _NORM
        )
        scale = scale / np.sqrt(variance + _EPSILON)
        weights[f"{name}/kernel"] = (kernel * scale).astype("float32")
        weights[f"{name}/bias"] = (offset - mean * scale).astype("float32")
    return weights, digest


def _layers():
    """List the convolutions: the stem, tuples of each block, and the head.

    Each is a tuple of its name, that of its normalization, the shape of its
    kernel, in which depthwise ones have 1 input, and its stride.
    """
    layers = [("_conv_stem", "_bn0", (3, 3, 3, _STEM), 2)]
    width = _STEM
    for count, size, first_stride, expansion, channels in _STAGES:
        for number in range(count):
            name, inner = f"_blocks.{len(layers) - 1}.", width * expansion
            stride = first_stride if number == 0 else 1
            expand = (
                f"{name}_expand_conv",
                f"{name}_bn0",
                (1, 1, width, inner),
                1,
            )
            depthwise = (
                f"{name}_depthwise_conv",
                f"{name}_bn1",
                (size, size, 1, inner),
                stride,
            )
            project = (
                f"{name}_project_conv",
                f"{name}_bn2",
                (1, 1, inner, channels),
                1,
            )
            block = (expand, depthwise, project)
            layers.append(block if expansion > 1 else block[1:])
            width = channels
    return [*layers, ("_conv_head", "_bn1", (1, 1, width, _HEAD), 1)]
