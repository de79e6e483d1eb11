"""Immutable objects that are defined by the arguments of their constructor."""

import ast
import inspect

import keras

from keras_simple_diffusion.utils.errors import InputError


class Configurable:
    """Base class of schedules, losses, weightings and samplers.

    A subclass keeps every argument of its constructor as an attribute of the
    same name. Configuration, equality, hash and representation follow from
    these attributes. An attribute can be assigned once, so an object never
    changes: equal objects may share one compiled program.

    Example:
    ```python
    class Constant(Configurable):
        def __init__(self, value=1.0):
            self.value = value

    Constant(2.0) == Constant.from_config({"value": 2.0})
    repr(Constant(2.0))  # "Constant(value=2.0)"
    ```
    """

    def get_config(self):
        """Return the arguments that make an equal object.

        Returns:
            A dict from argument name to value. An argument that is itself a
            `Configurable` is serialized.
        """
        serialize = keras.saving.serialize_keras_object
        return {
            name: serialize(value) if isinstance(value, Configurable) else value
            for name, value in self._arguments().items()
        }

    @classmethod
    def from_config(cls, config):
        """Make an object from the result of `get_config`."""
        return cls(
            **{
                name: _from_dict(Configurable, value)
                if isinstance(value, dict)
                else value
                for name, value in config.items()
            }
        )

    def _arguments(self):
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names}

    def __setattr__(self, name, value):
        if name in vars(self):
            raise AttributeError(
                f"A {type(self).__name__} cannot be changed. Make a new one "
                f"with another `{name}`."
            )
        super().__setattr__(name, value)

    def __eq__(self, other):
        return type(self) is type(other) and (
            _to_tuples(self.get_config()) == _to_tuples(other.get_config())
        )

    def __hash__(self):
        return hash((type(self), _to_tuples(self.get_config())))

    def __repr__(self):
        parameters = inspect.signature(type(self)).parameters
        arguments = ", ".join(
            f"{name}={value!r}"
            for name, value in self._arguments().items()
            if value != parameters[name].default
        )
        return f"{type(self).__name__}({arguments})"


def _to_tuples(value):
    """Make a configuration hashable; JSON turns tuples into lists."""
    if isinstance(value, dict):
        return tuple((key, _to_tuples(each)) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(_to_tuples(each) for each in value)
    return value


def resolve(kind, identifier, constructors):
    """Return the object that an identifier stands for.

    Args:
        kind: class of the object.
        identifier: one of:
            - an instance of `kind`, or `None`, which are returned unchanged,
            - a string `"name"` or `"name:argument=value,..."` with values as
              in Python, such as `"dpm:order=1,stochastic=true"`,
            - a dict, the result of `keras.saving.serialize_keras_object`.
        constructors: dict from name to the class or function that is called
            with the arguments.

    Returns:
        An instance of `kind`, or `None`.

    Raises:
        InputError: if the identifier is of another type, or if a name, an
            argument or a value is not valid.
    """
    if identifier is None or isinstance(identifier, kind):
        return identifier
    if isinstance(identifier, dict):
        return _from_dict(kind, identifier)
    names = ", ".join(f'"{name}"' for name in constructors)
    if not isinstance(identifier, str):
        raise InputError(
            f"Expected a {kind.__name__}, one of the names {names}, or a "
            f"configuration dict. Received: {identifier!r}"
        )
    name, _, text = identifier.partition(":")
    if name not in constructors:
        raise InputError(
            f"Unknown {kind.__name__} {identifier!r}. Use one of {names}, with "
            'arguments as in "name:argument=value,...".'
        )
    signature = inspect.signature(constructors[name])
    arguments = _parse_arguments(identifier, text, signature)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError(
            f'"{name}" takes {signature}. Received: {identifier!r} ({error})'
        ) from None
    return constructors[name](**arguments)


def _from_dict(kind, config):
    # A stranger's configuration may name any class of Keras, some of which
    # read files: none is made but that which is expected.
    name = config.get("registered_name")
    found = keras.saving.get_registered_object(str(name))
    if not isinstance(found, type) or not issubclass(found, kind):
        raise InputError(
            f"The configuration must be that of a {kind.__name__}. Received: "
            f"{str(config)[:300]}"
        )
    try:
        return keras.saving.deserialize_keras_object(config)
    except InputError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"The configuration is not that of a {kind.__name__}: "
            f"{str(error)[:300]} Received: {str(config)[:300]}"
        ) from error


_LITERALS = {"true": True, "false": False, "none": None}


def _parse_arguments(identifier, text, signature):
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("arguments need a name")
        arguments = {
            each.arg: _parse_value(each.value) for each in call.keywords
        }
        if len(arguments) < len(call.keywords):
            raise ValueError("an argument is repeated")
        return arguments
    except (SyntaxError, ValueError):
        raise InputError(
            "Arguments are written as argument=value, separated by commas. "
            f"Received: {identifier!r}. Valid arguments: {signature}"
        ) from None


def _parse_value(node):
    if isinstance(node, ast.Name):
        return _LITERALS.get(node.id.lower(), node.id)
    return ast.literal_eval(node)
