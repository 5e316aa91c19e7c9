"""Check the links within built pages: every page, picture and anchor that one points to is there.

``python docs/extensions/links.py docs/_build/html``; addresses elsewhere are not visited.
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["dead_links", "main"]


class Page(HTMLParser):
    """Targets and anchors of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Note what the element points to, and what it is called."""
        for name, value in attrs:
            if name in ("href", "src") and value is not None and tag != "base":
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


page = cache(Page)


def dead_links(root: Path) -> tuple[int, list[str]]:
    """Return how many links the pages below a folder have, and those that lead nowhere as ``page: target``."""
    dead, count = [], 0
    for path in sorted(root.rglob("*.html")):
        for link in page(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            there = target.is_file()
            if there and target.suffix == ".html" and parts.fragment:
                there = unquote(parts.fragment) in page(target).anchors
            if not there:
                dead.append(f"{path.relative_to(root)}: {link}")
    return count, dead


def main(folder: str) -> int:
    """Print the dead links below a folder, and return the exit status."""
    count, dead = dead_links(Path(folder).resolve())
    print("\n".join(dead) or f"{count} links within the pages, none dead")
    return bool(dead)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
