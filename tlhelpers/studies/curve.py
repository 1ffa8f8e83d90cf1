"""The learning curve: test accuracy against the number of labelled digits, for five ways to learn.

Two ways start from a pre-trained backbone, three from nothing. All get the same labelled digits, the
same validation digits and the same rule for when to stop. Explained in the chapter "See why it matters".
"""

import functools
import itertools
import time
from collections.abc import Callable, Collection
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from tlhelpers import datasets
from tlhelpers._errors import check_name
from tlhelpers.backbones import small_convnet
from tlhelpers.freezing import freeze
from tlhelpers.page.editions import Edition
from tlhelpers.prefix import split

from . import recipes, skeleton
from .skeleton import SEEDS, Chosen, Study, best, draw, fit_few, forget, in_words

__all__ = ["METHODS", "RATES", "SIZES", "STUDY", "TRANSFER", "catches_up", "gains", "point"]

Array = npt.NDArray[Any]
TRANSFER = ("frozen", "fine-tuned")
"""The methods that start from a pre-trained backbone."""

METHODS = {
    "full": (*TRANSFER, "network from scratch", "convnet from scratch", "raw pixels"),
    "pocket": ("frozen", "convnet from scratch", "raw pixels"),
}
"""By edition: linear probe on frozen features; blocks 3 to 9 trained; the same network from random weights;
a small convolutional network; logistic regression on pixels."""

SIZES = {"full": (10, 30, 100, 300, 1_000, 3_000, 10_000), "pocket": (10, 30, 100, 300, 900)}
"""Numbers of labels, by edition."""

RATES = {
    "fine-tuned": (0.00006, 0.00025, 0.001, 0.004),
    "network from scratch": (0.001, 0.004, 0.016, 0.064, 0.256),
    "convnet from scratch": (0.001, 0.004, 0.016, 0.064),
}
"""Learning rates compared for each method that trains."""

TUNED_AT = {"full": (100, 3_000), "pocket": (100, 900)}
"""Numbers of labels at which rates were compared, with seed 0. The first decides for numbers below `MANY`."""

MORE_SEEDS = {
    "full": ((*TRANSFER, "convnet from scratch", "raw pixels"), (300, 3_000), (3, 4)),
    "pocket": (METHODS["pocket"], SIZES["pocket"], (3, 4)),
}
"""Methods, numbers of labels and further seeds, where three left too much open and more could be afforded."""

MANY = 900
"""From so many labels on the batches are larger, and the second of `TUNED_AT` decides."""

CUTS = ("block_5_add", "block_6_expand_relu")
PENALTIES = (0.01, 0.1, 1.0, 10.0)
INVERSE_PENALTIES = (0.01, 0.1, 1.0)

VALIDATION = 1_000
"""Validation digits that choose settings and the moment to stop; the same for every method."""

STEPS, PATIENCE, MOST_EPOCHS = 20, 5, 100
"""How training stops, see `tlhelpers.studies.skeleton.fit_few`."""


def point(
    edition: Edition, method: str, labels: int, *, seed: int = 0, rate: float | None = None
) -> dict[str, Any]:
    """One point of the learning curve: draw so many digits, learn from them in one of `METHODS`, and test.

    `rate` is Adam's learning rate, for the methods in `RATES`. What comes back is what validation chose in
    this run (cut and penalty, or the epoch), accuracies, epochs (0 for methods that have none) and
    ``cpu_seconds``, of all cores together, from labelled digits to classifier: the frozen part, training and
    choosing. Building the network's graph is left out, and so is the test.
    """
    check_name(f"method of the {edition.name} edition", method, METHODS[edition.name])
    if (rate is None) == (method in RATES):
        expected = f"one of {RATES[method]}" if method in RATES else "None: it has no learning rate"
        raise ValueError(f"rate of {method!r}: expected {expected}, got {rate}.")
    data = datasets.load_dataset(edition.dataset)
    few = draw(data.train, labels, seed=seed)
    held = data.validation.take(np.arange(len(data.validation)) < VALIDATION)
    if method == "raw pixels":
        found, test = _raw_pixels(few, held)
    elif method == "frozen":
        found, test = _frozen(edition, few, held)
    else:
        found, test = _trained(edition, method, few, held, rate=rate or 0.0, seed=seed)
    return {**found, "test_accuracy": test(data.test)}


Learned = tuple[dict[str, Any], Callable[[datasets.Split], float]]
"""What a method found on validation, and how to test it, which is done when the clock has stopped."""


def _raw_pixels(few: datasets.Split, held: datasets.Split) -> Learned:
    choose = functools.partial(skeleton.search_logistic, INVERSE_PENALTIES, steps=200)
    return _searched(skeleton.pixels, choose, few, held)


def _frozen(edition: Edition, few: datasets.Split, held: datasets.Split) -> Learned:
    shape, scaled = few.images.shape[1:], recipes.ARTICLE_RANGE
    features = recipes.reader(edition.backbone, shape, CUTS, batch_size=256, pixel_range=scaled)
    features(few.images[:1])  # builds the graph
    return _searched(features, functools.partial(skeleton.search_probes, PENALTIES), few, held)


def _searched(
    features: Callable[[Array], dict[str, Array]],
    choose: Callable[..., tuple[Chosen, str]],
    few: datasets.Split,
    held: datasets.Split,
) -> Learned:
    began = time.process_time()
    chosen, choice = choose(features(few.images), few.labels, features(held.images), held.labels)
    found = _found(choice, chosen.score, epochs=0, began=began)

    def test(part: datasets.Split) -> float:
        return float(chosen.classifier.score(features(part.images)[chosen.features], part.labels))

    return found, test


def _found(choice: str, score: float, *, epochs: int, began: float) -> dict[str, Any]:
    seconds = round(time.process_time() - began, 2)
    return {"choice": choice, "validation_accuracy": score, "epochs": epochs, "cpu_seconds": seconds}


def _trained(
    edition: Edition, method: str, few: datasets.Split, held: datasets.Split, *, rate: float, seed: int
) -> Learned:
    prefix, model = _network(edition, method)
    batch_size = 32 if len(few) < MANY else 128

    def inputs(images: Array) -> Array:
        return np.asarray(prefix.predict(images, batch_size=256, verbose=0))

    # A new seed makes TensorFlow build its kernels again; this does it before the clock starts.
    keras.utils.set_random_seed(seed)
    warm_up = inputs(few.images[:1]), few.labels[:1]
    model.fit(*(part.repeat(STEPS * batch_size, 0) for part in warm_up), batch_size=batch_size, verbose=0)
    model.evaluate(*(part.repeat(250, 0) for part in warm_up), batch_size=250, verbose=0)
    forget(model, _built(edition, method, seed)[1].get_weights(), rate=rate, seed=seed)

    began = time.process_time()
    history = fit_few(
        model,
        inputs(few.images),
        few.labels,
        (inputs(held.images), held.labels),
        monitor="val_accuracy",
        batch_size=batch_size,
        validation_batch_size=250,
        steps=STEPS,
        patience=PATIENCE,
        epochs=MOST_EPOCHS,
    )
    epoch = int(np.argmax(history)) + 1
    found = _found(f"epoch {epoch}", float(max(history)), epochs=len(history), began=began)

    def test(part: datasets.Split) -> float:
        return float(model.evaluate(inputs(part.images), part.labels, batch_size=250, verbose=0)[1])

    return found, test


def _built(edition: Edition, method: str, seed: int) -> tuple[keras.Model, keras.Model]:
    """What stays as it is, and what trains, with the seed's random weights."""
    if method == "convnet from scratch":
        image_shape = datasets.load_dataset(edition.dataset).train.images.shape[1:]
        whole = small_convnet(image_shape, seed=seed)
        return keras.Sequential([keras.Input(image_shape), keras.layers.Identity()]), whole
    weights: Literal["pretrained", "random"] = "pretrained" if method in TRANSFER else "random"
    whole = recipes.our_model(edition, weights=weights, seed=seed)
    if method in TRANSFER:
        freeze(whole.get_layer("backbone"), train_from="block_3_expand", batch_norm="frozen")
        return split(whole, at=recipes.OURS_CUT)
    freeze(whole.get_layer("backbone"), train_from=0, batch_norm="train")
    return split(whole, at="three_channels")  # the preparation alone stays as it is


@functools.cache
def _network(edition: Edition, method: str) -> tuple[keras.Model, keras.Model]:
    """The same, compiled; kept, since building its graph is slow."""
    prefix, suffix = _built(edition, method, 0)
    recipes.compile_with(keras.optimizers.Adam(), suffix, steps=STEPS)
    return prefix, suffix


def gains(
    rows: pd.DataFrame, *, transfer: Collection[str] = TRANSFER, examples: int | None = None
) -> pd.DataFrame:
    """What transfer gives at each number of labels: the best transfer method against the best other one.

    `rows` has the columns ``method``, ``labels``, ``seed``, ``validation_accuracy`` and ``test_accuracy`` (or
    any other score of which more is better); `transfer` names the methods that transfer. Which is best of
    either kind, *validation* decides, over the seeds that all methods have. On test they are compared seed by
    seed, since with the same seed both learn from the same examples; ``low`` to ``high`` is Student's 95%
    interval over the ``seeds`` that the two share. Where the scores are shares of so many test `examples`,
    it also allows for other test examples, by the most that two methods with so many mistakes can differ. A
    number of labels with one kind only, or with one seed, is left out; ValueError if none is left.
    """
    found = []
    for labels in sorted(int(number) for number in rows.labels.unique()):
        there = rows[rows.labels == labels]
        methods = there.method.unique()
        kinds = [[method for method in methods if (method in transfer) == kind] for kind in (True, False)]
        validation, test = (
            there.pivot(index="seed", columns="method", values=f"{part}_accuracy").reindex(columns=methods)
            for part in ("validation", "test")
        )
        if len(validation.dropna()) < 2 or not all(kinds):
            continue
        ours, other = (validation.dropna()[kind].mean().idxmax() for kind in kinds)
        pairs = test[[ours, other]].dropna()
        differences = pairs[ours] - pairs[other]
        gain = differences.mean()
        half = stats.t.ppf(0.975, len(pairs) - 1) * differences.std(ddof=1) / np.sqrt(len(pairs))
        if examples:  # they differ at most on the examples that one of the two gets wrong
            half = np.hypot(half, 1.96 * np.sqrt((2 - pairs.mean().sum()) / examples))
        found.append(
            {
                "labels": labels,
                "transfer": ours,
                "scratch": other,
                "transfer_accuracy": pairs[ours].mean(),
                "scratch_accuracy": pairs[other].mean(),
                "gain": gain,
                "low": gain - half,
                "high": gain + half,
                "seeds": len(pairs),
            }
        )
    if not found:
        raise ValueError(
            "rows: expected a number of labels with methods of both kinds, each with the same seeds, two or "
            "more; got none. Run `make measure`."
        )
    return pd.DataFrame(found)


def catches_up(gained: pd.DataFrame, *, margin: float = 0.01) -> int | None:
    """From how many labels on learning from scratch is as good as transfer, to within a margin.

    The least number of labels, in a table that `gains` made, from which on the whole interval of the gain
    lies below `margin`, at every larger number measured too. None if there is no such number. That an
    interval reaches zero is not enough: a wide one always does.
    """
    always = (gained.high < margin)[::-1].cummin()[::-1]
    return int(gained.labels[always].iloc[0]) if always.any() else None


@functools.cache
def _tried(edition: Edition, method: str, labels: int) -> dict[float, dict[str, Any]]:
    """Seed 0 at every rate; nothing for methods that have none."""
    return {rate: point(edition, method, labels, seed=SEEDS[0], rate=rate) for rate in RATES.get(method, ())}


def _row(edition: Edition, method: str, labels: int, seed: int) -> dict[str, Any]:
    """One row, at the rate that seed 0's validation digits chose."""
    few, many = TUNED_AT[edition.name]
    tuned_at = few if labels < MANY else many
    tried = _tried(edition, method, tuned_at)
    if not tried:
        return {"learning_rate": None, **point(edition, method, labels, seed=seed, rate=None), "tried": ""}
    scores = {rate: found["validation_accuracy"] for rate, found in tried.items()}
    rate = best(scores)
    known = (labels, seed) == (tuned_at, SEEDS[0])
    found = tried[rate] if known else point(edition, method, labels, seed=seed, rate=rate)
    return {"learning_rate": rate, **found, "tried": f"{tuned_at} labels: {in_words(scores)}"}


def _again(edition: Edition, row: "pd.Series[Any]") -> tuple[float, int]:
    rate = float(row.learning_rate) if row.method in RATES else None
    found = point(edition, row.method, int(row.labels), seed=int(row.seed), rate=rate)
    return found["test_accuracy"], len(datasets.load_dataset(edition.dataset).test)


STUDY = Study(
    table="curve",
    keys=("method", "labels", "seed"),
    grid=lambda edition: [
        *itertools.product(METHODS[edition.name], SIZES[edition.name], SEEDS),
        *itertools.product(*MORE_SEEDS[edition.name]),
    ],
    row=_row,
    again=_again,
    like=("method", "labels"),
    most_seconds=15,
)
