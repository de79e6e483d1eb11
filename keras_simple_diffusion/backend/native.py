"""Questions to the backend itself: its devices, processes and strategies."""

import ctypes
import functools
import sys

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.backend import keras_internals
from keras_simple_diffusion.utils.errors import InputError

# === Devices and processes ===


def backend_name():
    """Return the name of the backend, such as `"jax"`."""
    return keras.config.backend()


def device_name():
    """Name the device that computes, such as `"cpu"` or a GPU's name."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        devices = jax.devices()
        kind = devices[0].device_kind
        return kind if len(devices) == 1 else f"{len(devices)} x {kind}"
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return f"{len(gpus)} GPU" if gpus else "cpu"
    if backend == "openvino":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "cpu"


def num_devices():
    """Return the number of devices of a distribution, over all processes."""
    if keras.config.backend() == "jax":
        import jax

        return jax.device_count()
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
    return 1


def keras_distributes():
    """Tell if `keras.distribution` has an effect on this backend."""
    if keras.config.backend() == "torch":
        return keras_internals.torch_distributes()
    return keras.config.backend() == "jax"


def joins_processes():
    """Tell if several processes can train one model together."""
    return keras.config.backend() == "jax"


def process_index():
    """Return the index of this process among those that train together."""
    if keras.config.backend() == "jax":
        import jax

        return jax.process_index()
    return 0


def num_processes():
    """Return the number of processes that train together."""
    if keras.config.backend() == "jax":
        import jax

        return jax.process_count()
    return 1


# === Arrays ===


def to_numpy(tensor):
    """Convert a tensor to NumPy, whole even if other processes hold parts."""
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
        return tensor.numpy()  # The first copy of a mirrored variable.
    return ops.convert_to_numpy(tensor)


def from_main_process(array):
    """Return the value of a small array in the main process."""
    if keras.config.backend() == "jax":
        import jax
        from jax.experimental import multihost_utils

        if jax.process_count() > 1:
            return multihost_utils.broadcast_one_to_all(array)
    return array


# === Strategies of TensorFlow, which copy a model to each device ===


def uses_mirrored_strategy():
    """Tell if TensorFlow's strategies take the place of Keras's."""
    return keras.config.backend() == "tensorflow"


def mirrored_scope():
    """Return the scope of a strategy that copies a model to each device."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    return tf.distribute.MirroredStrategy(names).scope()


def replica():
    """Return the index of this copy of the model, and the number of copies.

    Returns:
        A tuple `(index, count)`, `(0, 1)` outside of a TensorFlow strategy.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None:
            count = context.num_replicas_in_sync
            return context.replica_id_in_sync_group, count
    return 0, 1


def whole_gradients(gradients):
    """Compute gradients of the whole batch from those of this copy's part.

    Args:
        gradients: list of tensors or `None`s.

    Returns:
        On TensorFlow a list of dense tensors or `None`s, summed over the
        copies of the model; otherwise `gradients`, which are whole.
    """
    if keras.config.backend() != "tensorflow":
        return gradients
    import tensorflow as tf

    # Gradients of embeddings are sparse: Keras would clip them by the norm of
    # their terms, not of the sums of these.
    known = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    if replica()[1] > 1:
        context = tf.distribute.get_replica_context()
        known = context.all_reduce(tf.distribute.ReduceOp.SUM, known)
    known = iter(known)
    return [None if g is None else next(known) for g in gradients]


def clip_as_one(optimizer, gradients):
    """Clip the gradients of a whole batch where Keras would clip its parts.

    In a TensorFlow strategy Keras clips the gradients of each copy of a model
    by their own norm before it sums them.

    Args:
        optimizer: the `keras.optimizers.Optimizer` whose settings are used.
        gradients: list of tensors or `None`s, see `whole_gradients`.

    Returns:
        Gradients for the optimizer. In such a strategy each copy gets an
        equal share of the clipped gradients, which leaves nothing to clip;
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
            "Gradients cannot be accumulated on several devices on "
            f"TensorFlow. Received: gradient_accumulation_steps={steps}. Set "
            "the environment variable KERAS_BACKEND=jax, or remove it."
        )
    clipped = keras_internals.clip_gradients(optimizer, gradients)
    return [None if g is None else g / count for g in clipped]


def reads_tensorflow_datasets(data):
    """Tell if data are a `tf.data.Dataset` that TensorFlow itself reads."""
    if keras.config.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(data, tf.data.Dataset)


_M_TRIM_THRESHOLD = -1  # From glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
_LARGEST_BLOCK = 32 * 1024**2  # The largest threshold that glibc accepts.
_KEPT = 1024**3  # Bytes that are kept at the end of the heap.


def reuse_freed_memory():
    """Let `malloc` keep large freed blocks, on TensorFlow with glibc.

    TensorFlow sets glibc's `M_MMAP_THRESHOLD` to 128 KiB whenever it makes a
    dataset of a Python generator, as `fit` does of our batches. From then on
    every larger tensor consists of fresh pages from the kernel, which go back
    to it after use; this slows training on a CPU down
    (`benchmarks/freed_memory.py`). This function sets the threshold to the
    largest value that glibc would choose by itself, and keeps free memory at
    the end of the heap.
    """
    if keras.config.backend() != "tensorflow":
        return
    mallopt = _mallopt()
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)


@functools.cache
def _mallopt():
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "mallopt", None)
