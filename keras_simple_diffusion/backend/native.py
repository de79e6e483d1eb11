"""What has to be asked of the backend itself, not of Keras."""

import importlib.util

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.utils.errors import InputError


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


def num_devices():
    """Number of devices, of all processes, that a distribution works on."""
    if keras.config.backend() == "jax":
        import jax

        return jax.device_count()
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
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
    if keras.config.backend() == "tensorflow":
        return tensor.numpy()  # Of a variable with copies, one of them.
    return ops.convert_to_numpy(tensor)


def from_main_process(array):
    """The value that a small array has in the main process."""
    if keras.config.backend() == "jax":
        import jax
        from jax.experimental import multihost_utils

        if jax.process_count() > 1:
            return multihost_utils.broadcast_one_to_all(array)
    return array


def replica():
    """Number of this copy of the model in a TensorFlow strategy, and of all.

    Returns:
        A tuple `(index, count)`, `(0, 1)` outside of such a strategy.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None:
            count = context.num_replicas_in_sync
            return context.replica_id_in_sync_group, count
    return 0, 1


def whole_gradients(gradients):
    """Gradients of the whole batch, given those of this copy's part.

    Args:
        gradients: list of tensors or `None`s.

    Returns:
        On TensorFlow a list of dense tensors or `None`s, added up over the
        copies of the model; otherwise `gradients`, which are whole.
    """
    if keras.config.backend() != "tensorflow":
        return gradients
    import tensorflow as tf

    # Those of labels are sparse. Keras would clip them by the norm of the
    # single terms rather than of their sums.
    known = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    if replica()[1] > 1:
        context = tf.distribute.get_replica_context()
        known = context.all_reduce(tf.distribute.ReduceOp.SUM, known)
    known = iter(known)
    return [None if g is None else next(known) for g in gradients]


def clip_as_one(optimizer, gradients):
    """Clip the gradients of a whole batch, if Keras would clip its parts.

    In a TensorFlow strategy Keras adds up the gradients of the copies of a
    model only after it has clipped each by its own norm.

    Args:
        optimizer: the `keras.optimizers.Optimizer` that says how to clip.
        gradients: list of tensors or `None`s, see `whole_gradients`.

    Returns:
        What to give to the optimizer: in such a strategy, an equal share of
        the clipped gradients for each copy, which leaves nothing to clip;
        otherwise `gradients`.

    Raises:
        InputError: if the optimizer accumulates gradients, which Keras does
            not do in such a strategy.
    """
    _, count = replica()
    if count == 1:
        return gradients
    steps = getattr(optimizer, "gradient_accumulation_steps", None)
    if steps:
        raise InputError(
            "Gradients are not accumulated on several devices of TensorFlow. "
            f"Received: gradient_accumulation_steps={steps}. Set the "
            "environment variable KERAS_BACKEND=jax, or leave it out."
        )
    clipped = optimizer._clip_gradients(gradients)
    return [None if g is None else g / count for g in clipped]


def mirrored_scope():
    """Scope of a TensorFlow strategy that copies a model to each device."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    return tf.distribute.MirroredStrategy(names).scope()
