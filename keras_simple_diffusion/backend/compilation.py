"""Running the graph of a functional model."""

import collections

import keras
from keras import ops
from keras import tree


def compile_function(function, variables, jit_compile):
    """Compile a function that reads Keras variables.

    The values of the variables are arguments of the compiled code, so that it
    can compute with other values, such as an average of the weights, while the
    variables keep theirs: several threads can call it at once.

    Args:
        function: function of nested tensors that returns tensors and changes
            no variable.
        variables: list of the `keras.Variable`s that it reads.
        jit_compile: bool. Whether TensorFlow and PyTorch compile as well;
            JAX always does.

    Returns:
        A function with the arguments and results of `function` and the
        optional argument `values`, a list of tensors to compute with instead
        of the variables' own. It is traced again for new shapes or structures
        only.
    """

    def compute(values, args):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return function(*args)

    backend = keras.config.backend()
    if backend == "jax":
        import jax

        compiled = jax.jit(compute)
    elif backend == "tensorflow":
        import tensorflow as tf

        # There is no Python control flow on tensors that needs converting.
        compiled = tf.function(
            compute, autograph=False, jit_compile=jit_compile
        )
    else:
        import torch

        compiled = torch.no_grad()(
            torch.compile(compute) if jit_compile else compute
        )

    def call(*args, values=None):
        if values is None:
            values = current_values(variables)
        return compiled(values, args)

    return call


def current_values(variables):
    """Return the values of variables as a list of tensors."""
    return [ops.convert_to_tensor(variable) for variable in variables]


def run_graph(model, inputs, operation_fn):
    """Run a functional model and let go of what no later layer needs.

    Keras keeps the output of every layer until the last has run. Where layers
    run one by one, as on PyTorch, that is memory, and time: each output comes
    from fresh pages instead of the ones just freed.

    Args:
        model: a functional `keras.Model`.
        inputs: its inputs, nested as it expects them.
        operation_fn: function of a layer that returns what to call.

    Returns:
        The outputs, nested as the model returns them.
    """
    nodes = [
        node
        for _, nodes in sorted(model._nodes_by_depth.items(), reverse=True)
        for node in nodes
        if node.operation and not node.is_input
    ]
    uses = collections.Counter(id(x) for x in model.outputs)
    for node in nodes:
        uses.update({id(x) for x in node.input_tensors})
    tensors = dict(
        zip(map(id, model.inputs), tree.flatten(inputs), strict=True)
    )
    for node in nodes:
        args, kwargs = node.arguments.fill_in(tensors)
        results = operation_fn(node.operation)(*args, **kwargs)
        del args, kwargs
        tensors.update(
            zip(map(id, node.outputs), tree.flatten(results), strict=True)
        )
        del results
        for name in {id(x) for x in node.input_tensors}:
            uses[name] -= 1
            if not uses[name]:
                del tensors[name]
    outputs = [tensors[id(x)] for x in model.outputs]
    return tree.pack_sequence_as(model._outputs_struct, outputs)


def inner(layer):
    """What to call for a layer inside of another one of the same dtype policy.

    What Keras does around a layer's `call`, checks of its inputs above all,
    was done for the outer layer. On PyTorch it is done at every step and takes
    0.1 ms, often longer than the layer itself. In mixed precision it casts the
    weights, also where a rematerialised block is computed once more outside of
    the outer layer's call, and so it stays.

    Args:
        layer: a built `keras.layers.Layer`.

    Returns:
        A function of the layer's inputs.
    """
    is_mixed = layer.compute_dtype != layer.variable_dtype
    if keras.config.backend() != "torch" or layer.quantization_mode or is_mixed:
        return layer
    return layer.call


def rematerialize(function, *tensors):
    """Call a function, and call it again when its gradient is needed.

    What the function computes on the way is not kept for the gradient. It
    must give the same both times, so it must not draw random numbers.

    Args:
        function: function of tensors, or `None`s, that returns a tensor and
            changes no variable.
        *tensors: its arguments, float tensors or `None`.

    Returns:
        The tensor that `function` returns.
    """
    # TensorFlow takes nothing but tensors here.
    present = [tensor is not None for tensor in tensors]

    def call(*given):
        given = iter(given)
        return function(*(next(given) if has else None for has in present))

    return keras.remat(call)(*(x for x in tensors if x is not None))
