"""The learning curve: accuracy against the number of labels, for five ways to learn.

What a point is, `tlhelpers.curve` says; a chapter measures one of them anew. `tools/measure.py` runs these.
"""

import functools
from typing import Any

import pandas as pd
import rates

import tlhelpers as tl
from tlhelpers import curve

SEEDS = (0, 1, 2)
KEYS = ("method", "labels", "seed")


def wanted(edition: tl.editions.Edition) -> list[tuple[str, int, int]]:
    """(method, labels, seed) of every row that the table should have for this edition."""
    return [
        (method, labels, seed)
        for method in curve.METHODS[edition.name]
        for labels in curve.SIZES[edition.name]
        for seed in SEEDS
    ]


@functools.cache
def _tried(edition: tl.editions.Edition, method: str, labels: int) -> dict[float, dict[str, Any]]:
    """Seed 0 at every rate; nothing for methods that have none."""
    return {
        rate: curve.measure(edition, method, labels, seed=SEEDS[0], rate=rate)
        for rate in curve.RATES.get(method, ())
    }


def run(edition: tl.editions.Edition, method: str, labels: int, seed: int) -> pd.DataFrame:
    """One row, at the rate that seed 0's validation digits chose."""
    few, many = curve.TUNED_AT[edition.name]
    tuned_at = few if labels < curve.MANY else many
    tried = _tried(edition, method, tuned_at)
    rate = rates.kept(tried) if tried else None
    if rate is not None and (labels, seed) == (tuned_at, SEEDS[0]):
        found = tried[rate]
    else:
        found = curve.measure(edition, method, labels, seed=seed, rate=rate)
    row = {
        "edition": edition.name,
        "method": method,
        "labels": labels,
        "seed": seed,
        "learning_rate": rate,
        **found,
        "tried": f"{tuned_at} labels: {rates.as_text(tried)}" if tried else "",
    }
    return pd.DataFrame([{**row, **tl.published.stamp()}])
