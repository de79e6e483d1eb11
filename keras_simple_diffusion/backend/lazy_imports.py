"""Libraries that Keras and keras_hub import at once, and few commands need.

The import of TensorFlow takes seconds, that of scikit-learn and matplotlib as
well. Keras and keras_hub import them wherever they are installed, for parts of
theirs that no command needs at the start.
"""

import contextlib
import importlib
import importlib.util
import sys
import types

from keras_simple_diffusion.backend.choice import configured_backend
from keras_simple_diffusion.utils.imports import wrap_import

# Keras is complete without them but for wrappers and plots, which no command
# uses.
_UNUSED_BY_KERAS = ("sklearn", "matplotlib")

# The same of keras_hub: it learns vocabularies with it.
_UNUSED_BY_KERAS_HUB = ("tensorflow_text.tools.wordpiece_vocab",)

_PUT_OFF = ("tensorflow", "tensorflow_text")

# The base of a class of keras_hub, which does without if there is none. It
# matters in a `SavedModel` only.
_UNUSED_BASE = "Module"


def import_lazily():
    """Put off imports of large libraries until they are used.

    This is for commands, whose code is all known. A user's program may need
    the parts of Keras that are left out.
    """
    wrap_import("keras", _small_keras)
    if configured_backend() != "tensorflow":
        wrap_import("keras_hub", _tensorflow_put_off)


@contextlib.contextmanager
def _small_keras():
    """Context of the import of Keras without other large libraries."""
    with _hidden(_UNUSED_BY_KERAS):
        yield
    from keras_simple_diffusion.backend import keras_internals

    keras_internals.leave_tensorflow_to_others()


@contextlib.contextmanager
def _hidden(names):
    """Context in which modules that are not yet imported cannot be."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


@contextlib.contextmanager
def _tensorflow_put_off():
    """Context in which an import of TensorFlow gives a `_StandIn`.

    Modules that are imported meanwhile keep the stand-ins. All others get
    TensorFlow itself.
    """
    stand_ins = [_StandIn(name) for name in _PUT_OFF if _can_be_put_off(name)]
    for stand_in in stand_ins:
        sys.modules[stand_in.__name__] = stand_in
    try:
        with _hidden(_UNUSED_BY_KERAS_HUB):
            yield
    finally:
        for stand_in in stand_ins:
            stand_in.withdraw()


def _can_be_put_off(name):
    """Tell if a package is installed and not yet imported."""
    if name in sys.modules:
        return False
    spec = importlib.util.find_spec(name)
    # A folder that was left behind by a package has no origin.
    return spec is not None and spec.origin is not None


class _StandIn(types.ModuleType):
    """Module in the place of a package, which is imported when it is used.

    Args:
        name: string. Name of the package.
    """

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = importlib.util.find_spec(name)
        self.__file__ = self.__spec__.origin  # `inspect` asks all modules.

    def withdraw(self):
        """Let the next import find the package itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def executing_eagerly(self):
        """Call TensorFlow's function; keras_hub looks if there is one."""
        return self.__getattr__("executing_eagerly")()

    def __getattr__(self, name):
        if name == _UNUSED_BASE and sys.modules.get(self.__name__) is self:
            raise AttributeError(name)
        self.withdraw()
        return getattr(importlib.import_module(self.__name__), name)
