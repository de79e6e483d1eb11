"""The README's example runs as written, and links lead somewhere."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.any_backend

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
DOCS = README.parent / "docs"


def test_python_example_runs(tmp_path):
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    example = examples[0]
    assert len(example.strip().splitlines()) <= 25
    assert "epochs=5" in example
    example = example.replace("epochs=5", "epochs=1")
    result = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("*.png"))


def test_images_are_there():
    for name in re.findall(r"!\[.*?\]\((.*?)\)", README.read_text()):
        assert (README.parent / name).is_file(), name


def test_the_index_names_every_page():
    linked = re.findall(r"\]\((\w+\.md)\)", (DOCS / "README.md").read_text())
    pages = {page.name for page in DOCS.glob("*.md")}
    assert set(linked) == pages - {"README.md"}


def anchors(path):
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", each.lower()) for each in headings]
    return {each.strip().replace(" ", "-") for each in words}


def test_links_between_pages_lead_somewhere():
    for page in [README, *DOCS.glob("*.md")]:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            place, _, anchor = link.partition("#")
            if "://" in link:
                continue
            target = page.parent / place if place else page
            assert target.exists(), (page.name, link)
            if anchor:
                assert anchor in anchors(target), (page.name, link)
