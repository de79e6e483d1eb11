import collections
import dataclasses
import math

from keras_simple_diffusion.layers.attention import SelfAttention

# Applied before the pixels are repeated.
_AT_INPUT = ("Upsample2D", "Conv2DTranspose")


@dataclasses.dataclass(frozen=True)
class MatrixProduct:
    """One convolution, dense layer or attention of the forward pass.

    Args:
        height: int. Height of the feature map; 0 for what does not depend on
            pixels: the conditioning.
        macs: int. Multiply-accumulates for one image.
        inputs: int. Numbers read for one image, without weights.
        outputs: int. Numbers written for one image.
        weights: int. Numbers of the kernel.
    """

    height: int
    macs: int
    inputs: int
    outputs: int
    weights: int


def matrix_products(backbone, context_length=128):
    """The matrix products of one forward pass of one image.

    Attention is one product that reads queries, keys and values and writes
    their mixture: a fused one keeps its scores to itself.

    Args:
        backbone: a `keras_simple_diffusion.models.DiffusionBackbone`.
        context_length: int. Number of text tokens, if the network takes any.
            Defaults to `128`.

    Returns:
        A list of `MatrixProduct`.
    """
    return [
        product
        for layer in backbone.layers
        for product in layer_products(layer, context_length)
    ]


def layer_products(layer, context_length):
    """The matrix products of one layer of a backbone, see above."""
    products = [
        _kernel_product(layer, weight, context_length)
        for weight in layer.weights
        if weight.path.endswith("/kernel")
    ]
    attention = getattr(layer, "attention", layer)
    if isinstance(attention, SelfAttention):
        keys = math.prod(layer.output.shape[1:3])
        products.append(_attention_product(layer, keys))
    if hasattr(layer, "cross_attention"):
        products.append(_attention_product(layer, context_length))
    return products


def _kernel_product(layer, weight, context_length):
    *window, inputs, outputs = weight.shape
    in_shape, out_shape = layer.input, layer.output.shape
    in_shape = (in_shape[0] if isinstance(in_shape, list) else in_shape).shape
    if type(layer).__name__ == "Conv2DTranspose":
        inputs, outputs = outputs, inputs
    shape = in_shape if type(layer).__name__ in _AT_INPUT else out_shape
    height, rows = shape[1] if len(shape) == 4 else 0, math.prod(shape[1:-1])
    if height == 0 or "/modulation/" in weight.path:
        height, rows = 0, 1
    elif "/key_value/" in weight.path:
        rows = context_length
    in_rows = math.prod(in_shape[1:-1]) if window else rows
    return MatrixProduct(
        height=height,
        macs=rows * math.prod(weight.shape),
        inputs=in_rows * inputs,
        outputs=math.prod(out_shape[1:]) if window else rows * outputs,
        weights=math.prod(weight.shape),
    )


def _attention_product(layer, keys):
    _, height, width, channels = layer.output.shape
    queries = height * width
    return MatrixProduct(
        height=height,
        # Scores, and their product with the values.
        macs=2 * queries * keys * channels,
        inputs=(queries + 2 * keys) * channels,
        outputs=queries * channels,
        weights=0,
    )


def count_macs(backbone, context_length=128):
    """Multiply-accumulates of one forward pass of one image.

    Matrix products and convolutions count, elementwise operations do not.
    The papers' "GFLOPs" are such MACs.

    Args:
        backbone: a `keras_simple_diffusion.models.DiffusionBackbone`.
        context_length: int. Number of text tokens, if the network takes any.
            Defaults to `128`.

    Returns:
        A dict from the height of the feature map to MACs, as ints; height 0
        stands for what does not depend on pixels: the conditioning.
    """
    macs = collections.Counter()
    for product in matrix_products(backbone, context_length):
        macs[product.height] += product.macs
    return dict(macs)


def arithmetic_intensity(backbone, batch_size, context_length=128):
    """Floating-point operations for each byte moved, at 2 bytes a number.

    Each matrix product reads its input and its kernel and writes its output
    once; the kernel is read once a batch. A device keeps busy where this is
    above its peak FLOP/s over its memory's bytes a second.

    Args:
        backbone: a `keras_simple_diffusion.models.DiffusionBackbone`.
        batch_size: int. Number of images that share one reading of a
            kernel.
        context_length: int. Number of text tokens, if the network takes any.
            Defaults to `128`.

    Returns:
        A dict from the height of the feature map to FLOPs a byte.
    """
    operations, moved = collections.Counter(), collections.Counter()
    for product in matrix_products(backbone, context_length):
        operations[product.height] += 2 * product.macs
        moved[product.height] += 2 * (
            product.inputs + product.outputs + product.weights / batch_size
        )
    return {height: operations[height] / moved[height] for height in moved}
