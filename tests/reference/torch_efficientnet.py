"""EfficientNet-Lite0 in plain PyTorch, from the published description.

Channels first, normalization as a layer of its own, padding by hand: nothing
is shared with the package but the file of weights.
"""

import numpy as np
import torch
import torch.nn.functional as F

CHANNELS = (16, 24, 24, 40, 40, *[80] * 3, *[112] * 3, *[192] * 4, 320)
KERNELS = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)
HALVES = {1, 3, 5, 11}  # Blocks that halve the size.


def random_weights(rng):
    """Arrays of a file with random weights that keep the signal alive."""
    weights = {}

    def add(name, norm, *shape):
        count = np.prod(shape[:-1])
        weights[f"{name}.weight"] = rng.normal(size=shape) * (2 / count) ** 0.5
        for part, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", 0.0, 0.5),
            ("running_mean", -0.2, 0.2),
            ("running_var", 0.5, 1.5),
        ):
            weights[f"{norm}.{part}"] = rng.uniform(low, high, shape[-1])

    add("_conv_stem", "_bn0", 3, 3, 3, 32)
    width = 32
    for i, (size, out) in enumerate(zip(KERNELS, CHANNELS, strict=True)):
        block = f"_blocks.{i}."
        inner = width if i == 0 else 6 * width
        if i > 0:
            add(f"{block}_expand_conv", f"{block}_bn0", 1, 1, width, inner)
        add(f"{block}_depthwise_conv", f"{block}_bn1", size, size, 1, inner)
        add(f"{block}_project_conv", f"{block}_bn2", 1, 1, inner, out)
        width = out
    add("_conv_head", "_bn1", 1, 1, 320, 1280)
    return {name: array.astype("float32") for name, array in weights.items()}


@torch.no_grad()
def features(images, weights):
    """Features of float images `(N, 224, 224, 3)` in [0, 255]."""

    def tensor(name):
        return torch.tensor(weights[name].astype("float32"))

    def layer(x, name, norm, stride=1, is_depthwise=False):
        kernel = tensor(f"{name}.weight")
        kernel = kernel.permute(3, 2, 0, 1)
        size = kernel.shape[-1]
        # As TensorFlow pads: one more at the right and at the bottom.
        total = max((-(-x.shape[-1] // stride) - 1) * stride + size, 0)
        total = max(total - x.shape[-1], 0)
        before, after = total // 2, total - total // 2
        x = F.pad(x, (before, after, before, after))
        groups = x.shape[1] if is_depthwise else 1
        x = F.conv2d(x, kernel, None, stride, groups=groups)
        return F.batch_norm(
            x,
            tensor(f"{norm}.running_mean"),
            tensor(f"{norm}.running_var"),
            tensor(f"{norm}.weight"),
            tensor(f"{norm}.bias"),
            eps=1e-3,
        )

    x = torch.tensor(np.asarray(images, "float32")).permute(0, 3, 1, 2)
    x = F.relu6(layer((x - 127) / 128, "_conv_stem", "_bn0", 2))
    for i in range(16):
        block, start = f"_blocks.{i}.", x
        if i > 0:
            x = F.relu6(layer(x, f"{block}_expand_conv", f"{block}_bn0"))
        stride = 2 if i in HALVES else 1
        name = f"{block}_depthwise_conv"
        x = F.relu6(layer(x, name, f"{block}_bn1", stride, True))
        x = layer(x, f"{block}_project_conv", f"{block}_bn2")
        if x.shape == start.shape:
            x = x + start
    x = F.relu6(layer(x, "_conv_head", "_bn1"))
    return x.mean((2, 3)).numpy()
