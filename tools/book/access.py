"""What readers without sight or a mouse need, and the tools leave out.

Tables say which cells are headers; roles are ones that browsers know; a box that scrolls can
be reached by keyboard (``access.js``). What the theme's templates lack is mended in ``book/_templates``.
"""

from __future__ import annotations

import re
from typing import Any

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx

_TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)
# A cell that breaks does so before its interval, and not within.
_INTERVAL = re.compile(r"\(([-+]?[\d.]+) to ([-+]?[\d.]+)\)")
_PLAIN = (
    # A folded cell is called what stands on it, not "Toggle hidden content".
    ('<summary aria-label="Toggle hidden content">', "<summary>"),
    # docutils gives each work a role that ARIA has since withdrawn, inside a list of such.
    (' role="doc-biblioentry"', ' role="listitem"'),
)


def _empty(cell: Tag) -> bool:
    return not cell.get_text(strip=True) and cell.find("img") is None


def table_headers(html: str) -> str:
    """One table, its header cells marked as such.

    Examples
    --------
    >>> print(table_headers("<table><thead><tr><th></th><th>a</th></tr></thead></table>"))
    <table><thead><tr><td></td><th scope="col">a</th></tr></thead></table>
    """
    soup = BeautifulSoup(html, "html.parser")
    corner = soup.select_one("thead > tr > :first-child")
    if corner is not None and _empty(corner):
        # Markdown has no way to say that the first column names the rows; an empty corner says it.
        for cell in soup.select("tbody > tr > td:first-child"):
            cell.name = "th"
    for cell in soup.select("th"):
        in_head = cell.find_parent("thead") is not None
        if _empty(cell):
            cell.name = "td"
        elif "scope" not in cell.attrs:
            kind = "col" if in_head else "row"
            spans = int(str(cell.attrs.get("colspan" if in_head else "rowspan", 1))) > 1
            cell["scope"] = f"{kind}group" if spans else kind
    return _INTERVAL.sub("(\\1\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}\\2)", str(soup))


def mend(body: str) -> str:
    """The text of a page, with what its tables and roles lack."""
    for stock, ours in _PLAIN:
        body = body.replace(stock, ours)
    return _TABLE.sub(lambda match: table_headers(match[0]), body)


def _mend_page(_app: Sphinx, _name: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    if "body" in context:
        context["body"] = mend(context["body"])


def setup(app: Sphinx) -> None:
    """Called by pages."""
    app.connect("html-page-context", _mend_page)
    app.add_css_file("access.css")
    app.add_js_file("access.js", loading_method="defer")
