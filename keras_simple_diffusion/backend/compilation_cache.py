"""Compiled programs of JAX that are kept for the next process."""

import hashlib
import os
import pathlib
import platform

_MAX_BYTES = 2**30


def keep_compiled_programs():
    """Let JAX, imported later, keep compiled programs in the user's cache.

    The folder is `$XDG_CACHE_HOME/keras_simple_diffusion`, by default within
    `~/.cache`. It holds at most 1 GiB, then the programs that were not used for
    longest are removed. JAX's own variables take precedence:
    `JAX_COMPILATION_CACHE_DIR` names another folder, and
    `JAX_ENABLE_COMPILATION_CACHE=0` turns the cache off.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = pathlib.Path(cache).expanduser() / "keras_simple_diffusion" / "jax"
    settings = {
        "JAX_COMPILATION_CACHE_DIR": folder / _processor(),
        "JAX_COMPILATION_CACHE_MAX_SIZE": _MAX_BYTES,
        # Loading a model compiles dozens of small programs.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0,
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": -1,
    }
    for name, value in settings.items():
        os.environ.setdefault(name, str(value))


def _processor():
    """Identify the processor: programs need the instructions of theirs."""
    features = platform.machine()
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # Not on Linux.
        lines = []
    features += next((x for x in lines if x.startswith(("flags", "Feat"))), "")
    return hashlib.sha256(features.encode()).hexdigest()[:16]
