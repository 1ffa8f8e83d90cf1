"""Why the ladder keeps BatchNorm frozen: one of its rungs with BatchNorm frozen and training.

Both train at two learning rates, one seed, many labels. `tools/measure.py` runs these.
"""

from typing import Any

import pandas as pd

import tlhelpers as tl

KEYS = ("data", "batch_norm", "learning_rate")
DEPTH = "block 6"


def wanted(edition: tl.editions.Edition) -> list[tuple[str, str, float]]:
    """(data, batch_norm, learning_rate) of every row that the table should have for this edition."""
    return [
        (data, batch_norm, rate)
        for data in ("mnist", "pneumonia")
        for batch_norm in ("frozen", "train")
        for rate in (0.0003, 0.001)
        if edition.name == "full"
    ]


def run(edition: tl.editions.Edition, data: str, batch_norm: Any, learning_rate: float) -> pd.DataFrame:
    """One row."""
    case = tl.ladder.case(edition.name, data, "many")
    found = tl.ladder.rung(case, DEPTH, seed=0, rate=learning_rate, batch_norm=batch_norm)
    row = {
        "edition": edition.name,
        "data": data,
        "labels": "many",
        "depth": DEPTH,
        "batch_norm": batch_norm,
        "learning_rate": learning_rate,
        **{name: value for name, value in found.items() if name != "right"},
    }
    return pd.DataFrame([{**row, **tl.published.stamp()}])
