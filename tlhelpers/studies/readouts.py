"""A linear probe at every cut point of the article's classifier: accuracy, pooled and not, and seconds.

The chapters "Go beyond the article" and "See how it works" show the table.
"""

import functools
import time
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

import tlhelpers as tl
from tlhelpers.page.editions import Edition

from . import recipes
from .skeleton import Study

__all__ = ["DIGITS", "STUDY"]

DIGITS = {"full": (2000, 1000), "pocket": (1000, 297)}
"""Training digits, and validation digits."""


@functools.cache
def _model(edition: Edition) -> keras.Model:
    return recipes.article_model(edition)


def _grid(edition: Edition) -> list[tuple[str]]:
    return [(at,) for at in tl.cut_points(_model(edition))]


def _row(edition: Edition, at: str) -> dict[str, Any]:
    """Seconds are for all digits together, the least of three passes, without the first call."""
    data = tl.load_dataset(edition.dataset)
    n, n_validation = DIGITS[edition.name]
    digits = np.concatenate([data.train.images[:n], data.validation.images[:n_validation]])
    prefix, _ = tl.split(_model(edition), at=at)
    features: npt.NDArray[np.float32] = prefix.predict(digits, batch_size=64, verbose=0)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        prefix.predict(digits, batch_size=64, verbose=0)
        seconds.append(time.perf_counter() - began)
    pooled = features.mean(axis=tuple(range(1, features.ndim - 1)))
    labels, truth = data.train.labels[:n], data.validation.labels[:n_validation]
    return {
        "depth": tl.cut_points(_model(edition)).index(at),
        "numbers": int(features[0].size),
        "pooled": tl.linear_probe(pooled[:n], labels, pooled[n:], truth),
        "all numbers": tl.linear_probe(features[:n], labels, features[n:], truth),
        "seconds": min(seconds),
    }


STUDY = Study(table="readouts", keys=("at",), grid=_grid, row=_row)
