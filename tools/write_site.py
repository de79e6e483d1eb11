"""Collect the pages of the site, into `build/pages/`.

    python tools/write_site.py

`mkdocs build` makes the site of them, see `mkdocs.yml` and `make docs`. The
folder is laid out as the repository, so that links between files hold: pages
and images are copied, guides become pages with their images, and the reference
is written from the package itself: a page for each namespace, one for the
command line, and one for the presets. Keras need not be installed.
"""

import ast
import functools
import json
import pathlib
import re
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_simple_diffusion"
PAGES = ROOT / "build" / "pages"

sys.path.insert(0, str(ROOT))

from tools.write_notebooks import split  # noqa: E402

# Copied as they are. Further files are copied if a page links to them.
COPIED = ("*.md", "docs/**/*.*", "guides/*.png")
CARDS = "keras_simple_diffusion/presets/*/README.md"
LINK = re.compile(r"(\]\()([^)\s#:]+)([^)\s]*\))")


def namespaces():
    """Return the public names of each namespace, read from its source.

    Returns:
        A dict from namespaces to sorted lists of names.
    """
    (names,) = _assigned(PACKAGE / "__init__.py", "_NAMESPACES")
    return {
        name: sorted(_assigned(PACKAGE / name / "__init__.py", "__all__")[0])
        for name in names
    }


def _assigned(path, variable):
    return [
        ast.literal_eval(node.value)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id == variable
    ]


def identifier(namespace, name):
    """Return the path by which a public name is found, which is its anchor."""
    # `utils` imports its names when they are used, which Griffe does not see.
    place = "utils.sheets" if namespace == "utils" else namespace
    return f"keras_simple_diffusion.{place}.{name}"


def api_page(namespace, names):
    """Write the reference of a namespace, for mkdocstrings to fill in.

    Args:
        namespace: string.
        names: list of strings, its public names.

    Returns:
        A string of Markdown.
    """
    summary = ast.get_docstring(
        ast.parse((PACKAGE / namespace / "__init__.py").read_text())
    )
    blocks = [
        f"# {namespace}",
        f"For those who write Python: all public names of `ksd.{namespace}`.",
        summary,
    ]
    blocks += [f"::: {identifier(namespace, name)}" for name in names]
    return "\n\n".join(blocks) + "\n"


def python_page():
    """Write the page above those of the namespaces.

    Returns:
        A string of Markdown.
    """
    rows = []
    for namespace in namespaces():
        source = (PACKAGE / namespace / "__init__.py").read_text()
        summary = ast.get_docstring(ast.parse(source)).splitlines()[0]
        rows.append(f"| [`ksd.{namespace}`]({namespace}.md) | {summary} |")
    return "\n".join(
        [
            "# Python",
            "",
            "For those who write Python: the namespaces of "
            "`import keras_simple_diffusion as ksd`, each with all its names.",
            "",
            "| | |",
            "|---|---|",
            *rows,
            "",
            "All of them raise one error for what a caller can mend:",
            "",
            "::: keras_simple_diffusion.InputError",
            "",
        ]
    )


def command_page():
    """Write the reference of the command line from its help.

    Returns:
        A string of Markdown.
    """
    from typer.main import get_command

    from keras_simple_diffusion.cli import command_line

    blocks = [
        "# Command line",
        "For those who work in a terminal: each command with all options, as "
        "`keras-simple-diffusion COMMAND --help` prints them.",
    ]
    for name, command in get_command(command_line()).commands.items():
        blocks += [f"## {name}", _escape(command.help)]
        title, *examples = (command.epilog or "").splitlines()
        lines = "\n".join(line.strip() for line in examples)
        blocks.append(f"```\n{lines}\n```")
        context = command.context_class(command, info_name=name)
        rows, group = [], None
        for option in command.params:
            record = option.get_help_record(context)
            if record is None:
                continue
            title = getattr(option, "rich_help_panel", None) or "Options"
            if title != group:
                rows.append(f"| **{title}** | |")
                group = title
            flags, text = record
            rows.append(f"| `{flags}` | {_escape(text)} |")
        blocks.append("\n".join(["| | |", "|---|---|", *rows]))
    return "\n\n".join(blocks) + "\n"


def _escape(text):
    text = " ".join(text.replace("|", "\\|").split())
    return re.sub(r"([<\[\]*_])", r"\\\1", text)


def preset_page():
    """Write the table of built-in presets from their metadata.

    Returns:
        A string of Markdown.
    """
    rows = []
    for path in sorted(PACKAGE.glob("presets/*/metadata.json")):
        facts = json.loads(path.read_text())
        name = f"`{path.parent.name}`"
        if (path.parent / "README.md").exists():
            card = path.parent.relative_to(ROOT) / "README.md"
            name = f"[{name}](../{card.as_posix()})"
        weights = "yes" if list(path.parent.glob("*.h5")) else ""
        rows.append(
            f"| {name} | {facts['description']} | {weights} "
            f"| {facts['parameter_count'] / 1e6:,.1f} "
            f"| {facts['macs'] / 1e9:,.2f} |"
        )
    return "\n".join(
        [
            "# Presets",
            "",
            "For those who choose a network: all built-in presets, with links "
            "to the model cards of those that have weights. "
            "[Built-in configurations](../docs/presets.md) explains them.",
            "",
            "| preset | | weights | parameters (M) | cost of an image and "
            "step (GMACs) |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def guide_page(path):
    """Write a guide as a page: its texts, its code, and its image.

    Args:
        path: `pathlib.Path` of the script.

    Returns:
        A string of Markdown.
    """
    (_, header), *cells = split(path.read_text())
    about = dict(line.split(": ", 1) for line in header.splitlines())
    blocks = [
        f"# {about['Title']}",
        f"For those who learn by running. {about['Description']} "
        f"`python guides/{path.name}` runs it offline on every backend; "
        f"[as a notebook](notebooks/{path.stem}.ipynb).",
    ]
    for kind, text in cells:
        blocks.append(text if kind == "markdown" else f"```python\n{text}\n```")
    blocks += ["## The image that it writes", f"![]({path.stem}.png)"]
    return "\n\n".join(blocks) + "\n"


def finding_page(path):
    """Write a script of `findings/` as a page: its comment, then all of it.

    Args:
        path: `pathlib.Path` of the script.

    Returns:
        A string of Markdown.
    """
    title, text = finding(path)
    return (
        f"# {title}\n\nFor those who use this library or write a similar one; "
        f"`bash findings/{path.name}` shows it.\n\n{text}\n\n"
        f"```bash\n{path.read_text()}```\n"
    )


def finding(path):
    """Return the title of a script of `findings/`, and its explanation.

    Args:
        path: `pathlib.Path` of the script.

    Returns:
        A tuple of strings: the first sentence of its comment, and the rest in
        Markdown.
    """
    lines = path.read_text().splitlines()[1:]
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line[2:])
    text = "\n".join(comment)
    title, _, text = text.partition("\n\n")
    text, _, output = text.partition("\nExpected output")
    heading, _, output = output.partition("\n")
    text += f"\nExpected output{heading}\n\n```\n{output}\n```"
    return " ".join(title.split()), text


def surprises_page():
    """Write the page of all findings, with the consequences for this library.

    Returns:
        A string of Markdown.
    """
    readme = (ROOT / "findings" / "README.md").read_text()
    ours = dict(re.findall(r"^\| `(\w+\.sh)` \| (.*) \|$", readme, re.M))
    rows = []
    for path in sorted((ROOT / "findings").glob("*.sh")):
        title, _ = finding(path)
        rows.append(
            f"| [{title}]({path.stem}.md) | {ours.get(path.name, '')} |"
        )
    return "\n".join(
        [
            "# What surprised us",
            "",
            "For those who use these libraries, with this one or without: "
            "behaviour that we did not expect, and our answer to it.",
            "",
            "Each line has a script that shows the behaviour with pinned "
            "packages, without this library, and fails if it has changed. "
            "[Traps](../docs/traps.md) lists those of the field itself.",
            "",
            "| surprise | this library |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def site():
    """Return the pages that are written, not copied.

    Returns:
        A dict from paths to strings of Markdown.
    """
    pages = {
        "reference/command_line.md": command_page(),
        "reference/presets.md": preset_page(),
        "reference/python.md": python_page(),
        "findings/README.md": surprises_page(),
    }
    for namespace, names in namespaces().items():
        pages[f"reference/{namespace}.md"] = api_page(namespace, names)
    for path in sorted((ROOT / "guides").glob("*.py")):
        pages[f"guides/{path.stem}.md"] = guide_page(path)
    for path in sorted((ROOT / "findings").glob("*.sh")):
        pages[f"findings/{path.stem}.md"] = finding_page(path)
    return pages


def main():
    shutil.rmtree(PAGES, ignore_errors=True)
    for pattern in (*COPIED, CARDS):
        for path in ROOT.glob(pattern):
            _copy(path)
    shutil.copytree(ROOT / "tools" / "site", PAGES, dirs_exist_ok=True)
    for place, text in site().items():
        target = PAGES / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for page in list(PAGES.rglob("*.md")):
        follow = functools.partial(_follow, page)
        page.write_text(LINK.sub(follow, page.read_text()))


def _copy(path):
    target = PAGES / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)


def _follow(page, found):
    """Point a link at the page of a script, or copy the file it names."""
    begin, place, end = found.groups()
    target = (page.parent / place).resolve()
    if target.with_suffix(".md").exists():
        return begin + re.sub(r"\.(py|sh)$", ".md", place) + end
    source = ROOT / target.relative_to(PAGES)
    if source.is_file() and not target.exists():
        _copy(source)
    return found[0]


if __name__ == "__main__":
    main()
