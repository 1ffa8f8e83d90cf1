"""What the build adds to pages: minutes and card, links in code, docstrings and prose, buttons."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shutil
import tomllib
from html import unescape
from pathlib import Path
from typing import Any

import book_links
import book_pages
import book_runs
import build_book
import pandas as pd
import pytest
import repository
import setup_cell
import yaml
from docutils import nodes
from docutils.core import publish_doctree

import tlhelpers as tl

ADDRESS = "https://github.com/someone/a-book"
PUBLISHED = {
    "a_share": {
        "what": "A share",
        "unit": "share of ten",
        "full": {"value": 0.5, "tolerance": 0.1},
        "pocket": {"value": 0.9, "tolerance": 0.1},
    }
}
MACHINE = {"machine": "2 cores, Some Processor", "system": "Linux x86_64", "gpus": 0, "commit": "0123456789"}
PRINTED = (
    "Full edition (mnist, a_backbone), asked for.\n"
    "tensorflow 2.21.0, keras 3.15.1, numpy 2.4.6, Python 3.11.9; seed 0.\n"
)
PUBLIC_MODULES = [name for name in tl.__all__ if inspect.ismodule(getattr(tl, name))]
TITLES = {book_runs.title(json.loads(p.read_text("utf-8"))) for p in setup_cell.chapters()}


def _glued(name: str, value: Any) -> dict[str, Any]:
    return {
        "output_type": "display_data",
        "metadata": {"scrapbook": {"name": name, "mime_prefix": "application/papermill.record/"}},
        "data": {"application/papermill.record/text/plain": repr(value)},
    }


def _notebook(*outputs: dict[str, Any], source: str = "1") -> dict[str, Any]:
    def cell(kind: str, text: str, second: int = 0, outputs: Any = ()) -> dict[str, Any]:
        if kind == "markdown":
            return {"cell_type": kind, "metadata": {}, "source": text, "id": f"m{len(text)}"}
        times = {
            "iopub.execute_input": f"2026-01-01T00:0{second}:00.0Z",
            "shell.execute_reply": f"2026-01-01T00:0{second + 1}:00.0Z",
        }
        return {
            "cell_type": kind,
            "id": f"c{second}",
            "metadata": {"execution": times},
            "source": text,
            "outputs": list(outputs),
            "execution_count": 1,
        }

    printed = {"output_type": "stream", "name": "stdout", "text": [PRINTED]}
    return {
        "cells": [
            cell("markdown", "# Do something\n\nText."),
            cell("code", setup_cell.cell_source(ADDRESS), 0, [printed]),
            cell("code", source, 2, outputs),
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def test_a_page_says_how_long_it_ran_and_on_what() -> None:
    notebook = _notebook(_glued("a_share", 0.55), _glued("n_digits", 8))
    book_runs.add(notebook, book_runs.read(notebook, PUBLISHED), MACHINE)
    assert notebook["cells"][0]["source"] == (
        "# Do something\n\n"
        "*Measured: the code on this page ran in 3.0 minutes on a CPU (2 cores, Some Processor).*\n\nText."
    )
    card = notebook["cells"][-1]["source"]
    for expected in (
        "**Edition** full (mnist, a_backbone), **seed** 0",
        "tensorflow 2.21.0, keras 3.15.1, numpy 2.4.6, Python 3.11.9",
        "2026-01-01 in 3.0 minutes on a CPU (2 cores, Some Processor), Linux x86_64",
        "0123456789",
        "| A share (share of ten) | 0.5000 ± 0.1000 | 0.5500 | yes |",
    ):
        assert expected in card
    assert "n_digits" not in card


def test_the_card_says_what_does_not_agree_and_what_was_not_checked() -> None:
    far = book_runs.read(_notebook(_glued("a_share", 0.7)), PUBLISHED)
    assert "| 0.7000 | no |" in book_runs.card(far, MACHINE)
    assert "No published number" in book_runs.card(book_runs.read(_notebook(), PUBLISHED), MACHINE)
    assert "2 GPU and a CPU" in book_runs.card(far, {**MACHINE, "gpus": 2})


def test_a_row_measured_again_stands_on_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs: list[dict[str, Any]] = []
    monkeypatch.setattr(tl.published, "glue", lambda name, value: outputs.append(_glued(name, value)))
    rows = pd.DataFrame({"depth": "all", "seed": [0, 1, 2], "test_accuracy": [0.90, 0.91, 0.92]})
    tl.published.check_one(rows, lambda _row: (0.905, 500), like=["depth"], which=1)
    run = book_runs.read(_notebook(*outputs), PUBLISHED)
    assert "| test accuracy, depth all, seed 1 | 0.9100 ± 0.0300 | 0.9050 | yes |" in book_runs.card(
        run, MACHINE
    )


def test_a_page_is_described_by_its_first_paragraph_in_whole_sentences() -> None:
    def page(text: str) -> nodes.document:
        settings = {"doctitle_xform": False}
        tree: nodes.document = publish_doctree(f"Title\n=====\n\n{text}", settings_overrides=settings)
        return tree

    ran = "*Measured: it ran in 3 seconds.*"
    assert book_pages.describe(page(f"{ran}\n\n- a list\n\nA *short*\none.\n\nAnother.")) == "A short one."
    assert book_pages.describe(page("First. " + "Word " * 20 + "ends. " + "Word " * 30)) == (
        "First. " + "Word " * 20 + "ends."
    )
    endless = "word " * 60
    assert book_pages.describe(page(endless)) == endless.strip()
    assert book_pages.describe(page(ran)) is None


def test_a_notebook_without_its_run_is_refused() -> None:
    notebook = _notebook()
    notebook["cells"][1]["outputs"] = []
    with pytest.raises(book_runs.RunError, match="make execute"):
        book_runs.read(notebook, PUBLISHED)


def test_code_leads_to_the_library() -> None:
    def spans(*names: str) -> str:
        dots = "".join(f'<span class="o">.</span><span class="n">{name}</span>' for name in names)
        return f'<span class="n">tl</span>{dots}'

    addresses = {"split": "l.html#split", "published": "b.html#published", "published.check": "b.html#check"}
    linked = book_links.link_code(f'{spans("split")}<span class="p">(</span>', addresses)
    assert linked == f'<a class="api-link" href="l.html#split">{spans("split")}</a><span class="p">(</span>'
    inner = book_links.link_code(spans("published", "check"), addresses)
    assert inner == f'<a class="api-link" href="b.html#check">{spans("published", "check")}</a>'
    # What has no description of its own leads to what holds it; a stranger leads nowhere.
    outer = book_links.link_code(spans("published", "other"), addresses)
    assert 'href="b.html#published"' in outer
    assert outer.endswith('</a><span class="o">.</span><span class="n">other</span>')
    assert book_links.link_code(spans("unknown"), addresses) == spans("unknown")


PAGE = """
The head
========

`Ahead <https://example.org>`_ of the ``head`` come overheads and a non-head. Two heads,
one head; *the source task*.

The Source
task is a source task.

=====  =====
head   head
=====  =====
"""


def test_terms_become_links_once_and_as_whole_words() -> None:
    document = publish_doctree(PAGE)
    entries = [
        book_links.Entry(book_links.term_pattern([term]), f"g.html#{term}", says)
        for term, says in (("head", "Says."), ("source task", "Says."))
    ]
    book_links.link_terms(document, entries)
    links = [node for node in document.findall(nodes.reference) if "term-link" in node["classes"]]
    assert [link.astext().replace("\n", " ") for link in links] == ["heads", "Source task"]
    assert links[0]["reftitle"] == "Says."
    # Of all the heads in that sentence, it is this one.
    before = links[0].parent.children[links[0].parent.index(links[0]) - 1]
    assert before.astext().endswith("Two ")
    assert "Two heads,\none head" in document.astext()


def test_what_a_term_s_link_says() -> None:
    says = [says for _, _, says in _entries()]
    assert all(re.fullmatch(r"[A-Z].*[^.]\.", text) for text in says), says
    assert book_links.first_sentence("the share that 0.5 is.\nMore; of it.") == "The share that 0.5 is."


def _entries() -> list[tuple[list[str], str, str]]:
    text = (repository.ROOT / f"{book_links.GLOSSARY}.md").read_text(encoding="utf-8")
    body = text.partition(":sorted:\n")[2].partition("```")[0]
    found = []
    for block in body.strip().split("\n\n"):
        terms = [line for line in block.splitlines() if not line.startswith(" ")]
        definition = " ".join(line.strip() for line in block.splitlines() if line.startswith(" "))
        found.append((terms, "", book_links.first_sentence(definition)))
    return found


def test_words_that_stay_plain_are_terms() -> None:
    assert {term for terms, _, _ in _entries() for term in terms} >= book_links.NOT_LINKED


def _docstrings() -> list[tuple[str, str]]:
    found = []
    for name in PUBLIC_MODULES:
        module = importlib.import_module(f"tlhelpers.{name}")
        for public in module.__all__:
            text = inspect.getdoc(getattr(module, public)) or ""
            found.append((f"{name}.{public}", text))
    return found


def test_docstrings_name_chapters_that_exist() -> None:
    named = {(name, title) for name, text in _docstrings() for title in book_links.quoted_chapters(text)}
    assert len(named) > 50  # the pattern finds them
    assert {(name, title) for name, title in named if title not in TITLES} == set()


def test_the_library_s_pages_describe_all_of_it() -> None:
    folder = repository.ROOT / "book" / "reference"
    top = (folder / "library.md").read_text(encoding="utf-8")
    described = re.findall(r"^\.\. autofunction:: tlhelpers\.(\w+)$", top, flags=re.MULTILINE)
    assert sorted(described) == sorted(set(tl.__all__) - set(PUBLIC_MODULES))
    modules = [
        name
        for page in (folder / "library").glob("*.md")
        for name in re.findall(r"^\.\. automodule:: tlhelpers\.(\w+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert sorted(modules) == sorted(PUBLIC_MODULES)


def test_names_lead_where_they_are_described() -> None:
    assert book_links.public_name(tl.prefix, "split") == "tlhelpers.split"
    assert book_links.public_name(tl.published, "check") == "tlhelpers.published.check"
    # Two modules have a `preparation`; only one of them stands at the top.
    assert book_links.public_name(tl.credit, "preparation") == "tlhelpers.credit.preparation"
    assert book_links.public_name(tl.published, "no_such_name") is None


def test_the_citation_is_of_this_version() -> None:
    project = tomllib.loads((repository.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((repository.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"]
    page = (repository.ROOT / "book" / "reference" / "cite.md").read_text(encoding="utf-8")
    assert f"version {project['version']}" in page
    assert citation["title"] in page
    assert project["license"] in citation["license"]


@pytest.fixture(scope="module")
def small_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of three pages, built strictly as the real one is, for a repository on GitHub."""
    out = tmp_path_factory.mktemp("small")
    source = out / "src"
    (source / "book" / "part").mkdir(parents=True)
    shutil.copytree(repository.ROOT / "tools", source / "tools", ignore=build_book.SKIP)
    for name in ("_static", "_templates"):
        shutil.copytree(repository.ROOT / "book" / name, source / "book" / name)
    for name in ("references.bib", "published.toml"):
        shutil.copy2(repository.ROOT / "book" / name, source / "book" / name)
    toc = {"format": "jb-book", "root": "book/index"}
    pages = [
        {"file": "book/part/01-do-something"},
        {"file": "book/part/02-read"},
        {"file": book_runs.TIMES_PAGE},
    ]
    toc["parts"] = [{"caption": "Part", "chapters": pages}]  # type: ignore[assignment]
    (source / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    (source / book_runs.MACHINE).write_text(json.dumps(MACHINE), encoding="utf-8")
    (source / "book" / "index.md").write_text("# A book\n\nText.\n", encoding="utf-8")
    (source / "book" / "part" / "02-read.md").write_text(
        '# Read\n\nText "quoted" & more.\n', encoding="utf-8"
    )
    (source / f"{book_runs.TIMES_PAGE}.md").parent.mkdir()
    (source / f"{book_runs.TIMES_PAGE}.md").write_text("# Times\n", encoding="utf-8")
    notebook = json.dumps(_notebook())
    (source / "book" / "part" / "01-do-something.ipynb").write_text(notebook, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository, "address", lambda: ADDRESS)
        return build_book.build(out).parent


def _links(page: Path) -> list[str]:
    return re.findall(r'href="([^"]+)"', page.read_text(encoding="utf-8"))


def test_buttons_lead_to_the_right_files(small_book: Path) -> None:
    chapter = _links(small_book / "book" / "part" / "01-do-something.html")
    place = "book/part/01-do-something.ipynb"
    colab = [link for link in chapter if "colab" in link]
    assert colab == [f"{build_book.COLAB}/github/someone/a-book/blob/main/{place}"]
    assert f"{ADDRESS}/edit/main/{place}" in chapter
    assert any(link.startswith(f"{ADDRESS}/issues/new") for link in chapter)
    assert ADDRESS in chapter


def test_a_page_that_is_no_notebook_has_no_colab_button(small_book: Path) -> None:
    for name in ("book/part/02-read", "book/index"):
        links = _links(small_book / f"{name}.html")
        assert [link for link in links if "colab" in link] == []
        assert f"{ADDRESS}/edit/main/{name}.md" in links


def test_the_built_page_has_line_card_and_times(small_book: Path) -> None:
    html = (small_book / "book" / "part" / "01-do-something.html").read_text(encoding="utf-8")
    assert "ran in 3.0 minutes on a CPU" in html
    assert "run-card" in html
    times = (small_book / f"{book_runs.TIMES_PAGE}.html").read_text(encoding="utf-8")
    assert "Do something" in times
    assert "2026-01-01" in times


def test_the_built_page_says_what_it_is_about(small_book: Path) -> None:
    html = (small_book / "book" / "part" / "02-read.html").read_text(encoding="utf-8")
    (content,) = re.findall(r'<meta name="description" content="([^"]*)"', html)
    assert re.fullmatch("Text .quoted. & more[.]", unescape(content))


def test_icons_come_from_the_font(small_book: Path) -> None:
    found = [path for path in small_book.rglob("*.html") if "_static" not in path.parts]
    pages = [path.read_text(encoding="utf-8") for path in found]
    assert [html for html in pages if "fontawesome.js" in html] == []
    assert any("fa-solid" in html for html in pages)
    (style,) = (path.read_text(encoding="utf-8") for path in (small_book / "_static").glob("style.*.css"))
    assert "data:font/woff;" in style
    assert ".woff2" not in style, "pages fetch all icons, not the few that they show"


def test_a_run_that_does_not_say_where_it_ran_is_not_built(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "book"
    folder.mkdir(parents=True)
    (folder / "01-do-something.ipynb").write_text(json.dumps(_notebook()), encoding="utf-8")
    with pytest.raises(build_book.BuildError, match=r"machine\.json is missing.*make execute"):
        build_book.build(tmp_path)
