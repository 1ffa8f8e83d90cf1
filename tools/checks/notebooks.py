"""What a chapter must look like; each rule answers with lines that say what is wrong.

tests/book checks every chapter. What running or building it proves is left to that: its kernel is there, and
what its text shows is glued.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools import setup_cell

Notebook = dict[str, Any]

MOST_LINES = 14
OPENING = ["What you'll do", "What you'll learn", "What you'll need"]
CLOSING = ["Summary", "On your own", "Further reading"]

_GLUE_ROLE = re.compile(r"\{glue(?::\w+)?\}`([^`]+)`")
_GLUE_BLOCK = re.compile(r"^[`:]{3,}\{glue(?::\w+)?\}\s*(\S+)", re.MULTILINE)
# A result: a percentage, points of a percentage, or a fraction with two digits or more.
_RESULT = re.compile(
    r"\d(?:\.\d+)?\s*(?:%|per\s?cent|percent)|\d+\.\d+ points|(?<![\w.])[01]\.\d{2,}(?!\w|\.\d)"
)
# Settings such as 0.001 are powers of ten, and no results.
_SETTING = re.compile(r"0\.0*1")
_QUOTED = re.compile(r"\b(?:the article|published)\b", re.IGNORECASE)
# Calls on these draw; those that only set something up, or put it away, do not.
_DRAWING = {"plots", "plt", "sns"}
# These show pictures, which the dark theme must not turn into their negatives.
_PICTURES = {"images", "heat_maps", "before_after", "imshow"}
# Calls that keep the books: what a chapter shows of itself, and no lesson.
_BOOKS = {"glue", "check", "measured", "check_one"}
_NOT_DRAWING = {"close", "set_theme", "set_palette", "use", "rc", "color_palette"}


def source(cell: dict[str, Any]) -> str:
    """A cell's text, however the file holds it."""
    return "".join(cell["source"])


def code_cells(notebook: Notebook) -> Iterator[tuple[int, dict[str, Any]]]:
    """The code cells, each with its place among all cells, counted from 1."""
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] == "code":
            yield number, cell


def markdown(notebook: Notebook) -> Iterator[tuple[int, str]]:
    """The markdown cells' text, each with its place."""
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] == "markdown":
            yield number, source(cell)


def prose(notebook: Notebook) -> Iterator[tuple[int, str]]:
    """The same without code, glue, and links' addresses."""
    for number, text in markdown(notebook):
        # Directives (```{note}) keep their text; plain fences (```python) are code.
        text = re.sub(r"^(`{3,})(?!\{)[^\n]*\n.*?^\1\s*$", "", text, flags=re.MULTILINE | re.DOTALL)
        text = re.sub(r"(?:\{[\w:]+\})?(?<!`)(`{1,2})(?!`).+?(?<!`)\1(?!`)", " ", text)
        text = re.sub(r"\]\([^)]*\)", "]", text)
        text = re.sub(r"<?https?://\S+", " ", text)
        yield number, text


def headings(notebook: Notebook, level: int) -> list[str]:
    """The headings of one level, in order."""
    marked = re.compile(rf"^{'#' * level}\s+(.+?)\s*$", re.MULTILINE)
    return [title for _, text in prose(notebook) for title in marked.findall(text)]


def exercises(notebook: Notebook) -> str:
    """The section "On your own", with its solutions."""
    text = "\n".join(text for _, text in markdown(notebook))
    return text.partition("## On your own")[2].partition("## Further reading")[0]


def solutions(notebook: Notebook) -> list[str]:
    """The code of the exercises' solutions, in their order: each runs after the chapter's last cell."""
    return re.findall(r"^```python\n(.*?)^```", exercises(notebook), flags=re.MULTILINE | re.DOTALL)


def dotted(node: ast.expr) -> list[str]:
    """The names in ``a.b.c``, or in ``a.b(x).c`` as far as they are names."""
    if isinstance(node, ast.Attribute):
        return [*dotted(node.value), node.attr]
    if isinstance(node, ast.Call):
        return dotted(node.func)
    return [node.id] if isinstance(node, ast.Name) else []


def stripped(notebook: Notebook) -> list[str]:
    """No outputs, no execution counts."""
    found = [number for number, cell in code_cells(notebook) if cell["outputs"] or cell["execution_count"]]
    return [f"cell {number} holds outputs or a count: run nbstripout" for number in found]


def skeleton(notebook: Notebook) -> list[str]:
    """One title, at the very top; the fixed sections at both ends; a folded solution."""
    wrong = []
    cells = notebook["cells"]
    if not cells or cells[0]["cell_type"] != "markdown" or not source(cells[0]).startswith("# "):
        wrong.append("the first cell does not begin with the title (# ...)")
    if len(headings(notebook, 1)) != 1:
        wrong.append(f"expected one title, found {headings(notebook, 1)}")
    sections = headings(notebook, 2)
    if sections[: len(OPENING)] != OPENING:
        wrong.append(f"expected to open with {OPENING}, found {sections[: len(OPENING)]}")
    if sections[-len(CLOSING) :] != CLOSING:
        wrong.append(f"expected to close with {CLOSING}, found {sections[-len(CLOSING) :]}")
    if "{dropdown}" not in exercises(notebook):
        wrong.append("'On your own' has no solution in a {dropdown}")
    return wrong


def short_cells(notebook: Notebook) -> list[str]:
    """One idea a cell."""
    return [
        f"cell {number} has {lines} lines, expected {MOST_LINES} at most"
        for number, cell in code_cells(notebook)
        if (lines := len(source(cell).rstrip().splitlines())) > MOST_LINES
        and not setup_cell.is_setup_cell(cell)
    ]


def calls(cell: dict[str, Any]) -> list[list[str]]:
    """The dotted names of what a cell calls."""
    return [dotted(node.func) for node in ast.walk(ast.parse(source(cell))) if isinstance(node, ast.Call)]


def draws(cell: dict[str, Any]) -> bool:
    """Whether a code cell makes a figure, as far as its text tells."""
    return any(
        (_DRAWING & set(names[:-1]) or "plot" in names[1:]) and names[-1] not in _NOT_DRAWING
        for names in calls(cell)
    )


def folded(notebook: Notebook) -> list[str]:
    """A cell that only keeps the books, or takes four lines or more to draw, is closed on the page."""
    wrong = []
    for number, cell in code_cells(notebook):
        if "hide-input" in cell["metadata"].get("tags", []):
            continue
        names, nodes = calls(cell), list(ast.walk(ast.parse(source(cell))))
        lesson = any(n[:1] == ["tl"] and "plots" not in n for n in names)
        lesson |= any({"fit", "predict", "compile"} & set(n[-1:]) for n in names)
        lesson |= any(isinstance(node, ast.Name) and node.id in ("keras", "tf") for node in nodes)
        if lesson:
            continue
        books = any(_BOOKS & set(n[-1:]) and n[:1] in (["page"], ["studies"]) for n in names)
        alone = not any(isinstance(node, ast.FunctionDef) for node in nodes)
        books |= alone and any(isinstance(node, ast.Assert) for node in nodes)
        if books or (draws(cell) and len(source(cell).strip().splitlines()) >= 4):
            wrong.append(f"cell {number} keeps the books or draws, and is open: give it the tag hide-input")
    return wrong


def figures_have_text(notebook: Notebook) -> list[str]:
    """A cell that draws says what the figure shows, and what to see there; photographs are marked as such."""
    wrong = []
    for number, cell in code_cells(notebook):
        if not draws(cell):
            continue
        about = cell["metadata"].get("mystnb", {})
        image, caption = about.get("image", {}), about.get("figure", {}).get("caption", "")
        draws_without, add = f"cell {number} draws without", "to its metadata's mystnb"
        if len(image.get("alt", "").split()) < 4:
            wrong.append(f"{draws_without} a text for it: add image, alt {add}")
        if len(caption.split()) < 4:
            wrong.append(f"{draws_without} a caption: add figure, caption {add}")
        if _RESULT.search(caption):
            wrong.append(f"cell {number} types a result in its caption: {caption[:70]!r}; say what to see")
        pictures = any(_PICTURES & set(names[-1:]) for names in calls(cell))
        if pictures and "picture" not in image.get("classes", "").split():
            wrong.append(f"cell {number} shows pictures, not marked as such: add image, classes {add}")
    return wrong


def no_typed_results(notebook: Notebook) -> list[str]:
    """Results come through glue; only the article's own may be typed, where the line names it."""
    wrong = []
    for number, text in prose(notebook):
        for line in text.splitlines():
            results = [r for r in _RESULT.findall(line) if not _SETTING.fullmatch(r)]
            if results and not _QUOTED.search(line):
                wrong.append(f"cell {number} types a result: {line.strip()[:70]!r}; glue it")
    return wrong


def shown_keys(text: str) -> list[tuple[str | None, str]]:
    """The keys that markdown shows, each with the other file that glues it, or None for its own."""
    found: list[tuple[str | None, str]] = []
    for shown in _GLUE_ROLE.findall(text) + _GLUE_BLOCK.findall(text):
        other, apart, rest = shown.rpartition("::")
        found.append((other if apart and other else None, rest.split(":")[0].strip()))
    return found


_ONLY = re.compile(r"^:::\{only\} (full|pocket)\n(.*?)^:::$", re.MULTILINE | re.DOTALL)


def editions_apart(notebook: Notebook) -> list[str]:
    """A sentence on one edition has that edition's values, whichever is built."""
    wrong = []
    for number, text in markdown(notebook):
        for paragraph in re.split(r"\n\s*\n|\n(?=- )", _ONLY.sub("", text)):
            named = re.search(r"\b(?:full|pocket) edition\b", paragraph)
            own = [key for _, key in shown_keys(paragraph) if not key.startswith("full.")]
            if named and own:
                wrong.append(
                    f"cell {number} speaks of one edition and shows {own} of whichever is built: "
                    "take full.KEY, or put it into :::{only}"
                )
    return wrong


def links_have_words(notebook: Notebook) -> list[str]:
    """In Colab nobody fills the words of a link in."""
    texts = [source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return [
        f"the link {link} has no words: take the title of its page"
        for text in texts
        for link in re.findall(r"\[\]\([^)]*\)", text)
    ]


RULES = (
    stripped,
    setup_cell.faults,
    skeleton,
    short_cells,
    folded,
    figures_have_text,
    no_typed_results,
    editions_apart,
    links_have_words,
)


def load(path: Path) -> Notebook:
    """A notebook's JSON."""
    notebook: Notebook = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def check(path: Path) -> list[str]:
    """Everything that is wrong with the chapter at ``path``; empty if nothing is."""
    notebook = load(path)
    return [fault for rule in RULES for fault in rule(notebook)]
