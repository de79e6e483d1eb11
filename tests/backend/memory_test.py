"""Memory of freed tensors."""

import ctypes
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_simple_diffusion as ksd

FIELDS = (
    "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks "
    "keepcost"
).split()


class MallocInfo(ctypes.Structure):
    """Result of glibc's `mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


class Forward(keras.Model):
    def train_step(self, data):
        return {
            "mean": keras.ops.mean(keras.ops.cast(data["images"], "float32"))
        }


def is_mapped(num_bytes):
    """Test if a block of this size has its own pages, freed at once."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.mallinfo2.restype = MallocInfo
    before = libc.mallinfo2().hblks
    block = libc.malloc(ctypes.c_size_t(num_bytes))
    after = libc.mallinfo2().hblks
    libc.free(ctypes.c_void_p(block))
    return after > before


def check():
    """Run in a process of its own, for what others have set stays."""
    images = np.zeros((8, 4, 4, 3), "uint8")
    source = ksd.data.ArraySource(images, np.zeros(8, "int64"))
    model = Forward()
    model.compile()
    batches = ksd.data.training_batches(source, 4)
    model.fit(batches, steps_per_epoch=4, verbose=0)
    assert not is_mapped(4 * 1024**2)
    assert is_mapped(64 * 1024**2)  # So that the measure is one.


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow" or sys.platform != "linux",
    reason="TensorFlow sets glibc's threshold",
)
def test_fit_on_batches_reuses_freed_memory():
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("there is no mallinfo2 here")
    subprocess.run([sys.executable, __file__], check=True)


if __name__ == "__main__":
    check()
