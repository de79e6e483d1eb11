"""The Inception network of 2015-12-05, as a function of its weights."""

from keras import ops


def inception(images, weights):
    """Features of pictures.

    Args:
        images: float tensor of shape `(B, 299, 299, 3)` in [-1, 1].
        weights: dict of `"LAYER/kernel"` and `"LAYER/bias"`, with the batch
            norm folded into them.

    Returns:
        A float tensor of shape `(B, 2048)`.

    References:
        - [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567)
    """

    def conv(name, x, strides=1, padding="same"):
        x = ops.conv(x, weights[f"{name}/kernel"], strides, padding)
        return ops.relu(x + weights[f"{name}/bias"])

    def chain(block, x, *names):
        for name in names:
            x = conv(f"{block}/{name}", x)
        return x

    x = conv("conv", images, 2, "valid")
    x = conv("conv_1", x, padding="valid")
    x = conv("conv_2", x)
    x = ops.max_pool(x, 3, 2)
    x = conv("conv_3", x)
    x = conv("conv_4", x, padding="valid")
    x = ops.max_pool(x, 3, 2)
    for block in ("mixed", "mixed_1", "mixed_2"):
        x = _join(
            chain(block, x, "conv"),
            chain(block, x, "tower/conv", "tower/conv_1"),
            chain(block, x, *_numbered("tower_1", 3)),
            chain(block, _average(x), "tower_2/conv"),
        )
    tower = chain("mixed_3", x, *_numbered("tower", 2))
    x = _join(
        conv("mixed_3/conv", x, 2, "valid"),
        conv("mixed_3/tower/conv_2", tower, 2, "valid"),
        ops.max_pool(x, 3, 2),
    )
    for block in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):
        x = _join(
            chain(block, x, "conv"),
            chain(block, x, *_numbered("tower", 3)),
            chain(block, x, *_numbered("tower_1", 5)),
            chain(block, _average(x), "tower_2/conv"),
        )
    tower = chain("mixed_8", x, "tower/conv")
    tower_1 = chain("mixed_8", x, *_numbered("tower_1", 3))
    x = _join(
        conv("mixed_8/tower/conv_1", tower, 2, "valid"),
        conv("mixed_8/tower_1/conv_3", tower_1, 2, "valid"),
        ops.max_pool(x, 3, 2),
    )
    # The last block pools by maximum: so the published weights were made.
    for block, pool in (("mixed_9", _average), ("mixed_10", _maximum)):
        tower = chain(block, x, "tower_conv")
        tower_1 = chain(block, x, "tower_1_conv", "tower_1_conv_1")
        x = _join(
            chain(block, x, "conv"),
            chain(block, tower, "tower_mixed_conv"),
            chain(block, tower, "tower_mixed_conv_1"),
            chain(block, tower_1, "tower_1_mixed_conv"),
            chain(block, tower_1, "tower_1_mixed_conv_1"),
            chain(block, pool(x), "tower_2_conv"),
        )
    return ops.mean(x, axis=(1, 2))


def _numbered(tower, count):
    names = ("conv", "conv_1", "conv_2", "conv_3", "conv_4")
    return [f"{tower}/{name}" for name in names[:count]]


def _join(*branches):
    return ops.concatenate(branches, axis=-1)


def _average(x):
    return ops.average_pool(x, 3, 1, "same")  # Without what is padded.


def _maximum(x):
    return ops.max_pool(x, 3, 1, "same")
