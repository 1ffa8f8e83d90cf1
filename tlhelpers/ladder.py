"""The freezing ladder: accuracy against how many blocks train, for few and for many labels.

A rung is one network, trained once: data, number of labels, depth, seed. All rungs of a case share
everything but the depth. The whole ladder takes too long for each run, so `make measure` keeps it in
``book/measured/ladder.csv``, and `check_one` measures one of its rows again.
"""

import functools
import time
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from . import datasets, editions, published
from ._errors import unknown_name
from ._restart import Network
from .backbones import load_backbone, preparation
from .freezing import freeze, leaves
from .prefix import cut_points, precompute, split

__all__ = [
    "CASES",
    "DEPTHS",
    "Case",
    "case",
    "check_one",
    "in_proportion",
    "kept_rate",
    "network",
    "rung",
    "train",
]

DEPTHS: dict[str, str | None] = {
    "head only": None,
    "block 16": "block_16_expand",
    "block 13": "block_13_expand",
    "block 10": "block_10_expand",
    "block 6": "block_6_expand",
    "everything": "Conv1",
}
"""Where training begins, and the layer that `tlhelpers.freeze` takes for it. The later ones train, too."""


@dataclass(frozen=True)
class Case:
    """One ladder: everything that its rungs have in common.

    Attributes
    ----------
    edition, data, labels
        Its name in the table: edition, data set, and ``"few"`` or ``"many"`` labels.
    similarity
        Whether the data is like what the backbone was pre-trained on.
    backbone, image_size
        The pre-trained network, and the pixels it sees.
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
    """A case of the ladder by its name in the table.

    Parameters
    ----------
    edition, data, labels
        As in the columns of ``book/measured/ladder.csv``.

    Returns
    -------
    Case

    Raises
    ------
    LookupError
        If no case goes by that name.

    Notes
    -----
    Explained in the chapter "Climb the freezing ladder".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.ladder.case("full", "flowers", "few").examples
    50
    """
    names = {f"{c.edition}, {c.data}, {c.labels}": c for c in CASES}
    wanted = f"{edition}, {data}, {labels}"
    if wanted not in names:
        raise unknown_name("case of the ladder", wanted, names)
    return names[wanted]


def kept_rate(case: Case, depth: str) -> float:
    """The learning rate that the measured ladder kept for a rung.

    Parameters
    ----------
    case, depth
        A case of `CASES` and a key of `DEPTHS`.

    Returns
    -------
    float

    Raises
    ------
    LookupError
        If the ladder has no such rung.

    Notes
    -----
    Explained in the chapter "Climb the freezing ladder".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.ladder.kept_rate(tl.ladder.case("full", "flowers", "few"), "head only")
    0.01
    """
    table = published.measured("ladder")
    where = (table.edition == case.edition) & (table.data == case.data) & (table.labels == case.labels)
    rows = table[where & (table.depth == depth)]
    if rows.empty:
        raise LookupError(
            f"expected {depth!r} of {case.data}, {case.labels} labels, in the measured ladder, got none. "
            "Run `make measure TABLE=ladder` first."
        )
    return float(rows.learning_rate.iloc[0])


@dataclass(frozen=True, eq=False)
class _Pictures:
    """What a case trains and is judged on, the same for all seeds but for the training subset."""

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    validation: datasets.Split
    test: datasets.Split


def _part(part: datasets.Split, most: int) -> datasets.Split:
    if len(part) <= most:
        return part
    kept = np.sort(in_proportion(part.labels, most, seed=0))
    return datasets.Split(images=part.images[kept], labels=part.labels[kept], indices=part.indices[kept])


def in_proportion(labels: npt.NDArray[np.int64], number: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Positions of so many examples, drawn with the classes in proportion.

    Parameters
    ----------
    labels
        Class numbers, (n,), int.
    number
        How many to draw; n or more gives all, in their order.
    seed
        Which draw.

    Returns
    -------
    numpy.ndarray
        Positions, (number,), int.

    Raises
    ------
    ValueError
        If there are too few for one of each class.

    Notes
    -----
    Explained in the chapter "Climb the freezing ladder".

    Examples
    --------
    >>> import numpy as np, tlhelpers as tl
    >>> labels = np.repeat([0, 1], [30, 10])
    >>> np.bincount(labels[tl.ladder.in_proportion(labels, 8, seed=0)]).tolist()
    [6, 2]
    """
    everything = np.arange(len(labels))
    if number >= len(labels):
        return everything
    drawn, _ = train_test_split(everything, train_size=number, stratify=labels, random_state=seed)
    return np.asarray(drawn)


@functools.cache
def _pictures(data: str) -> _Pictures:
    whole = datasets.load_dataset(data)
    return _Pictures(
        images=whole.train.images,
        labels=whole.train.labels,
        validation=_part(whole.validation, _MOST_VALIDATION),
        test=_part(whole.test, _MOST_TEST),
    )


# To trace a network takes longer than to train it on few labels, so the networks are kept.
@functools.lru_cache(maxsize=24)
def network(
    backbone_name: str,
    image_shape: tuple[int, ...],
    image_size: int,
    classes: int,
    train_from: str | None,
) -> Network:
    """The classic shape, cut before what trains: backbone, average pooling, dropout, one dense layer.

    Parameters
    ----------
    backbone_name
        As `tlhelpers.load_backbone` takes it.
    image_shape
        Height and width of a raw grey image, or (height, width, 3).
    image_size
        The pixels that the backbone sees.
    classes
        Number of classes.
    train_from
        The first layer that trains; None for the head alone. BatchNorm stays frozen.

    Returns
    -------
    Network
        ``prefix`` (raw images to what the rest takes), ``suffix`` (compiled), and ``reset(rate, seed)``,
        which sets the suffix back. The same one at every call.

    Notes
    -----
    Explained in the chapter "Climb the freezing ladder".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.ladder.network("mobilenet_v2_glyphs", (8, 8), 32, 2, None).suffix.output_shape
    (None, 2)
    """
    backbone = load_backbone(backbone_name, image_size=image_size)
    freeze(backbone, train_from=train_from)
    inputs = keras.Input(image_shape, name="images")
    x = preparation(image_shape, image_size=image_size)(inputs)
    # The preparation ends in 0..1; ImageNet's network was trained on -1..1, the glyphs' on 0..1.
    if backbone_name == _IMAGENET:
        x = keras.layers.Rescaling(2.0, offset=-1.0, name="from_minus_one_to_one")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(x))
    x = keras.layers.Dropout(0.2, seed=0, name="dropout")(x)
    model = keras.Model(inputs, keras.layers.Dense(classes, activation="softmax", name="head")(x))
    order = [layer.name for layer in leaves(model)]
    first = order.index(train_from or "dropout")
    at = [name for name in cut_points(model) if order.index(name) < first][-1]
    prefix, suffix = split(model, at)
    suffix.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
    suffix.optimizer.build(suffix.trainable_variables)
    return Network(prefix, suffix, suffix.get_weights())


def train(
    model: keras.Model,
    x: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    *,
    rate: float,
    epochs: int,
    batch_size: int,
    seed: int,
) -> None:
    """Fit a compiled model, its learning rate following a cosine from epoch to epoch.

    Parameters
    ----------
    model
        Compiled; trained in place.
    x, labels
        What it takes, (n, ...), and class numbers, (n,).
    rate
        The learning rate of the first epoch.
    epochs, batch_size
        As for ``fit``.
    seed
        For the order of the batches.

    Notes
    -----
    Source of the schedule: Loshchilov and Hutter, *SGDR*, 2017, without its restarts.
    Explained in the chapter "Climb the freezing ladder".

    Examples
    --------
    >>> import keras, numpy as np, tlhelpers as tl
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, activation="softmax")])
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> tl.ladder.train(model, np.ones((4, 1)), np.ones(4), rate=0.5, epochs=4, batch_size=4, seed=0)
    >>> bool(model.predict(np.ones((1, 1)), verbose=0)[0, 1] > 0.5)
    True
    """
    cosine = keras.callbacks.LearningRateScheduler(
        lambda epoch: float(rate * (1 + np.cos(np.pi * epoch / epochs)) / 2)
    )
    keras.utils.set_random_seed(seed)
    model.fit(x, labels, batch_size=batch_size, epochs=epochs, callbacks=[cosine], verbose=0)


def rung(
    case: Case,
    depth: str,
    *,
    seed: int,
    rate: float,
) -> dict[str, Any]:
    """Train one rung of the ladder and judge it.

    The classic shape: backbone, global average pooling, dropout, one dense layer. The frozen part is
    computed once; the rest trains with Adam, the learning rate following a cosine from epoch to epoch.

    Parameters
    ----------
    case
        What all rungs of this ladder share.
    depth
        Where training begins: a key of `DEPTHS`.
    seed
        For the subset of training examples, the head, the dropout and the order of the batches.
    rate
        The learning rate of the first epoch.

    Returns
    -------
    dict
        ``validation_accuracy``, ``test_accuracy``, ``test_auc`` (two classes; else NaN), ``right``
        (which test examples were found; see `tlhelpers.strategies.right_answers`), ``epochs``,
        ``seconds`` and ``cpu_seconds`` (of all processors together, which other work on the machine
        changes little).
        Both cover training and both predictions, and what was not there yet: the network's graph,
        the frozen part.

    Raises
    ------
    LookupError
        If there is no such depth.
    tlhelpers.downloads.DownloadError
        If data or weights can't be had.

    Notes
    -----
    Explained in the chapter "Climb the freezing ladder".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.ladder.case("pocket", "digits", "few")
    >>> row = tl.ladder.rung(pocket, "head only", seed=0, rate=0.01)  # doctest: +SKIP
    """
    if depth not in DEPTHS:
        raise unknown_name("depth", depth, DEPTHS)
    started, cpu_started = time.perf_counter(), time.process_time()
    pictures = _pictures(case.data)
    there = network(
        case.backbone,
        pictures.images.shape[1:],
        case.image_size,
        case.classes,
        DEPTHS[depth],
    )
    there.reset(rate, seed)
    drawn = in_proportion(pictures.labels, case.examples, seed=seed)
    few, validation, test = (
        precompute(there.prefix, images)
        for images in (pictures.images[drawn], pictures.validation.images, pictures.test.images)
    )
    train(
        there.suffix,
        np.array(few),
        pictures.labels[drawn],
        rate=rate,
        epochs=case.epochs,
        batch_size=case.batch_size,
        seed=seed,
    )
    found = there.suffix.predict(np.array(validation), batch_size=100, verbose=0).argmax(axis=1)
    chances = there.suffix.predict(np.array(test), batch_size=100, verbose=0)
    right = chances.argmax(axis=1) == pictures.test.labels
    two = case.classes == 2
    return {
        "validation_accuracy": float((found == pictures.validation.labels).mean()),
        "test_accuracy": float(right.mean()),
        "test_auc": float(roc_auc_score(pictures.test.labels, chances[:, 1])) if two else np.nan,
        "epochs": case.epochs,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
        "right": _packed(right),
    }


def check_one(*, edition: editions.Edition | None = None, which: int | None = None) -> pd.DataFrame:
    """Measure one row of the ladder again, and stop if it does not agree.

    Takes a row with few labels, which trains in seconds. Which one is chosen by the library's own
    source, so another one as the project moves on.

    Parameters
    ----------
    edition
        Whose ladder; the current edition's by default.
    which
        A number that chooses the row instead.

    Returns
    -------
    pandas.DataFrame
        One row: ``data``, ``labels``, ``depth``, ``seed``, ``then`` and ``now`` (test accuracy) and
        ``allowed``, the tolerance: the larger of three standard deviations over the seeds and two
        binomial standard errors.

    Raises
    ------
    tlhelpers.published.Disagreement
        If they differ by more.
    LookupError
        If the ladder has no rows with few labels for this edition.

    Notes
    -----
    Explained in the chapter "Climb the freezing ladder".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> found = tl.ladder.check_one()  # doctest: +SKIP
    """
    edition = edition or editions.current()
    table = published.measured("ladder")
    few = table[(table.edition == edition.name) & (table.labels == "few")]

    def again(row: "pd.Series[Any]") -> tuple[float, int]:
        there = case(edition.name, row.data, row.labels)
        found = rung(there, row.depth, seed=int(row.seed), rate=float(row.learning_rate))
        return found["test_accuracy"], len(_pictures(row.data).test)

    return published.check_one(few, again, like=["data", "labels", "depth"], which=which)


def _packed(right: npt.NDArray[np.bool_]) -> str:
    """Eight answers in two hexadecimal digits. The letter keeps a reader from taking it for a number."""
    return f"{len(right)}x{np.packbits(right).tobytes().hex()}"
