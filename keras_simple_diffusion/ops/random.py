"""Counter-based random numbers: the same on every backend and in any batch.

Random numbers are a pure function of a key and a stream. The key of an image is
derived from the seed and the image's index, and the sampling step selects the
stream. So the noise of an image does not depend on its batch, on the device, or
on earlier draws. Threefry-2x32 with 20 rounds (Salmon et al., 2011, "Parallel
random numbers: as easy as 1, 2, 3") makes the bits; the Box-Muller transform
maps them to normal numbers.

Words are int32 tensors, because no backend offers complete unsigned arithmetic.
Their addition wraps around on every backend.
"""

import math
import operator

from keras import ops

from keras_simple_diffusion.backend.words import constant
from keras_simple_diffusion.backend.words import rotate_left
from keras_simple_diffusion.backend.words import shift_right

# Rotation distances and key parity of Threefry-2x32.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

# Normal numbers are drawn in blocks of this size, so that vector instructions
# round an element the same way in every batch.
_BLOCK = 64


def threefry2x32(key, counter):
    """Compute Threefry-2x32 with 20 rounds.

    Args:
        key: pair of int32 tensors.
        counter: pair of int32 tensors that broadcast against the key.

    Returns:
        A pair of int32 tensors of random bits.
    """
    k0, k1 = key
    parity = ops.bitwise_xor(ops.bitwise_xor(k0, k1), constant(_PARITY))
    schedule = (k0, k1, parity)
    x0, x1 = counter[0] + k0, counter[1] + k1
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = ops.bitwise_xor(rotate_left(x1, distance), x0)
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + schedule[(group + 2) % 3] + (group + 1)
    return x0, x1


def seed_to_key(seed):
    """Split a seed into the two int32 words of a key.

    Args:
        seed: int. Only the lowest 64 bits are used.

    Returns:
        A list of two ints in the int32 range.
    """
    seed = operator.index(seed)
    words = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
    return [word - (1 << 32) if word >= 1 << 31 else word for word in words]


def image_keys(key, indices):
    """Derive the key of each image.

    Args:
        key: int32 tensor of shape `(2,)`, see `seed_to_key`.
        indices: int32 tensor of shape `(B,)`, the indices of the images.

    Returns:
        A pair of int32 tensors of shape `(B,)`.
    """
    zeros = ops.zeros_like(indices)
    return threefry2x32((key[0], key[1]), (indices, zeros))


def normal(keys, stream, shape):
    """Draw standard normal numbers, an independent image for each key.

    Args:
        keys: pair of int32 tensors of shape `(B,)`.
        stream: int or int32 scalar tensor. Draws with equal keys and
            different streams are independent.
        shape: tuple of ints, the shape of one image.

    Returns:
        A float32 tensor of shape `(B, *shape)`.
    """
    size = math.prod(shape)
    num_pairs = -(-size // (2 * _BLOCK)) * _BLOCK
    x0, x1 = _draw_words(keys, stream, num_pairs)
    # 24 random bits are exact in float32. The radius needs (0, 1], the angle
    # any interval of one turn.
    radius = _bits_to_float(x0) + 2.0**-24
    angle = _bits_to_float(x1) * (2.0 * math.pi)
    radius = ops.sqrt(-2.0 * ops.log(radius))
    pairs = [radius * ops.cos(angle), radius * ops.sin(angle)]
    numbers = ops.concatenate(pairs, axis=1)[:, :size]
    return ops.reshape(numbers, (-1,) + tuple(shape))


def uniform(keys, stream, shape):
    """Draw numbers uniform on `[0, 1)`, an independent image for each key.

    Args:
        keys: pair of int32 tensors of shape `(B,)`.
        stream: int or int32 scalar tensor, see `normal`. Use each stream
            for either normal or uniform numbers.
        shape: tuple of ints, the shape of one image.

    Returns:
        A float32 tensor of shape `(B, *shape)`.
    """
    size = math.prod(shape)
    words = _draw_words(keys, stream, -(-size // 2))
    numbers = ops.concatenate([_bits_to_float(word) for word in words], axis=1)
    return ops.reshape(numbers[:, :size], (-1,) + tuple(shape))


def _draw_words(keys, stream, count):
    """Draw random bits, a pair of int32 tensors of shape `(B, count)`."""
    positions = ops.expand_dims(ops.arange(count, dtype="int32"), 0)
    keys = tuple(ops.expand_dims(word, 1) for word in keys)
    stream = ops.cast(stream, "int32") + ops.zeros_like(positions)
    return threefry2x32(keys, (positions, stream))


def _bits_to_float(word):
    return ops.cast(shift_right(word, 8), "float32") * 2.0**-24
