"""Several processes that train one model together."""

import contextlib
import hashlib

import numpy as np

from keras_simple_diffusion.backend import jax_processes
from keras_simple_diffusion.backend import native
from keras_simple_diffusion.backend import torch_processes
from keras_simple_diffusion.backend.keras_internals import replace_value
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import some_of


def initialize(coordinator=None, num_processes=None, process_id=None):
    """Connect the processes that train together, on one or more machines.

    Call it before anything that uses a device. Without arguments the processes
    of SLURM are detected, those of TPU pods on JAX, and those of `torchrun` on
    PyTorch; without a cluster nothing happens.

    Args:
        coordinator: string. `"host:port"` of process 0, which all processes
            can reach.
        num_processes: int. Number of processes.
        process_id: int. Index of this process, counted from 0.

    Raises:
        InputError: if only some of the three are given, they do not fit
            together, the backend is TensorFlow, the processes cannot be
            connected, or on JAX a device was used before.

    Example:
    ```python
    # On the second of two machines:
    keras_simple_diffusion.distribution.initialize("10.0.0.1:1234", 2, 1)
    ```
    """
    given = (coordinator, num_processes, process_id)
    is_given = [value is not None for value in given]
    if any(is_given) and not all(is_given):
        raise InputError(
            "`coordinator`, `num_processes` and `process_id` must be given "
            f"together, or none. Received: coordinator={coordinator}, "
            f"num_processes={num_processes}, process_id={process_id}"
        )
    if any(is_given) and not (
        _is_address(coordinator) and 0 <= process_id < num_processes
    ):
        raise InputError(
            "`coordinator` must be 'host:port' with a port from 1 to 65535, "
            "and `process_id` must be "
            "between 0 and `num_processes` - 1. Received: "
            f"coordinator={coordinator}, "
            f"num_processes={num_processes}, process_id={process_id}"
        )
    backend = native.backend_name()
    if backend == "jax":
        jax_processes.connect(*given)
    elif backend == "torch":
        cluster = torch_processes.find_cluster()
        if any(is_given):
            cluster = torch_processes.Cluster(
                coordinator, num_processes, process_id, process_id
            )
        if cluster is not None:
            torch_processes.connect(cluster)
    elif any(is_given):
        raise InputError(
            "Several processes can train together on JAX and PyTorch only. "
            f"Received: coordinator={coordinator} on {backend}. Set the "
            "environment variable KERAS_BACKEND=jax."
        )


def _is_address(coordinator):
    """Test if a string is `"host:port"` with a valid port."""
    host, _, port = coordinator.rpartition(":")
    is_number = port.isascii() and port.isdigit()
    return bool(host) and is_number and 0 < int(port) < 2**16


def is_main_process():
    """Tell if this process is the one that writes files and prints."""
    return native.process_index() == 0


def wait_for_all():
    """Wait until all processes have reached this call."""
    native.from_main_process(np.zeros((), "int32"))


@contextlib.contextmanager
def entered_by_main(context):
    """Context that the main process enters for all, such as a held folder.

    Args:
        context: a context manager.

    Raises:
        InputError: in every process, if it cannot be entered.
    """
    wait_for_all()  # Others may still look if the folder is free.
    problem = None
    with contextlib.ExitStack() as stack:
        if is_main_process():
            try:
                stack.enter_context(context)
            except InputError as error:
                problem = error
        if native.from_main_process(np.array(problem is not None)):
            raise problem or InputError("The main process has stopped.")
        yield


def seed_of_main(seed):
    """Return the seed of the main process, as a random one differs in each.

    Args:
        seed: int in `[0, 2**64)`.
    """
    words = [seed >> 16 * i & 0xFFFF for i in range(4)]
    words = native.from_main_process(np.array(words, "int32"))
    return sum(int(word) << 16 * i for i, word in enumerate(words))


def to_numpy(variable):
    """Convert a variable or tensor to a whole NumPy array, in every process.

    All processes must call it, in the same order.

    Args:
        variable: a `keras.Variable` or a tensor; it may be split over devices
            of several processes.

    Returns:
        A NumPy array.
    """
    return native.to_numpy(getattr(variable, "value", variable))


@contextlib.contextmanager
def gathered(variables):
    """Hold variables whole in every process while in this context.

    Saving needs it. All processes must enter the context; inside of it one
    alone may save. The arrays are NumPy's and use no device memory.

    Args:
        variables: list of `keras.Variable`s.
    """
    if native.num_processes() == 1:
        yield
        return
    split = [replace_value(v, to_numpy(v)) for v in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, split, strict=True):
            replace_value(variable, value)


def check_agreement(name, digest):
    """Check that a fact is the same in all processes.

    Args:
        name: string. The fact, such as "the images of 'photos/'".
        digest: string. What must be the same.

    Raises:
        InputError: in every process, if it differs in one of them.
    """
    words = np.frombuffer(hashlib.sha256(digest.encode()).digest(), "uint8")
    words = np.stack(native.from_all_processes(words))
    others = np.flatnonzero((words != words[0]).any(axis=1))
    if len(others):
        raise InputError(
            f"{name} are not the same in all processes: those of "
            f"{some_of([f'process {i}' for i in others])} differ from those of "
            "process 0. Give all of them the same."
        )
