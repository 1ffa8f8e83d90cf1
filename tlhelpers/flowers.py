"""Recognise flowers: five kinds from few photos, with a backbone that knows ImageNet, and without.

What `make measure` keeps in ``book/measured/applications.csv`` under the domain "flowers", and the small
things that the chapter needs: data for either edition, credit for its photos, an answer in words.
"""

import dataclasses
import functools
import math
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from . import datasets, editions, ladder, published
from ._errors import unknown_name
from ._restart import forget
from .backbones import load_backbone, preparation
from .curve import small_convnet
from .evaluation import linear_probe
from .strategies import recommend_strategy

__all__ = [
    "METHODS",
    "METRIC",
    "SIZES",
    "TRANSFER",
    "check_one",
    "credit_line",
    "load",
    "measure",
    "recognise",
    "sample_photos",
]

METRIC = "accuracy"
"""What the table counts."""
TRANSFER = ("frozen", "fine-tuned")
"""These need what the backbone has learned."""
METHODS = (*TRANSFER, "from scratch")
"""A linear classifier on the frozen backbone; the last blocks trained, as deep as the ladder advises; a small
convolutional network from random weights."""

SIZES = (50, 150, 350, 650)
"""Numbers of labelled photos: from ten of each kind to all that there are for training."""

_FEW, _MANY = (ladder.case("full", "flowers", labels) for labels in ("few", "many"))
IMAGE_SIZE = _MANY.image_size
"""Pixels that the backbone sees, as in the ladder."""

CUTS = ("block_12_add", "block_13_expand_relu", "block_15_add", "out_relu")
PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""What the linear classifier chooses from on validation: the layer it reads, pooled, and its penalty."""

WIDTHS = (16, 32, 64)
"""Channels of the small convolutional network's three convolutions."""
RATES = (0.001, 0.004)
"""Learning rates tried from scratch."""
TUNED_AT = (50, 650)
"""With seed 0, at these numbers of labels. What won at the first serves where labels count as few."""
SCRATCH_SIZE, STEPS, PATIENCE, MOST_EPOCHS, BATCH_SIZE = 32, 20, 5, 25, 32
"""From scratch: pixels that the network sees, steps in an epoch at least (few photos are shown again), then
epochs without progress on validation after which training stops, epochs at most, photos in a batch."""


def load(edition: editions.Edition) -> datasets.Dataset:
    """The chapter's photos: flowers in the full edition, a stand-in in the pocket edition.

    Parameters
    ----------
    edition
        What runs here.

    Returns
    -------
    tlhelpers.datasets.Dataset
        ``load_dataset("flowers")``; or crops of two photos that scikit-learn brings along, a temple and a
        flower, (n, 48, 48, 3), 50 train, 30 validation and 20 test, from parts of the photos that do not
        overlap.

    Raises
    ------
    tlhelpers.downloads.DownloadError
        If the flowers can't be had.

    Notes
    -----
    Explained in the chapter "Recognise flowers".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.flowers.load(pocket).train.images.shape
    (50, 48, 48, 3)
    """
    return datasets.load_dataset("flowers") if edition.name == "full" else _stand_in()


def _stand_in() -> datasets.Dataset:
    rng = np.random.default_rng(0)
    photos = [datasets.read_image(path, size=400) for path in sample_photos().values()]
    parts, start = [], 0
    for number, (left, right) in ((50, (0, 200)), (30, (200, 300)), (20, (300, 400))):
        labels = np.arange(number) % len(photos)
        corners = rng.integers((0, left), (400 - 48, right - 48), (number, 2), endpoint=True)
        images = [
            photos[label][y : y + 48, x : x + 48] for label, (y, x) in zip(labels, corners, strict=True)
        ]
        indices = np.arange(start, start + number)
        parts.append(datasets.Split(images=np.stack(images), labels=labels, indices=indices))
        start += number
    train, validation, test = parts
    return datasets.Dataset(
        name="stand-in",
        train=train,
        validation=validation,
        test=test,
        class_names=tuple(sample_photos()),
        licence="CC BY 2.0",
        source="crops of the two sample photos in scikit-learn",
    )


def sample_photos() -> dict[str, Path]:
    """Two photos that scikit-learn brings along, as files.

    Returns
    -------
    dict of str to pathlib.Path
        ``"temple"`` and ``"flower"``, JPEG, 640 by 427 pixels. Both CC BY 2.0: see `credit_line`.

    Notes
    -----
    Explained in the chapter "Recognise flowers".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> [path.name for path in tl.flowers.sample_photos().values()]
    ['china.jpg', 'flower.jpg']
    """
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    return {"temple": folder / "china.jpg", "flower": folder / "flower.jpg"}


def credit_line(data: datasets.Dataset | None = None, indices: npt.ArrayLike = ()) -> str:
    """Who took the photos that a page shows, in one line of Markdown.

    Parameters
    ----------
    data
        What `load` returned; by default the two sample photos.
    indices
        ``split.indices`` of the flowers shown. The stand-in's crops are of the two sample photos.

    Returns
    -------
    str
        For the flowers `tlhelpers.datasets.credit_line`; for the stand-in the sample photos' authors.

    Raises
    ------
    ValueError
        As for `tlhelpers.datasets.credit_line`.

    Notes
    -----
    Explained in the chapter "Recognise flowers".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.flowers.credit_line()  # doctest: +ELLIPSIS
    'Photos: [danielbuechele](https://...
    """
    if data is not None and data.name == "flowers":
        return datasets.credit_line(indices)
    # As scikit-learn's own notice beside the files names them.
    links = ", ".join(
        f"[{author}](https://www.flickr.com/photos/{author}/{photo}/)"
        for author, photo in (("danielbuechele", "6061409035"), ("vultilion", "6056698931"))
    )
    licence = "[CC BY 2.0](https://creativecommons.org/licenses/by/2.0/)"
    return f"Photos: {links}, from scikit-learn; {licence}; cropped and resized."


def recognise(
    model: keras.Model, picture: npt.NDArray[np.uint8], class_names: tuple[str, ...]
) -> pd.DataFrame:
    """What a classifier says about one picture.

    Parameters
    ----------
    model
        Raw pictures, (n, height, width, 3), to probabilities, (n, k).
    picture
        uint8, shape (height, width, 3), as `tlhelpers.datasets.read_image` returns it.
    class_names
        The k names, in the order of the outputs.

    Returns
    -------
    pandas.DataFrame
        Columns ``class`` and ``probability`` (0 to 1), the likeliest first. There is no row for "none of
        these": the probabilities sum to 1 whatever the picture shows.

    Raises
    ------
    ValueError
        If the picture has not the shape that the model takes, is not uint8, or the names are not k.

    Notes
    -----
    Explained in the chapter "Recognise flowers".

    Examples
    --------
    >>> import keras, numpy as np, tlhelpers as tl
    >>> layers = [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    >>> model = keras.Sequential(layers)
    >>> tl.flowers.recognise(model, np.zeros((4, 4, 3), "uint8"), ("rose", "tulip"))
       class  probability
    0   rose          0.5
    1  tulip          0.5
    """
    if picture.shape != model.input_shape[1:] or picture.dtype != np.uint8:
        raise ValueError(
            f"picture: expected uint8 of shape {model.input_shape[1:]}, got {picture.dtype} {picture.shape}. "
            f"Read it with tl.datasets.read_image(path, size={model.input_shape[1]})."
        )
    if len(class_names) != model.output_shape[-1]:
        raise ValueError(
            f"class_names: expected {model.output_shape[-1]} of them, got {len(class_names)}. "
            "Give those that the model was trained on, in their order."
        )
    chances = model.predict(picture[np.newaxis], verbose=0)[0]
    table = pd.DataFrame({"class": class_names, "probability": chances})
    return table.sort_values("probability", ascending=False, kind="stable", ignore_index=True)


def measure(method: str, labels: int, *, seed: int) -> dict[str, Any]:
    """One point: draw photos, learn from them, and test.

    Parameters
    ----------
    method
        One of `METHODS`.
    labels
        Labelled photos to learn from, 10 to 650; classes in proportion.
    seed
        For the draw, the random weights, the dropout and the order of the batches.

    Returns
    -------
    dict
        ``value`` and ``validation``: accuracy on 200 test and on 150 validation photos; ``choice``: what
        validation chose; ``cpu_seconds``, of all cores together, graphs included, the search for a rate
        from scratch left out.

    Raises
    ------
    LookupError
        If there is no such method.
    ValueError
        If so many photos can't be drawn.
    tlhelpers.downloads.DownloadError
        If data or weights can't be had.

    Notes
    -----
    "fine-tuned" is a rung of the ladder, at the depth and rate of `tlhelpers.recommend_strategy`. What the
    ladder counts as few or many labels also decides how long it trains and in which batches.

    Explained in the chapter "Recognise flowers".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> found = tl.flowers.measure("frozen", 50, seed=0)  # doctest: +SKIP
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if not 2 * _MANY.classes <= labels <= _MANY.examples:
        raise ValueError(
            f"labels: expected {2 * _MANY.classes} to {_MANY.examples}, got {labels}. "
            "There are no more photos to learn from, and fewer can't hold every class."
        )
    if method == "frozen":
        return _frozen(labels, seed)
    if method == "fine-tuned":
        return _fine_tuned(labels, seed)
    return _from_scratch(labels, seed, _kept_rate(labels))


def _drawn(labels: int, seed: int) -> tuple[datasets.Dataset, datasets.Split]:
    """The photos, and those to learn from: the ladder's draw."""
    data = datasets.load_dataset("flowers")
    kept = ladder.in_proportion(data.train.labels, labels, seed=seed)
    return data, datasets.Split(
        images=data.train.images[kept], labels=data.train.labels[kept], indices=data.train.indices[kept]
    )


@functools.cache
def _reader() -> keras.Model:
    """Raw photos to what the frozen backbone makes of them after each of `CUTS`, pooled."""
    backbone = load_backbone(_MANY.backbone, image_size=IMAGE_SIZE)
    pooled = [keras.layers.GlobalAveragePooling2D()(backbone.get_layer(cut).output) for cut in CUTS]
    inputs = keras.Input((160, 160, 3))
    x = preparation((160, 160, 3), image_size=IMAGE_SIZE)(inputs)
    x = keras.layers.Rescaling(2.0, offset=-1.0)(x)
    return keras.Model(inputs, keras.Model(backbone.inputs, pooled)(x))


def _frozen(labels: int, seed: int) -> dict[str, Any]:
    data, few = _drawn(labels, seed)
    began = time.process_time()
    x, x_validation = (_reader().predict(part.images, verbose=0) for part in (few, data.validation))
    scores = {
        (place, penalty): linear_probe(
            x[place], few.labels, x_validation[place], data.validation.labels, penalty=penalty
        )
        for place in range(len(CUTS))
        for penalty in PENALTIES
    }
    place, penalty = max(scores, key=lambda choice: scores[choice])
    seconds = time.process_time() - began
    x_test = _reader().predict(data.test.images, verbose=0)[place]
    value = linear_probe(x[place], few.labels, x_test, data.test.labels, penalty=penalty)
    return _found(value, scores[place, penalty], f"{CUTS[place]}, penalty {penalty:g}", seconds)


def _found(value: float, validation: float, choice: str, seconds: float) -> dict[str, Any]:
    return {"value": value, "validation": validation, "choice": choice, "cpu_seconds": round(seconds, 1)}


def _like(labels: int) -> ladder.Case:
    """The ladder's case that so many labels count as, with so many examples and as many steps."""
    border = math.sqrt(_FEW.examples * _MANY.examples)
    case = _FEW if labels < border else _MANY
    epochs = round(case.epochs * case.examples / labels)
    return dataclasses.replace(case, examples=labels, epochs=epochs)


def _fine_tuned(labels: int, seed: int) -> dict[str, Any]:
    case = _like(labels)
    advice = recommend_strategy(n_examples=labels, n_classes=case.classes, similarity=case.similarity)
    found = ladder.rung(case, advice.depth, seed=seed, rate=advice.learning_rate)
    choice = f"{advice.depth}, rate {advice.learning_rate:g}"
    return _found(found["test_accuracy"], found["validation_accuracy"], choice, found["cpu_seconds"])


@functools.cache
def _kept_rate(labels: int) -> float:
    """The rate that did better on validation, with seed 0 and the number of labels in `TUNED_AT`."""
    tuned_at = TUNED_AT[0] if _like(labels).labels == "few" else TUNED_AT[1]
    scores = [_from_scratch(tuned_at, 0, rate)["validation"] for rate in RATES]
    return RATES[int(np.argmax(scores))]


def _convnet(seed: int) -> keras.Model:
    return small_convnet((SCRATCH_SIZE, SCRATCH_SIZE, 3), classes=_MANY.classes, widths=WIDTHS, seed=seed)


@functools.cache
def _untrained() -> keras.Model:
    """The small convnet, compiled; kept, since building its graph is slow."""
    model = _convnet(0)
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    return model


@functools.cache
def _from_scratch(labels: int, seed: int, rate: float) -> dict[str, Any]:
    data, few = _drawn(labels, seed)
    began = time.process_time()
    model = _untrained()
    forget(model, _convnet(seed).get_weights(), rate=rate, seed=seed)
    resize = keras.layers.Resizing(SCRATCH_SIZE, SCRATCH_SIZE)
    x, x_validation, x_test = (np.asarray(resize(part.images)) for part in (few, data.validation, data.test))
    times = math.ceil(STEPS * BATCH_SIZE / labels)
    keras.utils.set_random_seed(seed)
    history = model.fit(
        np.concatenate([x] * times),
        np.concatenate([few.labels] * times),
        batch_size=BATCH_SIZE,
        epochs=MOST_EPOCHS,
        validation_data=(x_validation, data.validation.labels),
        callbacks=[
            keras.callbacks.EarlyStopping("val_accuracy", patience=PATIENCE, restore_best_weights=True)
        ],
        verbose=0,
    ).history["val_accuracy"]
    seconds = time.process_time() - began
    _, value = model.evaluate(x_test, data.test.labels, verbose=0)
    choice = f"epoch {int(np.argmax(history)) + 1} of {len(history)}, rate {rate:g}"
    return _found(float(value), float(max(history)), choice, seconds)


def check_one(*, which: int | None = None) -> pd.DataFrame:
    """Measure one cheap row of a transfer method again, and stop if it does not agree.

    From scratch there is none: its rate would have to be searched for again, which is no longer cheap.

    Parameters
    ----------
    which
        A number that chooses the row; by default the library's own source does, so another one as the
        project moves on.

    Returns
    -------
    pandas.DataFrame
        One row: ``method``, ``labels``, ``seed``, ``then``, ``now`` and ``allowed``; see
        `tlhelpers.published.check_one`.

    Raises
    ------
    tlhelpers.published.Disagreement
        If they differ by more than allowed.
    LookupError
        If no such row was measured with three seeds.

    Notes
    -----
    Explained in the chapter "Recognise flowers".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> found = tl.flowers.check_one()  # doctest: +SKIP
    """
    table = published.measured("applications")
    rows = table[(table.domain == "flowers") & table.method.isin(TRANSFER)]

    def again(row: "pd.Series[Any]") -> tuple[float, int]:
        found = measure(row.method, int(row.labels), seed=int(row.seed))
        return found["value"], len(datasets.load_dataset("flowers").test)

    return published.check_one(
        rows, again, like=["method", "labels"], value="value", most_seconds=10, which=which
    )
