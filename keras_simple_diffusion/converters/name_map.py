"""Weights of a network from arrays that have other names and layouts.

A map is a dict from the path of each weight to a tuple of the name of an array
and the function that brings it to the layout of the weight.
"""

import numpy as np

from keras_simple_diffusion.utils.errors import InputError

_MAX_NAMED = 3

# === Layouts ===


def same(array):
    """Leave an array as it is."""
    return array


def dense(array):
    """Convert a dense layer of PyTorch, `(outputs, inputs)`."""
    return array.T


def pointwise(array):
    """Convert a convolution of single pixels, `(outputs, inputs, 1, 1)`."""
    return array[:, :, 0, 0].T


def convolution(array):
    """Convert a convolution of PyTorch, `(outputs, inputs, rows, columns)`."""
    return array.transpose(2, 3, 1, 0)


def first(array):
    """Remove the first axis, of length 1."""
    return array[0]


# === Assignment ===


def assign_weights(backbone, arrays, name_map, unused=(), source="the file"):
    """Assign arrays to all weights of a network.

    Args:
        backbone: a `keras_simple_diffusion.models.DiffusionBackbone`.
        arrays: dict of NumPy arrays.
        name_map: dict from the path of a weight to the name of its array and
            the function that converts it.
        unused: names of arrays that the network does not need.
        source: string that names the origin in errors.

    Raises:
        InputError: if an array is missing, of another shape, not finite or
            of no use. No weight is changed unless all arrays fit.
    """
    weights = {weight.path: weight for weight in backbone.weights}
    expected = {name_map[path][0]: path for path in weights}
    _refuse(source, "are missing", expected.keys() - arrays.keys())
    _refuse(
        source, "are unknown", arrays.keys() - expected.keys() - set(unused)
    )
    for name, path in expected.items():
        found = arrays[name]
        try:
            shape = name_map[path][1](found).shape
        except (ValueError, IndexError):
            shape = None
        if shape != tuple(weights[path].shape):
            raise InputError(
                f"{source} does not fit: {name} has the shape {found.shape}, "
                f"and {path} needs {tuple(weights[path].shape)}."
            )
    for name, path in expected.items():
        value = np.asarray(name_map[path][1](arrays[name]), "float32")
        if not np.isfinite(value).all():
            raise InputError(
                f"{source} is damaged: {name} holds NaN or infinity."
            )
        weights[path].assign(value)


def _refuse(source, problem, names):
    if names:
        named = ", ".join(sorted(names)[:_MAX_NAMED])
        more = len(names) - _MAX_NAMED
        named += f" and {more} others" if more > 0 else ""
        raise InputError(f"{source} does not fit: {named} {problem}.")
