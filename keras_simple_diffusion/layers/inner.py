import keras


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
