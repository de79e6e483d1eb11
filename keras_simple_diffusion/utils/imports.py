"""Actions around the import of another package, whoever imports it."""

import importlib.util
import sys


def wrap_import(name, context):
    """Run the first import of a package inside a context.

    Nothing happens if the package has been imported already.

    Args:
        name: string. Name of a package, not of a module inside one.
        context: function without arguments that returns a context manager.
    """
    if name not in sys.modules:
        sys.meta_path.insert(0, _Finder(name, context))


class _Finder:
    """Finder of one package that adds a context to the import."""

    def __init__(self, name, context):
        self.name = name
        self.context = context
        self.is_searching = False

    def find_spec(self, name, path=None, target=None):
        if name != self.name or self.is_searching:
            return None
        self.is_searching = True  # For the other finders to be asked.
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.is_searching = False
        # A package that is looked up need not be imported.
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_in_context(module):
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                with self.context():
                    execute(module)

            spec.loader.exec_module = execute_in_context
        return spec
