"""The page on saving and loading: its box is short, its symptoms lead to sections, each fault has a cure."""

import re

from tools import repository
from tools.checks import notebooks as rules

NOTEBOOK = rules.load(repository.ROOT / "book/save-and-load.ipynb")
TEXT = "\n\n".join(rules.source(cell) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")


def test_its_box_has_fifteen_lines_at_most() -> None:
    (box,) = re.findall(r"^:::\{admonition\} Do this first\n(.*?)^:::$", TEXT, re.M | re.S)
    assert 1 <= len(box.splitlines()) <= 15


def test_its_symptoms_lead_to_sections() -> None:
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    headings = re.findall(r"^##+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert links
    assert links <= anchors


def test_each_fault_has_a_symptom_a_cause_and_a_cure() -> None:
    faults = re.split(r"^## (?=\d)", TEXT.partition("## Summary")[0], flags=re.MULTILINE)[1:]
    assert len(faults) == 8
    words = ("**Symptom.**", "**Cause.**", "**Cure.**")
    assert [fault[:40] for fault in faults if not all(word in fault for word in words)] == []


def test_its_paragraphs_are_short() -> None:
    found = [p for _, text in rules.prose(NOTEBOOK) for p in text.split("\n\n") if len(p.split()) > 90]
    assert [p[:60] for p in found if not p.startswith((":::", "|", "1. "))] == []
