"""What the pages' extension for accessibility does to the text of a page."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup

from tools.book import access

HEAD = "<p>before</p><table><thead><tr><th></th><th>a</th><th colspan='2'>b</th></tr></thead><tbody><tr>"
REST = "<td>1</td><td></td><td>3</td></tr></tbody></table><p>after</p>"
AFTER = [("td", "1", None), ("td", "", None), ("td", "3", None)]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        # Of pandas, and of Markdown: there an empty corner says that the first column names the rows.
        (f"{HEAD}<th>x</th>{REST}", [("td", "", None), ("th", "x", "row")]),
        (f"{HEAD}<td>x</td>{REST}", [("td", "", None), ("th", "x", "row")]),
        (
            f"{HEAD}<td>x</td>{REST}".replace("<th></th>", "<th>c</th>"),
            [("th", "c", "col"), ("td", "x", None)],
        ),
    ],
)
def test_a_table_says_what_heads_what(html: str, expected: list[tuple[str, str, str | None]]) -> None:
    mended = access.mend(html)
    cells = BeautifulSoup(mended, "html.parser").select("th, td")
    found = [(cell.name, cell.get_text(strip=True), cell.get("scope")) for cell in cells]
    corner, first = expected
    assert found == [corner, ("th", "a", "col"), ("th", "b", "colgroup"), first, *AFTER]
    assert mended.startswith("<p>before</p>")
    assert mended.endswith("<p>after</p>")


def test_a_scope_that_stands_there_is_kept() -> None:
    html = '<table><tbody><tr><th scope="rowgroup">x</th><td>1</td></tr></tbody></table>'
    assert access.mend(html) == html
