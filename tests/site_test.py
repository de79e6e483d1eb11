"""The site's pages hold every public name, command and guide."""

import ast
import pathlib
import re
import shlex

import pytest
import typer.main

import keras_simple_diffusion as ksd
from keras_simple_diffusion.cli import command_line
from tools import check_site
from tools import write_site

pytestmark = pytest.mark.any_backend

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CARDS = sorted(ROOT.glob(write_site.CARDS))
NAME = "keras-simple-diffusion "
COMMANDS = typer.main.get_command(command_line()).commands


@pytest.fixture(scope="module")
def site():
    return write_site.site()


def test_every_public_name_has_an_entry(site):
    for namespace in ksd._NAMESPACES:
        page = site[f"reference/{namespace}.md"]
        names = re.findall(r"^::: \S+\.(\w+)$", page, re.MULTILINE)
        assert names == sorted(dir(getattr(ksd, namespace))), namespace


def test_every_option_has_a_line(site):
    page = site["reference/command_line.md"]
    for name, command in COMMANDS.items():
        part = page.split(f"## {name}\n")[1].split("\n## ")[0]
        for option in command.params:
            assert f"`{option.opts[0]}" in part, (name, option.opts)


def test_every_page_begins_with_its_readers(site):
    pages = {path.name: path.read_text() for path in PAGES[1:]}
    for name, text in {**pages, **site}.items():
        title, blank, second = text.splitlines()[:3]
        assert title.startswith("# ") and not blank, name
        assert second.startswith("For those "), (name, second)


def test_every_page_is_in_the_navigation(site):
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1]
    copied = [path.relative_to(ROOT).as_posix() for path in PAGES]
    for page in [*copied, *site]:
        found = f" {page}\n" in navigation
        assert found or page.startswith("findings/"), page


def test_every_finding_is_explained(site):
    page = site["findings/README.md"]
    scripts = sorted((ROOT / "findings").glob("*.sh"))
    for path in scripts:
        (row,) = [r for r in page.splitlines() if f"({path.stem}.md)" in r]
        _, surprise, ours, _ = re.split(r"(?<!\\)\|", row)
        assert len(surprise.strip()) > 30 and len(ours.strip()) > 10, path


def blocks(path, *languages):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.M | re.S)
    return [text for language, text in found if language in languages]


def commands():
    """Commands of the pages, without comments and what follows a pipe."""
    for path in [*PAGES, *CARDS]:
        for block in blocks(path, "", "shell"):
            for line in block.replace("\\\n", " ").splitlines():
                before, command, rest = line.partition(NAME)
                if command and re.fullmatch(r"(\w+=\S+ )*", before):
                    words = shlex.split(rest.replace("...", ""), comments=True)
                    yield path.name, words


def test_commands_of_the_pages_are_understood():
    number = 0
    for page, (name, *arguments) in commands():
        if name.startswith("-"):
            continue
        assert name in COMMANDS, (page, name)
        try:
            COMMANDS[name].make_context(name, list(arguments))
        except Exception as error:
            pytest.fail(f"{page}: {name} {arguments}: {error}")
        number += 1
    assert number > 60


def test_python_of_the_pages_uses_public_names():
    number = 0
    for path in [*PAGES, *CARDS]:
        for block in blocks(path, "python"):
            for node in ast.walk(ast.parse(block)):
                if not isinstance(node, ast.Attribute):
                    continue
                name = ast.unparse(node)
                if re.fullmatch(r"ksd\.\w+\.\w+", name):
                    _, namespace, member = name.split(".")
                    public = dir(getattr(ksd, namespace))
                    assert member in public, (path.name, name)
                    number += 1
    assert number > 30


def test_traps_name_tests_that_exist():
    text = (ROOT / "docs" / "traps.md").read_text()
    rows = re.findall(r"^\| [^-|].*\|$", text, re.MULTILINE)
    named = re.findall(r"\| `(tests/[\w/]+\.py)::(\w+)` \|$", text, re.M)
    headings = text.count("| trap |")
    assert len(named) == len(rows) - headings >= 15
    for path, name in named:
        assert f"\ndef {name}(" in (ROOT / path).read_text(), (path, name)


def test_faults_of_a_site_are_found(tmp_path):
    for namespace, names in write_site.namespaces().items():
        page = tmp_path / "reference" / f"{namespace}.html"
        page.parent.mkdir(exist_ok=True)
        page.write_text(
            "".join(
                f'<h2 id="{write_site.identifier(namespace, name)}"></h2>'
                for name in names
            )
        )
    index = tmp_path / "index.html"
    index.write_text(
        '<a href="reference/ops.html#keras_simple_diffusion.ops.dwt2">'
    )
    assert check_site.find_faults(tmp_path) == (1, [])
    index.write_text(
        '<a href="gone.html"><a href="reference/ops.html#gone">'
        '<script src="https://example.org/a.js"></script>'
        '<a href="https://example.org">'
    )
    (tmp_path / "reference" / "utils.html").write_text(
        '<h2 id="keras_simple_diffusion.utils.sheets.show"></h2>'
    )
    number, faults = check_site.find_faults(tmp_path)
    assert number == 2
    assert sorted(faults) == [
        "index.html: gone.html is not there",
        "index.html: loads https://example.org/a.js",
        "index.html: reference/ops.html#gone has no such anchor",
        "reference/utils.html: no entry of to_pil",
    ]
