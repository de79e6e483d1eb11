"""The U-ViT and the U-Net in plain PyTorch, and their training step.

Weights are a dict by the library's names, in PyTorch's layouts: see
`from_library`. Feature maps are NHWC, which convolutions see as channels last.
"""

import math

import torch
import torch.nn.functional as F


def from_library(arrays):
    """The library's weights, by name, in PyTorch's layouts.

    Args:
        arrays: dict of NumPy arrays.
    """
    w = {}
    for name, array in arrays.items():
        tensor = torch.tensor(array)
        if name.endswith("/kernel"):
            if tensor.ndim == 4:
                tensor = tensor.permute(3, 2, 0, 1).contiguous(
                    memory_format=torch.channels_last
                )
            else:
                tensor = tensor.T.contiguous()
        w[name] = tensor
    return w


def _dense(w, name, x):
    return F.linear(x, w[f"{name}/kernel"], w[f"{name}/bias"])


def _conv(w, name, x):
    y = F.conv2d(
        x.permute(0, 3, 1, 2),
        w[f"{name}/kernel"],
        w[f"{name}/bias"],
        padding=1,
    )
    return y.permute(0, 2, 3, 1)


def _rms(w, name, x):
    return F.rms_norm(x, x.shape[-1:], w[f"{name}/scale"], 1e-6)


def _layer_norm(w, name, x):
    return F.layer_norm(
        x, x.shape[-1:], w[f"{name}/gamma"], w[f"{name}/beta"], 1e-3
    )


def _modulate(w, name, x, embedding):
    vectors = _dense(w, f"{name}/modulation/projection", embedding)
    scale, shift = vectors[:, None, None].chunk(2, dim=-1)
    return torch.addcmul(shift, x, 1.0 + scale)


def _condition(w, log_snr, labels):
    half = w["conditioning/hidden/kernel"].shape[1] // 2
    exponents = torch.arange(half, device=log_snr.device) / (half - 1)
    frequencies = 1000.0 / 30.0 * torch.exp(-math.log(10000.0) * exponents)
    angles = log_snr[:, None] * frequencies
    x = torch.cat([angles.sin(), angles.cos()], dim=-1)
    x = F.silu(_dense(w, "conditioning/hidden", x))
    x = _dense(w, "conditioning/output", x)
    x = x + w["conditioning/label/embeddings"][labels]
    return F.silu(x)


def _residual(w, name, x, embedding, skip=None):
    h = _rms(w, f"{name}/norm_in", x)
    if skip is not None:
        h = (h + _rms(w, f"{name}/norm_skip", skip)) * 0.5**0.5
    h = _conv(w, f"{name}/conv_in", F.silu(h))
    h = _modulate(w, name, _rms(w, f"{name}/norm_out", h), embedding)
    return x + _conv(w, f"{name}/conv_out", F.silu(h))


def _attention(w, name, x, heads):
    batch, height, width, channels = x.shape
    size = channels // heads
    h = _rms(w, f"{name}/norm", x).reshape(batch, height * width, channels)
    qkv = _dense(w, f"{name}/qkv", h)
    qkv = qkv.reshape(batch, height * width, 3, heads, size)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    h = F.scaled_dot_product_attention(
        _layer_norm(w, f"{name}/norm_q", q),
        _layer_norm(w, f"{name}/norm_k", k),
        v,
    )
    h = h.transpose(1, 2).reshape(x.shape)
    return x + _dense(w, f"{name}/output", h)


def _transformer(w, name, x, embedding, heads):
    h = F.silu(_dense(w, f"{name}/hidden", _rms(w, f"{name}/norm", x)))
    h = _modulate(w, name, h, embedding)
    x = x + _dense(w, f"{name}/output", h)
    return _attention(w, f"{name}/attention", x, heads)


def _down(w, level, x):
    x = F.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    return _dense(w, f"downsample_{level}/dense", x)


def _up(w, level, x):
    x = _dense(w, f"upsample_{level}/dense", x).permute(0, 3, 1, 2)
    return F.interpolate(x, scale_factor=2).permute(0, 2, 3, 1)


def network(w, noisy_images, log_snr, labels, *, blocks, heads, attention=()):
    """The velocity.

    Args:
        w: dict of tensors.
        noisy_images: `(B, H, W, C)`.
        log_snr: `(B,)`.
        labels: `(B,)`.
        blocks: tuple of ints, blocks of each level.
        heads: int. Heads of attention.
        attention: levels of the U-Net with attention; empty for the U-ViT.
    """
    embedding = _condition(w, log_snr, labels)
    is_unet = bool(attention)

    def block(level, name, x, skip=None):
        x = _residual(w, name, x, embedding, skip)
        if level in attention:
            x = _attention(w, f"{name}_attention", x, heads)
        return x

    x = _conv(w, "input_conv", noisy_images)
    lowest = len(blocks) - 1
    skips = []
    for level in range(lowest + is_unet):
        skips.append(x)
        for i in range(blocks[level]):
            x = block(level, f"down_{level}_{i}", x)
            skips.append(x)
        if level < lowest:
            x = _down(w, level + 1, x)
    if is_unet:
        x = _residual(w, "middle_0", x, embedding)
        x = _attention(w, "middle_attention", x, heads)
        x = _residual(w, "middle_1", x, embedding)
    else:
        x = x + w[f"position_{lowest}/embedding"]
        for i in range(blocks[lowest]):
            x = _transformer(w, f"transformer_{i}", x, embedding, heads)
    for level in reversed(range(lowest + is_unet)):
        if level < lowest:
            x = _up(w, level + 1, x)
        for i in range(blocks[level] + 1):
            x = block(level, f"up_{level}_{i}", x, skips.pop())
    x = F.silu(_rms(w, "output_norm", x))
    return _conv(w, "output_conv", x)


class Training:
    """A training step of the same work as the library's.

    Images to [-1, 1], times, noise, label dropout, the epsilon loss, Adam
    and the average of the weights.

    Args:
        w: dict of tensors, trained in place.
        apply: function of weights, noisy images, log-SNR and labels.
        learning_rate: float.
        decay: float, of the average.
    """

    def __init__(self, w, apply, learning_rate=1e-4, decay=0.999):
        self.w = {name: value.requires_grad_() for name, value in w.items()}
        self.apply = apply
        self.decay = decay
        self.average = [value.detach().clone() for value in self.w.values()]
        self.optimizer = torch.optim.Adam(
            self.w.values(), lr=learning_rate, fused=True
        )

    def step(self, images, labels):
        """The loss of a batch of `uint8` images, after an update."""
        x = images.float() / 127.5 - 1.0
        t = torch.rand(len(x), device=x.device)
        ends = math.atan(math.exp(-7.5)), math.atan(math.exp(7.5))
        log_snr = -2.0 * torch.log(torch.tan(ends[0] + t * (ends[1] - ends[0])))
        level = log_snr[:, None, None, None]
        alpha, sigma = level.sigmoid().sqrt(), (-level).sigmoid().sqrt()
        noise = torch.randn_like(x)
        null = len(self.w["conditioning/label/embeddings"]) - 1
        dropped = torch.rand(len(x), device=x.device) < 0.1
        labels = torch.where(dropped, null, labels)
        z = alpha * x + sigma * noise
        v = self.apply(self.w, z, log_snr, labels)
        loss = (alpha * v + sigma * z - noise).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(
                self.average, list(self.w.values()), 1.0 - self.decay
            )
        return loss
