"""Check the built site: links, anchors, images, and public names.

    python tools/check_site.py

Reads the pages in `site/`. Each link within the site leads to a file and, with
an anchor, to an element of that name; nothing is loaded from elsewhere; and
each public name has an entry of the reference. Exits with status 1 otherwise.
"""

import html.parser
import pathlib
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
SITE = ROOT / "site"

sys.path.insert(0, str(ROOT))

from tools.write_site import identifier  # noqa: E402
from tools.write_site import namespaces  # noqa: E402


class Page(html.parser.HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given.get("id"), given.get("name")}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        self.loaded += [given["src"]] if given.get("src") else []
        if tag == "link" and given.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(given["href"])


def find_faults(site):
    """Find what is wrong with a site.

    Args:
        site: `pathlib.Path` of its folder.

    Returns:
        A tuple of the number of links and a list of strings.
    """
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    faults, number = [], 0
    for path, page in pages.items():
        name = path.relative_to(site)
        for link in page.links + page.loaded:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    faults.append(f"{name}: loads {link}")
                continue
            number += 1
            place = urllib.parse.unquote(parts.path)
            target = (path.parent / place).resolve() if place else path
            # The page of a wrong address is served from any folder.
            if path.name == "404.html":
                target = site / place.lstrip("/")
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                faults.append(f"{name}: {link} is not there")
            elif parts.fragment and target in pages:
                anchor = urllib.parse.unquote(parts.fragment)
                if anchor not in pages[target].anchors:
                    faults.append(f"{name}: {link} has no such anchor")
    for namespace, names in namespaces().items():
        page = pages[site / "reference" / f"{namespace}.html"]
        faults += [
            f"reference/{namespace}.html: no entry of {name}"
            for name in names
            if identifier(namespace, name) not in page.anchors
        ]
    return number, faults


def main():
    number, faults = find_faults(SITE)
    if faults:
        sys.exit("\n".join(faults))
    pages = len(list(SITE.rglob("*.html")))
    names = sum(map(len, namespaces().values()))
    print(
        f"{pages} pages, {number:,} links and files within the site, 0 broken; "
        f"{names} public names, each with an entry. Open site/index.html."
    )


if __name__ == "__main__":
    main()
