"""Programs of PyTorch's compiler, one for all blocks that are alike.

PyTorch's compiler takes minutes for a whole training step: it traces every
layer, and the update of every weight. Most blocks of a network differ only in
the values of their weights, which are arguments of the programs here. The rest
of a step runs as without a compiler.
"""

import contextlib
import contextvars
import dataclasses
import json
import typing
import warnings

import keras

_running = contextvars.ContextVar("running_block_programs", default=None)


class BlockPrograms:
    """Compiled programs of the blocks of networks.

    A program takes the weights of a block as arguments. It is traced with the
    first block of its kind, and runs for all blocks of the same class,
    configuration and shapes of weights. The compiler adds a variant for new
    shapes of the inputs, and for calls with and without gradients.
    """

    def __init__(self):
        self._programs = {}
        self._blocks = {}  # From layers, to `None` for other layers.

    @contextlib.contextmanager
    def running(self, jit_compile=True):
        """Context in which the networks of this thread run the programs.

        Args:
            jit_compile: bool. Whether to do so, on PyTorch; other backends
                compile whole steps. Defaults to `True`.
        """
        is_used = jit_compile and keras.config.backend() == "torch"
        token = _running.set(self if is_used else None)
        try:
            yield
        finally:
            _running.reset(token)

    def __len__(self):
        """Return the number of kinds of blocks."""
        return len(self._programs)

    def call_of(self, layer, function_of):
        """Return a function that calls a layer, by a program if it is a block.

        Blocks are the layers that can be rematerialized; others, which occur
        once, cost more to compile than they gain. A block with a random state
        runs without a program in training, as PyTorch does not compile random
        numbers with a seed.

        Args:
            layer: a built `keras.layers.Layer`.
            function_of: function of a layer that returns the function to call.
        """
        import torch

        if layer not in self._blocks:
            self._blocks[layer] = self._block_of(layer)
        block = self._blocks[layer]
        if block is not None and not _are_same(block.variables, layer):
            # Quantization or LoRA has replaced some, of templates as well.
            self._programs.clear()
            self._blocks.clear()
            block = self._blocks[layer] = self._block_of(layer)
        if block is None or (block.is_random and torch.is_grad_enabled()):
            return function_of(layer)
        function = function_of(block.template)

        def call(*args, **kwargs):
            values = [variable.value for variable in block.variables]
            return block.program(function, values, args, kwargs)

        return call

    def _block_of(self, layer):
        if not hasattr(layer, "rematerialize"):
            return None
        kind = _kind_of(layer)
        if kind not in self._programs:
            name = f"{type(layer).__name__}_{len(self._programs)}"
            self._programs[kind] = _compile(layer, name), layer
        is_random = len(layer.variables) > len(layer.weights)
        return _Block(*self._programs[kind], layer.variables, is_random)


@dataclasses.dataclass(frozen=True)
class _Block:
    """A block, and the program of its kind, traced with `template`."""

    program: typing.Callable
    template: keras.layers.Layer
    variables: list
    is_random: bool


def _are_same(variables, layer):
    return list(map(id, variables)) == list(map(id, layer.variables))


def running_programs():
    """Return the `BlockPrograms` that run in this thread, or `None`."""
    return _running.get()


def _kind_of(layer):
    """Describe all of a layer but its name and the values of its weights."""
    described = keras.saving.serialize_keras_object(layer)
    described["config"].pop("name")
    weights = [
        (variable.path.removeprefix(layer.path), variable.shape, variable.dtype)
        for variable in layer.variables
    ]
    return json.dumps([described, weights], sort_keys=True, default=str)


def _compile(template, name):
    import torch

    variables = template.variables

    def compute(function, values, args, kwargs):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return function(*args, **kwargs)

    # PyTorch counts the programs of each code, and remembers the shapes of each
    # name, so that those of another kind of block would make it give up.
    compute.__code__ = compute.__code__.replace(co_name=name)
    # Tracing looks at `.grad` of every tensor.
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor")
    return torch.compile(compute)
