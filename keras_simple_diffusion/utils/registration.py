"""Registration of the package's classes with Keras, without importing Keras.

`keras_hub.models.Backbone.from_preset(folder)` finds a class by the name under
which it is registered, and a class is registered when its module is imported.
Importing ours takes seconds, because it imports Keras. The help of the command
line and the processes that read images must not wait for that, so our classes
are imported right after keras_hub, whoever imports it.
"""

import importlib
import importlib.util
import sys


def register_with_keras():
    """Import the package's models now, or as soon as keras_hub is imported."""
    if "keras_hub" in sys.modules:
        _import_models()
    else:
        sys.meta_path.insert(0, _KerasHubFinder())


class _KerasHubFinder:
    """Finder of keras_hub that adds the import of our models to its own."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras_hub":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                execute(module)
                _import_models()

            spec.loader.exec_module = execute_and_register
        return spec


def _import_models():
    # They import all other classes that are registered.
    importlib.import_module("keras_simple_diffusion.models")
