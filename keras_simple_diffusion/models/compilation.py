import functools

import keras


def compile_function(function, variables, jit_compile):
    """Compile a function that reads Keras variables.

    Args:
        function: function of tensors, or `None`s, that returns tensors and
            changes no variable.
        variables: list of the `keras.Variable`s that it reads.
        jit_compile: bool. Whether TensorFlow and PyTorch compile as well;
            JAX always does.

    Returns:
        A function with the arguments and results of `function`. It is traced
        again only for new shapes, or a `None` in another place.
    """
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        @jax.jit
        def compiled(state, args):
            mapping = zip(variables, state, strict=True)
            with keras.StatelessScope(state_mapping=list(mapping)):
                return function(*args)

        return lambda *args: compiled([v.value for v in variables], args)
    if backend == "tensorflow":
        import tensorflow as tf

        # There is no Python control flow on tensors that needs converting.
        return tf.function(function, autograph=False, jit_compile=jit_compile)
    if backend == "torch":
        import torch

        if jit_compile:
            function = torch.compile(function)

        @functools.wraps(function)
        def without_gradients(*args):
            with torch.no_grad():
                return function(*args)

        return without_gradients
    raise ValueError(
        "keras_simple_diffusion runs on the backends 'jax', 'tensorflow' and "
        f"'torch'. Received: KERAS_BACKEND={backend}"
    )
