"""The U-ViT and the U-Net in plain JAX, and their training step.

Weights are a dict by the library's names, `down_0_1/conv_in/kernel`.
"""

import functools
import math

import jax
import jax.numpy as jnp


def _dense(w, name, x):
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def _conv(w, name, x):
    y = jax.lax.conv_general_dilated(
        x,
        w[f"{name}/kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + w[f"{name}/bias"]


def _rms(w, name, x):
    mean = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(mean + 1e-6) * w[f"{name}/scale"]


def _layer_norm(w, name, x):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    x = (x - mean) * jax.lax.rsqrt(variance + 1e-3)
    return x * w[f"{name}/gamma"] + w[f"{name}/beta"]


def _modulate(w, name, x, embedding):
    vectors = _dense(w, f"{name}/modulation/projection", embedding)
    scale, shift = jnp.split(vectors[:, None, None], 2, axis=-1)
    return x * (1.0 + scale) + shift


def _condition(w, log_snr, labels):
    half = w["conditioning/hidden/kernel"].shape[0] // 2
    exponents = jnp.arange(half) / (half - 1)
    frequencies = 1000.0 / 30.0 * jnp.exp(-math.log(10000.0) * exponents)
    angles = log_snr[:, None] * frequencies
    x = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    x = jax.nn.silu(_dense(w, "conditioning/hidden", x))
    x = _dense(w, "conditioning/output", x)
    x = x + w["conditioning/label/embeddings"][labels]
    return jax.nn.silu(x)


def _residual(w, name, x, embedding, skip=None):
    h = _rms(w, f"{name}/norm_in", x)
    if skip is not None:
        h = (h + _rms(w, f"{name}/norm_skip", skip)) * 0.5**0.5
    h = _conv(w, f"{name}/conv_in", jax.nn.silu(h))
    h = _modulate(w, name, _rms(w, f"{name}/norm_out", h), embedding)
    return x + _conv(w, f"{name}/conv_out", jax.nn.silu(h))


def _attention(w, name, x, heads):
    batch, height, width, channels = x.shape
    size = channels // heads
    h = _rms(w, f"{name}/norm", x).reshape(batch, height * width, channels)
    qkv = _dense(w, f"{name}/qkv", h)
    qkv = qkv.reshape(batch, height * width, 3, heads, size)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)
    q = _layer_norm(w, f"{name}/norm_q", q) / math.sqrt(size)
    k = _layer_norm(w, f"{name}/norm_k", k)
    weights = jax.nn.softmax(q @ k.swapaxes(-1, -2), axis=-1)
    h = (weights @ v).transpose(0, 2, 1, 3).reshape(x.shape)
    return x + _dense(w, f"{name}/output", h)


def _transformer(w, name, x, embedding, heads):
    h = jax.nn.silu(_dense(w, f"{name}/hidden", _rms(w, f"{name}/norm", x)))
    h = _modulate(w, name, h, embedding)
    x = x + _dense(w, f"{name}/output", h)
    return _attention(w, f"{name}/attention", x, heads)


def _down(w, level, x):
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return _dense(w, f"downsample_{level}/dense", x.mean((2, 4)))


def _up(w, level, x):
    x = _dense(w, f"upsample_{level}/dense", x)
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def network(w, noisy_images, log_snr, labels, *, blocks, heads, attention=()):
    """The velocity.

    Args:
        w: dict of arrays.
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
    x = jax.nn.silu(_rms(w, "output_norm", x))
    return _conv(w, "output_conv", x)


def make_step(apply, learning_rate=1e-4, decay=0.999):
    """A compiled training step of the same work as the library's.

    Images to [-1, 1], times, noise, label dropout, the epsilon loss, Adam
    and the average of the weights.

    Args:
        apply: function of weights, noisy images, log-SNR and labels.
        learning_rate: float.
        decay: float, of the average.
    """

    def loss_of(w, key, images, labels):
        keys = jax.random.split(key, 3)
        x = images.astype("float32") / 127.5 - 1.0
        t = jax.random.uniform(keys[0], (len(x),))
        ends = math.atan(math.exp(-7.5)), math.atan(math.exp(7.5))
        log_snr = -2.0 * jnp.log(jnp.tan(ends[0] + t * (ends[1] - ends[0])))
        level = log_snr[:, None, None, None]
        alpha = jnp.sqrt(jax.nn.sigmoid(level))
        sigma = jnp.sqrt(jax.nn.sigmoid(-level))
        noise = jax.random.normal(keys[1], x.shape)
        null = w["conditioning/label/embeddings"].shape[0] - 1
        dropped = jax.random.uniform(keys[2], (len(x),)) < 0.1
        labels = jnp.where(dropped, null, labels)
        z = alpha * x + sigma * noise
        v = apply(w, z, log_snr, labels)
        error = alpha * v + sigma * z - noise
        return jnp.mean(jnp.square(error))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, key, images, labels):
        w, m, s, average, count = state
        loss, g = jax.value_and_grad(loss_of)(w, key, images, labels)
        count = count + 1
        rate = learning_rate * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        tree = jax.tree.map
        m = tree(lambda m, g: m + 0.1 * (g - m), m, g)
        s = tree(lambda s, g: s + 0.001 * (g * g - s), s, g)
        w = tree(lambda w, m, s: w - rate * m / (jnp.sqrt(s) + 1e-8), w, m, s)
        average = tree(lambda a, w: a + (1 - decay) * (w - a), average, w)
        return (w, m, s, average, count), loss

    return step


def initial_state(w):
    """State of the training step for given weights."""

    def zeros():
        return jax.tree.map(jnp.zeros_like, w)

    copy = jax.tree.map(jnp.copy, w)
    return (w, zeros(), zeros(), copy, jnp.zeros((), "float32"))
