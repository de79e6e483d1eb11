"""Operations on the bits of int32 words, for random numbers.

OpenVINO shifts words a hundred times slower than it multiplies, and rounds
quotients of integers as float32 does. There a shift is a multiplication in
float32, which holds 24 bits exactly.
"""

import keras
from keras import ops


def constant(value):
    """Return an int as an int32 tensor.

    Keras makes a float of it on JAX if its default type is bfloat16.
    """
    return ops.convert_to_tensor(value, "int32")


def shift_right(word, distance):
    """Shift words to the right, filling with zeros.

    Args:
        word: int32 tensor.
        distance: int, from 1 to 31; on OpenVINO from 8.

    Returns:
        An int32 tensor of the same shape.
    """
    if keras.config.backend() == "openvino":
        upper = ops.bitwise_and(word, constant(-(1 << distance)))
        low = ops.cast(ops.cast(upper, "float32") * 2.0**-distance, "int32")
    else:
        low = ops.bitwise_right_shift(word, distance)
    # Both copy the sign bit: mask it away.
    return ops.bitwise_and(low, constant((1 << (32 - distance)) - 1))


def rotate_left(word, distance):
    """Rotate words to the left.

    Args:
        word: int32 tensor.
        distance: int, from 1 to 31.

    Returns:
        An int32 tensor of the same shape.
    """
    if keras.config.backend() == "openvino":
        if distance > 24:
            return rotate_left(rotate_left(word, 16), distance - 16)
        high = word * (1 << distance)
    else:
        high = ops.bitwise_left_shift(word, distance)
    return ops.bitwise_or(high, shift_right(word, 32 - distance))
