"""The import direction: data flows one way through the package."""

import ast
import pathlib

import pytest

import keras_simple_diffusion as ksd

pytestmark = pytest.mark.any_backend

PACKAGE = pathlib.Path(ksd.__file__).parent

# What each folder may import of the others. `version.py` and `utils` may be
# imported by all.
ALLOWED = {
    "utils": set(),
    "ops": set(),
    "schedules": {"ops"},
    "losses": {"ops", "schedules"},
    "layers": {"ops"},
    "optimizers": {"distribution", "ops"},
    "distribution": set(),
    "samplers": {"ops", "schedules"},
    "models": {
        "distribution",
        "layers",
        "losses",
        "ops",
        "optimizers",
        "samplers",
        "schedules",
        "text",
    },
    "text": set(),
    "data": set(),
    "metrics": {"distribution", "models", "ops", "schedules"},
    "evaluation": {"data", "distribution", "metrics"},
    "training": {
        "data",
        "distribution",
        "evaluation",
        "metrics",
        "models",
        "optimizers",
        "schedules",
        "text",
    },
    "cli": {
        "data",
        "distribution",
        "evaluation",
        "metrics",
        "models",
        "optimizers",
        "samplers",
        "training",
    },
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_folder_has_a_rule():
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert folders == set(ALLOWED)


@pytest.mark.parametrize(
    "path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES]
)
def test_import_direction(path):
    parts = path.relative_to(PACKAGE).parts
    if len(parts) == 1:
        return
    allowed = ALLOWED[parts[0]] | {parts[0], "utils", "version"}
    for name in imports_of(path):
        if name.startswith("keras_simple_diffusion."):
            assert name.split(".")[1] in allowed, f"{path} imports {name}"


@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_backends_are_imported_in_few_places_only(backend):
    users = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(name.split(".")[0] == backend for name in imports_of(path))
    }
    assert users <= {
        "distribution/native.py",
        "metrics/inception_weights.py",
        "models/compilation.py",
        "ops/fused.py",
        "utils/backend.py",
    }


def test_files_are_small():
    long = {p.name for p in FILES if len(p.read_text().splitlines()) > 400}
    assert not long


def _public():
    for namespace in set(ksd.__all__) - {"__version__"}:
        module = getattr(ksd, namespace)
        for name in dir(module):
            member = getattr(module, name)
            if callable(member) and not name.startswith("_"):
                yield f"{namespace}.{name}", member


PUBLIC = dict(sorted(_public()))


@pytest.mark.parametrize("name, member", PUBLIC.items(), ids=PUBLIC.keys())
def test_public_names_are_documented(name, member):
    doc = member.__doc__ or ""
    first_line = doc.split("\n")[0]
    assert first_line.endswith((".", "`.")), f"{name}: {first_line!r}"
