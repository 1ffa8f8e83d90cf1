"""Chest X-rays: pneumonia or not, with and without transfer, and what a doctor would ask of the answer.

The X-rays are 28 by 28 pixels, from one children's hospital. Nothing here is fit for use on patients.
"""

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from . import datasets, editions, ladder, published
from ._errors import unknown_name
from .backbones import load_backbone, preparation
from .curve import small_convnet
from .evaluation import probe
from .prefix import precompute
from .strategies import recommend_strategy

__all__ = [
    "METHODS",
    "METRIC",
    "SIZES",
    "TRANSFER",
    "check_one",
    "load",
    "measure",
    "new_share",
    "passes",
    "reader",
    "schedule",
    "threshold",
]

METRIC = "AUC"
"""What the table counts."""
METHODS = ("frozen", "fine-tuned", "from scratch", "raw pixels")
"""Linear probe on frozen features; the depth that the measured ladder advises, trained; a small
convolutional network with random weights; logistic regression on the pixels."""
TRANSFER = ("frozen", "fine-tuned")
"""These need what the backbone has learned."""
SIZES = (50, 200, 1_000, 4_708)
"""Numbers of labels; the last is all there are."""

IMAGE_SIZE = {"full": 64, "pocket": 32}
"""Pixels that the backbone sees, by edition: the ladder's."""
CUTS = ("block_5_add", "block_9_add", "block_12_add")
PENALTIES = (0.01, 0.1, 1.0, 10.0)
INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0)
RATES = (0.0003, 0.001)
"""Adam's learning rates compared for the network from scratch. With 50 labels and seed 0, 0.004 and 0.016 did
worse on validation, and with 1,000 labels 0.004 did no better."""
STEPS = 10
"""Of training from scratch, done in one call: its steps are so short that the calls would cost as much."""

_SICK = 1  # the label "pneumonia"

Numbers = npt.NDArray[Any]


def load(edition: editions.Edition) -> datasets.Dataset:
    """The chapter's data: chest X-rays, or in the pocket edition a stand-in.

    Parameters
    ----------
    edition
        Which edition runs.

    Returns
    -------
    tlhelpers.datasets.Dataset
        Two classes. Full: ``load_dataset("pneumonia")``. Pocket: scikit-learn's handwritten digits, the
        3 under the name "normal" and the 8 as "pneumonia", so that the same cells run.

    Raises
    ------
    tlhelpers.downloads.DownloadError
        If the X-rays can't be had.

    Notes
    -----
    Explained in the chapter "Judge chest X-rays".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.xrays.load(pocket).class_names
    ('normal', 'pneumonia')
    """
    if edition.name == "full":
        return datasets.load_dataset("pneumonia")
    digits = datasets.load_dataset("digits")

    def two(part: datasets.Split) -> datasets.Split:
        kept = np.flatnonzero(np.isin(part.labels, (3, 8)))
        labels = (part.labels[kept] == 8).astype(np.int64)
        return datasets.Split(part.images[kept], labels, part.indices[kept])

    return replace(
        digits,
        name="digits 3 and 8",
        train=two(digits.train),
        validation=two(digits.validation),
        test=two(digits.test),
        class_names=("normal", "pneumonia"),
        note="a stand-in: handwritten digits under the names of the X-rays' classes.",
    )


def reader(
    backbone: str,
    image_shape: tuple[int, ...],
    *,
    cuts: Sequence[str],
    image_size: int,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: int = 0,
) -> keras.Model:
    """A frozen backbone that tells what it sees after several of its layers, in one pass.

    Parameters
    ----------
    backbone, image_size, weights, seed
        As `tlhelpers.load_backbone` takes them.
    image_shape
        Shape of one raw image, as `tlhelpers.preparation` takes it.
    cuts
        Names of layers of the backbone.

    Returns
    -------
    keras.Model
        Raw images to a list of float32 arrays (n, height, width, channels), one for each cut.

    Raises
    ------
    LookupError
        If the backbone has no such layer.
    ValueError
        As `tlhelpers.load_backbone` and `tlhelpers.preparation`.

    Notes
    -----
    Explained in the chapter "Judge chest X-rays".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> see = tl.xrays.reader("mobilenet_v2_glyphs", (8, 8), cuts=["block_5_add", "out_relu"], image_size=32)
    >>> [tensor.shape for tensor in see.outputs]
    [(None, 4, 4, 16), (None, 1, 1, 1280)]
    """
    network = load_backbone(backbone, image_size=image_size, weights=weights, seed=seed)
    names = [layer.name for layer in network.layers]
    for cut in cuts:
        if cut not in names:
            raise unknown_name("layer of the backbone", cut, names)
    inside = keras.Model(network.inputs, [network.get_layer(cut).output for cut in cuts])
    inputs = keras.Input(image_shape)
    x = preparation(image_shape, image_size=image_size)(inputs)
    # As in the ladder: ImageNet's network was trained on -1..1, the glyphs' on 0..1.
    if backbone == "mobilenet_v2_imagenet":
        x = keras.layers.Rescaling(2.0, offset=-1.0)(x)
    return keras.Model(inputs, inside(x))


def schedule(labels: int) -> dict[str, int]:
    """Batch size and epochs for so many labels: some two hundred steps, or three looks at all of them.

    Parameters
    ----------
    labels
        Number of labelled images.

    Returns
    -------
    dict
        ``batch_size`` and ``epochs``.

    Notes
    -----
    Explained in the chapter "Judge chest X-rays".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.xrays.schedule(200)
    {'batch_size': 16, 'epochs': 16}
    """
    batch_size = 16 if labels < 500 else 32
    return {"batch_size": batch_size, "epochs": max(3, math.ceil(200 * batch_size / labels))}


def threshold(labels: npt.ArrayLike, scores: npt.ArrayLike, *, specificity: float = 0.9) -> float:
    """The lowest score above which so few of the healthy lie that a specificity is kept.

    Parameters
    ----------
    labels
        0 healthy, 1 sick; (n,), int. Validation labels: a threshold is a setting.
    scores
        Higher means rather sick, (n,).
    specificity
        Share of the healthy that are to be called healthy, between 0 and 1.

    Returns
    -------
    float
        Call sick what scores *above* it.

    Raises
    ------
    ValueError
        If labels and scores do not fit together, a class is missing, or the specificity is out of range.

    Notes
    -----
    Explained in the chapter "Judge chest X-rays".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.xrays.threshold([0, 0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9, 0.8], specificity=0.75)
    0.3
    """
    y, s = _checked(labels, scores)
    if not 0 < specificity < 1:
        raise ValueError(f"specificity: expected a share between 0 and 1, got {specificity}.")
    healthy = np.sort(s[y != _SICK])
    # One part in a million below, lest rounding ask for one healthy more than the share says.
    return float(healthy[math.ceil(specificity * len(healthy) * (1 - 1e-6)) - 1])


def passes(labels: npt.ArrayLike, scores: npt.ArrayLike, *, above: float) -> dict[str, float]:
    """Sensitivity and specificity at a threshold.

    Parameters
    ----------
    labels, scores
        As in `threshold`.
    above
        Call sick what scores above this.

    Returns
    -------
    dict
        ``sensitivity`` (share of the sick called sick) and ``specificity`` (share of the healthy called
        healthy), 0 to 1.

    Raises
    ------
    ValueError
        If labels and scores do not fit together, or a class is missing.

    Notes
    -----
    Explained in the chapter "Judge chest X-rays".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.xrays.passes([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], above=0.5)
    {'sensitivity': 0.5, 'specificity': 0.5}
    """
    y, s = _checked(labels, scores)
    return {
        "sensitivity": float((s[y == _SICK] > above).mean()),
        "specificity": float((s[y != _SICK] <= above).mean()),
    }


def new_share(chances: npt.ArrayLike, *, old: float, new: float) -> Numbers:
    """Adjust a classifier's chances to another share of the sick than it was trained with.

    Parameters
    ----------
    chances
        Chance of being sick, (n,), 0 to 1.
    old, new
        Share of the sick among the training images, and where it is used; both between 0 and 1.

    Returns
    -------
    numpy.ndarray
        Adjusted chances, (n,), in the same order: AUC does not change.

    Raises
    ------
    ValueError
        If a share or a chance is out of range.

    Notes
    -----
    Source: Saerens, Latinne and Decaestecker, *Adjusting the outputs of a classifier to new a priori
    probabilities: a simple procedure*, 2002. It holds if the sick look alike in both places,
    and so do the healthy.
    Explained in the chapter "Judge chest X-rays".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.xrays.new_share([0.5], old=0.5, new=0.2).round(3).tolist()
    [0.2]
    """
    p = np.asarray(chances, dtype=float)
    if p.size == 0 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("chances: expected numbers from 0 to 1, got none or others. Give probabilities.")
    for name, share in (("old", old), ("new", new)):
        if not 0 < share < 1:
            raise ValueError(f"{name}: expected a share between 0 and 1, got {share}.")
    sick, healthy = p * new / old, (1 - p) * (1 - new) / (1 - old)
    adjusted: Numbers = sick / (sick + healthy)
    return adjusted


def _checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    y, s = np.asarray(labels), np.asarray(scores)
    if y.ndim != 1 or len(y) == 0 or s.shape[:1] != y.shape or not np.isfinite(s).all():
        raise ValueError(
            f"expected labels of shape (n,) and as many finite scores, got {y.shape} and {s.shape}. "
            "Give a score for each label."
        )
    if set(np.unique(y).tolist()) != {0, 1}:
        raise ValueError(f"labels: expected both 0 (healthy) and 1 (sick), got {np.unique(y)[:5].tolist()}.")
    return y, s


Scores = tuple[Numbers, Numbers]
"""Scores of the validation and the test images."""


def measure(method: str, labels: int, *, seed: int) -> dict[str, Any]:
    """One row of the applications' table: learn from so many X-rays, and test.

    In the pocket edition it learns from the stand-in, and its numbers mean nothing.

    Parameters
    ----------
    method
        One of `METHODS`.
    labels
        Number of labelled X-rays, drawn with the classes in proportion.
    seed
        For the draw, the random weights, the dropout and the order of the batches.

    Returns
    -------
    dict
        ``value`` and ``validation`` (AUC on test and on validation), ``choice`` (what validation chose),
        ``sensitivity`` and ``specificity`` (on test, at the threshold that keeps 90% specificity on
        validation), ``cpu_seconds`` (of all cores together, with the choosing and the predictions).

    Raises
    ------
    LookupError
        If there is no such method.
    ValueError
        If so many labels can't be drawn.
    tlhelpers.downloads.DownloadError
        If data or weights can't be had.

    Notes
    -----
    Explained in the chapter "Judge chest X-rays".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> row = tl.xrays.measure("raw pixels", 50, seed=0)  # doctest: +SKIP
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    edition = editions.current()
    image_size = IMAGE_SIZE[edition.name]
    data = load(edition)
    if not 2 <= labels <= len(data.train):
        raise ValueError(f"labels: expected 2 to {len(data.train)}, got {labels}.")
    drawn = ladder.in_proportion(data.train.labels, labels, seed=seed)
    few = datasets.Split(data.train.images[drawn], data.train.labels[drawn], data.train.indices[drawn])
    began = time.process_time()
    if method == "raw pixels":
        choice, (validation, test) = _raw_pixels(data, few)
    elif method == "frozen":
        choice, (validation, test) = _frozen(edition.backbone, image_size, data, few)
    elif method == "fine-tuned":
        choice, (validation, test) = _fine_tuned(edition.backbone, image_size, data, few, seed)
    else:
        choice, (validation, test) = _from_scratch(data, few, seed)
    seconds = time.process_time() - began
    above = threshold(data.validation.labels, validation)
    return {
        "value": float(roc_auc_score(data.test.labels, test)),
        "validation": float(roc_auc_score(data.validation.labels, validation)),
        "choice": choice,
        **passes(data.test.labels, test, above=above),
        "cpu_seconds": round(seconds, 1),
    }


def _best(tried: dict[str, Scores], data: datasets.Dataset) -> tuple[str, Scores]:
    """What did best on validation; the first of equals, so that the choice is the same everywhere."""
    choice = max(tried, key=lambda name: float(roc_auc_score(data.validation.labels, tried[name][0])))
    return choice, tried[choice]


def _raw_pixels(data: datasets.Dataset, few: datasets.Split) -> tuple[str, Scores]:
    x, validation, test = (
        part.images.reshape(len(part), -1) / np.float32(255) for part in (few, data.validation, data.test)
    )
    fitted = {c: LogisticRegression(C=c, max_iter=500).fit(x, few.labels) for c in INVERSE_PENALTIES}
    tried = {
        f"C {c:g}": (model.decision_function(validation), model.decision_function(test))
        for c, model in fitted.items()
    }
    return _best(tried, data)


@functools.cache
def _reader(backbone: str, image_shape: tuple[int, ...], image_size: int) -> keras.Model:
    """Kept, since building the graph is slow."""
    return reader(backbone, image_shape, cuts=CUTS, image_size=image_size)


def _frozen(
    backbone: str, image_size: int, data: datasets.Dataset, few: datasets.Split
) -> tuple[str, Scores]:
    see = _reader(backbone, few.images.shape[1:], image_size)
    seen = [see.predict(part.images, batch_size=100, verbose=0) for part in (few, data.validation, data.test)]
    tried = {}
    for place, cut in enumerate(CUTS):
        x, validation, test = (each[place].reshape(len(each[place]), -1) for each in seen)
        for penalty in PENALTIES:
            model = probe(x.shape[1], penalty=penalty).fit(x, few.labels)
            tried[f"{cut}, penalty {penalty:g}"] = (
                model.decision_function(validation),
                model.decision_function(test),
            )
    return _best(tried, data)


def _fine_tuned(
    backbone: str, image_size: int, data: datasets.Dataset, few: datasets.Split, seed: int
) -> tuple[str, Scores]:
    # Depth and rate are the ladder's, which chose them on validation, X-rays among its data.
    advice = recommend_strategy(n_examples=len(few), n_classes=2, similarity="different")
    network = ladder.network(backbone, few.images.shape[1:], image_size, 2, advice.train_from)
    network.reset(advice.learning_rate, seed)
    x, validation, test = (
        np.array(precompute(network.prefix, part.images)) for part in (few, data.validation, data.test)
    )
    ladder.train(network.suffix, x, few.labels, rate=advice.learning_rate, seed=seed, **schedule(len(few)))
    scores = [
        network.suffix.predict(each, batch_size=100, verbose=0)[:, _SICK] for each in (validation, test)
    ]
    return f"{advice.depth}, rate {advice.learning_rate:g}", (scores[0], scores[1])


def _from_scratch(data: datasets.Dataset, few: datasets.Split, seed: int) -> tuple[str, Scores]:
    height, width = few.images.shape[1:]
    tried = {}
    for rate in RATES:
        model = small_convnet((height, width), classes=2, seed=seed)
        model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", steps_per_execution=STEPS)
        ladder.train(model, few.images, few.labels, rate=rate, seed=seed, **schedule(len(few)))
        scores = [
            model.predict(part.images, batch_size=100, verbose=0)[:, _SICK]
            for part in (data.validation, data.test)
        ]
        tried[f"rate {rate:g}"] = (scores[0], scores[1])
    return _best(tried, data)


def check_one(*, which: int | None = None) -> pd.DataFrame:
    """Measure one cheap row of the table again, and stop if it does not agree.

    Parameters
    ----------
    which
        A number that chooses the row; by default the library's own source does.

    Returns
    -------
    pandas.DataFrame
        One row: ``method``, ``labels``, ``seed``, ``then`` and ``now`` (AUC on test) and ``allowed``.

    Raises
    ------
    tlhelpers.published.Disagreement
        If they differ by more.
    LookupError
        If the table has no cheap row of this edition with three seeds; the pocket edition has none.

    Notes
    -----
    The standard error of an AUC A is at most sqrt(A (1 - A) / m), m being the number of images in the
    smaller class (Cortes and Mohri, *Confidence intervals for the area under the ROC curve*, 2004), so
    the tolerance counts those.
    Explained in the chapter "Judge chest X-rays".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> found = tl.xrays.check_one()  # doctest: +SKIP
    """
    table = published.measured("applications")
    rows = table[(table.domain == "xrays") & (table.edition == editions.current().name)]

    def again(row: "pd.Series[Any]") -> tuple[float, int]:
        found = measure(row.method, int(row.labels), seed=int(row.seed))
        return found["value"], int(np.bincount(load(editions.current()).test.labels).min())

    return published.check_one(
        rows, again, like=["method", "labels"], value="value", most_seconds=10, which=which
    )
