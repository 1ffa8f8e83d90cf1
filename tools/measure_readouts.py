"""A linear probe at every cut point of the article's classifier: accuracy, pooled and not, and seconds.

The chapters "Go beyond the article" and "See how it works" show the table. `tools/measure.py` runs these.
"""

import functools
import time

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

import tlhelpers as tl

KEYS = ("at",)


@functools.cache
def _model(edition: tl.editions.Edition) -> keras.Model:
    return tl.recipes.article_model(edition)


def wanted(edition: tl.editions.Edition) -> list[tuple[str]]:
    """The cut point of every row that the table should have for this edition."""
    return [(at,) for at in tl.cut_points(_model(edition))]


def run(edition: tl.editions.Edition, at: str) -> pd.DataFrame:
    """One row. Seconds are for all digits together, the least of three passes, without the first call."""
    data = tl.load_dataset(edition.dataset)
    n, n_validation = (2000, 1000) if edition.name == "full" else (1000, 297)
    digits = np.concatenate([data.train.images[:n], data.validation.images[:n_validation]])
    prefix, _ = tl.split(_model(edition), at=at)
    features: npt.NDArray[np.float32] = prefix.predict(digits, batch_size=64, verbose=0)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        prefix.predict(digits, batch_size=64, verbose=0)
        seconds.append(time.perf_counter() - began)
    pooled = features.mean(axis=tuple(range(1, features.ndim - 1)))
    accuracy = {
        name: tl.linear_probe(x[:n], data.train.labels[:n], x[n:], data.validation.labels[:n_validation])
        for name, x in (("pooled", pooled), ("all numbers", features))
    }
    row = {
        "edition": edition.name,
        "at": at,
        "depth": tl.cut_points(_model(edition)).index(at),
        "numbers": int(features[0].size),
        **accuracy,
        "seconds": min(seconds),
    }
    return pd.DataFrame([{**row, **tl.published.stamp()}])
