"""Each term of the glossary: the page that explains it, and no page before that one leaves it unexplained.

An entry of the glossary ends with "See" and a link to the page that explains its term. An entry without one
is a word that the reader brings along. On every page the build makes a term's first use in the prose a link
to the glossary (`tools.book.links`), but for a few words that are too common for that.

``python -m tests.book.test_terms`` lists each term with its first use and its explanation.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tools import repository
from tools.book import links
from tools.checks import notebooks as rules

TOC = yaml.safe_load((repository.ROOT / "_toc.yml").read_text(encoding="utf-8"))
LISTED = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
PAGES = [page for page in LISTED if not page.startswith("book/reference/")]


def glossary() -> Iterator[tuple[list[str], str]]:
    """The entries' terms and definitions."""
    text = (repository.ROOT / f"{links.GLOSSARY}.md").read_text("utf-8")
    for block in text.partition(":sorted:\n")[2].partition("```")[0].strip().split("\n\n"):
        terms = re.findall(r"^\S.*", block, re.MULTILINE)
        yield terms, " ".join(re.findall(r"^ +(.*)", block, re.MULTILINE))


def entries() -> Iterator[tuple[list[str], str | None]]:
    """An entry's terms, and the page that explains them."""
    folder = (repository.ROOT / links.GLOSSARY).parent
    for terms, definition in glossary():
        at = re.search(r"See \[\]\(([^)]+)\)\.$", definition)
        home = at and (folder / at[1]).resolve().relative_to(repository.ROOT).with_suffix("")
        linked = [term for term in terms if term not in links.NOT_LINKED]  # "freezing map", not "map"
        yield linked or terms, home.as_posix() if home else None


def paragraphs(page: str) -> list[str]:
    """A page's running text, without code, tables, headings and the addresses of links."""
    (path,) = (p for end in (".md", ".ipynb") if (p := Path(f"{repository.ROOT / page}{end}")).exists())
    if path.suffix == ".md":
        notebook = {"cells": [{"cell_type": "markdown", "source": path.read_text("utf-8")}]}
    else:
        notebook = rules.load(path)
    text = "\n\n".join(text for _, text in rules.prose(notebook))
    found = re.split(r"\n\s*\n|\n(?=[-|#:`])", re.sub(r"<[^>]+>", " ", text))
    return [each for each in found if not each.startswith(("|", "#", "```", ":"))]


def uses(page: str, terms: list[str]) -> list[str]:
    """The paragraphs that use a term: whole words, singular or plural, as `links` finds them."""
    either = "|".join(map(re.escape, terms)).replace(r"\ ", r"\s+")
    word = re.compile(rf"(?<![\w-])(?:{either})s?(?![\w-])", re.IGNORECASE)
    return [each for each in paragraphs(page) if word.search(each)]


def said(page: str, terms: list[str]) -> bool:
    """Whether a page gives its reader the meaning: a link that the build makes, or a mark on the word."""
    marked = re.compile(rf"[*_`(](?:{'|'.join(map(re.escape, terms))})s?[*_`)]", re.IGNORECASE)
    return not links.NOT_LINKED.issuperset(terms) or any(map(marked.search, uses(page, terms)))


@pytest.mark.parametrize(("terms", "home"), [pytest.param(*e, id=e[0][0]) for e in entries()])
def test_a_term_is_explained_where_it_is_first_used(terms: list[str], home: str | None) -> None:
    first = next((page for page in PAGES if uses(page, terms)), None)
    assert first, f"{terms}: no page uses it; take it out of the glossary"
    if home is None:
        return
    assert uses(home, terms), f"{terms}: {home} is said to explain it, and does not use it"
    before = PAGES[: PAGES.index(home)]
    assert [page for page in before if uses(page, terms) and not said(page, terms)] == []


def test_each_entry_begins_with_a_sentence() -> None:
    says = [links.first_sentence(definition) for _, definition in glossary()]
    assert [text for text in says if not re.fullmatch(r"[A-Z].*[^.]\.", text)] == []
    assert {term for terms, _ in glossary() for term in terms} >= links.NOT_LINKED


if __name__ == "__main__":
    for terms, home in entries():
        first = next((page for page in PAGES if uses(page, terms)), "nowhere")
        print(f"{terms[0]:28}{first:46}{home or 'known beforehand'}")
