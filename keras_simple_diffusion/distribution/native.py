"""What has to be asked of the backend itself, not of Keras."""

import importlib.util

import keras
import numpy as np
from keras import ops


def keras_distributes():
    """Whether `keras.distribution` does anything on this backend."""
    backend = keras.config.backend()
    if backend == "torch":
        # Not in Keras 3.15.
        name = "keras.src.backend.torch.distribution_lib"
        return importlib.util.find_spec(name) is not None
    return backend == "jax"


def process_index():
    """Number of this process among those that train together."""
    if keras.config.backend() == "jax":
        import jax

        return jax.process_index()
    return 0


def num_processes():
    """Number of the processes that train together."""
    if keras.config.backend() == "jax":
        import jax

        return jax.process_count()
    return 1


def to_numpy(tensor):
    """A tensor as a NumPy array, whole even if other processes hold parts."""
    if keras.config.backend() == "jax":
        import jax
        from jax.experimental import multihost_utils

        if isinstance(tensor, jax.Array) and not (
            tensor.is_fully_addressable or tensor.is_fully_replicated
        ):
            return np.asarray(
                multihost_utils.process_allgather(tensor, tiled=True)
            )
    return ops.convert_to_numpy(tensor)


def from_main_process(array):
    """The value that a small array has in the main process."""
    if keras.config.backend() == "jax":
        import jax
        from jax.experimental import multihost_utils

        if jax.process_count() > 1:
            return multihost_utils.broadcast_one_to_all(array)
    return array


def mirrored_scope():
    """Scope of a TensorFlow strategy that copies a model to each device."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    return tf.distribute.MirroredStrategy(names).scope()
