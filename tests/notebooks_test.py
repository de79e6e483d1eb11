"""The notebooks are the guides, which `guides_test.py` runs."""

import ast
import json

import pytest

from tools.write_notebooks import GUIDES
from tools.write_notebooks import INSTALL
from tools.write_notebooks import NOTEBOOKS
from tools.write_notebooks import notebook

pytestmark = pytest.mark.any_backend

PATHS = sorted(GUIDES.glob("*.py"))


@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_a_notebook_is_its_guide(path):
    """If this fails, run `make notebooks`."""
    written = (NOTEBOOKS / f"{path.stem}.ipynb").read_text()
    assert written == notebook(path)
    cells = json.loads(written)["cells"]
    _, install, *cells, show = cells
    assert "".join(install["source"]) == INSTALL
    assert f'"{path.stem}.png"' in "".join(show["source"])
    # Texts between statements, put back, give the script.
    body = []
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            body.append(("text", source.strip()))
        else:
            body += [("code", ast.unparse(x)) for x in ast.parse(source).body]
    expected = []
    for node in ast.parse(path.read_text()).body[1:]:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            expected.append(("text", node.value.value.strip()))
        else:
            expected.append(("code", ast.unparse(node)))
    assert body == expected


def test_there_is_no_notebook_without_guide():
    names = {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
    assert names == {path.stem for path in PATHS}


def test_the_format_is_valid():
    nbformat = pytest.importorskip("nbformat")
    for path in NOTEBOOKS.glob("*.ipynb"):
        nbformat.validate(nbformat.read(path, as_version=4))
