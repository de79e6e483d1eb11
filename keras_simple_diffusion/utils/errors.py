"""The error of invalid input, and the checks of numbers that raise it."""

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
        and math.isfinite(value)
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
