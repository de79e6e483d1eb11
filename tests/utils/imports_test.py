"""Imports that are changed."""

import importlib
import sys

import pytest

from keras_simple_diffusion.utils.imports import load_lazily


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The name of a package whose execution is written to a file."""
    folder = tmp_path / "some_lazy_package"
    folder.mkdir()
    (folder / "part.py").write_text("value = 1")
    (folder / "__init__.py").write_text(
        "import pathlib\n"
        "from some_lazy_package import part\n"
        f"pathlib.Path({str(tmp_path / 'log')!r}).open('a').write('x')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    yield folder.name
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


@pytest.mark.any_backend
def test_a_lazy_module_is_executed_once_when_it_is_used(package, tmp_path):
    load_lazily(package)
    module = importlib.import_module(package)
    assert module.__file__.endswith("__init__.py")
    assert not hasattr(module, "__warningregistry__")  # As `inspect` asks.
    assert not (tmp_path / "log").exists()
    assert module.part.value == 1
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        module.absent  # noqa: B018
    assert (tmp_path / "log").read_text() == "x"


@pytest.mark.any_backend
def test_a_part_of_a_lazy_package_can_be_imported(package, tmp_path):
    load_lazily(package)
    part = importlib.import_module(f"{package}.part")
    assert part.value == 1
