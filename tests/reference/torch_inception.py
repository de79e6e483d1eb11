"""Inception of 2015-12-05 in plain PyTorch, from its description.

Channels first, layers as torch functions, resizing by gathering rows or by
`interpolate`: nothing is shared with the package but the weights.
"""

import numpy as np
import torch
import torch.nn.functional as F


def resize(images, kind):
    x = torch.tensor(np.asarray(images, "float32")).permute(0, 3, 1, 2)
    if kind == "pytorch":
        x = F.interpolate(x / 255, (299, 299), mode="bilinear")
        return 2 * x - 1
    for axis in (2, 3):
        place = torch.arange(299) * (x.shape[axis] / 299)
        low = place.floor().long()
        high = (low + 1).clamp(max=x.shape[axis] - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = 299
        share = (place - low).reshape(shape)
        a, b = x.index_select(axis, low), x.index_select(axis, high)
        x = a + (b - a) * share
    return (x - 128) / 128


@torch.no_grad()
def features(images, weights, kind):
    def c(name, x, stride=1, valid=False):
        kernel = torch.tensor(weights[name + "/kernel"]).permute(3, 2, 0, 1)
        bias = torch.tensor(weights[name + "/bias"])
        pad = [0 if valid else size // 2 for size in kernel.shape[2:]]
        return F.conv2d(x, kernel, bias, stride, pad).relu()

    def mean(x):
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    x = c("conv", resize(images, kind), 2, True)
    x = c("conv_2", c("conv_1", x, 1, True))
    x = c("conv_4", c("conv_3", F.max_pool2d(x, 3, 2)), 1, True)
    x = F.max_pool2d(x, 3, 2)
    for m in ("mixed/", "mixed_1/", "mixed_2/"):
        b = c(m + "tower/conv_1", c(m + "tower/conv", x))
        d = c(m + "tower_1/conv_1", c(m + "tower_1/conv", x))
        d = c(m + "tower_1/conv_2", d)
        e = c(m + "tower_2/conv", mean(x))
        x = torch.cat([c(m + "conv", x), b, d, e], 1)
    b = c("mixed_3/tower/conv_1", c("mixed_3/tower/conv", x))
    b = c("mixed_3/tower/conv_2", b, 2, True)
    a = c("mixed_3/conv", x, 2, True)
    x = torch.cat([a, b, F.max_pool2d(x, 3, 2)], 1)
    for m in ("mixed_4/", "mixed_5/", "mixed_6/", "mixed_7/"):
        b = d = x
        for end in ("", "_1", "_2"):
            b = c(m + "tower/conv" + end, b)
        for end in ("", "_1", "_2", "_3", "_4"):
            d = c(m + "tower_1/conv" + end, d)
        e = c(m + "tower_2/conv", mean(x))
        x = torch.cat([c(m + "conv", x), b, d, e], 1)
    a = c("mixed_8/tower/conv_1", c("mixed_8/tower/conv", x), 2, True)
    b = x
    for end in ("", "_1", "_2"):
        b = c("mixed_8/tower_1/conv" + end, b)
    b = c("mixed_8/tower_1/conv_3", b, 2, True)
    x = torch.cat([a, b, F.max_pool2d(x, 3, 2)], 1)
    for m in ("mixed_9/", "mixed_10/"):
        b = c(m + "tower_conv", x)
        b = [c(m + f"tower_mixed_conv{end}", b) for end in ("", "_1")]
        d = c(m + "tower_1_conv_1", c(m + "tower_1_conv", x))
        d = [c(m + f"tower_1_mixed_conv{end}", d) for end in ("", "_1")]
        e = mean(x) if m == "mixed_9/" else F.max_pool2d(x, 3, 1, 1)
        e = c(m + "tower_2_conv", e)
        x = torch.cat([c(m + "conv", x), *b, *d, e], 1)
    return x.mean((2, 3)).numpy()
