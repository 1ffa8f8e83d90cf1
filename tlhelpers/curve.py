"""The learning curve: test accuracy against the number of labelled digits, for five ways to learn.

Two ways start from a pre-trained backbone, three from nothing. All get the same labelled digits, the
same validation digits and the same rule for when to stop.
"""

import functools
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn.linear_model import LogisticRegression

from . import datasets, editions, published, recipes
from ._errors import unknown_name
from ._restart import forget
from .backbones import load_backbone, preparation
from .evaluation import linear_probe
from .freezing import freeze
from .prefix import split
from .unfreezing import draw

__all__ = [
    "METHODS",
    "RATES",
    "SIZES",
    "TRANSFER",
    "TUNED_AT",
    "CatchUp",
    "catches_up",
    "check_one",
    "gains",
    "measure",
    "small_convnet",
]

TRANSFER = ("frozen", "fine-tuned")
"""The methods that start from a pre-trained backbone."""
_SCRATCH = ("network from scratch", "convnet from scratch", "raw pixels")
METHODS = {
    "full": TRANSFER + _SCRATCH,
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

MANY = 900
"""From so many labels on the batches are larger, and the second of `TUNED_AT` decides."""

CUTS = ("block_5_add", "block_6_expand_relu")
PENALTIES = (0.01, 0.1, 1.0, 10.0)
INVERSE_PENALTIES = (0.01, 0.1, 1.0)
VALIDATION = 1_000
"""Validation digits that choose settings and the moment to stop; the same for every method."""

STEPS = 20
"""Steps in an epoch at least: few digits are shown several times, or an "epoch without progress" would be
one look at ten digits."""
PATIENCE = 5
MOST_EPOCHS = 100


def small_convnet(
    image_shape: tuple[int, ...],
    *,
    classes: int = 10,
    widths: tuple[int, ...] = (32, 64, 128),
    seed: int = 0,
) -> keras.Model:
    """A small convolutional network with random weights, of the kind one would write for small images.

    For each width convolution, BatchNorm, ReLU and pooling, then dropout and one dense layer.

    Parameters
    ----------
    image_shape
        (height, width) of a grey image or (height, width, 3) of a colour image. Each pooling halves it.
    classes
        Outputs.
    widths
        Channels of each convolution.
    seed
        For the weights.

    Returns
    -------
    keras.Model
        Raw images ``(n, *image_shape)``, values 0..255, to float32 (n, classes) probabilities.

    Notes
    -----
    Explained in the chapter "See why it matters".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.curve.small_convnet((8, 8)).output_shape
    (None, 10)
    """
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    body: list[keras.Layer] = []
    for width in widths:
        body += [
            layers.Conv2D(width, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.95),
            layers.ReLU(),
            layers.MaxPooling2D(),
        ]
    grey = len(image_shape) == 2
    return keras.Sequential(
        [
            keras.Input(image_shape),
            *([layers.Reshape((*image_shape, 1))] if grey else []),
            layers.Rescaling(1 / 255),
            *body,
            layers.Flatten(),
            layers.Dropout(0.3, seed=seed, name="dropout"),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def measure(
    edition: editions.Edition, method: str, labels: int, *, seed: int = 0, rate: float | None = None
) -> dict[str, Any]:
    """One point of the learning curve: draw digits, learn from them, and test.

    Parameters
    ----------
    edition
        Names data set and backbone.
    method
        One of `METHODS` of this edition.
    labels
        Number of labelled digits to learn from, a multiple of ten.
    seed
        For the draw, the random weights, the dropout and the order of the batches.
    rate
        Adam's learning rate, for the methods in `RATES`; the others have none.

    Returns
    -------
    dict
        ``choice`` (what validation chose in this run: cut and penalty, or the epoch);
        ``validation_accuracy`` and ``test_accuracy`` (shares, 0 to 1); ``epochs`` (0 for methods that
        have none); ``cpu_seconds``, of all cores together, from labelled digits to classifier: the
        frozen part, training and choosing. Building the network's graph is left out, and so is the test.

    Raises
    ------
    LookupError
        If this edition has no such method.
    ValueError
        If so many labels can't be drawn, or a rate is missing or given where there is none.
    tlhelpers.downloads.DownloadError
        If data or weights can't be had.

    Notes
    -----
    Explained in the chapter "See why it matters".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.curve.measure(pocket, "raw pixels", 100)["test_accuracy"] > 0.8
    True
    """
    if method not in METHODS[edition.name]:
        raise unknown_name(f"method of the {edition.name} edition", method, METHODS[edition.name])
    if (rate is None) == (method in RATES):
        expected = f"one of {RATES[method]}" if method in RATES else "None: it has no learning rate"
        raise ValueError(f"rate of {method!r}: expected {expected}, got {rate}.")
    data = datasets.load_dataset(edition.dataset)
    few = draw(data.train, labels, seed=seed)
    if method == "raw pixels":
        found, test = _raw_pixels(data, few)
    elif method == "frozen":
        found, test = _frozen(edition, data, few)
    else:
        found, test = _trained(edition, method, data, few, rate=rate or 0.0, seed=seed)
    return {**found, "test_accuracy": test()}


Found = tuple[dict[str, Any], Callable[[], float]]
"""What a method found on validation, and how to test it, which is done when the clock has stopped."""


def _raw_pixels(data: datasets.Dataset, few: datasets.Split) -> Found:
    x, x_validation, x_test = (
        part.images.reshape(len(part), -1) / np.float32(255) for part in (few, data.validation, data.test)
    )
    began = time.process_time()
    x_validation, labels = x_validation[:VALIDATION], data.validation.labels[:VALIDATION]
    fitted = [LogisticRegression(C=c, max_iter=200).fit(x, few.labels) for c in INVERSE_PENALTIES]
    scores = [float(model.score(x_validation, labels)) for model in fitted]
    best = int(np.argmax(scores))
    found = _found(f"C {INVERSE_PENALTIES[best]:g}", scores[best], epochs=0, began=began)
    return found, lambda: float(fitted[best].score(x_test, data.test.labels))


def _found(choice: str, validation_accuracy: float, *, epochs: int, began: float) -> dict[str, Any]:
    return {
        "choice": choice,
        "validation_accuracy": validation_accuracy,
        "epochs": epochs,
        "cpu_seconds": round(time.process_time() - began, 2),
    }


def _frozen(edition: editions.Edition, data: datasets.Dataset, few: datasets.Split) -> Found:
    reader, labels = _reader(edition), data.validation.labels[:VALIDATION]
    reader.predict(few.images[:1], verbose=0)  # builds the graph

    def features(images: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        outputs: list[npt.NDArray[Any]] = reader.predict(images, batch_size=256, verbose=0)
        return outputs

    began = time.process_time()
    x, x_validation = features(few.images), features(data.validation.images[:VALIDATION])
    scores = {
        (place, penalty): linear_probe(x[place], few.labels, x_validation[place], labels, penalty=penalty)
        for place in range(len(CUTS))
        for penalty in PENALTIES
    }
    # The first of the best, so that equal scores give the same choice everywhere.
    place, penalty = max(scores, key=lambda choice: scores[choice])
    found = _found(f"{CUTS[place]}, penalty {penalty:g}", scores[place, penalty], epochs=0, began=began)
    return found, lambda: linear_probe(
        x[place], few.labels, features(data.test.images)[place], data.test.labels, penalty=penalty
    )


@functools.cache
def _reader(edition: editions.Edition) -> keras.Model:
    """Raw digits to what the frozen backbone makes of them after each of `CUTS`."""
    backbone = load_backbone(edition.backbone)
    image_shape = datasets.load_dataset(edition.dataset).train.images.shape[1:]
    inside = keras.Model(backbone.inputs, [backbone.get_layer(cut).output for cut in CUTS])
    inputs = keras.Input(image_shape)
    return keras.Model(inputs, inside(preparation(image_shape)(inputs)))


def _trained(
    edition: editions.Edition,
    method: str,
    data: datasets.Dataset,
    few: datasets.Split,
    *,
    rate: float,
    seed: int,
) -> Found:
    prefix, model = _network(edition, method)
    batch_size = 32 if len(few) < MANY else 128
    times = math.ceil(STEPS * batch_size / len(few))
    y = np.concatenate([few.labels] * times)

    def inputs(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        outputs: npt.NDArray[Any] = prefix.predict(images, batch_size=256, verbose=0)
        return outputs

    # A new seed makes TensorFlow build its kernels again; this does it before the clock starts.
    keras.utils.set_random_seed(seed)
    warm_up = inputs(few.images[:1]), few.labels[:1]
    model.fit(*(part.repeat(STEPS * batch_size, 0) for part in warm_up), batch_size=batch_size, verbose=0)
    model.evaluate(*(part.repeat(250, 0) for part in warm_up), batch_size=250, verbose=0)
    forget(model, _built(edition, method, seed)[1].get_weights(), rate=rate, seed=seed)

    began = time.process_time()
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=PATIENCE, restore_best_weights=True)
    history = model.fit(
        np.concatenate([inputs(few.images)] * times),
        y,
        validation_data=(inputs(data.validation.images[:VALIDATION]), data.validation.labels[:VALIDATION]),
        validation_batch_size=250,
        batch_size=batch_size,
        epochs=MOST_EPOCHS,
        verbose=0,
        callbacks=[stop],
    ).history["val_accuracy"]
    best = int(np.argmax(history)) + 1
    found = _found(f"epoch {best}", float(max(history)), epochs=len(history), began=began)

    def test() -> float:
        _, accuracy = model.evaluate(inputs(data.test.images), data.test.labels, batch_size=250, verbose=0)
        return float(accuracy)

    return found, test


def _built(edition: editions.Edition, method: str, seed: int) -> tuple[keras.Model, keras.Model]:
    """What stays as it is, and what trains, with the seed's random weights."""
    if method == "convnet from scratch":
        image_shape = datasets.load_dataset(edition.dataset).train.images.shape[1:]
        whole = small_convnet((image_shape[0], image_shape[1]), seed=seed)
        return keras.Sequential([keras.Input(image_shape), keras.layers.Identity()]), whole
    weights: Literal["pretrained", "random"] = "pretrained" if method in TRANSFER else "random"
    whole = recipes.our_model(edition, weights=weights, seed=seed)
    if method in TRANSFER:
        freeze(whole.get_layer("backbone"), train_from="block_3_expand", batch_norm="frozen")
        return split(whole, at=recipes.OURS_CUT)
    freeze(whole.get_layer("backbone"), train_from=0, batch_norm="train")
    return split(whole, at="three_channels")  # the preparation alone stays as it is


@functools.cache
def _network(edition: editions.Edition, method: str) -> tuple[keras.Model, keras.Model]:
    """The same, compiled; kept, since building its graph is slow."""
    prefix, suffix = _built(edition, method, 0)
    suffix.compile(
        optimizer=keras.optimizers.Adam(),
        loss="sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        steps_per_execution=STEPS,
    )
    suffix.optimizer.build(suffix.trainable_variables)
    return prefix, suffix


def gains(rows: pd.DataFrame, *, transfer: Collection[str] = TRANSFER) -> pd.DataFrame:
    """What transfer gives at each number of labels: the best transfer method against the best other one.

    Which is best of either kind, *validation* decides. On test they are compared seed by seed, since with
    the same seed both learn from the same examples; the interval is Student's, over the seeds.

    Parameters
    ----------
    rows
        Columns ``method``, ``labels``, ``seed``, ``validation_accuracy`` and ``test_accuracy`` (or any
        other score of which more is better), such as an edition's rows of
        ``published.measured("curve")``; each number of labels with the same seeds for every method, two
        or more. A number of labels that lacks a row is left out.
    transfer
        The methods that transfer; all others learn from scratch.

    Returns
    -------
    pandas.DataFrame
        A row for each number of labels: ``labels``, ``transfer`` and ``scratch`` (the best of each kind),
        ``transfer_accuracy`` and ``scratch_accuracy`` (means over the seeds), ``gain`` (transfer minus
        scratch), ``low`` and ``high`` (its 95% interval).

    Raises
    ------
    ValueError
        If no number of labels is complete, or one kind has no method.

    Notes
    -----
    Explained in the chapter "See why it matters".

    Examples
    --------
    >>> import pandas as pd, tlhelpers as tl
    >>> score = [0.90, 0.91, 0.80, 0.82]
    >>> rows = pd.DataFrame(
    ...     {"method": ["frozen"] * 2 + ["raw pixels"] * 2, "labels": 100, "seed": [0, 1] * 2}
    ... )
    >>> found = tl.curve.gains(rows.assign(validation_accuracy=score, test_accuracy=score))
    >>> found[["labels", "transfer", "scratch", "gain"]].round(3).values.tolist()
    [[100, 'frozen', 'raw pixels', 0.095]]
    """
    kinds = [rows.method[rows.method.isin(transfer) == kind].unique() for kind in (True, False)]
    found = []
    for labels in sorted(int(number) for number in rows.labels.unique()):
        there = rows[rows.labels == labels]
        validation, test = (
            there.pivot(index="seed", columns="method", values=f"{part}_accuracy").reindex(
                columns=rows.method.unique()
            )
            for part in ("validation", "test")
        )
        if len(test) < 2 or test.isna().any(axis=None) or not all(map(len, kinds)):
            continue
        best, other = (validation[kind].mean().idxmax() for kind in kinds)
        differences = test[best] - test[other]
        gain = differences.mean()
        half = stats.t.ppf(0.975, len(test) - 1) * differences.std(ddof=1) / np.sqrt(len(test))
        found.append(
            {
                "labels": labels,
                "transfer": best,
                "scratch": other,
                "transfer_accuracy": test[best].mean(),
                "scratch_accuracy": test[other].mean(),
                "gain": gain,
                "low": gain - half,
                "high": gain + half,
            }
        )
    if not found:
        raise ValueError(
            "rows: expected a number of labels with methods of both kinds, each with the same seeds, two or "
            "more; got none. Run `make measure`."
        )
    return pd.DataFrame(found)


@dataclass(frozen=True)
class CatchUp:
    """From how many labels on learning from scratch is as good as transfer.

    Attributes
    ----------
    level
        The least number of labels from which on, at every larger number measured too, the best method
        from scratch can't be told from the best transfer method, or is better: the interval of the gain
        reaches zero. None if there is no such number.
    ahead
        The least number from which on its mean accuracy is the higher one. None if it never is.
    """

    level: int | None
    ahead: int | None


def catches_up(gained: pd.DataFrame) -> CatchUp:
    """Find from how many labels on training from scratch catches up with transfer.

    Parameters
    ----------
    gained
        A table that `gains` made.

    Returns
    -------
    CatchUp

    Notes
    -----
    Explained in the chapter "See why it matters".

    Examples
    --------
    >>> import pandas as pd, tlhelpers as tl
    >>> gained = pd.DataFrame({"labels": [10, 100, 1000], "gain": [0.2, 0.01, -0.01], "low": [0.1, 0, -0.02]})
    >>> tl.curve.catches_up(gained)
    CatchUp(level=100, ahead=1000)
    """
    return CatchUp(_from_where(gained, gained.low <= 0), _from_where(gained, gained.gain <= 0))


def _from_where(table: pd.DataFrame, holds: "pd.Series[bool]") -> int | None:
    """The least number of labels from which on something holds without exception."""
    always = holds[::-1].cummin()[::-1]
    return int(table.labels[always].iloc[0]) if always.any() else None


def check_one(*, edition: editions.Edition | None = None, which: int | None = None) -> pd.DataFrame:
    """Measure one cheap point of the curve again, and stop if it does not agree.

    Which one is chosen by the library's own source, so another one as the project moves on.

    Parameters
    ----------
    edition
        Whose curve; the current edition's by default.
    which
        A number that chooses the point instead.

    Returns
    -------
    pandas.DataFrame
        One row: ``method``, ``labels``, ``seed``, ``then`` and ``now`` (test accuracy) and ``allowed``, the
        tolerance: the larger of three standard deviations over the seeds and two binomial standard errors.

    Raises
    ------
    tlhelpers.published.Disagreement
        If they differ by more.
    LookupError
        If the table has no cheap point of this edition with three seeds.

    Notes
    -----
    Explained in the chapter "See why it matters".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> found = tl.curve.check_one()  # doctest: +SKIP
    """
    edition = edition or editions.current()
    table = published.measured("curve")
    rows = table[table.edition == edition.name]

    def again(row: "pd.Series[Any]") -> tuple[float, int]:
        rate = float(row.learning_rate) if row.method in RATES else None
        found = measure(edition, row.method, int(row.labels), seed=int(row.seed), rate=rate)
        return found["test_accuracy"], len(datasets.load_dataset(edition.dataset).test)

    return published.check_one(rows, again, like=["method", "labels"], most_seconds=15, which=which)
