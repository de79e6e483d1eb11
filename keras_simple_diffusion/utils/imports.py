"""Changes to the import of another module, whoever imports it."""

import importlib.util
import sys
import threading


def wrap_import(name, context):
    """Run the first import of a module inside a context.

    Nothing happens if the module has been imported already.

    Args:
        name: string. Name of a package or module.
        context: function without arguments that returns a context manager.
    """
    if name not in sys.modules:
        sys.meta_path.insert(0, _ContextFinder(name, context))


def load_lazily(name):
    """Let a module be executed when one of its names is first used.

    Nothing happens if the module has been imported already.

    Args:
        name: string. Name of a package or module.
    """
    if name not in sys.modules:
        sys.meta_path.insert(0, _LazyFinder(name))


class _Finder:
    """Finder of one module that changes how it is loaded."""

    def __init__(self, name):
        self.name = name
        self.is_searching = False

    def find_spec(self, name, path=None, target=None):
        if name != self.name or self.is_searching:
            return None
        self.is_searching = True  # For the other finders to be asked.
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.is_searching = False
        if spec is not None and spec.loader is not None:
            self.change(spec)
        return spec


class _ContextFinder(_Finder):
    """Finder of one module that adds a context to the import."""

    def __init__(self, name, context):
        super().__init__(name)
        self.context = context

    def change(self, spec):
        execute = spec.loader.exec_module

        def execute_in_context(module):
            # A module that is looked up need not be imported.
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            with self.context():
                execute(module)

        spec.loader.exec_module = execute_in_context


class _LazyFinder(_Finder):
    """Finder of one module that is executed when it is used."""

    def change(self, spec):
        execute = spec.loader.exec_module
        lock = threading.RLock()
        begun = []

        def execute_later(module):
            def find(name):
                # `inspect` asks every module for such names.
                if name.startswith("__") and name != "__all__":
                    raise AttributeError(name)
                with lock:
                    if not begun:
                        begun.append(True)  # It may ask for names itself.
                        execute(module)
                    if name in vars(module):
                        return vars(module)[name]
                raise AttributeError(
                    f"module {module.__name__!r} has no attribute {name!r}"
                )

            module.__getattr__ = find

        spec.loader.exec_module = execute_later
