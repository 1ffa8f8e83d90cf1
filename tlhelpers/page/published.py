"""Results that were published, and whether today's agree; what the article printed.

A result is a value with a tolerance, per edition, in ``book/published.toml``. What is too dear for each run
stands in a stamped table of ``book/measured``, made by ``make measure``.
"""

import datetime
import functools
import math
import os
import platform
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tlhelpers._errors import unknown_name

from . import editions
from ._glue import glue

__all__ = [
    "ARTICLE_TEST",
    "Disagreement",
    "Result",
    "article_history",
    "check",
    "glue",
    "measured",
    "origin",
    "result",
    "stamp",
    "tolerance",
]

ARTICLE_TEST = {"loss": 0.5697, "accuracy": 0.8434}
"""What the article printed for its 10,000 test images."""


class Disagreement(AssertionError):
    """A number computed now lies outside the tolerance of the published one."""


@dataclass(frozen=True)
class Result:
    """One published result in one edition: the mean over its seeds, and how far another run may lie."""

    name: str
    what: str
    unit: str
    value: float
    tolerance: float
    seeds: tuple[int, ...]


_STAMP = ("commit", "date", "machine")
_WRITTEN = "Take the file from the repository again, or let `make measure` write it."


def _book() -> Path:
    """The folder with the published files: inside an installed package, else the repository's book/."""
    package = Path(__file__).parents[1]
    return package if (package / "published.toml").exists() else package.parent / "book"


def result(name: str, *, edition: editions.Edition | None = None) -> Result:
    """Look a published result up, by its key in ``book/published.toml``; the current edition's by default.

    Raises LookupError if nothing is published under that name for that edition, ValueError if the file is not
    as `make measure` writes it.

    Examples
    --------
    >>> from tlhelpers import page
    >>> pocket = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> page.result("refreshed_test_accuracy", edition=pocket).unit
    'share of the test digits'
    """
    try:
        entries = tomllib.loads((_book() / "published.toml").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"published.toml: expected results, got {error}. {_WRITTEN}") from error
    if name not in entries:
        raise unknown_name("published result", name, entries)
    entry, which = entries[name], (edition or editions.current()).name
    if isinstance(entry, dict) and which not in entry:
        raise LookupError(
            f"published result {name!r}: expected a value for the {which} edition, got none. "
            "Run `make measure` in that edition first."
        )
    try:
        there = entry[which]
        value, allowed = (float(there[each]) for each in ("value", "tolerance"))
        seeds = tuple(int(seed) for seed in there["seeds"])
        found = Result(name, str(entry["what"]), str(entry["unit"]), value, allowed, seeds)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"published.toml, {name}: expected what, unit, value, tolerance, seeds, got {error!r}. {_WRITTEN}"
        ) from error
    if not (math.isfinite(value) and 0 < allowed < math.inf) or len(seeds) < 3:
        raise ValueError(
            f"published.toml, {name}: expected a finite value, a finite tolerance above 0 and three seeds or "
            f"more, got {found}. {_WRITTEN}"
        )
    return found


def check(name: str, value: float, *, edition: editions.Edition | None = None) -> float:
    """Compare a number computed now with the published one, and offer it to the prose.

    Takes its key in ``book/published.toml``, the number, and the edition that it was computed in, by default
    the current one. Prints one line and gives the number back. The text can then use it as
    ``{glue:text}`name:.4f```.

    Raises
    ------
    Disagreement
        If it lies further from the published value than the tolerance, or is not a number.
    LookupError
        If nothing is published under that name for that edition.

    Notes
    -----
    Explained in the reading guide.

    Examples
    --------
    >>> from tlhelpers import page
    >>> pocket = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> page.check("refreshed_test_accuracy", -1.0, edition=pocket)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    tlhelpers.page.published.Disagreement: refreshed_test_accuracy ...
    """
    expected = result(name, edition=edition)
    value = float(value)
    if not abs(value - expected.value) <= expected.tolerance:
        raise Disagreement(
            f"{name} ({expected.what}): expected {expected.value:.4f} within {expected.tolerance:.4f}, got "
            f"{value:.4f}. If you changed a setting in this chapter, that is expected. If the recipe "
            "was meant to change, run `make measure` and commit what it writes. If neither, something broke."
        )
    recorded = f"this book recorded {expected.value:.4f} ± {expected.tolerance:.4f}"
    print(f"{expected.what}: {value:.4f}; {recorded}: agrees.")
    glue(name, value)
    return value


def tolerance(values: Sequence[float], *, examples: int | None = None, gap: float | None = None) -> float:
    """How far another run may lie from the mean of these runs, three or more, with a seed each.

    Three standard deviations over the seeds, but at least two binomial standard errors, sqrt(p (1 - p) / n),
    where the value is a share of `examples` counted ones. Never more than half the `gap` to the value that it
    is claimed to differ from: a check that passes on the wrong side of its claim would be none.

    Examples
    --------
    >>> from tlhelpers import page
    >>> round(page.tolerance([0.90, 0.91, 0.92], examples=10_000), 3)
    0.03
    >>> page.tolerance([0.90, 0.91, 0.92], gap=0.04)
    0.02
    """
    if len(values) < 3:
        raise ValueError(f"values: expected those of at least three seeds, got {len(values)}. Measure more.")
    wide = 3 * float(np.std(values, ddof=1))
    if examples is not None:
        share = float(np.mean(values))
        wide = max(wide, 2 * math.sqrt(share * (1 - share) / examples))
    return wide if gap is None else min(wide, gap / 2)


def measured(name: str) -> pd.DataFrame:
    """A stamped table of ``book/measured``: what ``make measure`` found, with commit, date and machine.

    Raises LookupError if there is no such table, ValueError if it is not as `make measure` writes it: each
    row whole, with its stamp, and every accuracy from 0 to 1.

    Examples
    --------
    >>> from tlhelpers import page
    >>> {"commit", "date", "machine"} <= set(page.measured("fine_tuning").columns)
    True
    """
    folder = _book() / "measured"
    path = folder / f"{name}.csv"
    if name not in (names := [file.stem for file in folder.glob("*.csv")]):
        raise unknown_name("measured table", name, names)
    try:
        table = pd.read_csv(path, dtype={"commit": str})
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name}: expected a table, got {error}. {_WRITTEN}") from error
    if table.empty or not set(_STAMP) <= set(table) or table[list(_STAMP)].isna().any(axis=None):
        raise ValueError(f"{path.name}: expected rows with {', '.join(_STAMP)}, got some without. {_WRITTEN}")
    for column in table.filter(regex="accuracy$"):
        given = table[column].dropna()
        if not pd.to_numeric(given, errors="coerce").between(0, 1).all():
            raise ValueError(f"{path.name}: expected {column} from 0 to 1, got others. {_WRITTEN}")
    return table


def origin(*tables: pd.DataFrame) -> None:
    """Show when, at which commit and on what machine rows of stamped tables were measured.

    Each table's stamps take a line each. Of more than three, one line gives the dates, how many commits, and
    the machines; a click on it shows the commits.
    """
    from IPython.display import publish_display_data

    for table in tables:
        rows = table[["date", "machine", "commit"]].drop_duplicates()
        if len(rows) <= 3:
            print(*("measured: " + " ".join(row) for row in rows.to_numpy()), sep="\n")
            continue
        dates, machines, commits = (rows[each].unique().tolist() for each in rows)
        when = " to ".join(sorted({min(dates), max(dates)}))
        said = f"measured: {when}, {len(commits)} commits, on {'; '.join(machines)}"
        hidden = f"<details><summary>{said}</summary>{', '.join(commits)}</details>"
        publish_display_data({"text/html": hidden})  # type: ignore[no-untyped-call]


def stamp() -> dict[str, str]:
    """What a stamped table says of its origin: commit, date and machine.

    The commit of this clone has ten digits, and "-dirty" where code differs from it; it is "none" outside a
    clone. The date is UTC; the machine its cores and processor.

    Examples
    --------
    >>> from tlhelpers import page
    >>> list(page.stamp())
    ['commit', 'date', 'machine']
    """
    git = functools.partial(subprocess.run, capture_output=True, text=True, check=False, cwd=_book().parent)
    commit = git(["git", "rev-parse", "--short=10", "HEAD"]).stdout.strip()
    # Tables that a measurement writes itself don't count as changes.
    changed = git(["git", "diff", "--quiet", "HEAD", "--", "*.py", "*.ipynb"]).returncode
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {
        "commit": f"{commit}{'-dirty' if changed else ''}" if commit else "none",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {processor}",
    }


def article_history() -> pd.DataFrame:
    """The article's printed figures, NaN where none is known to us.

    Those of training are its progress bar's: see `tlhelpers.studies.article.ProgressBarMean`.

    Columns epoch (1 to 15), phase (head, fine-tuning), accuracy, loss, val_accuracy, val_loss.

    Examples
    --------
    >>> from tlhelpers import page
    >>> float(page.article_history().val_accuracy.iloc[-1])
    0.8488
    """
    columns = ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    rows = [
        (1, 0.4394, 1.8491, 0.5979, 1.3019),
        (2, None, None, 0.6388, None),
        (3, None, None, 0.6528, None),
        (4, None, None, 0.6605, None),
        (10, 0.6671, None, 0.6732, 0.9721),
        (11, 0.2328, 10.65, 0.1437, 10.77),
        (12, None, None, 0.2733, None),
        (13, None, None, 0.6418, None),
        (14, None, None, 0.8116, None),
        (15, 0.8246, None, 0.8488, None),
    ]
    table = pd.DataFrame(rows, columns=columns).set_index("epoch").reindex(range(1, 16)).reset_index()
    table.insert(1, "phase", ["head"] * 10 + ["fine-tuning"] * 5)
    return table
