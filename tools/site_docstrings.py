"""Docstrings as the site shows them: an extension of Griffe, see `mkdocs.yml`.

Griffe reads docstrings from the source and not from the imported package. This
fills in what the package inserts when it is imported, the arguments that
several classes or methods share, and translates the headings of Keras's
docstrings into those that Griffe knows.
"""

import ast
import inspect
import pathlib
import re
import textwrap

import griffe

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "keras_simple_diffusion"

SECTION = re.compile(
    r"^([A-Z][a-z ]+):\n(.*?)(?=^[A-Z][a-z ]+:\n|\Z)",
    re.MULTILINE | re.DOTALL,
)


def shared_arguments():
    """Return the text that stands for each placeholder.

    Returns:
        A dict from placeholders to lines without indentation.
    """
    path = PACKAGE / "models" / "multilevel_backbone.py"
    texts = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    path = PACKAGE / "generation" / "arguments.py"
    options = next(
        ast.get_docstring(node)
        for node in ast.parse(path.read_text()).body
        if getattr(node, "name", "") == "SamplingOptions"
    )
    return {
        "{first_arguments}": textwrap.dedent(texts["_FIRST_ARGUMENTS"]),
        "{last_arguments}": textwrap.dedent(texts["_LAST_ARGUMENTS"]),
        "{options}": textwrap.dedent(options.partition("Args:\n")[2]),
    }


def complete(text, shared):
    """Return a docstring with all its arguments, and Griffe's headings.

    Args:
        text: string.
        shared: dict, see `shared_arguments`.

    Returns:
        A string.
    """
    for placeholder, lines in shared.items():
        lines = textwrap.indent(lines.strip(), "    ")
        text = text.replace(f"    {placeholder}", lines)
    return SECTION.sub(_translate, text)


def _translate(section):
    """Write a section of a docstring of Keras in the form of Griffe."""
    title, body = section.groups()
    if title == "Call arguments":
        return f"Other Args: {title}\n{body}"
    if title == "Example":
        body = textwrap.dedent(body)
        if body.startswith(">>>"):
            body = f"```python\n{body.rstrip()}\n```\n\n"
    elif title in ("Returns", "References"):
        body = textwrap.dedent(body)
    else:
        return section[0]
    return f"**{title}**\n\n{body}"


class CompleteDocstrings(griffe.Extension):
    """Completes each docstring as soon as it is read."""

    def __init__(self):
        super().__init__()
        self.shared = shared_arguments()

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            text = inspect.cleandoc(obj.docstring.value)
            obj.docstring.value = complete(text, self.shared)
