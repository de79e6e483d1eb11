"""Questions to the backend itself: its devices, processes and memory."""

import ctypes
import functools
import sys

import keras
import numpy as np
from keras import ops

from keras_simple_diffusion.backend import keras_internals
from keras_simple_diffusion.backend import torch_processes
from keras_simple_diffusion.backend import torch_sharding

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
    return torch_processes.place()[1] if _is_torch() else 1


def keras_distributes():
    """Tell if `keras.distribution` has an effect on this backend."""
    if keras.config.backend() == "torch":
        return keras_internals.torch_distributes()
    return keras.config.backend() == "jax"


def process_index():
    """Return the index of this process among those that train together."""
    if keras.config.backend() == "jax":
        import jax

        return jax.process_index()
    return torch_processes.place()[0] if _is_torch() else 0


def num_processes():
    """Return the number of processes that train together."""
    if keras.config.backend() == "jax":
        import jax

        return jax.process_count()
    return torch_processes.place()[1] if _is_torch() else 1


def _is_torch():
    return keras.config.backend() == "torch"


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
    if _is_torch():
        tensor = torch_sharding.whole(tensor)
    return ops.convert_to_numpy(tensor)


def from_main_process(array):
    """Return the value of a small array in the main process."""
    if keras.config.backend() == "jax":
        import jax
        from jax.experimental import multihost_utils

        if jax.process_count() > 1:
            return multihost_utils.broadcast_one_to_all(array)
    return torch_processes.from_main_process(array) if _is_torch() else array


def from_all_processes(array):
    """Return the values of a small array in all processes, a list."""
    if keras.config.backend() == "jax":
        import jax
        from jax.experimental import multihost_utils

        if jax.process_count() > 1:
            return list(multihost_utils.process_allgather(array))
    if _is_torch():
        return torch_processes.from_all_processes(array)
    return [array]


# === Data and memory ===


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
