"""Protocol by which layers report their cost and the layout of their weights.

A layer with weights defines

- `matrix_products(x_shape, context_length)`: method of the built layer that
  returns a list of `MatrixProduct`. `x_shape` is the shape of its first input,
  batch included, and `context_length` the number of text tokens.
- `weight_layouts`: class attribute, a dict from the ending of a weight's path
  to its layout, for each weight of two or more dimensions. The layout is a
  tuple with `"data"`, `"model"` or `None` for each dimension, the axis of the
  device mesh along which it is split, or `COPIED`.

Layers made of others add up the products and layouts of these. Keras's own
layers are described here.
"""

import dataclasses
import math

from keras import layers

from keras_simple_diffusion.utils.errors import InputError

# Layouts of the kernel of a dense layer. Of two layers in sequence the first
# is split by its outputs and the second by its inputs, so that devices
# exchange nothing in between (Megatron). The other dimension is split along
# the data axis, which saves memory.
SPLIT_OUTPUTS = ("data", "model")
SPLIT_INPUTS = ("model", "data")
# Every device has a copy.
COPIED = None


@dataclasses.dataclass(frozen=True)
class MatrixProduct:
    """One convolution, dense layer or attention of the forward pass.

    Args:
        height: int. Height of the feature map; 0 where the cost does not
            depend on the size of the image, as in the conditioning.
        macs: int. Multiply-accumulates for one image.
        inputs: int. Numbers read for one image, weights excluded.
        outputs: int. Numbers written for one image.
        weights: int. Numbers of the kernel.
    """

    height: int
    macs: int
    inputs: int
    outputs: int
    weights: int


def height_of(shape):
    """Return the height of a feature map of shape `(B, H, W, C)`.

    It is the length of a sequence of shape `(B, N, C)`, and 0 for vectors.
    """
    return shape[1] if len(shape) > 2 else 0


def dense_product(dense, x_shape, height=None):
    """Describe a dense layer.

    Args:
        dense: a built `keras.layers.Dense`.
        x_shape: shape of its input, `(B, ..., C)`.
        height: int. Height of the feature map that the product counts for.
            Defaults to that of the input.

    Returns:
        A `MatrixProduct`.
    """
    rows = math.prod(x_shape[1:-1])
    inputs, outputs = dense.kernel.shape
    return MatrixProduct(
        height=height_of(x_shape) if height is None else height,
        macs=rows * inputs * outputs,
        inputs=rows * inputs,
        outputs=rows * outputs,
        weights=inputs * outputs,
    )


def convolution_product(convolution, x_shape):
    """Describe a convolution.

    Args:
        convolution: a built `keras.layers.Conv2D` or `Conv2DTranspose`.
        x_shape: shape of its input, `(B, H, W, C)`.

    Returns:
        A `MatrixProduct`.
    """
    y_shape = convolution.compute_output_shape(x_shape)
    weights = math.prod(convolution.kernel.shape)
    # The kernel is applied at every pixel of the output. The transposed one is
    # applied at every pixel of the input.
    is_transposed = isinstance(convolution, layers.Conv2DTranspose)
    pixels = x_shape if is_transposed else y_shape
    return MatrixProduct(
        height=pixels[1],
        macs=math.prod(pixels[1:-1]) * weights,
        inputs=math.prod(x_shape[1:]),
        outputs=math.prod(y_shape[1:]),
        weights=weights,
    )


def attention_product(x_shape, num_keys):
    """Describe the attention between projected queries, keys and values.

    It is one product that reads queries, keys and values and writes their
    mixture; a fused implementation does not write its scores to memory.

    Args:
        x_shape: shape of the queries of all heads, `(B, ..., C)`.
        num_keys: int. Number of keys for one image.

    Returns:
        A `MatrixProduct`.
    """
    queries, channels = math.prod(x_shape[1:-1]), x_shape[-1]
    return MatrixProduct(
        height=height_of(x_shape),
        # Scores, and their product with the values.
        macs=2 * queries * num_keys * channels,
        inputs=(queries + 2 * num_keys) * channels,
        outputs=queries * channels,
        weights=0,
    )


def _no_product(layer, x_shape):
    return None


# All weights of Keras's own layers are copied: outside of our layers they are
# the small first and last ones of a network.
_KERAS_LAYERS = {
    layers.Dense: dense_product,
    layers.Conv2D: convolution_product,
    layers.Conv2DTranspose: convolution_product,
    layers.Embedding: _no_product,
    layers.LayerNormalization: _no_product,
    layers.RMSNormalization: _no_product,
    layers.GroupNormalization: _no_product,
    layers.BatchNormalization: _no_product,
}


def matrix_products_of(layer, x_shape, context_length):
    """List the matrix products of a layer.

    Args:
        layer: a built layer.
        x_shape: shape of its first input, batch included.
        context_length: int. Number of text tokens.

    Returns:
        A list of `MatrixProduct`.

    Raises:
        InputError: if the layer has weights and does not say its products.
    """
    if hasattr(layer, "matrix_products"):
        return layer.matrix_products(x_shape, context_length)
    for cls, describe in _KERAS_LAYERS.items():
        if isinstance(layer, cls):
            product = describe(layer, x_shape)
            return [] if product is None else [product]
    if layer.weights:
        name = type(layer).__name__
        raise InputError(
            f"The cost of the layer '{layer.name}' is not known. Define "
            f"`{name}.matrix_products(x_shape, context_length)`, which returns "
            "a list of `MatrixProduct`."
        )
    return []


def merge_layouts(layer_types):
    """Merge the weight layouts of several classes of layers.

    Args:
        layer_types: classes with a `weight_layouts`.

    Returns:
        A dict from the ending of a path to a layout.

    Raises:
        InputError: if two classes disagree about one ending.
    """
    merged = {}
    for cls in layer_types:
        for ending, layout in cls.weight_layouts.items():
            if merged.setdefault(ending, layout) != layout:
                raise InputError(
                    f"The layout of '{ending}' in {cls.__name__} differs from "
                    "that in another layer of the network. Rename the weight "
                    "or its layer."
                )
    return merged


def check_layouts(network_layers, layer_types):
    """Raise an `InputError` if the layout of a large weight is not known.

    Args:
        network_layers: list of the built layers of a network.
        layer_types: classes of its layers with a `weight_layouts`.
    """
    endings = tuple(f"/{ending}" for ending in merge_layouts(layer_types))
    for layer in network_layers:
        if isinstance(layer, tuple(_KERAS_LAYERS)):
            continue
        for weight in layer.weights:
            if len(weight.shape) > 1 and not weight.path.endswith(endings):
                name = type(layer).__name__
                raise InputError(
                    f"No layout over devices is known for the weight "
                    f"'{weight.path}'. Define it in `{name}.weight_layouts`, "
                    f"and name {name} in the network's `layer_types`."
                )
