"""The page for practitioners is near the front, and what it begins with is short."""

import re

import yaml

from tools import repository
from tools.checks import notebooks as rules

PAGE = "book/use-it-tomorrow"


def test_it_stands_near_the_front() -> None:
    first, *_ = yaml.safe_load((repository.ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    assert PAGE in [chapter["file"] for chapter in first["chapters"]]
    front = (repository.ROOT / "book/index.md").read_text(encoding="utf-8")
    doors = re.findall(r"^:link: (\S+)$", front, re.MULTILINE)[:2]
    assert doors == ["concepts/01-say-what-transfer-is", "use-it-tomorrow"]


def test_its_box_has_fifteen_lines_at_most() -> None:
    cells = rules.load(repository.ROOT / f"{PAGE}.ipynb")["cells"]
    (box,) = re.findall(r"^:::\{admonition\} Do this first\n(.*?)^:::$", rules.source(cells[0]), re.M | re.S)
    assert 1 <= len(box.splitlines()) <= 15
    assert rules.draws(cells[3]) or rules.draws(cells[2]), "the decision flow opens the page"


def test_one_line_makes_it_the_readers_own() -> None:
    code = [rules.source(cell) for _, cell in rules.code_cells(rules.load(repository.ROOT / f"{PAGE}.ipynb"))]
    lines = "\n".join(code).splitlines()
    assert len([line for line in lines if line.startswith("folder = ")]) == 1


def test_its_paragraphs_are_short() -> None:
    notebook = rules.load(repository.ROOT / f"{PAGE}.ipynb")
    found = [p for _, text in rules.prose(notebook) for p in text.split("\n\n") if len(p.split()) > 90]
    assert [p[:60] for p in found if not p.startswith((":::", "|"))] == []
