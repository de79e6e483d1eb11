"""The memory of the machine."""

import os

from keras_simple_diffusion.utils.errors import InputError


def check_memory(what, num_bytes):
    """Raise an `InputError` if something cannot fit into the memory.

    Allocating it would end the process, without a message.

    Args:
        what: string, in the plural, for the error message.
        num_bytes: int. The memory that it takes at least.
    """
    total = _memory()
    if total is not None and num_bytes > total:
        raise InputError(
            f"{what} take {num_bytes / 1e9:,.0f} GB of memory, and this "
            f"machine has {total / 1e9:,.0f} GB. Use smaller or fewer images."
        )


def _memory():
    """Return the physical memory in bytes, `None` if it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Not on Windows.
        return None
