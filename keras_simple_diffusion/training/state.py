"""Everything that a training step reads and changes, as named arrays."""

import keras
import ml_dtypes
import numpy as np

from keras_simple_diffusion.distribution.processes import to_numpy
from keras_simple_diffusion.utils.errors import InputError


def variables_of(model):
    """All variables of a compiled and built model.

    Weights, states of random numbers, the optimizer's variables with the
    averages of the weights, and the metrics of the interval under way.

    Args:
        model: a `DiffusionModel` whose optimizer is built.

    Returns:
        A dict from names, the same in every process that builds the same
        model, to `keras.Variable`s.
    """
    groups = {
        "model": model.own_variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    return {
        f"{group}-{index:05d}": variable
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def read_state(model):
    """Yield names and values of the model's variables, one at a time."""
    for name, variable in variables_of(model).items():
        value = to_numpy(variable)
        if value.dtype.kind == "V":  # bfloat16, which NumPy cannot store.
            value = value.view("uint16")
        yield name, value


def write_state(model, arrays):
    """Give all variables of a model the values of `read_state`.

    Args:
        model: a `DiffusionModel` built and compiled like the one that was
            read.
        arrays: mapping from names to arrays.

    Returns:
        A list of the metrics' variables and their values, for
        `RestoringMetrics`.

    Raises:
        InputError: if they are not those of such a model.
    """
    variables = variables_of(model)
    if set(arrays.keys()) != set(variables):
        raise InputError(
            f"The checkpoint holds {len(arrays.keys())} arrays and the model "
            f"has {len(variables)} variables: it is of another model. Continue "
            "it with the version of the library that wrote it."
        )
    for name, variable in variables.items():
        value = arrays[name]
        if value.shape != tuple(variable.shape):
            raise InputError(
                f"The checkpoint's array for '{variable.path}' has the shape "
                f"{value.shape}, the model's {tuple(variable.shape)}: it is of "
                "another model."
            )
        if value.dtype == np.uint16:
            value = value.view(ml_dtypes.bfloat16)
        variable.assign(value)
    return [
        (variable, arrays[name])
        for name, variable in variables.items()
        if name.startswith("metrics-")
    ]


class RestoringMetrics(keras.callbacks.Callback):
    """Give metrics their values back, once, after `fit` has reset them.

    Args:
        values: list of tuples, a `keras.Variable` and its value.
    """

    def __init__(self, values):
        super().__init__()
        self.values = list(values)

    def on_epoch_begin(self, epoch, logs=None):
        for variable, value in self.values:
            variable.assign(value)
        self.values = []
