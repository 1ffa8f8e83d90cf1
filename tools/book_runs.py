"""What an executed chapter says of its run, put on its page: minutes at the top, a card at the end.

The executed notebooks stay as they are; Sphinx reads them with these parts added. Everything comes from the
notebook (outputs, and the times that the execution recorded), from ``machine.json``, which
``build_book.py copy`` writes where the chapters are about to be executed, and from ``book/published.toml``.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx

Notebook = dict[str, Any]

MACHINE = "machine.json"
TIMES_PAGE = "book/reference/execution-times"
MEASURED_AGAIN = "measured again: "  # tlhelpers.published.check_one glues under names that begin so

_PRINTED = re.compile(
    r"(?P<edition>Full|Pocket) edition \((?P<data>[\w, .]+)\).*\n"
    r"(?P<versions>tensorflow .+); seed (?P<seed>\d+)\."
)


class RunError(Exception):
    """A notebook does not say of its run what the page has to say; the message says what to do."""


@dataclass(frozen=True)
class Check:
    """A number that the chapter compared: with a published one, or with a row of a stamped table."""

    what: str
    then: float
    tolerance: float
    now: float

    @property
    def agrees(self) -> bool:
        """Whether it lies within the tolerance."""
        return abs(self.now - self.then) <= self.tolerance


@dataclass(frozen=True)
class Run:
    """One execution of one chapter."""

    edition: str
    data: str
    versions: str
    seed: str
    began: datetime
    seconds: float
    published: list[Check]
    again: list[Check]


def duration(seconds: float) -> str:
    """Seconds as a reader wants them."""
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def _glued(notebook: Notebook) -> Iterator[tuple[str, Any]]:
    """Each name that the notebook glued, with its value; figures and tables have none that can be read."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            named = output.get("metadata", {}).get("scrapbook")
            text = output.get("data", {}).get("application/papermill.record/text/plain")
            if named and text:
                try:
                    yield named["name"], ast.literal_eval("".join(text))
                except (ValueError, SyntaxError):
                    continue  # the text of an object, not of a value


def read(notebook: Notebook, published: dict[str, Any]) -> Run:
    """What an executed notebook says of its run; `published` is what ``book/published.toml`` holds."""
    printed = "".join("".join(o.get("text", [])) for o in notebook["cells"][1]["outputs"])
    match = _PRINTED.search(printed)
    times = [c["metadata"]["execution"] for c in notebook["cells"] if "execution" in c["metadata"]]
    if match is None or not times:
        raise RunError(
            "expected the set-up cell's lines on edition, versions and seed, and times recorded by nbmake, "
            f"got {printed[:80]!r} and {len(times)} times. Execute the chapter with `make execute`."
        )
    began = min(datetime.fromisoformat(time["iopub.execute_input"]) for time in times)
    ended = max(datetime.fromisoformat(time["shell.execute_reply"]) for time in times)
    edition = match["edition"].lower()
    checks, again = {}, {}
    for name, value in _glued(notebook):
        if name in published:
            entry = published[name]
            there = entry[edition]
            what = f"{entry['what']} ({entry['unit']})"
            checks[name] = Check(what, there["value"], there["tolerance"], float(value))
        elif name.startswith(MEASURED_AGAIN):
            numbers = json.loads(value)
            again[name] = Check(
                name.removeprefix(MEASURED_AGAIN), numbers["then"], numbers["allowed"], numbers["now"]
            )
    return Run(
        edition=edition,
        data=match["data"],
        versions=match["versions"],
        seed=match["seed"],
        began=began,
        seconds=(ended - began).total_seconds(),
        published=list(checks.values()),
        again=list(again.values()),
    )


def opening(run: Run, machine: dict[str, Any]) -> str:
    """The line under the title."""
    return f"*Measured: the code on this page ran in {duration(run.seconds)} {_on(machine)}.*"


def _on(machine: dict[str, Any]) -> str:
    gpus = machine["gpus"]
    return f"on {'a CPU' if not gpus else f'{gpus} GPU and a CPU'} ({machine['machine']})"


def _table(head: str, checks: list[Check]) -> list[str]:
    rows = [f"| {head} | then | now | agrees |", "|---|--:|--:|---|"]
    for check in checks:
        numbers = f"{check.then:.4f} ± {check.tolerance:.4f} | {check.now:.4f}"
        rows.append(f"| {check.what} | {numbers} | {'yes' if check.agrees else 'no'} |")
    return ["", *rows]


def card(run: Run, machine: dict[str, Any]) -> str:
    """The reproducibility card, as Markdown."""
    lines = [
        ":::{admonition} How this page came about",
        ":class: run-card",
        f"- **Edition** {run.edition} ({run.data}), **seed** {run.seed}",
        f"- **Versions** {run.versions}",
        f"- **Run** on {run.began:%Y-%m-%d} in {duration(run.seconds)} {_on(machine)}, {machine['system']}",
        f"- **Commit** {machine['commit']}",
    ]
    if run.published:
        lines += _table("Published number, checked on this page", run.published)
    if run.again:
        lines += _table("Row of a stamped table, measured again", run.again)
    if not run.published and not run.again:
        lines += ["", "No published number is checked on this page."]
    return "\n".join([*lines, ":::"])


def add(notebook: Notebook, run: Run, machine: dict[str, Any]) -> None:
    """Put the line and the card into a notebook, in place."""
    title, _, rest = "".join(notebook["cells"][0]["source"]).partition("\n")
    notebook["cells"][0]["source"] = f"{title}\n\n{opening(run, machine)}\n{rest}"
    cell = {"cell_type": "markdown", "id": "run-card", "metadata": {}, "source": card(run, machine)}
    notebook["cells"].append(cell)


def pages(source: Path) -> list[tuple[str, str]]:
    """The pages that the table of contents lists, in its order, each with its part's caption."""
    toc = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    return [(page["file"], part["caption"]) for part in toc["parts"] for page in part["chapters"]]


def chapters(source: Path) -> dict[str, Notebook]:
    """The notebooks among them, by page."""
    found = {}
    for page, _ in pages(source):
        path = source / f"{page}.ipynb"
        if path.exists():
            found[page] = json.loads(path.read_text(encoding="utf-8"))
    return found


def title(notebook: Notebook) -> str:
    """A chapter's title."""
    return "".join(notebook["cells"][0]["source"]).partition("\n")[0].removeprefix("# ").strip()


def times_table(source: Path) -> str:
    """The table of the page of execution times, as Markdown."""
    machine, published = _records(source)
    rows, total = [], 0.0
    for page, notebook in chapters(source).items():
        run = read(notebook, published)
        total += run.seconds
        link = f"[{title(notebook)}](/{page}.ipynb)"
        rows.append(f"| {link} | {run.seconds:.0f} | {run.edition} | {run.began:%Y-%m-%d} |")
    head = ["| Chapter | Seconds | Edition | Date |", "|---|--:|---|---|"]
    last = f"| **{len(rows)} chapters** | **{total:.0f}** | | |"
    where = f"Executed {_on(machine)}, {machine['system']}. In all {duration(total)}."
    return "\n".join([where, "", ":::{table}", ":class: run-times", "", *head, *rows, last, ":::"])


def _records(source: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    machine: dict[str, Any] = json.loads((source / MACHINE).read_text(encoding="utf-8"))
    published = tomllib.loads((source / "book" / "published.toml").read_text(encoding="utf-8"))
    return machine, published


def _on_source_read(app: Sphinx, page: str, text: list[str]) -> None:
    source = Path(app.srcdir)
    if page == TIMES_PAGE:
        text[0] += f"\n{times_table(source)}\n"
    elif app.env.doc2path(page).endswith(".ipynb"):
        notebook = json.loads(text[0])
        machine, published = _records(source)
        add(notebook, read(notebook, published), machine)
        text[0] = json.dumps(notebook)


def setup(app: Sphinx) -> None:
    """Called by book_pages."""
    app.connect("source-read", _on_source_read)
