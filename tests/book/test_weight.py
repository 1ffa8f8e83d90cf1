"""The built pages get one style sheet, with what they use and nothing else; scripts and pictures wait."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import book_weight
import matplotlib as mpl
import pytest
from fontTools.ttLib import TTFont

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


def test_the_fonts_hold_the_icons_that_are_shown(tmp_path: Path) -> None:
    whole = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    shutil.copy(whole, tmp_path / "icons.ttf")
    face = '@font-face{src:url("icons.woff2") format("woff2"),url("icons.ttf") format("truetype")}'
    shown = '.a{--fa:"\N{CHECK MARK}"}.b::before{content:"B"}.c{color:red}'
    style = book_weight.few_icons(face + shown, tmp_path)
    assert style.endswith(shown)
    (data,) = re.findall(r'@font-face\{src:url\("data:font/woff;base64,([^"]+)"\) format\("woff"\)\}', style)
    font = TTFont(io.BytesIO(base64.b64decode(data)))
    assert set(font.getBestCmap()) == {ord("\N{CHECK MARK}"), ord("B")}
    names = {record.nameID: str(record) for record in font["name"].names}
    assert names[1] == names[4] == "BookIcons"
    assert "Bitstream" in names[0]
    assert len(data) < whole.stat().st_size / 20
    assert book_weight.few_icons(face + shown, tmp_path) == style


def test_pictures_keep_their_place_and_all_but_the_first_wait(pages: Path) -> None:
    (pages / "_images").mkdir()
    (pages / "_images" / "one.svg").write_text(
        '<?xml version="1.0"?>\n<svg xmlns:xlink="x" width="368.4pt" height="267.6pt" viewBox="0 0 1 1">',
        encoding="utf-8",
    )
    drawn = '<img alt="drawn" src="../../_images/one.svg" />'
    others = '<img src="../../_static/logo.svg" alt="" /><img width="9" alt="" src="../../_images/one.svg" />'
    page = pages / "book" / "part" / "a.html"
    page.write_text(PAGE.format(up="../../", more=others + drawn + drawn), encoding="utf-8")
    for _ in range(2):
        book_weight.lighten(pages)
        assert re.findall("<img [^>]*>", page.read_text(encoding="utf-8")) == [
            *re.findall("<img [^>]*>", others),
            '<img width="491" height="357" alt="drawn" src="../../_images/one.svg" />',
            '<img width="491" height="357" loading="lazy" alt="drawn" src="../../_images/one.svg" />',
        ]

    page.write_text(PAGE.format(up="../../", more=drawn), encoding="utf-8")
    (pages / "_images" / "one.svg").write_text('<svg width="100%">', encoding="utf-8")
    with pytest.raises(book_weight.WeightError, match=r"one\.svg: expected a picture by matplotlib"):
        book_weight.lighten(pages)


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
