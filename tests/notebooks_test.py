"""The notebooks are the guides, and run in Jupyter's kernel."""

import ast
import base64
import io
import json
import pathlib

import PIL.Image
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


@pytest.fixture
def execute(monkeypatch, tmp_path):
    """Function that runs a notebook in a kernel, in a temporary folder."""
    nbclient = pytest.importorskip("nbclient", reason="needs make test-app")
    pytest.importorskip("ipykernel")
    root = str(pathlib.Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", root)
    monkeypatch.setenv("KSD_GUIDE_FAST", "1")

    def run(content):
        folder = {"metadata": {"path": str(tmp_path)}}
        # On a busy machine a kernel takes more than a minute to answer.
        client = nbclient.NotebookClient(
            content, timeout=None, startup_timeout=600, resources=folder
        )
        client.execute()
        return content.cells

    return run


@pytest.mark.large
@pytest.mark.filterwarnings("ignore")  # Of Jupyter.
@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_a_notebook_runs_in_its_fast_mode(path, execute, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    content = nbformat.read(NOTEBOOKS / f"{path.stem}.ipynb", as_version=4)
    cells = execute(content)
    image = (tmp_path / f"{path.stem}.png").read_bytes()
    (shown,) = cells[-1].outputs
    assert base64.b64decode(shown.data["image/png"]) == image


@pytest.mark.large
@pytest.mark.filterwarnings("ignore")  # Of Jupyter.
def test_a_notebook_displays_models_and_sheets(execute):
    nbformat = pytest.importorskip("nbformat")
    sources = (
        "from tests.helpers.models import make_model\n"
        "from keras_simple_diffusion.utils import show\n"
        "model = make_model(class_names=['ship', 'cat', 'dog'])",
        "model",
        "show(model.generate(labels=[0, 1], seed=0, num_steps=1), columns=2)",
    )
    content = nbformat.v4.new_notebook()
    content.cells = [nbformat.v4.new_code_cell(each) for each in sources]
    _, (model,), (sheet,) = [cell.outputs for cell in execute(content)]
    assert "<td>3: ship, cat, dog</td>" in model.data["text/html"]
    file = io.BytesIO(base64.b64decode(sheet.data["image/png"]))
    with PIL.Image.open(file) as image:
        assert image.width > image.height
