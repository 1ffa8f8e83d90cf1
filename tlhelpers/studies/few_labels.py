"""Few labels and no validation set: draws of labels, read out at every cut, and scores of a cut.

Explained in the chapter "Do without validation".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from threadpoolctl import threadpool_limits

from .closed_form import PENALTIES, READOUTS, SCORES, in_span, ridge
from .skeleton import balanced

__all__ = ["SCORED", "agreement", "try_draw"]

Array = npt.NDArray[Any]
SCORED = 10
"""Examples a class from which `try_draw` computes the scores."""


def try_draw(features: Mapping[str, Array], labels: Sequence[Array], each: int, *, seed: int) -> pd.DataFrame:
    """Draw `each` examples a class, and read out at every cut.

    `features` (n, ...) by cut, and `labels`, are those of train, validation and test in turn: the first for
    the draw, the second for "validation" alone. A row for each read-out at each cut: ``cut``, ``readout``,
    ``right`` (which test examples it names). Of ridge, whose penalty leave-one-out chooses, also what says
    how good the cut is, the higher the better: ``leave-one-out`` (minus the squared error), ``validation``
    and, from `SCORED` on, the `SCORES`. And two rows of ridge with a chosen cut and penalty, of equals the
    first: ``readout`` "chosen by leave-one-out" and "chosen by validation".
    """
    train, truth, test = labels
    classes = np.unique(train)
    rows, ends = balanced(train, each * len(classes), seed=seed), np.cumsum([len(train), len(truth)])
    y, found, tried = train[rows], list[dict[str, Any]](), list[dict[str, Any]]()
    with threadpool_limits(1):  # so small are the matrices that threads wait for each other
        for cut, x in features.items():
            few, known, unseen = in_span(x[rows], *np.split(x, ends)[1:])
            for name, readout in READOUTS.items():
                found.append({"cut": cut, "readout": name, "right": readout(few, y).predict(unseen) == test})
            for penalty in PENALTIES:
                weights, level, error = ridge(few, y, penalty)
                named = [classes[(part @ weights + level).argmax(axis=1)] for part in (known, unseen)]
                scores = {"leave-one-out": -round(error, 6), "validation": float(np.mean(named[0] == truth))}
                tried.append({"cut": cut, "right": named[1] == test, **scores})
            best = max(tried[-len(PENALTIES) :], key=lambda row: row["leave-one-out"])
            scores = {name: score(few, y) for name, score in SCORES.items() if each >= SCORED}
            found.append({"readout": "ridge", **best, **scores})
    for by in ("leave-one-out", "validation"):
        best = max(tried, key=lambda row: row[by])
        found.append({"cut": best["cut"], "readout": f"chosen by {by}", "right": best["right"]})
    return pd.DataFrame(found).assign(each=each, seed=seed)


def agreement(scores: Array, right: Array, *, draws: int = 300) -> tuple[float, float, float]:
    """Mean rank correlation over the cuts of a score and the accuracy, and the ends of its 95% interval.

    `scores` are (draws, cuts), `right` (draws, cuts, examples). The interval is a bootstrap, since a
    rank is no mean: draws are resampled, and test examples, for all draws together, since they share them. A
    draw whose score is the same at all cuts counts as 0: it ranks nothing.
    """
    rng, (n, _, m) = np.random.default_rng(0), right.shape

    def mean(some: Any, weights: Array) -> float:
        a, b = (stats.rankdata(each, axis=1) for each in (scores[some], right[some] @ weights))
        a, b = (each - each.mean(axis=1, keepdims=True) for each in (a, b))
        size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
        return float(np.mean((a * b).sum(axis=1) / np.where(size > 0, size, 1)))

    drawn = np.random.default_rng(m).multinomial(m, np.full(m, 1 / m), draws) / m
    found = [mean(rng.integers(0, n, n), weights) for weights in drawn]
    low, high = np.quantile(found, [0.025, 0.975])
    return mean(np.arange(n), np.full(m, 1 / m)), float(low), float(high)
