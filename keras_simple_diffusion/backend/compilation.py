"""Compiled functions, eager layers, and rematerialization."""

import collections

import keras
from keras import ops
from keras import tree

from keras_simple_diffusion.backend import block_programs
from keras_simple_diffusion.backend import keras_internals
from keras_simple_diffusion.backend import replicas
from keras_simple_diffusion.backend.activations import without_gradients


def operations_run_one_by_one():
    """Tell if each operation runs by itself, not as part of a program.

    Then memory is freed when Python forgets a tensor, layers cost time
    in Python at every step, and fused kernels help.
    """
    if keras.config.backend() != "torch":
        return False
    import torch

    return not torch.compiler.is_compiling()


def compile_function(function, variables, jit_compile, run_eagerly=False):
    """Compile a function that reads Keras variables.

    The values of the variables are arguments of the compiled code, so that it
    can compute with other values, such as an average of the weights, while the
    variables keep theirs: several threads can call it at once.

    Args:
        function: function of nested tensors that returns tensors and changes
            no variable.
        variables: list of the `keras.Variable`s that it reads.
        jit_compile: bool. Whether TensorFlow compiles the function, and
            PyTorch the blocks of networks in it; JAX and OpenVINO always
            compile.
        run_eagerly: bool. Whether TensorFlow runs the operations one by one,
            which starts at once; JAX would compile every loop again and again.
            Defaults to `False`.

    Returns:
        A function with the arguments and results of `function` and the
        optional argument `values`, a list of tensors to compute with instead
        of the variables' own. It is traced again for new shapes or structures
        only.
    """

    def compute(values, args):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping), without_gradients():
            return function(*args)

    backend = keras.config.backend()
    if run_eagerly and backend == "tensorflow":
        compiled = compute
    elif backend == "jax":
        import jax

        compiled = jax.jit(compute)
    elif backend == "tensorflow":
        import tensorflow as tf

        tf.get_logger().addFilter(_is_about_others)
        # There is no Python control flow on tensors that needs converting.
        compiled = tf.function(
            compute, autograph=False, jit_compile=jit_compile
        )
    elif backend == "openvino":
        from keras_simple_diffusion.backend import openvino_programs

        compiled = openvino_programs.GraphProgram(compute)
    else:
        import torch

        programs = block_programs.BlockPrograms()

        @torch.no_grad()
        def compiled(values, args):
            with programs.running(jit_compile):
                return compute(values, args)

    def call(*args, values=None):
        if values is None:
            values = current_values(variables)
        return compiled(values, args)

    return call


def keeps_each_shape():
    """Tell if a compiled function keeps a program for all shapes it has seen.

    PyTorch's run any shapes, and OpenVINO's keep a few.
    """
    return keras.config.backend() in ("jax", "tensorflow")


def _is_about_others(record):
    """Drop TensorFlow's warning that functions from here are traced often.

    It counts all of them as one, though each has shapes of its own.
    """
    return "compile_function.<locals>.compute" not in record.getMessage()


def current_values(variables):
    """Return the values of variables as a list of tensors."""
    return [
        replicas.whole(ops.convert_to_tensor(variable))
        for variable in variables
    ]


class ReleasesActivations(keras_internals.OwnGraphRun):
    """Mixin for functional models that free activations early.

    Keras keeps the output of every layer until the last one has run. Where
    operations run one by one, that costs memory, and time: each output gets
    fresh pages instead of those just freed.
    """

    def run_layers(self, inputs, operation_fn):
        programs = block_programs.running_programs()

        def call_of(layer):
            if programs is None:
                function = operation_fn(layer)
            else:
                function = programs.call_of(layer, operation_fn)
            return replicas.call_with_weights(layer, function)

        if operations_run_one_by_one():
            return run_graph(self, inputs, call_of)
        return super().run_layers(inputs, call_of)


def run_graph(model, inputs, operation_fn):
    """Run a functional model, freeing each activation after its last use.

    Args:
        model: a functional `keras.Model`.
        inputs: its inputs, nested as it expects them.
        operation_fn: function of a layer that returns the function to call.

    Returns:
        The outputs, nested as the model returns them.
    """
    nodes = keras_internals.graph_nodes(model)
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
    return tree.pack_sequence_as(
        keras_internals.output_structure(model), outputs
    )


def inner(layer):
    """Return `layer.call` where `Layer.__call__` may be skipped.

    Within the `call` of an outer layer of the same dtype policy, the checks
    and conversions of `Layer.__call__` are done already. On PyTorch they cost
    0.1 ms a layer at every step, often more than the layer itself. In mixed
    precision `Layer.__call__` also casts the weights, and it counts while a
    rematerialized block is computed again outside of the outer layer's call;
    so there, and in quantized layers, it is kept.

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
    """Call a function without keeping its intermediate results.

    The function is called again for its gradient. It must compute the same
    both times, so it must not draw random numbers.

    Args:
        function: function of tensors, or `None`s, that returns a tensor and
            changes no variable.
        *tensors: its arguments, float tensors or `None`.

    Returns:
        The tensor that `function` returns.
    """
    # TensorFlow accepts nothing but tensors as arguments.
    is_tensor = [tensor is not None for tensor in tensors]

    def call(*present):
        present = iter(present)
        return function(*(next(present) if is_ else None for is_ in is_tensor))

    present = [tensor for tensor in tensors if tensor is not None]
    if keras.config.backend() != "torch":
        return keras.remat(call)(*present)
    from torch.utils.checkpoint import checkpoint

    # Keras would also save the states of random numbers, on a GPU by a copy
    # that waits for it.
    return checkpoint(
        call, *present, use_reentrant=False, preserve_rng_state=False
    )


def recompute_cheaply(is_training):
    """Return how a block calls its parts: as they are, or rematerialized.

    A part is a chain of element-wise operations that ends in one matrix
    product or convolution. The gradient of a product needs its inputs and not
    its result. So a part that is rematerialized keeps the inputs of the chain
    only, and repeats the chain: JAX drops the product that nothing needs, and
    PyTorch stops before it.

    Args:
        is_training: bool. Whether there will be a gradient.

    Returns:
        A function like `rematerialize`.
    """
    # On a CPU TensorFlow would save little and take longer. PyTorch's compiler
    # itself repeats what is cheap.
    is_jax = keras.config.backend() == "jax"
    if is_training and (is_jax or operations_run_one_by_one()):
        return rematerialize
    return lambda function, *tensors: function(*tensors)


def fori_loop(first, last, body, state):
    """Compute a loop, like `keras.ops.fori_loop`.

    Keras's loop for OpenVINO cannot read tensors from outside of its body.

    Args:
        first: int, or int32 scalar tensor. The first index.
        last: int, or int32 scalar tensor. The index before which to end.
        body: function of the index and the state that returns the new state.
        state: nested tensors.

    Returns:
        The last state.
    """
    if keras.config.backend() != "openvino":
        return ops.fori_loop(first, last, body, state)
    from keras_simple_diffusion.backend import openvino_programs

    return openvino_programs.fori_loop(first, last, body, state)


def cond(condition, true_function, false_function):
    """Compute one of two tensors, like `keras.ops.cond`.

    OpenVINO computes both of them. Keras's function does so as well, but takes
    the weights from the variables, not from `values` of `compile_function`.

    Args:
        condition: bool scalar tensor.
        true_function: function without arguments that returns a tensor.
        false_function: function without arguments that returns a tensor of
            the same shape.

    Returns:
        The tensor that one of the functions returns.
    """
    if keras.config.backend() != "openvino":
        return ops.cond(condition, true_function, false_function)
    return ops.where(condition, true_function(), false_function())
