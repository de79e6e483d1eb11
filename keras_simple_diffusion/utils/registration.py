"""Registration of the package's classes with Keras, without importing Keras.

`keras_hub.models.Backbone.from_preset(folder)` finds a class by the name under
which it is registered, and a class is registered when its module is imported.
Importing ours takes seconds, because it imports Keras. The help of the command
line and the processes that read images must not wait for that, so our classes
are imported right after keras_hub, whoever imports it.
"""

import contextlib
import importlib
import sys

from keras_simple_diffusion.utils.imports import wrap_import


def register_with_keras():
    """Import the package's models now, or as soon as keras_hub is imported."""
    if "keras_hub" in sys.modules:
        _import_models()
    else:
        wrap_import("keras_hub", _then_import_models)


@contextlib.contextmanager
def _then_import_models():
    yield
    _import_models()


def _import_models():
    # They import all other classes that are registered.
    importlib.import_module("keras_simple_diffusion.models")
