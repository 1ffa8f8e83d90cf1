"""The freezing ladder: accuracy against how many blocks train, for few and for many labels.

A rung is one network, trained once: data, number of labels, depth, seed. All rungs of a case share
everything but the depth. Explained in the chapter "Climb the freezing ladder".
"""

import functools
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from tlhelpers import datasets, page
from tlhelpers._errors import unknown_name
from tlhelpers.page.editions import Edition

from .intervals import pack
from .recipes import classic_network, train_classic
from .skeleton import SEEDS, Study, best, draw, in_proportion, in_words

__all__ = ["CASES", "DEPTHS", "RATES", "STUDY", "Case", "case", "kept_rate", "rung"]

DEPTHS: dict[str, str | None] = {
    "head only": None,
    "block 16": "block_16_expand",
    "block 13": "block_13_expand",
    "block 10": "block_10_expand",
    "block 6": "block_6_expand",
    "everything": "Conv1",
}
"""Where training begins, and the layer that `tlhelpers.freeze` takes for it. The later ones train, too."""

IN_POCKET = ("head only", "block 6")


@dataclass(frozen=True)
class Case:
    """One ladder: everything that its rungs have in common.

    Attributes
    ----------
    edition, data, labels
        Its name in the table: edition, data set, and ``"few"`` or ``"many"`` labels.
    similarity
        Whether the data is like what the backbone was pre-trained on.
    image_size
        The pixels that the backbone sees, on a side.
    examples, classes
        Training examples, and the classes they are of.
    epochs, batch_size
        How each rung trains. BatchNorm stays frozen at every depth, for few and for many labels.
    """

    edition: str
    data: str
    labels: Literal["few", "many"]
    similarity: Literal["similar", "different"]
    backbone: str
    image_size: int
    examples: int
    classes: int
    epochs: int
    batch_size: int


_IMAGENET, _GLYPHS = "mobilenet_v2_imagenet", "mobilenet_v2_glyphs"

# Flowers are photographs, as ImageNet's are. Letters and symbols are drawn strokes, as digits are.
CASES = (
    Case("full", "flowers", "few", "similar", _IMAGENET, 96, 50, 5, 30, 16),
    Case("full", "mnist", "few", "different", _IMAGENET, 64, 100, 10, 30, 16),
    Case("full", "pneumonia", "few", "different", _IMAGENET, 64, 50, 2, 30, 16),
    Case("full", "flowers", "many", "similar", _IMAGENET, 96, 650, 5, 6, 32),
    Case("full", "mnist", "many", "different", _IMAGENET, 64, 2000, 10, 3, 32),
    Case("full", "pneumonia", "many", "different", _IMAGENET, 64, 2000, 2, 3, 32),
    Case("pocket", "digits", "few", "similar", _GLYPHS, 32, 100, 10, 30, 16),
)
"""The data sets of the ladder, few and many labels of each.

:meta hide-value:
"""

RATES: dict[str, tuple[float, float]] = {
    "head only": (0.001, 0.01),
    "block 16": (0.0003, 0.001),
    "block 13": (0.0003, 0.001),
    "block 10": (0.0003, 0.001),
    "block 6": (0.0001, 0.0003),
    "everything": (0.0001, 0.0003),
}
"""Learning rates tried with seed 0. The one with the better validation accuracy serves all seeds."""

_MOST_VALIDATION, _MOST_TEST = 1000, 2000


def case(edition: str, data: str, labels: str) -> Case:
    """A case of the ladder by its name in the table."""
    names = {f"{c.edition}, {c.data}, {c.labels}": c for c in CASES}
    wanted = f"{edition}, {data}, {labels}"
    if wanted not in names:
        raise unknown_name("case of the ladder", wanted, names)
    return names[wanted]


def kept_rate(case: Case, depth: str) -> float:
    """The learning rate that the measured ladder kept for a case at one of `DEPTHS`."""
    table, keys = page.measured("ladder"), ["edition", "data", "labels", "depth"]
    rows = table[(table[keys] == [case.edition, case.data, case.labels, depth]).all(axis=1)]
    if rows.empty:
        raise LookupError(
            f"expected {depth!r} of {case.data}, {case.labels} labels, in the measured ladder, got none. "
            "Run `make measure TABLE=ladder` first."
        )
    return float(rows.learning_rate.iloc[0])


@functools.cache
def _parts(data: str) -> tuple[datasets.Split, datasets.Split, datasets.Split]:
    """Training, validation and test images; of the last two no more than it takes, the same for all seeds."""
    whole = datasets.load_dataset(data)
    validation, test = (
        part.take(np.sort(in_proportion(part.labels, most, seed=0)))
        for part, most in ((whole.validation, _MOST_VALIDATION), (whole.test, _MOST_TEST))
    )
    return whole.train, validation, test


def rung(case: Case, depth: str, *, seed: int, rate: float) -> dict[str, Any]:
    """Train one rung of the ladder and judge it.

    The classic shape, trained from one of `DEPTHS` on, see `tlhelpers.studies.recipes.train_classic`. The
    seed decides which examples are labelled, the head, the dropout and the order of the batches; `rate` is
    the first epoch's learning rate. ``test_auc`` is for two classes, else NaN; ``right`` says which test
    examples were found, see `tlhelpers.studies.intervals.right_answers`. ``seconds``, and ``cpu_seconds``
    of all cores together, cover training, both predictions and what was not there yet: the network's graph,
    the frozen part.
    """
    if depth not in DEPTHS:
        raise unknown_name("depth", depth, DEPTHS)
    began, cpu_began = time.perf_counter(), time.process_time()
    train, validation, test = _parts(case.data)
    image_shape = train.images.shape[1:]
    held, chances = train_classic(
        classic_network(case.backbone, image_shape, case.image_size, case.classes, DEPTHS[depth]),
        draw(train, case.examples, seed=seed, rule=in_proportion),
        (validation, test),
        rate=rate,
        epochs=case.epochs,
        batch_size=case.batch_size,
        seed=seed,
    )
    right = chances.argmax(axis=1) == test.labels
    return {
        "validation_accuracy": float((held.argmax(axis=1) == validation.labels).mean()),
        "test_accuracy": float(right.mean()),
        "test_auc": float(roc_auc_score(test.labels, chances[:, 1])) if case.classes == 2 else np.nan,
        "epochs": case.epochs,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu_began, 1),
        "right": pack(right),
    }


def _grid(edition: Edition) -> list[tuple[str, str, str, int]]:
    """All cases with seed 0 first, so that an interrupted table is still a balanced one."""
    return [
        (case.data, case.labels, depth, seed)
        for seed in SEEDS
        for case in CASES
        if case.edition == edition.name
        for depth in (DEPTHS if edition.name == "full" else IN_POCKET)
    ]


def _row(edition: Edition, data: str, labels: str, depth: str, seed: int) -> dict[str, Any]:
    """One row. Seed 0 tries the learning rates; the other seeds take the one it kept."""
    of = case(edition.name, data, labels)
    rates = RATES[depth] if seed == SEEDS[0] else (kept_rate(of, depth),)
    tried = {rate: rung(of, depth, seed=seed, rate=rate) for rate in rates}
    scores = {rate: found["validation_accuracy"] for rate, found in tried.items()}
    kept = best(scores)
    right = tried[kept].pop("right")
    return {
        "examples": of.examples,
        "classes": of.classes,
        "similarity": of.similarity,
        "train_from": DEPTHS[depth],
        "learning_rate": kept,
        **tried[kept],
        "tried": in_words(scores),
        "right": right,
    }


def _again(edition: Edition, row: "pd.Series[Any]") -> tuple[float, int]:
    of = case(edition.name, row.data, row.labels)
    found = rung(of, row.depth, seed=int(row.seed), rate=float(row.learning_rate))
    return found["test_accuracy"], len(_parts(row.data)[-1])


STUDY = Study(
    table="ladder",
    keys=("data", "labels", "depth", "seed"),
    grid=_grid,
    row=_row,
    again=_again,
    like=("data", "labels", "depth"),
    where="labels == 'few'",
)
