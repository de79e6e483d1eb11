"""Parts of Keras that are imported when they are first used.

Keras imports scikit-learn and Matplotlib for its wrappers and plots, and JAX on
every backend for a callback. That takes more than a second, and hardly any
process uses them.
"""

import contextlib
import sys

from keras_simple_diffusion.backend.choice import configured_backend
from keras_simple_diffusion.utils.imports import load_lazily
from keras_simple_diffusion.utils.imports import wrap_import

# `_tf_keras` holds all of Keras's names once more.
_PARTS = (
    "keras._tf_keras",
    "keras.wrappers",
    "keras.visualization",
    "keras.src.visualization",
)


def shorten_keras_import():
    """Let the next import of Keras leave out what is seldom used."""
    for name in _PARTS:
        load_lazily(name)
    # It adds a name to JAX if an old version lacks it.
    wrap_import("keras.src.callbacks.orbax_checkpoint", _without_jax)


@contextlib.contextmanager
def _without_jax():
    """Let `import jax` fail, on other backends and unless it is imported."""
    if configured_backend() == "jax" or "jax" in sys.modules:
        yield
        return
    sys.modules["jax"] = None
    try:
        yield
    finally:
        del sys.modules["jax"]
