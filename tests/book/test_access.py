"""What the pages' extension for accessibility does to the text of a page."""

from __future__ import annotations

import book_access
from bs4 import BeautifulSoup


def _cells(html: str) -> list[tuple[str, str, str | None]]:
    soup = BeautifulSoup(book_access.mend(html), "html.parser")
    return [(cell.name, cell.get_text(strip=True), cell.get("scope")) for cell in soup.select("th, td")]


def test_a_table_of_pandas_says_what_heads_what() -> None:
    html = (
        "<p>before</p><table><thead><tr><th></th><th>a</th><th colspan='2'>b</th></tr></thead>"
        "<tbody><tr><th>x</th><td>1</td><td></td><td>3</td></tr></tbody></table><p>after</p>"
    )
    assert _cells(html) == [
        ("td", "", None),
        ("th", "a", "col"),
        ("th", "b", "colgroup"),
        ("th", "x", "row"),
        ("td", "1", None),
        ("td", "", None),
        ("td", "3", None),
    ]
    assert book_access.mend(html).startswith("<p>before</p>")
    assert book_access.mend(html).endswith("<p>after</p>")


def test_an_empty_corner_makes_the_first_column_headers() -> None:
    html = (
        "<table><thead><tr><th><p></p></th><th>a</th></tr></thead>"
        "<tbody><tr><td>x</td><td>1</td></tr></tbody></table>"
    )
    assert _cells(html)[2:] == [("th", "x", "row"), ("td", "1", None)]
    named = html.replace("<p></p>", "what")
    assert _cells(named)[2:] == [("td", "x", None), ("td", "1", None)]


def test_a_scope_that_stands_there_is_kept() -> None:
    html = '<table><tbody><tr><th scope="rowgroup">x</th><td>1</td></tr></tbody></table>'
    assert book_access.mend(html) == html


def test_roles_and_names() -> None:
    assert "aria-label" not in book_access.mend('<summary aria-label="Toggle hidden content">Show</summary>')
    assert book_access.mend('<div role="doc-biblioentry">') == '<div role="listitem">'
