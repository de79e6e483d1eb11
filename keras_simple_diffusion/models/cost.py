"""Cost of a network, summed over what its layers report."""

import collections

from keras import layers
from keras import tree

from keras_simple_diffusion.layers.protocol import matrix_products_of


def matrix_products(backbone, context_length=128):
    """List the matrix products of one forward pass of one image.

    Args:
        backbone: a `keras_simple_diffusion.models.DiffusionBackbone`.
        context_length: int. Number of text tokens, if the network takes any.
            Defaults to `128`.

    Returns:
        A list of `keras_simple_diffusion.layers.protocol.MatrixProduct`.

    Raises:
        InputError: if a layer with weights does not report its products.
    """
    return [
        product
        for layer in backbone.layers
        if not isinstance(layer, layers.InputLayer)
        for product in layer_products(layer, context_length)
    ]


def layer_products(layer, context_length=128):
    """List the matrix products of one layer of a backbone.

    Args:
        layer: a layer of a functional model.
        context_length: int. Number of text tokens. Defaults to `128`.

    Returns:
        A list of `keras_simple_diffusion.layers.protocol.MatrixProduct`.
    """
    x = tree.flatten(layer.input)[0]
    return matrix_products_of(layer, tuple(x.shape), context_length)


def count_macs(backbone, context_length=128):
    """Count the multiply-accumulates of one forward pass of one image.

    Matrix products and convolutions count, elementwise operations do not.
    The papers' "GFLOPs" are such MACs.

    Args:
        backbone: a `keras_simple_diffusion.models.DiffusionBackbone`.
        context_length: int. Number of text tokens, if the network takes any.
            Defaults to `128`.

    Returns:
        A dict from the height of the feature map to MACs, as ints; height 0
        stands for the conditioning, whose cost does not depend on the size of
        the image.

    Raises:
        InputError: if a layer with weights does not report its products.

    Example:
    ```python
    sum(keras_simple_diffusion.models.count_macs(backbone).values())
    ```
    """
    macs = collections.Counter()
    for product in matrix_products(backbone, context_length):
        macs[product.height] += product.macs
    return dict(macs)


def arithmetic_intensity(backbone, batch_size, context_length=128):
    """Compute the operations for each byte moved, at 2 bytes per number.

    Each matrix product reads its input and its kernel and writes its output
    once; a kernel is read once per batch. A device is compute-bound if the
    intensity exceeds the ratio of its peak FLOP/s to its memory bandwidth.

    Args:
        backbone: a `keras_simple_diffusion.models.DiffusionBackbone`.
        batch_size: int. Number of images in a batch.
        context_length: int. Number of text tokens, if the network takes any.
            Defaults to `128`.

    Returns:
        A dict from the height of the feature map to FLOPs per byte.
    """
    operations, moved = collections.Counter(), collections.Counter()
    for product in matrix_products(backbone, context_length):
        operations[product.height] += 2 * product.macs
        moved[product.height] += 2 * (
            product.inputs + product.outputs + product.weights / batch_size
        )
    return {height: operations[height] / moved[height] for height in moved}
