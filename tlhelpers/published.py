"""Results that were published, and whether today's agree.

A published result is a value with a tolerance, per edition, in ``book/published.toml``; the chapter
that computes the number checks it on the spot. A stamped table holds what is too dear for each run,
made by ``make measure``, in ``book/measured/``. What the article printed is here too.
"""

import datetime
import functools
import json
import math
import os
import platform
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import cache, editions
from ._errors import unknown_name

__all__ = [
    "ARTICLE_TEST",
    "Disagreement",
    "Result",
    "article_history",
    "check",
    "check_one",
    "glue",
    "measured",
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
    """One published result in one edition.

    Attributes
    ----------
    name, what, unit
        Its key, what was measured, and in which unit.
    value, tolerance
        The published number (mean over the seeds), and how far another run may lie from it.
    seeds
        The seeds it comes from.
    """

    name: str
    what: str
    unit: str
    value: float
    tolerance: float
    seeds: tuple[int, ...]


def _book() -> Path:
    """The folder with the published files: inside an installed package, else the repository's book/."""
    package = Path(__file__).parent
    return package if (package / "published.toml").exists() else package.parent / "book"


@functools.cache
def _results(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def result(name: str, *, edition: editions.Edition | None = None) -> Result:
    """Look a published result up.

    Parameters
    ----------
    name
        Its key in ``book/published.toml``.
    edition
        Which edition's; the current one by default.

    Returns
    -------
    Result

    Raises
    ------
    LookupError
        If nothing is published under that name for that edition.

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.published.result("refreshed_test_accuracy", edition=pocket).unit
    'share of the test digits'
    """
    entries = _results(_book() / "published.toml")
    if name not in entries:
        raise unknown_name("published result", name, entries)
    entry = entries[name]
    which = (edition or editions.current()).name
    if which not in entry:
        raise LookupError(
            f"published result {name!r}: expected a value for the {which} edition, got none. "
            "Run `make measure` in that edition first."
        )
    there = entry[which]
    return Result(
        name=name,
        what=entry["what"],
        unit=entry["unit"],
        value=float(there["value"]),
        tolerance=float(there["tolerance"]),
        seeds=tuple(there["seeds"]),
    )


def check(name: str, value: float, *, edition: editions.Edition | None = None) -> float:
    """Compare a number computed now with the published one, and offer it to the prose.

    Prints one line. The number can then be used in the text as ``{glue:text}`name:.4f```.

    Parameters
    ----------
    name
        The key in ``book/published.toml``.
    value
        The number this run got.
    edition
        Which edition it was computed in; the current one by default.

    Returns
    -------
    float
        The value, unchanged.

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
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.published.check("refreshed_test_accuracy", -1.0, edition=pocket)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    tlhelpers.published.Disagreement: refreshed_test_accuracy ...
    """
    expected = result(name, edition=edition)
    value = float(value)
    if not abs(value - expected.value) <= expected.tolerance:
        raise Disagreement(
            f"{name} ({expected.what}): expected {expected.value:.4f} within {expected.tolerance:.4f}, got "
            f"{value:.4f}. If you changed a setting in this chapter, that is expected. If the recipe "
            "was meant to change, run `make measure` and commit what it writes. If neither, something broke."
        )
    print(f"{expected.what}: {value:.4f}; published {expected.value:.4f} ± {expected.tolerance:.4f}: agrees.")
    glue(name, value)
    return value


def glue(name: str, value: float | int | str) -> None:
    """Offer a value to the prose of the page (myst-nb's glue). Without myst-nb, as in Colab, do nothing.

    Parameters
    ----------
    name
        What the prose calls it.
    value
        A setting, a count, or a value of a stamped table; a result of this run goes through `check`,
        which glues it too.

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.published.glue("n_test", 10_000)
    """
    try:
        import IPython
        import myst_nb
    except ModuleNotFoundError:
        return
    if IPython.get_ipython() is not None:
        myst_nb.glue(name, value, display=False)


def tolerance(values: Sequence[float], *, examples: int | None = None, gap: float | None = None) -> float:
    """How far another run may lie from the mean of these runs.

    Three standard deviations over the seeds, but at least two binomial standard errors where the
    value is a share of counted examples, and never more than half the gap to the claim it supports:
    a check that passes on the wrong side of its claim would be none.

    Parameters
    ----------
    values
        The result for each seed, three or more.
    examples
        Number of examples, where the value is a share of them.
    gap
        Distance between the value and the one it is claimed to differ from.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If fewer than three values are given.

    Notes
    -----
    Source of the binomial standard error: sqrt(p (1 - p) / n).

    Examples
    --------
    >>> import tlhelpers as tl
    >>> round(tl.published.tolerance([0.90, 0.91, 0.92], examples=10_000), 3)
    0.03
    >>> tl.published.tolerance([0.90, 0.91, 0.92], gap=0.04)
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
    """A stamped table: what ``make measure`` found, with the commit, date and machine it ran on.

    Parameters
    ----------
    name
        File name without ending, in ``book/measured/``.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    LookupError
        If there is no such table.

    Examples
    --------
    >>> import tlhelpers as tl
    >>> {"commit", "date", "machine"} <= set(tl.published.measured("fine_tuning").columns)
    True
    """
    folder = _book() / "measured"
    path = folder / f"{name}.csv"
    if not path.exists():
        raise unknown_name("measured table", name, [file.stem for file in folder.glob("*.csv")])
    return pd.read_csv(path, dtype={"commit": str})


def check_one(
    rows: pd.DataFrame,
    again: "Callable[[pd.Series[Any]], tuple[float, int | None]]",
    *,
    like: Sequence[str],
    value: str = "test_accuracy",
    most_seconds: float | None = None,
    which: int | None = None,
) -> pd.DataFrame:
    """Measure one row of a stamped table again, and stop if it does not agree.

    Which one is chosen by the library's own source, so another one as the project moves on.

    Parameters
    ----------
    rows
        What may be measured again.
    again
        Takes a row, and gives its value as it is now and the number of examples that the value is a share
        of (None where it is no share).
    like
        Columns that say what was measured; rows that share them differ in their seed only.
    value
        The column to compare.
    most_seconds
        Leave out what is too dear for a page: points of which a row took more ``cpu_seconds`` than this.
    which
        A number that chooses the row instead.

    Returns
    -------
    pandas.DataFrame
        One row: the columns `like`, ``seed``, ``then`` and ``now``, and ``allowed``: the tolerance
        over the point's seeds, see `tolerance`.

    Raises
    ------
    Disagreement
        If they differ by more.
    LookupError
        If there are no such rows with three seeds or more.

    Notes
    -----
    Explained in the chapter "Climb the freezing ladder".

    Examples
    --------
    >>> import pandas as pd, tlhelpers as tl
    >>> rows = pd.DataFrame({"depth": "all", "seed": [0, 1, 2], "test_accuracy": [0.90, 0.91, 0.92]})
    >>> found = tl.published.check_one(rows, lambda row: (0.905, 500), like=["depth"])
    >>> found[["now", "allowed"]].round(3).values.tolist()
    [[0.905, 0.03]]
    """

    def fit(point: pd.DataFrame) -> bool:
        cheap = most_seconds is None or point.cpu_seconds.max() <= most_seconds
        return len(point) >= 3 and bool(cheap)

    enough = rows.groupby(list(like)).filter(fit) if len(rows) else rows
    if enough.empty:
        raise LookupError(
            "expected rows with three seeds to measure one of them again, got none. Run `make measure` in "
            "this edition first."
        )
    number = int(cache.library_digest(), 16) if which is None else which
    row = enough.iloc[number % len(enough)]
    now, examples = again(row)
    then = float(row[value])
    seeds = enough[(enough[list(like)] == row[list(like)]).all(axis=1)][value]
    allowed = tolerance(list(seeds), examples=examples)
    what = ", ".join(f"{name} {row[name]}" for name in (*like, "seed"))
    if not abs(now - then) <= allowed:
        raise Disagreement(
            f"{what}: expected {value} {then:.4f} within {allowed:.4f}, as in the measured table, "
            f"got {now:.4f}. If the method was meant to change, delete its rows, run `make measure` and "
            "commit the table. If not, something broke."
        )
    # For the card at the page's end. Tables with several measures name theirs in a column.
    measure = str(row.get("metric", value)).replace("_", " ")
    glue(f"measured again: {measure}, {what}", json.dumps({"then": then, "now": now, "allowed": allowed}))
    return pd.DataFrame([{**row[[*like, "seed"]], "then": then, "now": now, "allowed": allowed}])


def stamp() -> dict[str, str]:
    """What a stamped table says of its origin: the commit of this clone, today's date, this machine.

    Returns
    -------
    dict
        ``commit`` (ten digits, with "-dirty" where code differs from it; "none" outside a clone),
        ``date`` (UTC, ISO 8601) and ``machine`` (cores and processor).

    Examples
    --------
    >>> import tlhelpers as tl
    >>> list(tl.published.stamp())
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
    """The article's printed figures by epoch; NaN where none is known to us.

    Returns
    -------
    pandas.DataFrame
        Columns epoch (1 to 15), phase, accuracy, loss, val_accuracy, val_loss. Ten epochs with the
        backbone frozen, then five of fine-tuning.

    Examples
    --------
    >>> import tlhelpers as tl
    >>> float(tl.published.article_history().val_accuracy.iloc[-1])
    0.8488
    """
    columns = ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    unknown = math.nan
    rows = [
        (1, 0.4394, unknown, 0.5979, 1.3019),
        (2, unknown, unknown, 0.6388, unknown),
        (3, unknown, unknown, 0.6528, unknown),
        (4, unknown, unknown, 0.6605, unknown),
        (10, 0.6671, unknown, 0.6732, 0.9721),
        (11, 0.2328, 10.65, 0.1437, 10.77),
        (12, unknown, unknown, 0.2733, unknown),
        (13, unknown, unknown, 0.6418, unknown),
        (14, unknown, unknown, 0.8116, unknown),
        (15, unknown, unknown, 0.8488, unknown),
    ]
    table = pd.DataFrame(rows, columns=columns).set_index("epoch").reindex(range(1, 16)).reset_index()
    table.insert(1, "phase", ["head"] * 10 + ["fine-tuning"] * 5)
    return table
