"""Functions compiled as graphs of OpenVINO.

On Keras's backend for OpenVINO each operation adds a node to a graph. A
function of Keras operations is therefore compiled like on JAX: it is called
once with parameters of a graph in the place of its arguments.
"""

import collections
import threading

from keras import ops
from keras import tree

# Each graph holds a copy of the weights.
_MAX_GRAPHS = 4

# By itself OpenVINO computes in bfloat16 on processors that can.
_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}


class GraphProgram:
    """A function that is compiled for each structure of its arguments.

    The weights are constants of a graph, which OpenVINO lays out for the
    processor. With other weights it is compiled again.

    Args:
        function: function of a list of values and of nested tensors that
            returns nested tensors and changes no variable.

    Call arguments:
        values: list of tensors.
        args: nested tensors.

    Returns:
        The result of `function(values, args)`.
    """

    def __init__(self, function):
        self.function = function
        self._values = []
        self._graphs = collections.OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, values, args):
        args = tree.map_structure(ops.convert_to_numpy, args)
        key = repr(tree.map_structure(lambda x: (x.dtype, x.shape), args))
        with self._lock:
            if list(map(id, values)) != list(map(id, self._values)):
                self._values = list(values)
                self._graphs.clear()
            if key not in self._graphs:
                self._graphs[key] = self._compile(args)
            self._graphs.move_to_end(key)
            while len(self._graphs) > _MAX_GRAPHS:
                self._graphs.popitem(last=False)
            graph, results = self._graphs[key]
            found = graph(tree.flatten(args)).to_tuple()
            # Copies: the next call overwrites the arrays.
            found = [ops.convert_to_tensor(array) for array in found]
        return tree.pack_sequence_as(results, found)

    def _compile(self, args):
        """Return the compiled graph, and its symbolic results, nested."""
        import openvino
        from openvino import opset16

        tensors = tree.map_structure(ops.convert_to_tensor, args)
        inputs = [_parameter_like(x) for x in tree.flatten(tensors)]
        symbols = [_tensor(parameter) for parameter in inputs]
        results = self.function(
            self._values, tree.pack_sequence_as(args, symbols)
        )
        outputs = [opset16.result(x.output) for x in tree.flatten(results)]
        graph = openvino.Model(outputs, inputs)
        return openvino.compile_model(graph, "CPU", _SETTINGS), results


def fori_loop(first, last, body, state):
    """Compute a loop, see `keras_simple_diffusion.backend.compilation`.

    The body becomes a graph of its own. What it reads from outside is computed
    within it, from the parameters of the outer graph, which it receives.
    """
    import openvino
    from openvino import opset16

    first, last = (ops.convert_to_tensor(x, "int32") for x in (first, last))
    begun = [first, *map(ops.convert_to_tensor, tree.flatten(state))]
    inner = [_parameter_like(x) for x in begun]
    i, *leaves = (_tensor(parameter) for parameter in inner)
    after = body(i, tree.pack_sequence_as(state, leaves))
    after = [i + 1, *map(ops.convert_to_tensor, tree.flatten(after))]

    goes_on = opset16.constant(True)
    results = [opset16.result(x.output) for x in after]
    outer = _parameters_above(results, inner)
    # Nodes belong to one graph only.
    graph = openvino.Model(
        [opset16.result(goes_on), *results], [*inner, *outer]
    ).clone()
    parameters = graph.get_parameters()
    ends = [result.input_value(0) for result in graph.get_results()[1:]]

    loop = opset16.loop((last - first).output, goes_on.output(0))
    loop.set_function(graph)
    loop.set_special_body_ports([-1, 0])
    own, others = parameters[: len(inner)], parameters[len(inner) :]
    for parameter, start, end in zip(own, begun, ends, strict=True):
        loop.set_merged_input(parameter, start.output, end)
    for parameter, value in zip(others, outer, strict=True):
        loop.set_invariant_input(parameter, value.output(0))
    found = [ops.convert_to_tensor(loop.get_iter_value(end)) for end in ends]
    return tree.pack_sequence_as(state, found[1:])


def _parameter_like(tensor):
    from openvino import opset16

    output = tensor.output
    return opset16.parameter(
        output.get_partial_shape(), output.get_element_type()
    )


def _tensor(parameter):
    return ops.convert_to_tensor(parameter.output(0))


def _parameters_above(nodes, known):
    """List the parameters that nodes depend on, but for the known ones."""
    seen = {node.get_instance_id() for node in known}
    found, waiting = [], list(nodes)
    while waiting:
        node = waiting.pop()
        if node.get_instance_id() in seen:
            continue
        seen.add(node.get_instance_id())
        if node.get_type_name() == "Parameter":
            found.append(node)
        waiting += [value.get_node() for value in node.input_values()]
    return found
