"""What the pages' extension for accessibility does to the text of a page."""

import pytest
from bs4 import BeautifulSoup

from tools.book import access

HEAD = "<p>before</p><table><thead><tr>{}<th>a</th><th colspan='2'>b</th></tr></thead><tbody><tr>"
REST = "<td>1</td><td></td><td>3</td></tr></tbody></table><p>after</p>"


@pytest.mark.parametrize(
    ("corner", "first", "corner_after", "first_after"),
    [
        # Of pandas, and of Markdown: there an empty corner says that the first column names the rows.
        ("<th></th>", "<th>x</th>", ("td", "", None), ("th", "x", "row")),
        ("<th></th>", "<td>x</td>", ("td", "", None), ("th", "x", "row")),
        ("<th>c</th>", "<td>x</td>", ("th", "c", "col"), ("td", "x", None)),
        ('<th scope="colgroup">c</th>', "<td>x</td>", ("th", "c", "colgroup"), ("td", "x", None)),
    ],
)
def test_a_table_says_what_heads_what(
    corner: str, first: str, corner_after: object, first_after: object
) -> None:
    mended = access.mend(f"{HEAD.format(corner)}{first}{REST}")
    cells = BeautifulSoup(mended, "html.parser").select("th, td")
    found = [(cell.name, cell.get_text(strip=True), cell.get("scope")) for cell in cells]
    heads = [corner_after, ("th", "a", "col"), ("th", "b", "colgroup"), first_after]
    assert found == [*heads, ("td", "1", None), ("td", "", None), ("td", "3", None)]
    assert mended.startswith("<p>before</p>")
    assert mended.endswith("<p>after</p>")


def test_an_interval_in_a_table_stays_whole() -> None:
    cell = "+0.7 (-9.1 to +1.2)"
    mended = access.mend(f"<p>{cell}</p><table><tr><td>{cell}</td></tr></table>")
    assert mended.startswith(f"<p>{cell}</p>")
    assert "+0.7 (-9.1\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}+1.2)" in mended
