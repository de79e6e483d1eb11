"""The error of invalid input, and the checks of numbers that raise it."""

import difflib
import inspect
import math
import numbers


class InputError(ValueError):
    """An error that the user can fix, explained in one or two sentences.

    The message says what was received, what is expected and what to do. The
    command line prints it without a traceback.
    """


def check_number(
    name,
    value,
    at_least=None,
    at_most=None,
    above=None,
    below=None,
    whole=False,
):
    """Check a number that a user has passed.

    Args:
        name: string. Name of the argument, for the error message.
        value: the argument.
        at_least: float. Smallest allowed value. Defaults to no limit.
        at_most: float. Largest allowed value. Defaults to no limit.
        above: float. Lower limit that is not allowed itself. Defaults to no
            limit.
        below: float. Upper limit that is not allowed itself. Defaults to no
            limit.
        whole: bool. Whether the value must be an integer. Defaults to
            `False`.

    Returns:
        The value as a Python `int` or `float`.

    Raises:
        InputError: if `value` is not a finite number within the limits.
    """
    kind = numbers.Integral if whole else numbers.Real
    is_valid = (
        isinstance(value, kind)
        and not isinstance(value, bool)
        and _is_finite(value)
        and (at_least is None or value >= at_least)
        and (at_most is None or value <= at_most)
        and (above is None or value > above)
        and (below is None or value < below)
    )
    if not is_valid:
        limits = [
            f"{text} {limit}"
            for text, limit in (
                ("at least", at_least),
                ("above", above),
                ("at most", at_most),
                ("below", below),
            )
            if limit is not None
        ]
        noun = "an integer" if whole else "a finite number"
        expected = " ".join([noun, " and ".join(limits)]).strip()
        raise InputError(
            f"`{name}` must be {expected}. Received: {name}={value!r}"
        )
    return int(value) if isinstance(value, numbers.Integral) else float(value)


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


def check_arguments(names, cls, others=()):
    """Check the names of arguments of a class.

    Args:
        names: iterable of strings.
        cls: class. The arguments of its constructor, and of those of its
            bases, are valid.
        others: iterable of strings. Further valid names. Defaults to none.

    Raises:
        InputError: if a name is not valid. It suggests a similar one.
    """
    known = set(others) | names_of_arguments(cls)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise InputError(f"{cls.__name__} has no argument `{name}`.{hint}")


def names_of_arguments(cls):
    """Return the names of the arguments of a class and its bases, a set."""
    named = (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
    return {
        name
        for base in cls.__mro__
        for name, each in inspect.signature(base.__init__).parameters.items()
        if each.kind in named and name != "self"
    }


def check_flag(name, value):
    """Return an argument that must be `True` or `False`."""
    if not isinstance(value, bool):
        raise InputError(
            f"`{name}` must be True or False. Received: {name}={value!r}"
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


def _is_finite(value):
    try:
        return math.isfinite(value)
    except OverflowError:  # An integer beyond the largest float.
        return False


def _is_integer(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
