"""What we use of the insides of Sphinx, myst-nb and the theme, each use with what it is for.

All of it in one small book, built strictly: after an update this file says what has moved.
"""

import http.server
import json
import re
import shutil
import threading
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import myst_nb.ext.glue
import pytest
from bs4 import BeautifulSoup

from tools import repository
from tools.book import build, families, runs, scripts
from tools.checks import nightly

ADDRESS = "https://github.com/someone/a-book"


@pytest.fixture(scope="module")
def read(small_book: Path) -> Callable[[str], str]:
    return lambda name: (small_book / f"{name}.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chapter_page(read: Callable[[str], str]) -> BeautifulSoup:
    return BeautifulSoup(read("book/part/01-train"), "html.parser")


def test_glue_writes_what_the_run_is_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    # `runs` finds the record, the checked numbers and the rows measured again by these two keys.
    shown: list[dict[str, Any]] = []
    glue = lambda data, metadata, **_: shown.append({"data": data, "metadata": metadata})  # noqa: E731
    monkeypatch.setattr(myst_nb.ext.glue, "ipy_display", glue)
    record = json.dumps({"edition": "full", "weights": None, "text": "'\"" * 200})
    for name, value in (("run", record), ("share", 0.5)):
        myst_nb.glue(name, value, display=False)
    assert list(runs.glued({"cells": [{"outputs": shown}]})) == [("run", record), ("share", 0.5)]


def test_source_read_hands_over_a_notebook_s_json(chapter_page: BeautifulSoup, read: Any) -> None:
    # `runs` adds the line under the title and the card at the end, and fills the pages of times and networks.
    assert "ran in 3.0 minutes on a CPU (2 cores, Some Processor)" in chapter_page.get_text()
    assert "mnist, a_backbone" in chapter_page.select_one(".run-card").get_text()
    assert re.search(r"Train the head.*180.*2026-01-01", read(runs.TIMES_PAGE), re.DOTALL)
    assert re.search(r"MobileNetV2.*74.*What the letters say", read(families.PAGE), re.DOTALL)


def test_myst_nb_takes_text_caption_and_class_from_the_cell(chapter_page: BeautifulSoup) -> None:
    # metadata "mystnb": what `checks.notebooks` asks of every cell that draws; glue shows a value.
    image = chapter_page.select_one("img.picture")
    assert image["alt"] == "A line that rises."
    assert "See it rise." in image.find_parent("figure").figcaption.get_text()
    assert "0.550" in chapter_page.select_one("article").get_text()


def test_a_glued_figure_stands_where_the_text_wants_it(chapter_page: BeautifulSoup) -> None:
    # limits/03 opens with the figure that its last cell draws; book.css knows the class.
    figure = chapter_page.select_one("figure.front")
    assert figure.img["alt"] == "A line that falls."
    assert "See it fall." in figure.figcaption.get_text()
    assert figure.find_next("div", class_="cell"), "it stands before the code"


def test_pictures_wait_for_the_reader_and_scripts_for_the_text(
    chapter_page: BeautifulSoup, read: Any
) -> None:
    # docutils' attribute loading of an image, script_files in the page's context.
    assert [image.get("loading") for image in chapter_page.select("article img")] == [None, "lazy", "lazy"]
    head = [script["src"] for script in chapter_page.select("head script[src]:not([defer], [type=module])")]
    head = [re.sub(r".*/|\?.*", "", source) for source in head if scripts.FOLDER.name not in source]
    assert head == ["documentation_options.js", "doctools.js"]
    # Sphinx' template lets these not wait, and they use doctools.js.
    assert 'script src="_static/searchtools.js"' in read("search")


def test_scripts_that_the_theme_writes_into_pages_are_files(
    chapter_page: BeautifulSoup, small_book: Path
) -> None:
    # Scripts without attributes src and type, onclick="name()": `scripts` moves them.
    assert chapter_page.select("script:not([src]), [onclick]") == []
    files = [s["src"] for s in chapter_page.select("script[src]") if scripts.FOLDER.name in s["src"]]
    moved = [(small_book / "book" / "part" / name).read_text(encoding="utf-8") for name in files]
    # The first chooses the theme, before a style sheet shows another one.
    assert "dataset.theme" in moved[0]
    assert chapter_page.select_one("script, link[rel=stylesheet]")["src"] == files[0]
    for wanted in ("toggleHintShow", "togglebuttonSelector", "DOCUMENTATION_OPTIONS.pagename"):
        assert any(wanted in text for text in moved)
    calls = {button["data-calls"] for button in chapter_page.select("[data-calls]")}
    assert calls == {"print", "toggleFullScreen"}


def test_objects_of_the_python_domain_have_addresses(chapter_page: BeautifulSoup, read: Any) -> None:
    # env.domains["py"].objects and builder.get_relative_uri: `links` leads code to the library's pages;
    # that code is found by Pygments' spans, in html-page-context's body.
    found = {link.get_text(): link["href"] for link in chapter_page.select("a.api-link")}
    names = {"tl.history_table": "tlhelpers.history_table", "page.check": "tlhelpers.page.published.check"}
    assert found == {shown: f"../reference/library.html#{full}" for shown, full in names.items()}
    for full in names.values():
        assert f'id="{full}"' in read("book/reference/library")


def test_a_docstring_is_handed_over_after_napoleon(read: Any) -> None:
    # autodoc-process-docstring: `links` makes chapters' titles links, and adds where a function is used.
    page = BeautifulSoup(read("book/reference/library"), "html.parser")
    led = [link.get_text() for link in page.select("dl.py a") if "01-train" in link["href"]]
    assert led == ["Train the head"]
    assert "Used in every chapter." in page.select_one(".used-in").get_text()
    # missing-reference has the short name of a class (reftarget) and the page (refdoc).
    assert any(link.get_text() == "Twin" for link in page.select("em a[href$='#tlhelpers.page.Twin']"))


def test_doctree_resolved_has_prose_and_the_glossary_s_terms(chapter_page: BeautifulSoup) -> None:
    # docutils' definition lists with ids: `links` makes a term's first use a link that says what it means.
    (link,) = chapter_page.select("a.term-link")
    assert (link.get_text(), link["title"]) == ("head", "The new layers.")
    assert link["href"] == "../reference/glossary.html#term-head"


def test_formulas_are_drawn_by_the_browser(chapter_page: BeautifulSoup) -> None:
    # docutils' tex2mathml, Sphinx' get_node_equation_number: no page fetches a script.
    assert len(chapter_page.select("math")) == 2
    assert "(1)" in chapter_page.select_one("div.math .eqno").get_text()
    assert chapter_page.select("script[src*=mathjax i], .mjx-container") == []


def test_what_we_replace_in_pages_and_templates_is_there(chapter_page: BeautifulSoup, read: Any) -> None:
    # Stock strings that `access` replaces; book/_templates: no script that draws icons, no search index but
    # on search. Names of buttons, landmarks, heads of tables: axe-core looks at them, `make pages`.
    assert chapter_page.select_one("details.hide summary").get("aria-label") is None
    assert "doc-biblioentry" not in read("book/part/02-read")
    assert chapter_page.select_one("script[src*='access.js']") is not None
    assert chapter_page.select("script[src*=fontawesome], link[href*=fontawesome][as=script]") == []
    assert "searchindex.js" not in read("book/index")
    assert "searchindex.js" in read("search")


def test_the_theme_s_options_are_added_to(chapter_page: BeautifulSoup, read: Any) -> None:
    # config-inited, html_theme_options: Jupyter Book's own stay, and buttons lead to the right files.
    place = "book/part/01-train.ipynb"
    links = [link["href"] for link in chapter_page.select("a[href]")]
    colab = f"{build.COLAB}/github/someone/a-book/blob/{repository.release()}/{place}"
    assert {colab, ADDRESS, f"{ADDRESS}/edit/main/{place}"} <= set(links)
    assert any(link.startswith(f"{ADDRESS}/issues/new") for link in links)
    assert len(chapter_page.select("button.search-button-field")) == 1
    no_notebook = read("book/part/02-read")
    assert "colab.research" not in no_notebook
    assert f"{ADDRESS}/edit/main/book/part/02-read.md" in no_notebook


def test_a_page_says_what_it_is_about(read: Any) -> None:
    # metatags in the page's context: `pages` describes it to search engines, but not by its minutes.
    for name, begins in (("01-train", "Text of the head"), ("02-read", "Text .quoted. & more")):
        (content,) = re.findall(r'<meta name="description" content="([^"]*)"', read(f"book/part/{name}"))
        assert re.match(begins, unescape(content))


def _one_page(small_book: Path, out: Path, text: str) -> Path:
    """The small book's sources with one page only, which says this."""
    shutil.copytree(small_book.parents[1] / "src", out / "src")
    toc = "format: jb-book\nroot: book/index\nchapters:\n- file: book/part/02-read\n"
    (out / "src" / "_toc.yml").write_text(toc, encoding="utf-8")
    (out / "src" / "book" / "part" / "02-read.md").write_text(f"# Read\n\n{text}\n", encoding="utf-8")
    return out


def test_links_that_lead_nowhere_fail_the_build(
    small_book: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Why no check of our own looks at links inside the book, nor at what is glued.
    gone = "[gone](03-gone.md) [gone](../index.md#gone) [gone](#gone) {doc}`/book/gone` ![gone](gone.svg)"
    gone += " {glue:text}`gone:.2f`"
    assert build.sphinx(_one_page(small_book, tmp_path, gone), "-W", "--keep-going")
    warnings = re.findall("02-read.md.*WARNING.*gone", capfd.readouterr().err)
    assert len(warnings) == len(gone.split()), warnings


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_args: Any) -> None:
        pass


def test_linkcheck_writes_what_each_address_answered(
    small_book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # output.json: `nightly` fails for what is gone, and not for what refuses or cannot be reached from here.
    monkeypatch.setenv("NO_PROXY", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{host.server_port}"
        asked = f"<{at}/200> <{at}/403> <{at}/404> <http://nowhere.invalid/>"
        assert not nightly.links(_one_page(small_book, tmp_path, asked))
        host.shutdown()
    said = capsys.readouterr().out
    assert "4 addresses, 2 not to be reached from here, 1 gone" in said
    assert "02-read.md:3: 404 " in said
