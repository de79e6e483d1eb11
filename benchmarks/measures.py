"""Peak memory and peak speed of the device of this process."""

import resource
import time


def peak_mib(backend):
    """Peak memory of the GPU if there is one, else of this process, in MiB."""
    peak = None
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
    elif backend == "jax":
        import jax

        statistics = jax.devices()[0].memory_stats() or {}
        peak = statistics.get("peak_bytes_in_use")
    if peak is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return round(peak / 2**20)


def matmul(backend, dtype="float32", rounds=5):
    """Billions of multiply-accumulates a second of a matrix product.

    Args:
        backend: string.
        dtype: string, a dtype policy. Its compute dtype is that of the matrix.
        rounds: int. The best one counts.
    """
    dtype = dtype.removeprefix("mixed_")
    product, size = _product(backend, dtype)
    product()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - started)
    return size**3 / min(seconds) / 1e9


def _product(backend, dtype):
    if backend == "torch":
        import torch

        is_gpu = torch.cuda.is_available()
        size = 8192 if is_gpu else 2048
        x = torch.ones(size, size, dtype=getattr(torch, dtype))
        x = x.cuda() if is_gpu else x
        return lambda: (x @ x)[0, 0].item(), size
    if backend == "jax":
        import jax
        import jax.numpy as jnp

        size = 8192 if jax.default_backend() != "cpu" else 2048
        x, multiply = jnp.ones((size, size), dtype), jax.jit(lambda x: x @ x)
        return lambda: multiply(x).block_until_ready(), size
    import tensorflow as tf

    size = 8192 if tf.config.list_physical_devices("GPU") else 2048
    x = tf.ones((size, size), dtype)
    return lambda: tf.linalg.matmul(x, x)[0, 0].numpy(), size
