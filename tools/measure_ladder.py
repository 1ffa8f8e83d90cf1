"""The freezing ladder: accuracy against how many blocks train, for few and for many labels.

What a rung is, `tlhelpers.ladder` says; a chapter measures one of them anew. `tools/measure.py` runs these.
"""

import pandas as pd
import rates as rates_tried

import tlhelpers as tl

SEEDS = (0, 1, 2)
KEYS = ("data", "labels", "depth", "seed")
IN_POCKET = ("head only", "block 6")


def wanted(edition: tl.editions.Edition) -> list[tuple[str, str, str, int]]:
    """(data, labels, depth, seed) of every row that the table should have for this edition.

    All cases with seed 0 first, so that an interrupted table is still a balanced one.
    """
    return [
        (case.data, case.labels, depth, seed)
        for seed in SEEDS
        for case in tl.ladder.CASES
        if case.edition == edition.name
        for depth in (tl.ladder.DEPTHS if edition.name == "full" else IN_POCKET)
    ]


def run(edition: tl.editions.Edition, data: str, labels: str, depth: str, seed: int) -> pd.DataFrame:
    """One row. Seed 0 tries the learning rates; the other seeds take the one it kept."""
    case = tl.ladder.case(edition.name, data, labels)
    rates: tuple[float, ...] = tl.ladder.RATES[depth]
    if seed != SEEDS[0]:
        rates = (tl.ladder.kept_rate(case, depth),)
    tried = {rate: tl.ladder.rung(case, depth, seed=seed, rate=rate) for rate in rates}
    kept = rates_tried.kept(tried)
    row = {
        "edition": edition.name,
        "data": data,
        "labels": labels,
        "examples": case.examples,
        "classes": case.classes,
        "similarity": case.similarity,
        "depth": depth,
        "train_from": tl.ladder.DEPTHS[depth],
        "seed": seed,
        "learning_rate": kept,
        **{name: value for name, value in tried[kept].items() if name != "right"},
        "tried": rates_tried.as_text(tried),
        "right": tried[kept]["right"],
    }
    return pd.DataFrame([{**row, **tl.published.stamp()}])
