"""JAX processes that train one model together."""

import contextlib
import errno
import select
import socket
import time

from keras_simple_diffusion.backend import keras_internals
from keras_simple_diffusion.utils.errors import InputError

# Seconds to find the other processes.
_PATIENCE = 50
_GREETING = b"keras_simple_diffusion "
_LINE_SIZE = 64


def connect(coordinator, count, index):
    """Connect this process with the others.

    Args:
        coordinator: string `"host:port"` of process 0, or `None` for the
            cluster that JAX detects, if any.
        count: int. Number of processes, or `None`.
        index: int. Index of this process, or `None`.

    Raises:
        InputError: if the others cannot be found, or a device was used before.
    """
    import jax

    try:
        if coordinator is not None and not jax.distributed.is_initialized():
            meet(coordinator, count, index)
        # Processes that have met need no patience; others get JAX's own.
        patience = {}
        if coordinator is not None:
            patience["initialization_timeout"] = _PATIENCE
        jax.distributed.initialize(coordinator, count, index, **patience)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"The processes cannot be connected: {reason} Connect them in a "
            "new process, once, before anything uses a device."
        ) from error
    except ValueError:
        if coordinator is not None:
            raise
        return  # JAX detects no cluster.
    keras_internals.agree_on_seed()


def meet(coordinator, count, index):
    """Wait until all processes are there, at the port that JAX uses next.

    JAX ends the process by a signal if its port is taken, or another process
    is missing.

    Args:
        coordinator: string `"host:port"` of process 0.
        count: int. Number of processes.
        index: int. Index of this process.

    Raises:
        InputError: if the port is taken, or a process is missing.
    """
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + _PATIENCE
    try:
        if index == 0:
            _wait_for_others(int(port), count, deadline)
        else:
            _find_first(host.strip("[]"), int(port), index, deadline)
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise InputError(
                f"The port of {coordinator} is taken by another program. "
                "Choose another one with --coordinator HOST:PORT."
            ) from error
        raise InputError(
            f"Process {index} of {count} found no others at {coordinator} "
            f"within {_PATIENCE} seconds: {error}. Start all of them, with an "
            "address of process 0 that all can reach, and a free port."
        ) from error


def _wait_for_others(port, count, deadline):
    """Hold the port until each of the others has come, and let them go."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(port))
        found = {}
        while len(found) < count - 1:
            if not select.select([server], [], [], _left(deadline))[0]:
                missing = sorted({*range(1, count)} - found.keys())
                raise TimeoutError(
                    f"missing are {', '.join(map(str, missing[:9]))}"
                )
            other = stack.enter_context(server.accept()[0])
            found_index = _greeting_of(other)
            if found_index is None:
                other.close()  # One of the others tries again.
            else:
                found[found_index] = other
        for other in found.values():
            with contextlib.suppress(OSError):
                other.sendall(_GREETING)
                other.recv(_LINE_SIZE)  # It closes first, and frees the port.


def _greeting_of(other):
    """Read the index of a process that calls, `None` of anything else."""
    other.settimeout(5)
    try:
        line = other.recv(_LINE_SIZE)
    except OSError:
        return None
    number = line.removeprefix(_GREETING)
    return int(number) if number != line and number.isdigit() else None


def _listen(port):
    """Open a port of this machine, for IPv4 and IPv6."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True
        )
    return socket.create_server(("", port))


def _find_first(host, port, index, deadline):
    """Call at process 0 until it answers that all are there."""
    while True:
        left = max(0.1, _left(deadline))
        try:
            with socket.create_connection((host, port), left) as first:
                first.settimeout(left)
                first.sendall(_GREETING + str(index).encode())
                if first.recv(_LINE_SIZE) == _GREETING:
                    return
        except OSError:
            if not _left(deadline):
                raise
        if not _left(deadline):
            raise TimeoutError("another program answers there")
        time.sleep(0.1)


def _left(deadline):
    return max(0.0, deadline - time.monotonic())
