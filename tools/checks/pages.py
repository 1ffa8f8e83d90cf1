"""Check the built pages: no foreign request, no script but in files, every picture has its text.

The build ends with it.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

# Attributes that make a browser fetch something by itself. A plain link (<a href>) waits for the reader.
FETCHED = ("src", "srcset", "poster", "data")
# <link> relations that name a page and fetch nothing.
NAMED_ONLY = {"canonical", "alternate", "license", "author", "edit"}
_OTHER_HOST = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
_IN_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?\s*((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)
_SCRIPT_ADDRESS = re.compile(r"\s*javascript:", re.IGNORECASE)
_FILE_NAME = re.compile(r"\.(?:png|jpe?g|svg|gif|webp)$", re.IGNORECASE)


class _Page(HTMLParser):
    """Collects what one page would fetch and which pictures lack a text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        relations = set(values.get("rel", "").split())
        loads = tag == "link" and not (relations and relations <= NAMED_ONLY)
        for name in (*FETCHED, "href") if loads else FETCHED:
            if _OTHER_HOST.match(values.get(name, "")):
                self.found.append(f"<{tag}> fetches {values[name]}")
        self.found += [f"a style fetches {url}" for url in _IN_STYLE.findall(values.get("style", ""))]
        # Under the policy of tools.serve a browser runs neither.
        if tag == "script" and "src" not in values and values.get("type") != "application/json":
            self.found.append("a script stands in the page")
        self.found += [f"<{tag}> has a script in its attribute {name}" for name in values if name[:2] == "on"]
        self.found += [f"<{tag}> leads to a script" for v in values.values() if _SCRIPT_ADDRESS.match(v)]
        # Sphinx puts the file's name where no text was given.
        if tag == "img" and values.get("aria-hidden") != "true":
            text = values.get("alt", "").strip()
            if "alt" not in values or _FILE_NAME.search(text):
                self.found.append(f"a picture has no text: {values.get('src', '')[:60]}")


def check(pages: Path) -> list[str]:
    """What is wrong with the pages in a folder, as lines ``page: fault``; empty if nothing is."""
    found = []
    for path in sorted(pages.rglob("*.html")):
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(pages)}: {fault}" for fault in page.found]
    for path in sorted(pages.rglob("*.css")):
        text = path.read_text(encoding="utf-8")
        found += [f"{path.relative_to(pages)}: a style fetches {url}" for url in _IN_STYLE.findall(text)]
    return found
