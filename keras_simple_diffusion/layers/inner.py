import keras


def inner(layer):
    """What to call for a layer inside of another one of the same dtype policy.

    What Keras does around a layer's `call`, checks of its inputs above all,
    was done for the outer layer. On PyTorch it is done at every step and takes
    0.1 ms, often longer than the layer itself.

    Args:
        layer: a built `keras.layers.Layer`.

    Returns:
        A function of the layer's inputs.
    """
    if keras.config.backend() != "torch" or layer.quantization_mode:
        return layer
    return layer.call
