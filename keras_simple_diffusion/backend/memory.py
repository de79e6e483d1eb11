"""Reuse of freed memory on CPUs."""

import ctypes
import functools
import sys

import keras

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
