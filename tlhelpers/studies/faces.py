"""Tell people apart: the nearest labelled photo, and the same person or not, by features as they are.

The photos are studio portraits of 40 people. Their consent is not documented, so no photo is shown.
"""

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from tlhelpers import _formats, datasets, downloads
from tlhelpers.backbones import feature_extractor
from tlhelpers.page.editions import Edition

from . import intervals, recipes
from .skeleton import Study, best

__all__ = [
    "EACH",
    "METHODS",
    "STUDY",
    "by_person",
    "features",
    "folds",
    "load",
    "named",
    "pairs",
    "same_person",
]

Array = npt.NDArray[Any]

NETWORKS = ("ImageNet", "random weights")
METHODS = (NETWORKS[0], "ImageNet, last layer", NETWORKS[1], "eigenfaces", "Fisherfaces")
"""A backbone read where other people's photos say; the same at its end; the same with random weights; main
components of other people's photos (Turk and Pentland, *Eigenfaces for recognition*, 1991); and the
directions that part other people best (Belhumeur, Hespanha and Kriegman, *Eigenfaces vs. Fisherfaces*, 1997),
which learn from faces, though not from those that are tested."""
EACH, DRAWS = (1, 2, 5), range(5)
"""Labelled photos a person, and draws of them. Random weights are drawn anew with each."""
TESTED = 5
"""Photos of each person that are named, the others than those that may be labelled."""
IMAGE_SIZE = {"full": 96, "pocket": 32}
"""Pixels that the backbone sees, by edition."""
CUTS = (*recipes.BLOCKS, "block_13_expand_relu", "block_15_add", "out_relu")
COMPONENTS = (5, 10, 20, 40, 80, 160)
SHRINKAGE = (0.01, 0.1, 0.3, 0.6, 0.9, 0.99)
"""What other people's photos choose from: the cut, pooled or not; the components; how far the spread within
people is drawn towards that of all directions alike."""


@functools.cache
def load(edition: Edition) -> Array:
    """Grey photos, uint8, (people, 10 photos, height, width): 40 people, or ten digits in their place."""
    if edition.name == "full":
        return _formats.faces(downloads.fetch("att_faces.zip"))
    digits = datasets.load_dataset(edition.dataset).train
    return np.stack([digits.images[digits.labels == digit][:10] for digit in range(10)])


def folds(edition: Edition) -> list[tuple[Array, Array]]:
    """The two halves of the people, each tested once: those who are tested, and the others."""
    first, second = np.array_split(np.arange(len(load(edition))), 2)
    return [(first, second), (second, first)]


@functools.lru_cache(maxsize=2)
def _views(edition: Edition, weights: Any, seed: int) -> dict[str, Array]:
    """What a backbone makes of every photo: (people, photos, numbers) for each place where it may be read."""
    photos = load(edition)
    size = IMAGE_SIZE[edition.name]
    see = feature_extractor(
        edition.backbone, photos.shape[2:], cuts=CUTS, image_size=size, weights=weights, seed=seed
    )
    maps = see.predict(photos.reshape(-1, *photos.shape[2:]), batch_size=100, verbose=0)
    found = {}
    for cut, each in zip(CUTS, maps, strict=True):
        found[f"{cut}, pooled"] = each.mean(axis=(1, 2)).reshape(*photos.shape[:2], -1)
        found[cut] = each.reshape(*photos.shape[:2], -1)
    return found


def _ways(method: str, edition: Edition, seed: int) -> dict[str, Callable[[Array], Array]]:
    """What there is to choose from: each takes the people whom it may learn from, and sees all photos."""
    if method in NETWORKS or method == METHODS[1]:
        weights = ("random", seed) if method == NETWORKS[1] else ("pretrained", 0)
        views = _views(edition, *weights)
        kept = ["out_relu, pooled"] if method == METHODS[1] else views
        return {name: lambda _, name=name: views[name] for name in kept}  # type: ignore[misc]
    settings = COMPONENTS if method == "eigenfaces" else SHRINKAGE
    return {f"{each:g}": functools.partial(_learned, method, edition, each) for each in settings}


def _learned(method: str, edition: Edition, setting: float, people: Array) -> Array:
    """All photos by directions that were learned from some people's photos."""
    photos = load(edition)
    flat = photos.reshape(len(photos), photos.shape[1], -1) / 255.0
    learn = flat[people].reshape(-1, flat.shape[-1])
    number = int(setting) if method == "eigenfaces" else COMPONENTS[-1]
    steps: list[Any] = [PCA(min(number, min(learn.shape) - 1), random_state=0)]
    if method == "Fisherfaces":
        steps.append(LinearDiscriminantAnalysis(solver="eigen", shrinkage=setting))
    model = make_pipeline(*steps).fit(learn, np.repeat(people, photos.shape[1]))
    found: Array = model.transform(flat.reshape(-1, flat.shape[-1]))
    return found.reshape(*photos.shape[:2], -1)


@functools.lru_cache(maxsize=16)
def features(method: str, edition: Edition, fold: int, seed: int = 0) -> tuple[str, Array]:
    """What a method chose for a fold, and all photos as numbers, (people, photos, numbers).

    Of the other people half is learned from, if the method learns, and half chooses, by one labelled photo a
    person; then all of them are learned from.
    """
    others = folds(edition)[fold][1]
    ways = _ways(method, edition, seed)
    learn, judge = np.array_split(others, 2)
    with threadpool_limits(1):  # threads of small matrices wait for each other
        tried = {}
        for name, way in ways.items() if len(ways) > 1 else ():
            x = way(learn)[judge]
            tried[name] = float(np.mean([named(x, 1, seed=draw) for draw in DRAWS]))
        choice = best(tried) if tried else next(iter(ways))
        return choice, ways[choice](others)


def _unit(x: Array) -> Array:
    length: Array = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.maximum(length, 1e-12)


def named(x: Array, labelled: int, *, seed: int) -> npt.NDArray[np.bool_]:
    """Which photos get the right name from the nearest labelled photo, by cosine: bool, (people, `TESTED`).

    `x` is (people, photos, numbers). Of each person the seed orders the photos; the first `labelled` ones
    carry the name, the last `TESTED` are asked for.
    """
    people, photos, _ = x.shape
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(photos), (people, 1)), axis=1)
    x = _unit(np.take_along_axis(x, order[..., None], axis=1))
    known, asked = (part.reshape(-1, x.shape[-1]) for part in (x[:, :labelled], x[:, -TESTED:]))
    nearest: Array = (asked @ known.T).argmax(axis=1) // labelled
    return np.equal(nearest.reshape(people, TESTED), np.arange(people)[:, None])


def pairs(x: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Cosine of each two photos, and whether both show one person: (people, photos, all photos)."""
    people, photos, width = x.shape
    flat = _unit(x).reshape(-1, width)
    whom = np.repeat(np.arange(people), photos)
    alike = (flat @ flat.T).reshape(people, photos, -1)
    return alike, (whom[:, None] == whom).reshape(alike.shape)


def same_person(x: Array) -> Array:
    """For each person, how often a pair of own photos is more alike than one with somebody else's: AUC."""
    alike, same = pairs(x)
    no_twin = ~np.eye(alike.shape[-1], dtype=bool).reshape(alike.shape)  # a photo and itself
    rows = zip(alike, same, no_twin, strict=True)
    return np.array([roc_auc_score(truth[keep], score[keep]) for score, truth, keep in rows])


def _row(edition: Edition, method: str) -> pd.DataFrame:
    """All draws of one method."""
    return pd.DataFrame(
        [
            {"labels": labels, "seed": seed, **_measured(edition, method, labels, seed)}
            for seed, labels in itertools.product(DRAWS, EACH)
        ]
    )


def _measured(edition: Edition, method: str, labels: int, seed: int) -> dict[str, Any]:
    began = time.process_time()
    drawn = seed if method == NETWORKS[1] else 0
    choices, numbers = zip(*(features(method, edition, fold, drawn) for fold in (0, 1)), strict=True)
    tested = [x[people] for x, (people, _) in zip(numbers, folds(edition), strict=True)]
    right = np.concatenate([named(x, labels, seed=seed) for x in tested])
    return {
        "test_accuracy": float(right.mean()),
        "choice": "; ".join(choices),
        "right": intervals.pack(right.ravel()),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


STUDY = Study(
    table="faces",
    keys=("method",),
    grid=lambda edition: ((method,) for method in METHODS if edition.name == "full"),
    row=_row,
    again=lambda edition, row: (
        _measured(edition, row.method, int(row.labels), int(row.seed))["test_accuracy"],
        load(edition).shape[0] * TESTED,
    ),
    like=("method", "labels"),
    where="method != 'random weights'",
)


def by_person(rows: pd.DataFrame, method: str, labels: int) -> Array:
    """Share of each person's photos that each draw named right, (draws, people): photos of one are alike."""
    kept = rows[(rows.method == method) & (rows.labels == labels)].sort_values("seed")
    right = np.stack([intervals.right_answers(each) for each in kept.right])
    share: Array = right.reshape(len(right), -1, TESTED).mean(axis=-1)
    return share
