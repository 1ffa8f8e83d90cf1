"""Chest X-rays: pneumonia or not, with and without transfer, and what a doctor would ask of the answer.

The X-rays are 28 by 28 pixels, from one children's hospital. Nothing here is fit for use on patients.
"""

import dataclasses
import functools
import math
import time
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from tlhelpers import datasets, page, recommend_strategy
from tlhelpers.backbones import small_convnet
from tlhelpers.page.editions import Edition

from . import skeleton
from .recipes import classic_network, reader, train_classic
from .skeleton import application, best, draw, fit_with_cosine, in_proportion

__all__ = [
    "IMAGE_SIZE",
    "METHODS",
    "SIZES",
    "STUDY",
    "TRANSFER",
    "load",
    "prior_shift",
    "schedule",
    "sensitivity_specificity",
    "threshold_at_specificity",
]

METHODS = ("frozen", "fine-tuned", "from scratch", "raw pixels")
"""Linear probe on frozen features; fine-tuning as the classic advice has it; a small
convolutional network with random weights; logistic regression on the pixels."""
TRANSFER = ("frozen", "fine-tuned")
"""These need what the backbone has learned."""
SIZES = (50, 200, 1_000, 4_708)
"""Numbers of labels; the last is all there are."""
IMAGE_SIZE = {"full": 64, "pocket": 32}
"""Pixels that the backbone sees, by edition."""

CUTS = ("block_5_add", "block_9_add", "block_12_add")
PENALTIES = (0.01, 0.1, 1.0, 10.0)
INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0)
RATES = (0.0003, 0.001)
"""Adam's learning rates compared for the network from scratch. With 50 labels and seed 0, 0.004 and 0.016 did
worse on validation, and with 1,000 labels 0.004 did no better."""
STEPS = 10
"""Of training from scratch, done in one call: its steps are so short that the calls would cost as much."""

SICK = 1  # the label "pneumonia"

Numbers = npt.NDArray[Any]


def load(edition: Edition) -> datasets.Dataset:
    """The chapter's X-rays; in the pocket edition digits, the 3 for the healthy and the 8 for the sick."""
    if edition.name == "full":
        return datasets.load_dataset("pneumonia")
    digits = datasets.load_dataset("digits")

    def two(part: datasets.Split) -> datasets.Split:
        kept = part.take(np.isin(part.labels, (3, 8)))
        return dataclasses.replace(kept, labels=(kept.labels == 8).astype(np.int64))

    return dataclasses.replace(
        digits,
        name="digits 3 and 8",
        train=two(digits.train),
        validation=two(digits.validation),
        test=two(digits.test),
        class_names=("digit 3", "digit 8"),
        note="a stand-in: two kinds of handwritten digits, the 8 in the place of the sick.",
    )


def schedule(labels: int) -> dict[str, Any]:
    """Batch size and epochs for so many labels: some two hundred steps, or three looks at all of them."""
    batch_size = 16 if labels < 500 else 32
    return {"batch_size": batch_size, "epochs": max(3, math.ceil(200 * batch_size / labels))}


# -- from scores to decisions ---------------------------------------------------------------------


def threshold_at_specificity(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, specificity: float = 0.9
) -> float:
    """The lowest score that keeps a specificity, if what scores *above* it is called sick.

    `labels` are 0 (healthy) and 1 (sick), (n,); a higher score means rather sick. A threshold is a setting:
    choose it on validation.
    """
    healthy, _ = _by_class(labels, scores)
    if not 0 < specificity < 1:
        raise ValueError(f"specificity: expected a share between 0 and 1, got {specificity}.")
    # One part in a million below, lest rounding ask for one healthy more than the share says.
    return float(np.sort(healthy)[math.ceil(specificity * len(healthy) * (1 - 1e-6)) - 1])


def sensitivity_specificity(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, above: float
) -> dict[str, float]:
    """Share of the sick that score above a threshold, and share of the healthy that don't."""
    healthy, sick = _by_class(labels, scores)
    return {"sensitivity": float((sick > above).mean()), "specificity": float((healthy <= above).mean())}


def _by_class(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    """Scores of the healthy and of the sick."""
    y, s = np.asarray(labels), np.asarray(scores)
    if y.shape != s.shape or not np.isfinite(s).all() or set(np.unique(y).tolist()) != {0, 1}:
        raise ValueError(
            "labels, scores: expected both labels, 0 (healthy) and 1 (sick), with a finite score each, got "
            f"{np.unique(y)[:5].tolist()}, {y.shape} labels and {s.shape} scores. Take both of one split."
        )
    return s[y != SICK], s[y == SICK]


def prior_shift(probabilities: npt.ArrayLike, *, old: float, new: float) -> Numbers:
    """Probabilities of being sick, (n,), where the sick are another share than they were in training.

    `old` is their share among the training images, `new` their share where the classifier is used. It holds
    if the sick look alike in both places, and so do the healthy. The order stays, and with it AUC. Source:
    Saerens, Latinne and Decaestecker, *Adjusting the outputs of a classifier to new a priori probabilities: a
    simple procedure*, 2002.
    """
    p = np.asarray(probabilities, dtype=float)
    if not ((p >= 0) & (p <= 1)).all() or not (0 < old < 1 and 0 < new < 1):
        raise ValueError(
            "probabilities, old, new: expected numbers from 0 to 1, the two shares neither 0 nor 1, got "
            f"{p[:5]}, {old} and {new}. Give shares, not per cent."
        )
    sick, healthy = p * new / old, (1 - p) * (1 - new) / (1 - old)
    adjusted: Numbers = sick / (sick + healthy)
    return adjusted


# -- rows of the table ----------------------------------------------------------------------------

Found = tuple[str, Numbers, Numbers]
"""What validation chose, and the scores of the validation and the test images."""


def measure(method: str, labels: int, *, seed: int, edition: Edition | None = None) -> dict[str, Any]:
    """Learn from so many X-rays by one of `METHODS`, and test; in the pocket edition from the stand-in.

    AUC on test (``value``) and on validation, what validation chose, ``cpu_seconds`` of all cores together,
    with the choosing and the predictions, and sensitivity and specificity on test, at the threshold that
    keeps 90% specificity on validation.
    """
    edition = edition or page.current()
    data = load(edition)
    few = draw(data.train, labels, seed=seed, rule=in_proportion)
    began = time.process_time()
    if method == "raw pixels":
        choose = functools.partial(skeleton.search_logistic, INVERSE_PENALTIES, steps=500)
        found = _searched(data, few, skeleton.pixels, choose)
    elif method == "frozen":
        shape, size = few.images.shape[1:], IMAGE_SIZE[edition.name]
        read = reader(edition.backbone, shape, CUTS, batch_size=100, image_size=size)
        found = _searched(data, few, read, functools.partial(skeleton.search_probes, PENALTIES))
    elif method == "fine-tuned":
        found = _fine_tuned(edition, data, few, seed)
    else:
        found = _from_scratch(data, few, seed)
    seconds = round(time.process_time() - began, 1)
    choice, validation, test = found
    above = threshold_at_specificity(data.validation.labels, validation)
    return {
        "value": float(roc_auc_score(data.test.labels, test)),
        "validation": float(roc_auc_score(data.validation.labels, validation)),
        "choice": choice,
        "cpu_seconds": seconds,
        **sensitivity_specificity(data.test.labels, test, above=above),
    }


def _searched(data: datasets.Dataset, few: datasets.Split, read: Any, choose: Any) -> Found:
    """What `choose`, a search, makes of what `read` gives of the images."""
    x, validation, test = (read(part.images) for part in (few, data.validation, data.test))
    found, choice = choose(x, few.labels, validation, data.validation.labels, scoring="roc_auc")
    score = found.classifier.decision_function
    return choice, *(score(part[found.features]) for part in (validation, test))


def _fine_tuned(edition: Edition, data: datasets.Dataset, few: datasets.Split, seed: int) -> Found:
    # Penalty and rate are the map's, which chose them on validation, X-rays among its data.
    advice = recommend_strategy(n_examples=len(few), n_classes=2, similarity="different", by="classic")
    shape, size = few.images.shape[1:], IMAGE_SIZE[edition.name]
    network = classic_network(edition.backbone, shape, size, 2, str(advice.train_from))
    how = {"penalty": advice.penalty, "rate": advice.learning_rate, **schedule(len(few))}
    validation, test = train_classic(network, few, data.validation, data.test, seed=seed, **how)
    return f"{advice.depth}, rate {advice.learning_rate:g}", validation[:, SICK], test[:, SICK]


def _from_scratch(data: datasets.Dataset, few: datasets.Split, seed: int) -> Found:
    scores = {}
    for rate in RATES:
        model = small_convnet(few.images.shape[1:], classes=2, seed=seed)
        model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", steps_per_execution=STEPS)
        fit_with_cosine(model, few.images, few.labels, rate=rate, seed=seed, **schedule(len(few)))
        scores[rate] = [
            model.predict(part.images, batch_size=100, verbose=0)[:, SICK]
            for part in (data.validation, data.test)
        ]
    rate = best({rate: roc_auc_score(data.validation.labels, seen) for rate, (seen, _) in scores.items()})
    return f"rate {rate:g}", *scores[rate]


STUDY = application(
    "xrays",
    methods=METHODS,
    sizes=SIZES,
    metric="AUC",
    measure=measure,
    # The standard error of an AUC A is at most sqrt(A (1 - A) / m), m being the number of images in the
    # smaller class (Cortes and Mohri, *Confidence intervals for the area under the ROC curve*, 2004).
    examples=lambda edition: int(np.bincount(load(edition).test.labels).min()),
)
