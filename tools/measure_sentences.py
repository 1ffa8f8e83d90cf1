"""Where a sentence encoder stops paying: the critics' film sentences, up to 3,000 labels.

`tlhelpers.sentiment` says what a row is; its chapter shows the curve. In the full edition alone: the pocket
edition has not the data.
"""

import pandas as pd

import tlhelpers as tl

SEEDS = (0, 1, 2)
KEYS = ("domain", "method", "labels", "seed")
DOMAIN = "rt-polarity"
METHODS = ("frozen", "TF-IDF")
SIZES = (100, 300, 1_000, 3_000)


def wanted(edition: tl.editions.Edition) -> list[tuple[str, str, int, int]]:
    """(domain, method, labels, seed) of every row that the table should have for this edition."""
    return [
        (DOMAIN, method, labels, seed)
        for method in METHODS
        if edition.name == "full"
        for labels in SIZES
        for seed in SEEDS
    ]


def run(edition: tl.editions.Edition, domain: str, method: str, labels: int, seed: int) -> pd.DataFrame:
    """One row."""
    found = tl.sentiment.measure(method, labels, seed=seed, domain=domain)
    row = {"edition": edition.name, "domain": domain, "method": method, "labels": labels, "seed": seed}
    return pd.DataFrame([{**row, **found, **tl.published.stamp()}])
