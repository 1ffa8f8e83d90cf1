"""What an executed chapter says of its run, put on its page: minutes at the top, a card at the end.

The executed notebooks stay as they are; Sphinx reads them with these parts added. Everything comes from the
notebook (what it glued, and the times that the execution recorded), from ``machine.json``, which
``build copy`` writes where the chapters are about to be executed, and from ``book/published.toml``. The table
of families of networks has a page of its own.
"""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx

from tools import repository
from tools.book import families
from tools.checks.families import read as read_families

Notebook = dict[str, Any]

MACHINE = "machine.json"
TIMES_PAGE = "book/reference/execution-times"
RUN = "run"  # the name under which tlhelpers.page.start_chapter glues its record
SOLUTION = "solution"  # the tag of a cell that an exercise's solution gave: its time is not the chapter's
MEASURED_AGAIN = "measured again: "  # tlhelpers.studies.check_one glues under names that begin so


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
    """One execution of one chapter; `facts` is what `tlhelpers.page.start_chapter` said of it."""

    facts: dict[str, Any]
    began: datetime
    seconds: float
    published: list[Check]
    again: list[Check]


def duration(seconds: float) -> str:
    """Seconds as a reader wants them."""
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def glued(notebook: Notebook) -> Iterator[tuple[str, Any]]:
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
    said = dict(glued(notebook))
    chapter = [c for c in notebook["cells"] if SOLUTION not in c["metadata"].get("tags", [])]
    times = [c["metadata"]["execution"] for c in chapter if "execution" in c["metadata"]]
    if RUN not in said or not times:
        raise RunError(
            f"expected a record glued as {RUN!r} by the set-up cell, and times recorded by nbmake, got "
            f"{'no record' if RUN not in said else 'it'} and {len(times)} times. "
            "Execute the chapter with `make execute`."
        )
    facts = json.loads(said[RUN])
    checks, again = [], []
    for name, value in said.items():
        if name in published:
            entry = published[name]
            there = entry[facts["edition"]]
            what = f"{entry['what']} ({entry['unit']})"
            checks.append(Check(what, there["value"], there["tolerance"], float(value)))
        elif name.startswith(MEASURED_AGAIN):
            row = json.loads(value)
            again.append(Check(name.removeprefix(MEASURED_AGAIN), row["then"], row["allowed"], row["now"]))
    began = min(datetime.fromisoformat(time["iopub.execute_input"]) for time in times)
    ended = max(datetime.fromisoformat(time["shell.execute_reply"]) for time in times)
    return Run(facts, began, (ended - began).total_seconds(), checks, again)


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


def card(run: Run, machine: dict[str, Any], by_hand: str | None = None) -> str:
    """The reproducibility card, as Markdown; `by_hand` names the notebook where no button opens it."""
    facts = run.facts
    trained = f"{facts['dataset']}, {facts['backbone']}"
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        ":::{admonition} How this page came about",
        ":class: run-card",
        f"- **Edition** {facts['edition']} ({trained}), **seed** {facts['seed']}",
        *([f"- **Weights** {facts['weights']}"] if facts["weights"] else []),
        f"- **Versions** {versions}",
        f"- **Run** on {run.began:%Y-%m-%d} in {duration(run.seconds)} {_on(machine)}, {machine['system']}",
        f"- **Commit** {machine['commit']}",
    ]
    if by_hand:
        lines.append(
            "- **Run it yourself** in a copy of the repository: `pip install -e '.[tensorflow,text]'`, then "
            f"`{by_hand}`"
        )
    if run.published:
        lines += _table("Published number, checked on this page", run.published)
    if run.again:
        lines += _table("Row of a stamped table, measured again", run.again)
    if not run.published and not run.again:
        lines += ["", "No published number is checked on this page."]
    return "\n".join([*lines, ":::"])


def add(notebook: Notebook, run: Run, machine: dict[str, Any], by_hand: str | None = None) -> None:
    """Put the line and the card into a notebook, in place; see `card`."""
    title, _, rest = "".join(notebook["cells"][0]["source"]).partition("\n")
    notebook["cells"][0]["source"] = f"{title}\n\n{opening(run, machine)}\n{rest}"
    cell = {"cell_type": "markdown", "id": "run-card", "metadata": {}}
    cell["source"] = card(run, machine, by_hand)
    notebook["cells"].append(cell)


def chapters(source: Path) -> dict[str, Notebook]:
    """The notebooks that the table of contents lists, in its order, by page."""
    toc = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    listed = [page["file"] for part in toc.get("parts", []) for page in part["chapters"]]
    paths = {page: source / f"{page}.ipynb" for page in listed}
    return {
        page: json.loads(path.read_text(encoding="utf-8")) for page, path in paths.items() if path.exists()
    }


def title(notebook: Notebook) -> str:
    """A chapter's title."""
    return "".join(notebook["cells"][0]["source"]).partition("\n")[0].removeprefix("# ").strip()


def times_table(source: Path) -> str:
    """The table of the page of execution times, as Markdown."""
    machine, published = records(source)
    rows, total = [], 0.0
    for page, notebook in chapters(source).items():
        run = read(notebook, published)
        total += run.seconds
        link = f"[{title(notebook)}](/{page}.ipynb)"
        rows.append(f"| {link} | {run.seconds:.0f} | {run.facts['edition']} | {run.began:%Y-%m-%d} |")
    head = ["| Chapter | Seconds | Edition | Date |", "|---|--:|---|---|"]
    last = f"| **{len(rows)} chapters** | **{total:.0f}** | | |"
    where = f"Executed {_on(machine)}, {machine['system']}. In all {duration(total)}."
    return "\n".join([where, "", ":::{table}", ":class: run-times", "", *head, *rows, last, ":::"])


def records(source: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Where the chapters were executed, and what is published."""
    machine: dict[str, Any] = json.loads((source / MACHINE).read_text(encoding="utf-8"))
    published = tomllib.loads((source / "book" / "published.toml").read_text(encoding="utf-8"))
    return machine, published


def _on_source_read(app: Sphinx, page: str, text: list[str]) -> None:
    source = Path(app.srcdir)
    if page == TIMES_PAGE:
        text[0] += f"\n{times_table(source)}\n"
    elif page == families.PAGE:
        text[0] += families.as_page(read_families())
    elif app.env.doc2path(page).endswith(".ipynb"):
        notebook = json.loads(text[0])
        machine, published = records(source)
        by_hand = None if repository.address() else f"{page}.ipynb"
        add(notebook, read(notebook, published), machine, by_hand)
        text[0] = json.dumps(notebook)


def setup(app: Sphinx) -> None:
    """Called by pages."""
    app.connect("source-read", _on_source_read)
