"""Measure what is too dear for each run, and write what the chapters check against.

    python -m tlhelpers.studies

Measures, in the current edition, what the tables in book/measured lack; `--table NAME ...` some of them.
Each row is kept as soon as it is there, so an interrupted call goes on where it stopped; delete rows to
measure them again. Then book/published.toml is written. Each table's minutes are printed at the end.
"""

import argparse
import importlib
import time
from pathlib import Path

from tlhelpers import _graph, page

from . import article
from .skeleton import Study, measure

MODULES = (
    *("article", "beyond", "readouts", "curve", "freezing_map", "limits", "unfreezing", "sources"),
    *("flowers", "sentiment", "xrays", "credit", "cells", "fables", "faces", "answers", "spans", "fraud"),
    *("scans", "tuning", "distil", "translation", "spread"),
)


def studies() -> list[Study]:
    """Every study, in the order in which they are measured."""
    modules = [importlib.import_module(f"tlhelpers.studies.{name}") for name in MODULES]
    return [each for module in modules for each in vars(module).values() if isinstance(each, Study)]


def main(book: Path) -> None:
    """Measure what the tables lack, then write the published values."""
    _graph.feed_arrays_plainly()
    everything = studies()
    tables = list(dict.fromkeys(study.table for study in everything))
    parser = argparse.ArgumentParser("python -m tlhelpers.studies", description=__doc__.splitlines()[0])
    parser.add_argument("--table", nargs="+", choices=tables, default=tables, help="only these")
    chosen = parser.parse_args().table
    if not (book / "measured").is_dir():
        raise SystemExit(
            f"book: expected a clone of the book's repository around this package, got no folder "
            f"{book / 'measured'}. Clone it, and run `make measure` there."
        )
    edition = page.current()
    print(f"{edition.name} edition: {edition.reason}")
    minutes = dict.fromkeys(chosen, 0.0)
    for study in everything:
        if study.table in chosen:
            began = time.perf_counter()
            measure(study, edition, book / "measured")
            minutes[study.table] += (time.perf_counter() - began) / 60
    if {"fine_tuning", "beyond"} & set(chosen):
        article.write_published(book)
    print(f"minutes, {sum(minutes.values()):.1f} in all:")
    for name, spent in minutes.items():
        print(f"    {name}: {spent:.1f}")


if __name__ == "__main__":
    main(Path(__file__).parents[2] / "book")
