"""Weights that are split over PyTorch processes, by `fully_shard` (FSDP2).

A unit is a layer of a network. PyTorch gathers its weights before the layer
runs, and again before its gradient; it frees them after that, and hands each
process the mean gradient of its own part. Between the steps the variables hold
`DTensor`s, as do those that the optimizer derives from them.
"""

import functools
import warnings
import weakref

from keras import ops

from keras_simple_diffusion.backend import keras_internals
from keras_simple_diffusion.backend import torch_processes

_units = weakref.WeakKeyDictionary()  # From layers to their units.
_is_in_step = False


def part_of(shape, count):
    """Return how PyTorch splits an array over processes.

    Args:
        shape: tuple of ints.
        count: int. Number of processes.

    Returns:
        A `torch.distributed.tensor.Shard` of the largest dimension that
        `count` divides, or else of the first one, into unequal parts.
    """
    from torch.distributed.tensor import Shard

    fitting = [i for i, size in enumerate(shape) if size % count == 0]
    return Shard(max(fitting, key=lambda i: (shape[i], i), default=0))


def whole(tensor):
    """Return a tensor whole, if it is split; all processes must call it."""
    return tensor.full_tensor() if _is_part(tensor) else tensor


def own(tensor):
    """Return this process's part of a tensor, which shares its memory."""
    return tensor.to_local() if _is_part(tensor) else tensor


def _is_part(tensor):
    if not torch_processes.is_connected():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


class SplitVariable(keras_internals.SplitVariable):
    """Variable of which each process holds a part."""

    def split(self, value):
        if _is_part(value):
            return value
        return _split(value, self.value.device_mesh, self.value.placements)

    def join(self):
        return whole(self.value)


@functools.cache
def _mesh():
    import torch
    from torch import distributed

    kind = "cuda" if torch.cuda.is_available() else "cpu"
    size = distributed.get_world_size()
    return distributed.device_mesh.init_device_mesh(kind, (size,))


def splitting_new_variables():
    """Context in which an optimizer creates variables that are split."""

    def change(variable, initializer):
        if not variable.shape:
            return initializer

        def initialize(shape, dtype):
            variable.__class__ = SplitVariable
            value = ops.convert_to_tensor(initializer(shape, dtype=dtype))
            return _split(value, _mesh(), [part_of(shape, _mesh().size())])

        return initialize

    return keras_internals.initializing(change)


def _split(value, mesh, placements):
    """Keep this process's part of a tensor that all processes have whole."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, mesh, placements, src_data_rank=None)


class ShardedStep:
    """Forward passes of a model whose weights are split over the processes.

    Args:
        trained: list of the `keras.Variable`s that are trained.
        layers: list of the layers that become units.
    """

    def __init__(self, trained, layers):
        from torch.distributed.fsdp import fully_shard

        unit_class = _unit_class()
        left = {id(variable): variable for variable in trained}
        units = []
        for layer in layers:
            taken = [left.pop(id(v), None) for v in layer.trainable_variables]
            taken = [variable for variable in taken if variable is not None]
            if taken:
                units.append(unit_class(taken))
                _units[layer] = units[-1]
        mesh = _mesh()
        root = unit_class(list(left.values()), units)

        def place(parameter):
            return part_of(parameter.shape, mesh.size())

        # Blocks return views, which no layer changes in place.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* view")
        for unit in (*units, root):
            fully_shard(unit, mesh=mesh, shard_placement_fn=place)
        for variable in trained:
            variable.__class__ = SplitVariable
        self._root = root

    def __call__(self, function, inputs):
        """Call a function with the weights as it needs them."""
        global _is_in_step
        _is_in_step = True
        try:
            return self._root(function, inputs)
        finally:
            _is_in_step = False


def call_of(layer, function):
    """Return a function that gathers the weights of a layer when called.

    Args:
        layer: a `keras.layers.Layer`.
        function: function that calls it.
    """
    unit = _units.get(layer) if _is_in_step else None
    return function if unit is None else functools.partial(unit, function)


@functools.cache
def _unit_class():
    import torch

    class Unit(torch.nn.Module):
        """Holder of weights, which PyTorch exchanges for whole or split ones.

        It hands them on to Keras's variables.
        """

        def __init__(self, variables, units=()):
            super().__init__()
            self.variables = dict(enumerate(variables))
            self.units = torch.nn.ModuleList(units)
            for index, variable in self.variables.items():
                setattr(self, f"weight_{index}", variable.value)

        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            kind, _, index = name.partition("_")
            if kind == "weight":
                variable = self.variables[int(index)]
                keras_internals.replace_value(variable, value)

        def forward(self, function, *args, **kwargs):
            return function(*args, **kwargs)

    return Unit
