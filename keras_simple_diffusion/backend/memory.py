import ctypes
import functools
import sys

_M_TRIM_THRESHOLD = -1  # Of glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
_LARGEST_BLOCK = 32 * 1024**2  # What glibc takes at most.
_KEPT = 1024**3  # Bytes at the end of the heap.


def reuse_freed_memory():
    """Let `malloc` keep large blocks that were freed, for those that follow.

    TensorFlow sets glibc's `M_MMAP_THRESHOLD` to 128 KiB whenever it makes a
    dataset of a Python generator, as `fit` does of our batches. From then on
    each tensor above that size is fresh pages of the kernel's, given back after
    use, which slows training on a CPU down (`benchmarks/freed_memory.py`). This
    sets the threshold to what it grows to by itself otherwise, and lets the
    heap keep what is free at its end. Nothing happens where there is no glibc.
    """
    mallopt = _mallopt()
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)


@functools.cache
def _mallopt():
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "mallopt", None)
