"""The built pages get one style sheet, with what they use and nothing else; scripts wait for the text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import book_weight
import pytest

PAGE = """<html><head>
<link rel="stylesheet" type="text/css" href="{up}_static/styles/theme.css?v=1" />
<link rel="stylesheet" href="{up}_static/own.css" />
{more}
<script src="{up}_static/documentation_options.js"></script>
<script src="{up}_static/box.js"></script>
<script defer="defer" src="{up}_static/late.js"></script>
<script type="module" src="{up}_static/module.js"></script>
<script>DOCUMENTATION_OPTIONS.pagename = 'x'; add("made-inline");</script>
</head><body class="text"><p id="here">written</p></body></html>"""


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    static = tmp_path / "_static"
    (static / "styles").mkdir(parents=True)
    (static / "basic.css").write_text(".text { background: url(file.png) }", encoding="utf-8")
    (static / "styles" / "theme.css").write_text(
        '@charset "UTF-8"; @import "../basic.css"; /*! a licence */ /* a remark */'
        '@font-face { font-family: icons; src: url(../fonts/icons.woff2) format("woff2") }'
        ".made-by-script, .nowhere { color: red } .written { color: red } #here { color: blue }"
        "@media print { .nowhere { color: red }"
        " .made-inline { background: url(data:image/png;base64,AA==) } }"
        "@supports (x: y) { .nowhere { top: 0 } } .bs-tooltip-auto { top: 0 }",
        encoding="utf-8",
    )
    (static / "own.css").write_text("p:not(.nowhere) { top: 1px }", encoding="utf-8")
    (static / "live.css").write_text(".nowhere { top: 2px }", encoding="utf-8")
    (static / "box.js").write_text("box.className = 'made-by-script'", encoding="utf-8")
    (tmp_path / "book" / "part").mkdir(parents=True)
    (tmp_path / "index.html").write_text('<meta http-equiv="Refresh" content="0" />', encoding="utf-8")
    (tmp_path / "search.html").write_text(PAGE.format(up="", more=""), encoding="utf-8")
    more = '<link rel="stylesheet" href="../../_static/live.css" />'
    (tmp_path / "book" / "part" / "a.html").write_text(PAGE.format(up="../../", more=more), encoding="utf-8")
    return tmp_path


def test_the_common_sheet_holds_what_is_used_and_no_more(pages: Path) -> None:
    book_weight.lighten(pages)
    (sheet,) = (pages / "_static").glob("style.*.css")
    assert sheet.read_text(encoding="utf-8") == (
        '.text{background: url("file.png")}/*! a licence */'
        '@font-face { font-family: icons; src: url("fonts/icons.woff2") format("woff2") }'
        ".made-by-script{color: red}#here{color: blue}"
        "@media print {.made-inline{background: url(data:image/png;base64,AA==)}}"
        ".bs-tooltip-auto{top: 0}p:not(.nowhere){top: 1px}"
    )


def test_a_page_links_it_once_and_first_and_keeps_its_own(pages: Path) -> None:
    book_weight.lighten(pages)
    (sheet,) = (pages / "_static").glob("style.*.css")
    deep = (pages / "book" / "part" / "a.html").read_text(encoding="utf-8")
    assert deep.count('rel="stylesheet"') == 2
    assert deep.index(f'href="../../_static/{sheet.name}"') < deep.index('href="../../_static/live.css"')
    assert (pages / "search.html").read_text(encoding="utf-8").count('rel="stylesheet"') == 1
    assert (pages / "index.html").read_text(encoding="utf-8") == '<meta http-equiv="Refresh" content="0" />'


def test_scripts_wait_except_the_one_that_others_need(pages: Path) -> None:
    book_weight.lighten(pages)
    page = (pages / "search.html").read_text(encoding="utf-8")
    assert '<script defer src="_static/box.js">' in page
    for untouched in (
        '<script src="_static/documentation_options.js">',
        '<script defer="defer" src="_static/late.js">',
        '<script type="module" src="_static/module.js">',
        "<script>DOCUMENTATION_OPTIONS",
    ):
        assert untouched in page


def test_its_name_changes_with_what_is_in_it_and_only_then(pages: Path) -> None:
    book_weight.lighten(pages)
    book_weight.lighten(pages)
    (first,) = (pages / "_static").glob("style.*.css")
    (pages / "search.html").write_text(PAGE.format(up="", more='<p class="written">'), encoding="utf-8")
    (pages / "book" / "part" / "a.html").write_text(PAGE.format(up="../../", more=""), encoding="utf-8")
    book_weight.lighten(pages)
    (second,) = set((pages / "_static").glob("style.*.css")) - {first}
    assert ".written{color: red}" in second.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda p: (p / "_static" / "own.css").unlink(), "does not exist"),
        (lambda p: (p / "_static" / "own.css").write_text(".a { top: 0 } }"), "cannot be read"),
        (lambda p: [q.unlink() for q in p.rglob("*.html")], "expected a built book"),
        (
            lambda p: (p / "search.html").write_text(
                '<link rel="stylesheet" href="_static/own.css">'
                '<link rel="stylesheet" href="_static/styles/theme.css">'
            ),
            "2 different orders",
        ),
    ],
)
def test_what_is_not_a_built_book_is_refused(
    pages: Path, break_it: Callable[[Path], object], message: str
) -> None:
    break_it(pages)
    with pytest.raises(book_weight.WeightError, match=message):
        book_weight.lighten(pages)
