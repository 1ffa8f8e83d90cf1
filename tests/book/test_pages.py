"""What the build adds to pages: minutes and card, descriptions, links to words; test_contract builds some."""

import re
import tomllib
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
import yaml
from docutils import nodes
from docutils.core import publish_doctree

from tlhelpers import page, studies
from tools import repository
from tools.book import links, pages, runs
from tools.checks import notebooks

Make = Callable[..., dict[str, Any]]
BOOK = repository.ROOT / "book"
PUBLISHED = {
    "a_share": {"what": "A share", "unit": "share of ten", "full": {"value": 0.5, "tolerance": 0.1}},
}
MACHINE = {"machine": "2 cores, Some Processor", "system": "Linux x86_64", "gpus": 0, "commit": "0123456789"}


def test_a_page_says_how_long_it_ran_and_on_what(chapter: Make) -> None:
    notebook = chapter({"a_share": 0.55, "n_digits": 8})
    runs.add(notebook, runs.read(notebook, PUBLISHED), MACHINE)
    line = "*Measured: the code on this page ran in 3.0 minutes on a CPU (2 cores, Some Processor).*"
    assert notebook["cells"][0]["source"].startswith(f"# Train the head\n\n{line}\n\nText of")
    card = notebook["cells"][-1]["source"]
    for expected in (
        "**Edition** full (mnist, a_backbone), **seed** 0",
        "**Weights** w.h5",
        "**Versions** tensorflow 2.21.0, Python 3.11.9",
        "2026-01-01 in 3.0 minutes on a CPU (2 cores, Some Processor), Linux x86_64",
        "0123456789",
        "| A share (share of ten) | 0.5000 ± 0.1000 | 0.5500 | yes |",
    ):
        assert expected in card
    assert "n_digits" not in card


def test_folded_cells_with_one_output_are_one(chapter: Make) -> None:
    seen = {"output_type": "display_data", "metadata": {}, "data": {"text/plain": "1"}}
    glues, shows = (chapter({"a": 1}, *some, tags=["hide-input"])["cells"][-1] for some in ((), (seen,)))
    text, open_one = chapter({})["cells"][0], chapter({})["cells"][-1]
    (both,) = pages.fold([glues, {**shows, "source": ["b = 1\n", "c"]}])
    assert both["source"] == f"{glues['source']}\n\nb = 1\nc"
    assert both["outputs"] == [*glues["outputs"], *shows["outputs"]]
    assert both["outputs"][-1] == seen
    figure = {**shows, "metadata": {"tags": ["hide-input"], "mystnb": {"figure": {}}}}
    (one,) = pages.fold([glues, glues, figure, glues])
    assert one["metadata"] == figure["metadata"]
    apart = [shows, shows, text, glues, open_one, glues]
    assert pages.fold(apart) == apart


def test_the_card_says_what_does_not_agree_and_what_was_not_checked(chapter: Make) -> None:
    far, none = (runs.read(chapter(glued), PUBLISHED) for glued in ({"a_share": 0.7}, {}))
    assert "| 0.7000 | no |" in runs.card(far, {**MACHINE, "gpus": 2})
    assert "2 GPU and a CPU" in runs.card(far, {**MACHINE, "gpus": 2})
    assert "No published number" in runs.card(none, MACHINE)
    assert "Run it yourself" not in runs.card(none, MACHINE)
    assert "then `book/part/01-train.ipynb`" in runs.card(none, MACHINE, "book/part/01-train.ipynb")


def test_a_row_measured_again_stands_on_the_card(chapter: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, Any] = {}
    scores = {"seed": [0, 1, 2], "test_accuracy": [0.90, 0.91, 0.92], "cpu_seconds": 1.0}
    rows = pd.DataFrame({"edition": "full", "depth": "all", **scores})
    monkeypatch.setattr(page, "glue", said.__setitem__)
    monkeypatch.setattr(page, "measured", lambda _table: rows)
    again = {"again": lambda _edition, _row: (0.905, 500), "like": ("depth",)}
    study = studies.skeleton.Study("a_table", ("depth", "seed"), lambda _: [], lambda *_: {}, **again)
    edition = page.Edition("full", "mnist", "a_backbone", "a test")
    studies.check_one(study, edition=edition, which=1)
    card = runs.card(runs.read(chapter(said), PUBLISHED), MACHINE)
    assert "| test accuracy, depth all, seed 1 | 0.9100 ± 0.0300 | 0.9050 | yes |" in card


def test_the_card_says_what_start_chapter_printed(
    chapter: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: dict[str, Any] = {}
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    monkeypatch.setattr(page.editions, "glue", said.__setitem__)
    with mpl.rc_context():
        page.start_chapter(seed=3)
    versions = capsys.readouterr().out.splitlines()[1].removesuffix("; seed 3.")
    told = f"- **Edition** pocket (digits, mobilenet_v2_glyphs), **seed** 3\n- **Versions** {versions}\n"
    assert told in runs.card(runs.read(chapter(said), PUBLISHED), MACHINE)


@pytest.mark.parametrize("spoil", ["outputs", "metadata"])
def test_a_notebook_without_its_run_is_refused(spoil: str, chapter: Make) -> None:
    notebook = chapter({})
    for cell in notebook["cells"]:
        cell[spoil] = {}
    with pytest.raises(runs.RunError, match="make execute"):
        runs.read(notebook, PUBLISHED)


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


def test_a_link_says_the_first_sentence_of_an_entry() -> None:
    assert links.first_sentence("the share that 0.5 is.\nMore; of it.") == "The share that 0.5 is."


def test_terms_become_links_once_and_as_whole_words() -> None:
    document = publish_doctree(PAGE)
    terms = ("head", "source", "source task")
    links.link_terms(document, [links.Entry((t,), f"#{t}", "Says.") for t in terms])
    found = [node for node in document.findall(nodes.reference) if "term-link" in node["classes"]]
    assert [link.astext().replace("\n", " ") for link in found] == ["heads", "Source task"]
    assert found[0]["reftitle"] == "Says."
    # Of all the heads in that sentence, it is this one.
    before = found[0].parent.children[found[0].parent.index(found[0]) - 1]
    assert before.astext().endswith("Two ")


def test_the_front_page_shows_the_model_that_its_chapter_makes() -> None:
    box = re.compile(r'<div class="digit-pad"([^>]*)>')
    (front,) = box.findall((BOOK / "index.md").read_text("utf-8"))
    cells = notebooks.load(BOOK / "mnist/08-go-beyond-the-article.ipynb")["cells"]
    (chapter,) = (found for cell in cells for found in box.findall(notebooks.source(cell)))
    asked, there = (dict(re.findall(r'data-(\w+)="([^"]*)"', each)) for each in (front, chapter))
    there = {name: f"mnist/{at}" if name != "cut" else at for name, at in there.items()}
    assert asked == {name: there[name] for name in ("ours", "digits", "cut")}


def test_the_citation_is_of_this_version() -> None:
    project = tomllib.loads((repository.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((repository.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"]
    text = (BOOK / "reference" / "cite.md").read_text(encoding="utf-8")
    assert f"version {project['version']}" in text
    assert citation["title"] in text
    assert project["license"] in citation["license"]
