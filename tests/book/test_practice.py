"""The two pages for practitioners: short, near the front, and what they promise at their top is there."""

import re

import pytest
import yaml

from tools import repository
from tools.checks import notebooks as rules

TOMORROW, SAVE = (
    rules.load(repository.ROOT / f"book/{name}.ipynb") for name in ("use-it-tomorrow", "save-and-load")
)
BOTH = pytest.mark.parametrize("notebook", [TOMORROW, SAVE], ids=["use-it-tomorrow", "save-and-load"])


def text(notebook: rules.Notebook) -> str:
    return "\n\n".join(text for _, text in rules.markdown(notebook))


@BOTH
def test_its_box_has_fifteen_lines_at_most(notebook: rules.Notebook) -> None:
    (box,) = re.findall(r"^:::\{admonition\} Do this first\n(.*?)^:::$", text(notebook), re.M | re.S)
    assert 1 <= len(box.splitlines()) <= 15


@BOTH
def test_its_paragraphs_are_short(notebook: rules.Notebook) -> None:
    found = [p for _, prose in rules.prose(notebook) for p in prose.split("\n\n") if len(p.split()) > 90]
    assert [p[:60] for p in found if not p.startswith((":::", "|", "1. "))] == []


def test_use_it_tomorrow_stands_near_the_front_and_opens_with_a_picture() -> None:
    first, *_ = yaml.safe_load((repository.ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    assert "book/use-it-tomorrow" in [chapter["file"] for chapter in first["chapters"]]
    front = (repository.ROOT / "book/index.md").read_text(encoding="utf-8")
    doors = re.findall(r"^:link: (\S+)$", front, re.MULTILINE)[:2]
    assert doors == ["concepts/01-say-what-transfer-is", "use-it-tomorrow"]
    assert any(map(rules.draws, TOMORROW["cells"][2:4])), "the decision flow opens the page"


def test_one_line_makes_it_the_readers_own() -> None:
    lines = "\n".join(rules.source(cell) for _, cell in rules.code_cells(TOMORROW)).splitlines()
    assert len([line for line in lines if line.startswith("folder = ")]) == 1


def test_symptoms_lead_to_sections() -> None:
    links = set(re.findall(r"\]\(#([^)]+)\)", text(SAVE)))
    headings = re.findall(r"^##+ (.+)$", text(SAVE), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert links
    assert links <= anchors


def test_each_fault_has_a_symptom_a_cause_and_a_cure() -> None:
    faults = re.split(r"^## (?=\d)", text(SAVE).partition("## Summary")[0], flags=re.MULTILINE)[1:]
    assert len(faults) == 8
    words = ("**Symptom.**", "**Cause.**", "**Cure.**")
    assert [fault[:40] for fault in faults if not all(word in fault for word in words)] == []
