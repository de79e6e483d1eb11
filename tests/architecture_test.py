"""Rules of the package as a whole, read from its source."""

import ast
import graphlib
import importlib
import inspect
import pathlib

import keras
import pytest

import keras_simple_diffusion as ksd

pytestmark = pytest.mark.any_backend

PACKAGE = pathlib.Path(ksd.__file__).parent
NAME = ksd.__name__

# Folders from below: each imports only from itself and from lower lines.
LAYERS = (
    ("utils",),
    ("backend",),
    ("ops",),
    ("schedules",),
    ("distribution", "layers", "losses", "optimizers", "samplers", "text"),
    ("generation",),
    ("models",),
    ("converters", "data", "distillation", "metrics"),
    ("evaluation",),
    ("training",),
    ("app", "export"),
    ("cli",),
)
INTERNALS = "backend/keras_internals.py"
# Reads a file of PyTorch's, whatever the backend.
READS_TORCH_FILES = "utils/tensor_files.py"
# Is copied into exported folders, and runs there by itself.
RUNS_ALONE = "export/draw.py"


def read_package():
    """Parse all modules, as a dict from relative paths to trees."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = read_package()


def imports_of(tree):
    """Yield the dotted names that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# === The rules: each yields its offenders in one module ===


def upward_imports(path, tree):
    level = {name: i for i, names in enumerate(LAYERS) for name in names}
    folder = path.split("/")[0]
    if folder not in level:
        return  # A file of the package itself.
    for name in imports_of(tree):
        package, _, rest = name.partition(".")
        other = rest.split(".")[0]
        if package == NAME and other not in (folder, "version"):
            if level.get(other, len(level)) >= level[folder]:
                yield f"{path} imports {name}"


def backend_questions(path, tree):
    if path.startswith("backend/") or path == RUNS_ALONE:
        return
    for name in imports_of(tree):
        is_library = name.split(".")[0] in ("jax", "tensorflow", "torch")
        if is_library and path != READS_TORCH_FILES:
            yield f"{path} imports {name}"
        if name.endswith(".configured_backend"):
            yield f"{path} imports {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (
            ast.unparse(node).endswith(("config.backend", "backend.backend"))
        ):
            yield f"{path}:{node.lineno} asks {ast.unparse(node)}"
        if isinstance(node, ast.Constant) and node.value == "KERAS_BACKEND":
            yield f"{path}:{node.lineno} reads KERAS_BACKEND"


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def names_defined_in(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) == "self":
                yield node.attr


OWN_NAMES = {
    name for tree in MODULES.values() for name in names_defined_in(tree)
}


def foreign_private_names(path, tree):
    """Find private names of other libraries.

    An object other than `self` may also be of a class in the same file.
    """
    if path == INTERNALS:
        return
    for name in imports_of(tree):
        if ".src." in name:
            yield f"{path} imports {name}"
    in_file = set(names_defined_in(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            is_self = ast.unparse(node.value) in ("self", "cls", "super()")
            if node.attr not in in_file | (OWN_NAMES if is_self else set()):
                yield f"{path}:{node.lineno} uses {ast.unparse(node)}"
        if isinstance(node, ast.Call) and len(node.args) > 1:
            name = node.args[1]
            if (
                ast.unparse(node.func) in ("getattr", "hasattr", "setattr")
                and isinstance(name, ast.Constant)
                and is_private(name.value)
            ):
                yield f"{path}:{node.lineno} uses {ast.unparse(node)}"


def offenders(rule):
    return [x for path, tree in MODULES.items() for x in rule(path, tree)]


@pytest.mark.parametrize(
    "rule", [upward_imports, backend_questions, foreign_private_names]
)
def test_rule(rule):
    assert not offenders(rule)


@pytest.mark.parametrize(
    "rule, source",
    [
        (upward_imports, "from keras_simple_diffusion.models.cost import x"),
        (upward_imports, "def f():\n import keras_simple_diffusion.layers.a"),
        (upward_imports, "from keras_simple_diffusion import training"),
        (upward_imports, "from keras_simple_diffusion import no_such_folder"),
        (backend_questions, "import torch"),
        (backend_questions, "def f():\n from jax import numpy"),
        (backend_questions, "x = keras.config.backend() == 'torch'"),
        (backend_questions, "ask = config.backend"),
        (backend_questions, "os.environ.get('KERAS_BACKEND')"),
        (
            backend_questions,
            "from keras_simple_diffusion.backend.choice import "
            "configured_backend",
        ),
        (foreign_private_names, "from keras.src.backend import x"),
        (foreign_private_names, "import keras_hub.src.utils"),
        (foreign_private_names, "x = variable._value"),
        (foreign_private_names, "variable._value = x"),
        (foreign_private_names, "class A(B):\n def f(self): self._unknown()"),
        (foreign_private_names, "getattr(variable, '_layout', None)"),
    ],
)
def test_rules_find_offenders(rule, source):
    assert list(rule("losses/bad.py", ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "from keras_simple_diffusion.ops.diffusion import diffuse",
        "from keras_simple_diffusion.losses.level_loss import LevelLoss",
        "from keras_simple_diffusion.backend.native import backend_name",
        "raise InputError('set KERAS_BACKEND=jax')",
        "class A:\n def f(self, o): self._x = o._x",
        "x = keras.backend.result_type('int8')",
    ],
)
def test_rules_allow_the_rest(source):
    for rule in (upward_imports, backend_questions, foreign_private_names):
        assert not list(rule("losses/good.py", ast.parse(source)))


def test_every_folder_has_a_layer():
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert folders == {name for names in LAYERS for name in names}


def import_graph(modules):
    """Map each module to those of the package that it imports."""

    def module_of(name):
        path = name.removeprefix(f"{NAME}.").replace(".", "/")
        parent = path.rpartition("/")[0]
        ends = (".py", "/__init__.py")
        candidates = (f"{p}{end}" for p in (path, parent) for end in ends)
        return next((c for c in candidates if c in modules), None)

    return {
        path: {
            module_of(name)
            for name in imports_of(tree)
            if name.startswith(f"{NAME}.")
        }
        - {None}
        for path, tree in modules.items()
        if not path.endswith("__init__.py")
    }


def test_no_module_imports_itself_by_way_of_others():
    graphlib.TopologicalSorter(import_graph(MODULES)).prepare()
    circle = {
        "ops/a.py": ast.parse(f"from {NAME}.ops.b import x"),
        "ops/b.py": ast.parse(f"def f():\n from {NAME}.ops.a import y"),
    }
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(import_graph(circle)).prepare()


def test_files_are_short():
    long = [
        path
        for path in MODULES
        if len((PACKAGE / path).read_text().splitlines()) > 600
    ]
    assert not long


# === Classes ===


def own_classes():
    for path in MODULES:
        if path.startswith(("cli/", "__main__")):
            continue
        parts = pathlib.PurePath(path).with_suffix("").parts
        parts = [part for part in parts if part != "__init__"]
        module = importlib.import_module(".".join((NAME, *parts)))
        for _, member in inspect.getmembers(module, inspect.isclass):
            if member.__module__ == module.__name__:
                yield member


def overridden_private_names(cls):
    """List private names of foreign base classes that a class redefines."""
    foreign = [c for c in cls.__mro__ if not c.__module__.startswith(NAME)]
    inherited = {name for c in foreign for name in vars(c)}
    return [
        f"{cls.__module__}.{cls.__name__}.{name}"
        for name in vars(cls)
        if is_private(name) and name in inherited
        # Python keeps these in each class with abstract methods.
        if not name.startswith("_abc_")
    ]


def test_private_methods_are_overridden_in_one_place():
    names = [
        name
        for cls in own_classes()
        if cls.__module__ != f"{NAME}.backend.keras_internals"
        for name in overridden_private_names(cls)
    ]
    assert not names


def test_an_overridden_private_method_is_found():
    class Quantized(keras.layers.Dense):
        def _int8_build(self):
            pass

        def _without_a_namesake(self):
            pass

    Quantized.__module__ = f"{NAME}.layers.bad"
    found = overridden_private_names(Quantized)
    assert any(name.endswith("Quantized._int8_build") for name in found)
    assert not any(name.endswith("_namesake") for name in found)
