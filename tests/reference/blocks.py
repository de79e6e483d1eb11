"""The blocks of the appendix, written anew in NumPy float64.

Weights are read by name from the Keras layers, so only the arithmetic is
compared. Convolutions are sums over the nine shifted images.
"""

import numpy as np


def weights_of(layer):
    """Weights by path below the layer, in float64."""
    return {
        variable.path.split(f"{layer.name}/", 1)[1]: np.asarray(
            variable.numpy(), "float64"
        )
        for variable in layer.weights
    }


def silu(x):
    return x / (1 + np.exp(-x))


def rms_norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def layer_norm(x, gamma, beta):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-3) * gamma + beta


def dense(x, w, name):
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def conv3x3(x, w, name):
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = 0.0
    for i in range(3):
        for j in range(3):
            part = padded[:, i : i + height, j : j + width]
            out = out + part @ w[f"{name}/kernel"][i, j]
    return out + w[f"{name}/bias"]


def modulate(x, embedding, w, name):
    vectors = dense(embedding, w, f"{name}/projection")[:, None, None]
    scale, shift = np.split(vectors, 2, axis=-1)
    return x * (1 + scale) + shift


def residual_block(x, embedding, skip, w):
    h = rms_norm(x, w["norm_in/scale"])
    if skip is not None:
        h = (h + rms_norm(skip, w["norm_skip/scale"])) / np.sqrt(2)
    h = conv3x3(silu(h), w, "conv_in")
    h = modulate(rms_norm(h, w["norm_out/scale"]), embedding, w, "modulation")
    return x + conv3x3(silu(h), w, "conv_out")


def self_attention(x, num_heads, w, prefix=""):
    batch, height, width, channels = x.shape
    dim = channels // num_heads
    tokens = rms_norm(x, w[f"{prefix}norm/scale"])
    tokens = tokens.reshape(batch, height * width, channels)
    qkv = dense(tokens, w, f"{prefix}qkv")
    out = np.zeros_like(tokens)
    for head in range(num_heads):
        q, k, v = (
            qkv[..., i * channels + head * dim :][..., :dim] for i in range(3)
        )
        q = layer_norm(q, w[f"{prefix}norm_q/gamma"], w[f"{prefix}norm_q/beta"])
        k = layer_norm(k, w[f"{prefix}norm_k/gamma"], w[f"{prefix}norm_k/beta"])
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(dim)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        out[..., head * dim : (head + 1) * dim] = scores @ v
    return x + dense(out, w, f"{prefix}output").reshape(x.shape)


def cross_attention(x, context, mask, num_heads, w, prefix=""):
    batch, height, width, channels = x.shape
    dim = channels // num_heads
    q = dense(rms_norm(x, w[f"{prefix}norm/scale"]), w, f"{prefix}query")
    q = q.reshape(batch, height * width, channels)
    context = rms_norm(context, w[f"{prefix}norm_context/scale"])
    kv = dense(context, w, f"{prefix}key_value")
    out = np.zeros_like(q)
    # One image and one head at a time, over its real tokens alone.
    for i in range(batch):
        tokens = mask[i] != 0
        for head in range(num_heads):
            part = slice(head * dim, (head + 1) * dim)
            k, v = kv[i, tokens, :channels], kv[i, tokens, channels:]
            query = layer_norm(
                q[i, :, part],
                w[f"{prefix}norm_q/gamma"],
                w[f"{prefix}norm_q/beta"],
            )
            key = layer_norm(
                k[:, part],
                w[f"{prefix}norm_k/gamma"],
                w[f"{prefix}norm_k/beta"],
            )
            scores = np.exp(query @ key.T / np.sqrt(dim))
            scores /= scores.sum(-1, keepdims=True)
            out[i, :, part] = scores @ v[:, part]
    return x + dense(out, w, f"{prefix}output").reshape(x.shape)


def transformer_block(
    x, embedding, num_heads, w, modulation="hidden", skip=None, text=None
):
    h = rms_norm(x, w["norm/scale"])
    if skip is not None:
        h = (h + rms_norm(skip, w["norm_skip/scale"])) / np.sqrt(2)
    if modulation == "norm":
        h = modulate(h, embedding, w, "modulation")
    h = silu(dense(h, w, "hidden"))
    if modulation == "hidden":
        h = modulate(h, embedding, w, "modulation")
    x = x + dense(h, w, "output")
    x = self_attention(x, num_heads, w, "attention/")
    if text is not None:
        x = cross_attention(x, *text, num_heads, w, "cross_attention/")
    return x


def conditioning(
    log_snr, labels, w, embedding_dim, context=None, mask=None, portrait=None
):
    half = embedding_dim // 2
    frequencies = 1000 / 30 * 10000.0 ** (-np.arange(half) / (half - 1))
    angles = log_snr[:, None].astype("float64") * frequencies
    features = np.concatenate([np.sin(angles), np.cos(angles)], -1)
    out = dense(silu(dense(features, w, "hidden")), w, "output")
    if labels is not None:
        out = out + w["label/embeddings"][labels]
    if context is not None:
        means = np.stack(
            [c[m != 0].mean(0) for c, m in zip(context, mask, strict=True)]
        )
        means = layer_norm(
            means, w["norm_context/gamma"], w["norm_context/beta"]
        )
        out = out + dense(means, w, "context")
    if portrait is not None:
        out = out + w["portrait/embeddings"][portrait]
    return silu(out)
