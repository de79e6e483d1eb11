"""PyTorch processes that train one model together, one for each device.

`torch.distributed` connects them and moves their tensors: with NCCL between
GPUs, with Gloo between CPUs.
"""

import contextlib
import dataclasses
import datetime
import functools
import os
import re
import warnings

import numpy as np

from keras_simple_diffusion.utils.errors import InputError

# Seconds to find the other processes.
_PATIENCE = 50
# `sbatch` picks ports of jobs from this range, above those of services.
_FIRST_PORT, _NUM_PORTS = 61_440, 4_096

_scope = None  # Name of the strategy of `distributing`.


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Place of this process among those that train together.

    Args:
        coordinator: string `"host:port"` of process 0, or `None` if `torchrun`
            connects the processes.
        count: int. Number of processes.
        index: int. Index of this process, counted from 0.
        local_index: int. Its index among those of the same machine.
    """

    coordinator: str | None
    count: int
    index: int
    local_index: int


def find_cluster(environment=os.environ):
    """Find the processes that `torchrun` or SLURM's `srun` has started.

    Args:
        environment: mapping of strings. Defaults to that of this process.

    Returns:
        A `Cluster`, or `None` for a process by itself.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        names = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
        return Cluster(None, *(int(environment[name]) for name in names))
    names = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
    if "SLURM_STEP_NODELIST" not in environment or not all(
        name in environment for name in names
    ):
        return None
    # Within `sbatch` and without `srun` there is one process.
    host = first_host(environment["SLURM_STEP_NODELIST"])
    port = _FIRST_PORT + int(environment.get("SLURM_JOB_ID", 0)) % _NUM_PORTS
    numbers = [int(environment[name]) for name in names]
    return Cluster(f"{host}:{port}", *numbers)


def first_host(node_list):
    """Return the first host of a list of SLURM's, such as `node[07-09,12]`."""
    first = re.match(r"([^,\[]*)(\[([^\],-]*)[^\]]*\]([^,]*))?", node_list)
    return f"{first[1]}{first[3] or ''}{first[4] or ''}"


def connect(cluster):
    """Connect this process with the others, and choose its device.

    Args:
        cluster: a `Cluster`.

    Raises:
        InputError: if the others cannot be found.
    """
    import torch
    from torch import distributed

    if distributed.is_initialized():
        raise InputError(
            "The processes are connected already. Connect them once."
        )
    backend = "gloo"
    if torch.cuda.is_available():
        # What processes agree on, and wait for, does not pass through GPUs.
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(cluster.local_index % torch.cuda.device_count())
    arguments = {}
    try:
        if cluster.coordinator is not None:
            host, _, port = cluster.coordinator.rpartition(":")
            arguments = {
                "world_size": cluster.count,
                "rank": cluster.index,
                "store": distributed.TCPStore(
                    host,
                    int(port),
                    cluster.count,
                    cluster.index == 0,
                    timeout=datetime.timedelta(seconds=_PATIENCE),
                ),
            }
        distributed.init_process_group(backend, **arguments)
    except (RuntimeError, ValueError) as error:
        raise InputError(_explain(error, cluster)) from error


def _explain(error, cluster):
    where = cluster.coordinator or "the address of `torchrun`"
    if "EADDRINUSE" in str(error):
        return (
            f"The port of {where} is taken by another program. Choose another "
            "one with --coordinator HOST:PORT (`torchrun`: --master-port)."
        )
    reason = str(error).partition("\n")[0][:200]
    return (
        f"Process {cluster.index} of {cluster.count} found no others at "
        f"{where} within {_PATIENCE} seconds: {reason}. Start all of them, "
        "with an address of process 0 that all can reach, and a free port."
    )


def is_connected():
    """Tell if this process belongs to several that train together."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()


def place():
    """Return the index of this process, and the number of processes."""
    if not is_connected():
        return 0, 1
    from torch import distributed

    return distributed.get_rank(), distributed.get_world_size()


# === A strategy in use ===


@contextlib.contextmanager
def distributing(strategy):
    """Context in which all processes share the work.

    Args:
        strategy: string, `"data"` or `"sharded"`.
    """
    import torch

    global _scope
    num_gpus = torch.cuda.device_count()
    if not is_connected() and num_gpus > 1:
        warnings.warn(
            f"One process uses one of {num_gpus} GPUs. Start one for each: "
            f"torchrun --nproc-per-node {num_gpus} -m keras_simple_diffusion "
            "...",
            stacklevel=4,
        )
    outer, _scope = _scope, strategy
    try:
        yield
    finally:
        _scope = outer


def splits_weights():
    """Tell if the weights are split over the processes, too."""
    return _scope == "sharded" and place()[1] > 1


def replica():
    """Return the index of this copy of the model, and the number of copies."""
    return (0, 1) if _scope is None else place()


# === Arrays ===


def from_main_process(array):
    """Return the value of a small array in the main process."""
    return from_all_processes(array)[0]


def from_all_processes(array):
    """Return the values of a small array, a list with one a process."""
    _, count = place()
    if count == 1:
        return [array]
    from torch import distributed

    arrays = [None] * count
    distributed.all_gather_object(arrays, np.asarray(array))
    return arrays


def join_rows(tensor):
    """Join the rows that all copies of a model have computed.

    Args:
        tensor: tensor with as many rows in each process.

    Returns:
        A tensor without a gradient, the same in every process.
    """
    import torch
    from torch import distributed

    own = tensor.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, own)
    return torch.cat(parts)


# === Gradients ===


class ReducedStep:
    """Forward passes of one model in several processes, with one gradient.

    PyTorch's `DistributedDataParallel` averages the gradients of the processes
    while they are computed. It also hands the weights of the main process to
    all others.

    Args:
        trained: list of the `keras.Variable`s that are trained.
    """

    def __init__(self, trained):
        import torch

        self.trained = trained
        self._module = torch.nn.parallel.DistributedDataParallel(
            _call_class()([variable.value for variable in trained])
        )

    def __call__(self, function, inputs):
        """Call a function whose result has a gradient."""
        return self._module(function, inputs)


@functools.cache
def _call_class():
    import torch

    class Call(torch.nn.Module):
        """Call of a function as a module, with the weights that it uses."""

        def __init__(self, weights):
            super().__init__()
            self.weights = torch.nn.ParameterList(weights)

        def forward(self, function, inputs):
            return function(inputs)

    return Call


def take_over(variables):
    """Give variables their values in the main process, such as random states.

    Args:
        variables: list of `keras.Variable`s.
    """
    from torch import distributed

    for variable in variables:
        distributed.broadcast(variable.value.detach(), 0)
