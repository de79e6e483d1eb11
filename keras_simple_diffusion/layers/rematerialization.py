import keras


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
