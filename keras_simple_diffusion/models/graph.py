"""Running the graph of a functional model."""

import collections

from keras import tree


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
