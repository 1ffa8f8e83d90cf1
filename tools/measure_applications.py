"""The applications: what transfer gives in each domain, against the number of labels.

What a row is, the domain's own module says (`tlhelpers.flowers` and so on); its chapter measures one of them
anew. `tools/measure.py` runs these, in the full edition alone: the pocket edition has not the data.
"""

from types import ModuleType

import pandas as pd

import tlhelpers as tl

SEEDS = (0, 1, 2)
KEYS = ("domain", "method", "labels", "seed")
DOMAINS: dict[str, ModuleType] = {
    "flowers": tl.flowers,
    "sentiment": tl.sentiment,
    "xrays": tl.xrays,
    "credit": tl.credit,
}
"""Modules with `METRIC`, `METHODS`, `SIZES` and `measure`."""


def wanted(edition: tl.editions.Edition) -> list[tuple[str, str, int, int]]:
    """(domain, method, labels, seed) of every row that the table should have for this edition."""
    return [
        (name, method, labels, seed)
        for name, domain in DOMAINS.items()
        if edition.name == "full"
        for method in domain.METHODS
        for labels in domain.SIZES
        for seed in SEEDS
    ]


def run(edition: tl.editions.Edition, name: str, method: str, labels: int, seed: int) -> pd.DataFrame:
    """One row."""
    domain = DOMAINS[name]
    found = domain.measure(method, labels, seed=seed)
    row = {
        "edition": edition.name,
        "domain": name,
        "method": method,
        "labels": labels,
        "seed": seed,
        "metric": domain.METRIC,
        **found,
    }
    return pd.DataFrame([{**row, **tl.published.stamp()}])
