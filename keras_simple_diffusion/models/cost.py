import collections
import math

from keras_simple_diffusion.layers.attention import SelfAttention

# Applied before the pixels are repeated.
_AT_INPUT = ("Upsample2D", "Conv2DTranspose")


def count_macs(backbone):
    """Multiply-accumulates of one forward pass of one picture.

    Matrix products and convolutions count, elementwise operations do not.
    The papers' "GFLOPs" are such MACs.

    Args:
        backbone: a `keras_simple_diffusion.models.DiffusionBackbone`.

    Returns:
        A dict from the height of the feature map to MACs, as ints; height 0
        stands for what does not depend on pixels: the conditioning.
    """
    macs = collections.Counter()
    for layer in backbone.layers:
        height = 0
        for weight in layer.weights:
            if not weight.path.endswith("/kernel"):
                continue
            shape = layer.output.shape
            if type(layer).__name__ in _AT_INPUT:
                shape = layer.input.shape
            pixels, height = math.prod(shape[1:-1]), shape[1]
            if len(shape) != 4 or "/modulation/" in weight.path:
                pixels, height = 1, 0
            macs[height] += pixels * math.prod(weight.shape)
        attention = getattr(layer, "attention", layer)
        if isinstance(attention, SelfAttention):
            _, height, width, channels = layer.output.shape
            # Scores, and their product with the values.
            macs[height] += 2 * (height * width) ** 2 * channels
    return dict(macs)
