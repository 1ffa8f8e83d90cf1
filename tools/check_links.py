"""Check the links of the built pages: inside the book all, outside what can be reached from here.

``python tools/check_links.py out/_build/html`` fails for a page, file or anchor of the book that is missing,
and for an address that answers that it is gone. An address that cannot be reached, or that turns programs
away, is counted and named, and fails nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests

SECONDS = 5.0
AT_ONCE = 8
GONE = {404, 410}
# Some hosts answer programs only if they look like a browser.
HEADERS = {"User-Agent": "Mozilla/5.0 (link check of a book)"}


class _Page(HTMLParser):
    """Collects what a page links to and what in it can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self.links += [values[name] for name in ("href", "src") if values.get(name)]


def read(pages: Path) -> dict[Path, _Page]:
    """Every page of a folder, parsed."""
    found = {}
    for path in sorted(pages.rglob("*.html")):
        if "_static" not in path.relative_to(pages).parts:
            found[path] = _Page()
            found[path].feed(path.read_text(encoding="utf-8"))
    return found


def inside(pages: Path, parsed: dict[Path, _Page]) -> list[str]:
    """What the pages link to in the book and what is not there, as lines ``page: fault``."""
    faults = []
    for path, page in parsed.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            where = f"{path.relative_to(pages)}: {link}"
            if not target.is_relative_to(pages) or not target.is_file():
                faults.append(f"{where}: there is no such file in the book")
            elif parts.fragment and target in parsed:
                anchor = unquote(parts.fragment)
                if anchor not in parsed[target].anchors:
                    faults.append(f"{where}: that page has no anchor {anchor}")
    return faults


def outside(parsed: dict[Path, _Page]) -> list[str]:
    """The addresses of other hosts that the pages name."""
    links = {link.partition("#")[0] for page in parsed.values() for link in page.links}
    return sorted(link for link in links if urlsplit(link).scheme in ("http", "https"))


def ask(address: str) -> str:
    """What an address answers: ``ok``, ``gone: ...``, ``turned away: ...`` or ``not reachable: ...``."""
    try:
        with requests.get(address, headers=HEADERS, timeout=SECONDS, stream=True) as answer:
            status = answer.status_code
    except requests.RequestException as error:
        return f"not reachable: {type(error).__name__}"
    if status in GONE:
        return f"gone: {status}"
    return "ok" if status < 400 else f"turned away: {status}"


def ask_all(addresses: Iterable[str]) -> dict[str, str]:
    """What each address answers."""
    addresses = list(addresses)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(addresses, pool.map(ask, addresses), strict=True))


def main() -> int:
    """Check; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=Path, help="the folder of the built pages")
    parser.add_argument("--inside-only", action="store_true", help="ask no other host")
    arguments = parser.parse_args()
    pages = arguments.pages.resolve()
    parsed = read(pages)
    if not parsed:
        print(f"error: {pages} holds no pages; run make book", file=sys.stderr)
        return 1

    faults = inside(pages, parsed)
    print("\n".join(faults))
    number = sum(len(set(page.links)) for page in parsed.values())
    print(f"inside: {len(parsed)} pages, {number} links, {len(faults)} broken")
    if arguments.inside_only:
        return int(bool(faults))
    answers = ask_all(outside(parsed))
    lost: Counter[str] = Counter()
    for address, answer in answers.items():
        if answer.startswith("not reachable"):
            lost[urlsplit(address).netloc] += 1
        elif answer != "ok":
            print(f"{answer}: {address}")
    if lost:
        print("not reachable from here: " + ", ".join(f"{host} ({n})" for host, n in lost.most_common()))
    counts = {
        kind: sum(answer.startswith(kind) for answer in answers.values())
        for kind in ("ok", "gone", "turned away", "not reachable")
    }
    print(f"outside: {len(answers)} addresses; " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    return int(bool(faults) or counts["gone"] > 0)


if __name__ == "__main__":
    sys.exit(main())
