"""JiT in plain PyTorch, from the paper's description.

It computes in float64, with the tensors of the published files, whose names and
shapes `shapes_of` lists. Images are channels first, and follow the straight
path `z = t x + (1 - t) e`, where time `t` is 0 for noise. Patches are cut by
hand, and rotations are products of complex numbers.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F


def shapes_of(
    size, patch, width, depth, heads, bottleneck, classes, tokens, channels=3
):
    """Names and shapes of all tensors of a square network."""
    count, hidden = (size // patch) ** 2, int(int(4 * width) * 2 / 3)
    shapes = {
        "pos_embed": (1, count, width),
        "in_context_posemb": (1, tokens, width),
        "t_embedder.mlp.0.weight": (width, 256),
        "t_embedder.mlp.0.bias": (width,),
        "t_embedder.mlp.2.weight": (width, width),
        "t_embedder.mlp.2.bias": (width,),
        "y_embedder.embedding_table.weight": (classes + 1, width),
        "x_embedder.proj1.weight": (bottleneck, channels, patch, patch),
        "x_embedder.proj2.weight": (width, bottleneck, 1, 1),
        "x_embedder.proj2.bias": (width,),
        "feat_rope.freqs_cos": (count, width // heads),
        "feat_rope.freqs_sin": (count, width // heads),
        "feat_rope_incontext.freqs_cos": (tokens + count, width // heads),
        "feat_rope_incontext.freqs_sin": (tokens + count, width // heads),
    }
    for i in range(depth):
        block = {
            "norm1.weight": (width,),
            "attn.q_norm.weight": (width // heads,),
            "attn.k_norm.weight": (width // heads,),
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "norm2.weight": (width,),
            "mlp.w12.weight": (2 * hidden, width),
            "mlp.w12.bias": (2 * hidden,),
            "mlp.w3.weight": (width, hidden),
            "mlp.w3.bias": (width,),
            "adaLN_modulation.1.weight": (6 * width, width),
            "adaLN_modulation.1.bias": (6 * width,),
        }
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    pixels = channels * patch**2
    return shapes | {
        "final_layer.norm_final.weight": (width,),
        "final_layer.linear.weight": (pixels, width),
        "final_layer.linear.bias": (pixels,),
        "final_layer.adaLN_modulation.1.weight": (2 * width, width),
        "final_layer.adaLN_modulation.1.bias": (2 * width,),
    }


def random_weights(shapes, seed=0):
    """Random tensors of a file, with the fixed ones of the published files."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 4
        value = rng.normal(size=shape) / math.sqrt(fan_in)
        if "norm" in name:
            value = 1 + 0.1 * value
        weights[name] = value.astype("float32")
    count, width = shapes["pos_embed"][1:]
    side = math.isqrt(count)
    weights["pos_embed"] = positions(side, side, width)[None]
    for name, shape in shapes.items():
        if "rope" in name:
            angles = np.zeros((shape[0], shape[1] // 2))
            angles[shape[0] - count :] = rotations(side, side, shape[1])
            table = np.cos(angles) if "cos" in name else np.sin(angles)
            weights[name] = np.repeat(table, 2, axis=1)
    return {k: np.asarray(v, "float32") for k, v in weights.items()}


def positions(rows, columns, width):
    """Sinusoids of column and row of each patch, `(rows * columns, width)`."""
    table = np.zeros((rows, columns, width))
    for i in range(width // 4):
        frequency = 10000 ** (-i / (width / 4))
        for row in range(rows):
            for column in range(columns):
                table[row, column, [i, i + width // 4]] = (
                    math.sin(column * frequency),
                    math.cos(column * frequency),
                )
                table[row, column, [i + width // 2, i + width // 4 * 3]] = (
                    math.sin(row * frequency),
                    math.cos(row * frequency),
                )
    return table.reshape(-1, width)


def rotations(rows, columns, head_dim):
    """Angles of the pairs of channels, `(rows * columns, head_dim / 2)`."""
    count = head_dim // 4
    frequencies = 10000 ** (-np.arange(count) / count)
    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.concatenate(
        [np.outer(row, frequencies), np.outer(column, frequencies)], axis=1
    )


def forward(weights, state, time, labels, start, patch, heads):
    """Predict clean images.

    Args:
        weights: Dict of arrays, named as in the published files.
        state: Array `(B, C, H, W)`, points on the path.
        time: Array `(B,)`, 0 for noise.
        labels: Array `(B,)` of ints.
        start: Index of the first block with tokens of the class.
        patch: Size of a patch.
        heads: Number of heads.
    """
    w = {k: torch.as_tensor(v).double() for k, v in weights.items()}
    state, time = torch.as_tensor(state).double(), torch.as_tensor(time)
    labels = torch.as_tensor(labels).long()

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        mean = x.square().mean(-1, keepdim=True)
        return x / (mean + 1e-6).sqrt() * w[f"{name}.weight"]

    # Conditions
    frequencies = torch.exp(-math.log(1e4) * torch.arange(128).double() / 128)
    angles = time.double()[:, None] * frequencies
    features = torch.cat([angles.cos(), angles.sin()], -1)
    hidden = F.silu(linear(features, "t_embedder.mlp.0"))
    label = w["y_embedder.embedding_table.weight"][labels]
    condition = F.silu(linear(hidden, "t_embedder.mlp.2") + label)

    # Patches, from the top left by rows
    batch, channels, height, width = state.shape
    rows, columns = height // patch, width // patch
    down = w["x_embedder.proj1.weight"].flatten(1)
    up = w["x_embedder.proj2.weight"][:, :, 0, 0]
    tokens = []
    for row in range(rows):
        for column in range(columns):
            part = state[:, :, row * patch :, column * patch :]
            part = part[:, :, :patch, :patch].flatten(1)
            tokens.append(part @ down.T @ up.T + w["x_embedder.proj2.bias"])
    x = torch.stack(tokens, 1)
    x = x + torch.as_tensor(positions(rows, columns, x.shape[-1]))
    turn = torch.polar(
        torch.ones(()).double(),
        torch.as_tensor(rotations(rows, columns, x.shape[-1] // heads)),
    )

    def attention(h, name):
        q, k, v = linear(h, f"{name}.qkv").chunk(3, -1)
        parts = []
        for head in range(heads):
            part = slice(head * h.shape[-1] // heads, None)
            size = h.shape[-1] // heads
            q_h = rotated(norm(q[..., part][..., :size], f"{name}.q_norm"))
            k_h = rotated(norm(k[..., part][..., :size], f"{name}.k_norm"))
            scores = q_h @ k_h.transpose(1, 2) / math.sqrt(size)
            parts.append(scores.softmax(-1) @ v[..., part][..., :size])
        return linear(torch.cat(parts, -1), f"{name}.proj")

    def rotated(h):
        count = h.shape[1] - turn.shape[0]
        pairs = torch.view_as_complex(h.unflatten(-1, (-1, 2)).contiguous())
        pairs = torch.cat([pairs[:, :count], pairs[:, count:] * turn], 1)
        return torch.view_as_real(pairs).flatten(-2)

    # Blocks
    depth = sum(name.endswith("attn.qkv.bias") for name in w)
    for i in range(depth):
        if i == start:
            class_tokens = label[:, None] + w["in_context_posemb"]
            x = torch.cat([class_tokens, x], 1)
        name = f"blocks.{i}"
        vectors = linear(condition, f"{name}.adaLN_modulation.1")
        shift, scale, gate, shift_2, scale_2, gate_2 = vectors[:, None].chunk(
            6, -1
        )
        h = norm(x, f"{name}.norm1") * (1 + scale) + shift
        x = x + gate * attention(h, f"{name}.attn")
        h = norm(x, f"{name}.norm2") * (1 + scale_2) + shift_2
        a, b = linear(h, f"{name}.mlp.w12").chunk(2, -1)
        x = x + gate_2 * linear(F.silu(a) * b, f"{name}.mlp.w3")

    # Pixels
    x = x[:, -rows * columns :]
    vectors = linear(condition, "final_layer.adaLN_modulation.1")
    shift, scale = vectors[:, None].chunk(2, -1)
    x = norm(x, "final_layer.norm_final") * (1 + scale) + shift
    x = linear(x, "final_layer.linear")
    images = torch.zeros_like(state)
    for n in range(rows * columns):
        top, left = n // columns * patch, n % columns * patch
        pixels = x[:, n].unflatten(-1, (patch, patch, channels))
        images[:, :, top : top + patch, left : left + patch] = pixels.permute(
            0, 3, 1, 2
        )
    return images.numpy()
