"""Ways to unfreeze: head only, all at once, discriminative rates, gradual unfreezing, probe then fine-tune.

What a row is, `tlhelpers.unfreezing` says; a chapter measures one of them anew. `tools/measure.py` runs
these.
"""

import functools

import pandas as pd
import rates

import tlhelpers as tl

SEEDS = tuple(range(10))
KEYS = ("way", "seed")


def wanted(edition: tl.editions.Edition) -> list[tuple[str, int]]:
    """(way, seed) of every row that the table should have for either edition."""
    return [(way, seed) for seed in SEEDS for way in tl.unfreezing.WAYS]


@functools.cache
def _tried(edition: tl.editions.Edition, way: str) -> dict[float, dict[str, float]]:
    """Seed 0 at every rate."""
    return {
        rate: tl.unfreezing.measure(edition, way, seed=SEEDS[0], rate=rate) for rate in tl.unfreezing.RATES
    }


def run(edition: tl.editions.Edition, way: str, seed: int) -> pd.DataFrame:
    """One row, at the rate that seed 0's validation digits chose."""
    tried = _tried(edition, way)
    kept = rates.kept(tried)
    found = tried[kept] if seed == SEEDS[0] else tl.unfreezing.measure(edition, way, seed=seed, rate=kept)
    row = {
        "edition": edition.name,
        "way": way,
        "seed": seed,
        "learning_rate": kept,
        **found,
        "tried": rates.as_text(tried),
    }
    return pd.DataFrame([{**row, **tl.published.stamp()}])
