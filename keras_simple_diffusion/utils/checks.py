"""Checks of the arguments of layers and networks.

Each function returns the value in its normal form, or raises an `InputError`
that names the argument.
"""

import numbers

from keras_simple_diffusion.utils.errors import InputError


def check_integer(name, value, minimum=1, optional=False):
    """Return an argument as an `int`.

    Args:
        name: string. Name of the argument.
        value: the argument.
        minimum: int. Its smallest valid value. Defaults to `1`.
        optional: bool. Whether `None` is valid too. Defaults to `False`.

    Returns:
        An int, or `None`.
    """
    if value is None and optional:
        return None
    if not _is_integer(value) or value < minimum:
        raise InputError(
            f"`{name}` must be an integer of at least {minimum}"
            f"{' or None' if optional else ''}. Received: {name}={value!r}"
        )
    return int(value)


def check_integers(name, values, minimum=1):
    """Return an argument as a tuple of `int`s.

    Args:
        name: string. Name of the argument.
        values: the argument.
        minimum: int or `None`. The smallest valid value of an entry; `None`
            for no limit. Defaults to `1`.

    Returns:
        A tuple of ints.
    """
    limit = "" if minimum is None else f" of at least {minimum}"
    if not isinstance(values, (tuple, list)) or not all(
        _is_integer(value) and (minimum is None or value >= minimum)
        for value in values
    ):
        raise InputError(
            f"`{name}` must be a tuple of integers{limit}. Received: "
            f"{name}={values!r}"
        )
    return tuple(int(value) for value in values)


def check_choice(name, value, choices):
    """Return an argument that must be one of a few values."""
    if value not in choices:
        raise InputError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. "
            f"Received: {name}={value!r}"
        )
    return value


def check_rate(name, value):
    """Return a rate of dropout, a number in [0, 1), as a `float`."""
    if not is_rate(value):
        raise InputError(
            f"`{name}` must be a number in [0, 1). Received: {name}={value!r}"
        )
    return float(value)


def is_rate(value):
    """Tell if a value is a number in [0, 1)."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and 0.0 <= value < 1.0


def _is_integer(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
