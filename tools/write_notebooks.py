"""Write the guides as notebooks, into `guides/notebooks/`.

    python tools/write_notebooks.py

A text between the statements of a guide becomes a cell of text, what is between
two texts a cell of code. Added are a cell that installs the package where it is
missing, and one that shows the image that the guide has written. Notebooks have
no outputs; `tests/notebooks_test.py` compares them with the guides.
"""

import ast
import json
import pathlib

GUIDES = pathlib.Path(__file__).parents[1] / "guides"
NOTEBOOKS = GUIDES / "notebooks"

# In Colab, after the upload or clone of the repository.
INSTALL = """\
# Where the package is missing: the path of the repository, and a backend.
import importlib.util

if importlib.util.find_spec("keras_simple_diffusion") is None:
    %pip install -q "/content/keras_simple_diffusion[jax]"\
"""

SHOW = """\
import IPython.display

IPython.display.Image("{}.png")\
"""


def split(source):
    """Split the source of a guide into texts and code.

    Args:
        source: string, a Python module.

    Returns:
        A list of tuples of a type, `"markdown"` or `"code"`, and a string, in
        order. The first is the header of the guide.
    """
    lines = source.splitlines()
    cells, begin = [], 0

    def add_code(end):
        code = "\n".join(lines[begin:end]).strip("\n")
        if code:
            cells.append(("code", code))

    for node in ast.parse(source).body:
        value = getattr(node, "value", None)
        if isinstance(node, ast.Expr) and isinstance(value, ast.Constant):
            add_code(node.lineno - 1)
            cells.append(("markdown", value.value.strip("\n")))
            begin = node.end_lineno
    add_code(len(lines))
    return cells


def notebook(path):
    """Return the notebook of a guide.

    Args:
        path: `pathlib.Path` of the script.

    Returns:
        A string of JSON, in version 4.5 of the format.
    """
    (_, header), *cells = split(path.read_text())
    about = dict(line.split(": ", 1) for line in header.splitlines())
    title = (
        f"# {about['Title']}\n\n{about['Description']}\n\n"
        f"*Written by `tools/write_notebooks.py` from `guides/{path.name}`.*"
    )
    cells = [
        ("markdown", title),
        ("code", INSTALL),
        *cells,
        ("code", SHOW.format(path.stem)),
    ]
    content = {
        "cells": [_cell(i, *cell) for i, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _cell(number, kind, text):
    code = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {
        "cell_type": kind,
        "id": f"cell-{number}",
        "metadata": {},
        "source": text.splitlines(keepends=True),
        **code,
    }


def main():
    NOTEBOOKS.mkdir(exist_ok=True)
    for path in sorted(GUIDES.glob("*.py")):
        file = NOTEBOOKS / f"{path.stem}.ipynb"
        file.write_text(notebook(path))


if __name__ == "__main__":
    main()
