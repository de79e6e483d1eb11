import contextlib

import keras
import numpy as np

from keras_simple_diffusion.backend import native
from keras_simple_diffusion.utils.errors import InputError


def initialize(coordinator=None, num_processes=None, process_id=None):
    """Join the processes that train together, one or more a machine.

    It comes before anything that touches a device. Without arguments the
    processes are detected on TPU pods and under SLURM; where there is no
    cluster it changes nothing.

    Args:
        coordinator: string. `"host:port"` of process 0, which all can reach.
        num_processes: int. Number of processes.
        process_id: int. Number of this one, from 0.

    Raises:
        InputError: if some of the three are missing, or the backend is not
            JAX.

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
            "`coordinator`, `num_processes` and `process_id` are given all or "
            f"none. Received: coordinator={coordinator}, "
            f"num_processes={num_processes}, process_id={process_id}"
        )
    if keras.config.backend() != "jax":
        if any(is_given):
            raise InputError(
                "Several processes train together on JAX only. Received: "
                f"coordinator={coordinator} on {keras.config.backend()}. Set "
                "the environment variable KERAS_BACKEND=jax."
            )
        return
    if any(is_given):
        if ":" not in coordinator or not 0 <= process_id < num_processes:
            raise InputError(
                "`coordinator` is 'host:port', and `process_id` is less than "
                f"`num_processes`. Received: coordinator={coordinator}, "
                f"num_processes={num_processes}, process_id={process_id}"
            )
        keras.distribution.initialize(*given)
        return
    # JAX raises a ValueError where it finds no cluster.
    with contextlib.suppress(ValueError):
        keras.distribution.initialize()


def is_main_process():
    """Whether this process is the one that writes files and prints."""
    return native.process_index() == 0


def wait_for_all():
    """Return when all processes have come here."""
    native.from_main_process(np.zeros((), "int32"))


def to_numpy(variable):
    """A variable or tensor as a whole NumPy array, in every process.

    All processes must call it, in the same order.

    Args:
        variable: a `keras.Variable` or a tensor, perhaps split over devices
            of several processes.

    Returns:
        A NumPy array.
    """
    return native.to_numpy(getattr(variable, "value", variable))


@contextlib.contextmanager
def gathered(variables):
    """Context in which every process holds variables whole, to save them.

    All processes must enter it; what is inside may be done by one alone. The
    arrays are NumPy's and need no memory of a device.

    Args:
        variables: list of `keras.Variable`s.
    """
    split = [variable.value for variable in variables]
    for variable in variables:
        # Assigning would split it again.
        variable._value = to_numpy(variable)
    try:
        yield
    finally:
        for variable, value in zip(variables, split, strict=True):
            variable._value = value
