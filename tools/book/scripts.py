"""Scripts that the theme writes into a page's HTML become files.

Browsers then need to run nothing that stands in a page itself, and the policy of `tools.serve` forbids it.
`tools.checks.pages` fails the build if something is left.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

FOLDER = Path("_static", "inline")
# Scripts that follow one another make one file. Data (a script with a type) and fetched scripts stay.
_SCRIPT = r"<script(?![^>]*\b(?:src|type)\b)[^>]*>(.*?)</script>\s*"
_SCRIPTS = re.compile(f"(?:{_SCRIPT})+", re.DOTALL)
_ONE = re.compile(_SCRIPT, re.DOTALL)
# A button that calls a function by its name; access.js listens to those.
_CALL = re.compile(r'\bonclick="(?:window\.)?(\w+)\(\)"')


def move(pages: Path) -> None:
    """Change the pages in a folder so, and add the files to its ``_static``."""
    (pages / FOLDER).mkdir(parents=True)
    for path in sorted(pages.rglob("*.html")):
        to_top = "../" * (len(path.relative_to(pages).parts) - 1)

        def source(match: re.Match[str], to_top: str = to_top) -> str:
            text = "\n".join(code.strip() for code in _ONE.findall(match[0])) + "\n"
            name = f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.js"
            (pages / FOLDER / name).write_text(text, encoding="utf-8")
            return f'<script src="{to_top}{FOLDER.as_posix()}/{name}"></script>\n'

        html = path.read_text(encoding="utf-8")
        path.write_text(_CALL.sub(r'data-calls="\1"', _SCRIPTS.sub(source, html)), encoding="utf-8")
