"""SiLU, in a form that lets TensorFlow forget the programs that draw.

Each use of `tf.nn.silu` in a `tf.function` registers a gradient of its own, for
good, and with it the graph that the function was traced to. A program for
training is traced once; those that draw come and go with the number of images
and steps, and have no gradient.
"""

import contextlib
import threading

import keras
from keras import ops

_here = threading.local()


@contextlib.contextmanager
def without_gradients():
    """Context in which a program is traced that has no gradient."""
    before = getattr(_here, "has_no_gradients", False)
    _here.has_no_gradients = True
    try:
        yield
    finally:
        _here.has_no_gradients = before


def silu(x):
    """Compute `x * sigmoid(x)`.

    Args:
        x: tensor.

    Returns:
        A tensor shaped like `x`.
    """
    # The backend comes first: PyTorch's compiler would watch the other value,
    # and compile the blocks of a training again after each drawing.
    if keras.config.backend() == "tensorflow" and getattr(
        _here, "has_no_gradients", False
    ):
        return x * ops.sigmoid(x)
    return ops.silu(x)
