"""Recognise flowers: five kinds from few photos, with a backbone that knows ImageNet, and without.

Here are also a stand-in for the pocket edition, and the credit for the photos.
"""

import functools
import time
from importlib import resources
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from tlhelpers import datasets, images, page, recommend_strategy
from tlhelpers._formats import flower_rows
from tlhelpers.backbones import load_backbone, preparation, small_convnet
from tlhelpers.page.editions import Edition

from .recipes import classic_network, compile_with, follow_quickly, reader, train_classic
from .skeleton import application, best, draw, fit_few, forget, in_proportion, search_probes

__all__ = [
    "IMAGE_SIZE",
    "METHODS",
    "SIZES",
    "STUDY",
    "TRANSFER",
    "credit_line",
    "load",
    "photos",
    "sample_photos",
]

TRANSFER = ("frozen", "fine-tuned")
"""These need what the backbone has learned."""
SCRATCH = ("from scratch", "random weights, trained")
METHODS = (*TRANSFER, "random weights", *SCRATCH)
"""A linear classifier on the frozen backbone; fine-tuning as the classic advice has it; the first one on a
backbone of random weights; a small convolutional network trained from random weights; the backbone's
network, all of it, from random weights, on photos of the same size, at the fewest labels and the most."""
SIZES = (50, 150, 350, 650)
"""Numbers of labelled photos: from ten of each kind to all that there are for training."""
IMAGE_SIZE = {"full": 96, "pocket": 32}
"""Pixels that the backbone sees, by edition."""

CUTS = ("block_12_add", "block_13_expand_relu", "block_15_add", "out_relu")
PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""What the linear classifier chooses from on validation: the layer it reads, pooled, and its penalty."""
FEW = {"examples": 50, "epochs": 20, "batch_size": 16}
MANY = {"examples": 650, "epochs": 6, "batch_size": 32}
"""How fine-tuning trains, as in the map's cells with few and with many flowers."""
RATES = {"from scratch": (0.001, 0.004), "random weights, trained": (0.0003, 0.001, 0.003, 0.01)}
"""Learning rates tried from random weights, with seed 0, at the fewest labels and at the most."""
SCRATCH_SIZE, WIDTHS = 32, (16, 32, 64)
"""From scratch: pixels that the network sees, and channels of its three convolutions."""
STOPPING: dict[str, Any] = {"batch_size": 32, "steps": 20, "patience": 5, "epochs": 25}
"""From scratch: what `skeleton.fit_few` takes."""


def load(edition: Edition) -> datasets.Dataset:
    """The chapter's photos: flowers in the full edition, crops of two sample photos in the pocket edition.

    The crops are (n, 48, 48, 3): 50 train, 30 validation and 20 test, from parts that do not overlap.
    """
    if edition.name == "full":
        return datasets.load_dataset("flowers")
    rng = np.random.default_rng(0)
    whole = [images.read_image(path, size=400) for path in sample_photos().values()]
    parts, start = [], 0
    for number, left, right in ((50, 0, 200), (30, 200, 300), (20, 300, 400)):
        labels = np.arange(number) % len(whole)
        corners = rng.integers((0, left), (400 - 48, right - 48), (number, 2), endpoint=True)
        crops = [whole[label][y : y + 48, x : x + 48] for label, (y, x) in zip(labels, corners, strict=True)]
        parts.append(datasets.Split(np.stack(crops), labels, np.arange(start, start + number)))
        start += number
    train, validation, test = parts
    return datasets.Dataset(
        "stand-in",
        train,
        validation,
        test,
        class_names=tuple(sample_photos()),
        licence="CC BY 2.0",
        source="crops of the two sample photos in scikit-learn",
    )


def sample_photos() -> dict[str, Path]:
    """Two photos that scikit-learn brings along: JPEG files by what they show."""
    folder = Path(str(resources.files("sklearn.datasets") / "images"))
    return {"temple": folder / "china.jpg", "flower": folder / "flower.jpg"}


def photos() -> pd.DataFrame:
    """Who took which of the thousand flowers, under which licence; a row for each, by its index."""
    return pd.DataFrame(list(flower_rows()))


def credit_line(data: datasets.Dataset | None = None, indices: npt.ArrayLike = ()) -> str:
    """Who took the photos that a page shows, in one line of Markdown, as their licence asks.

    `indices` are ``split.indices`` of the flowers shown; none, an empty line. For the stand-in, and without
    `data`, it is the two sample photos.
    """
    if data is not None and data.name == "flowers":
        shown = photos().loc[pd.unique(np.asarray(indices, int))]
        where, change = "", ", ".join(shown.change.unique())
    else:
        # As scikit-learn's own notice beside the files names them.
        pages = {"danielbuechele": "6061409035", "vultilion": "6056698931"}
        url = [f"https://www.flickr.com/photos/{author}/{photo}/" for author, photo in pages.items()]
        shown = pd.DataFrame({"author": list(pages), "url": url})
        where, change = ", from scikit-learn", "cropped and resized"
    # Names may hold signs that Markdown reads as its own.
    names = shown.author.str.replace(r"([\\`*_\[\]<>$#|~{}])", r"\\\1", regex=True)
    links = ", ".join("[" + names + "](" + shown.url + ")")
    licence = "[CC BY 2.0](https://creativecommons.org/licenses/by/2.0/)"
    return f"Photos: {links}{where}; {licence}; {change}." if links else ""


# -- rows of the table ----------------------------------------------------------------------------

Found = tuple[str, npt.ArrayLike, npt.ArrayLike]
"""What validation chose, and the classes named on validation and on test."""

_convnet = functools.partial(small_convnet, (SCRATCH_SIZE, SCRATCH_SIZE, 3), widths=WIDTHS)


def measure(method: str, labels: int, *, seed: int, edition: Edition | None = None) -> dict[str, Any]:
    """Learn from so many photos by one of `METHODS`, and test.

    Accuracy on test (``value``) and on validation, what validation chose, and ``cpu_seconds`` of all cores
    together; the search for a rate from scratch is left out.
    """
    edition = edition or page.current()
    data = load(edition)
    few = draw(data.train, labels, seed=seed, rule=in_proportion)
    rate = _kept_rate(method, labels, edition) if method in SCRATCH else 0.0
    began = time.process_time()
    if method == "frozen":
        found = _frozen(edition, data, few)
    elif method == "random weights":
        found = _frozen(edition, data, few, weights="random", seed=seed)
    elif method == "fine-tuned":
        found = _fine_tuned(edition, data, few, seed)
    else:
        found = _from_scratch(method, edition, data, few, seed, rate)
    seconds = round(time.process_time() - began, 1)
    choice, validation, test = found
    return {
        "value": float(np.mean(test == data.test.labels)),
        "validation": float(np.mean(validation == data.validation.labels)),
        "choice": choice,
        "cpu_seconds": seconds,
    }


def _frozen(edition: Edition, data: datasets.Dataset, few: datasets.Split, **weights: Any) -> Found:
    how = {"batch_size": 32, "image_size": IMAGE_SIZE[edition.name], "pool": True, **weights}
    read = reader(edition.backbone, few.images.shape[1:], CUTS, **how)
    x, validation, test = (read(part.images) for part in (few, data.validation, data.test))
    found, choice = search_probes(PENALTIES, x, few.labels, validation, data.validation.labels)
    named = (found.classifier.predict(seen[found.features]) for seen in (validation, test))
    return choice, *named


def _schedule(labels: int) -> dict[str, Any]:
    """Batch size and epochs: what so many labels count as, few or many, and as many steps."""
    case = FEW if labels < np.sqrt(FEW["examples"] * MANY["examples"]) else MANY
    epochs = round(case["epochs"] * case["examples"] / labels)
    return {"batch_size": case["batch_size"], "epochs": epochs}


def _fine_tuned(edition: Edition, data: datasets.Dataset, few: datasets.Split, seed: int) -> Found:
    classes = len(data.class_names)
    advice = recommend_strategy(n_examples=len(few), n_classes=classes, similarity="similar", by="classic")
    shape, size = few.images.shape[1:], IMAGE_SIZE[edition.name]
    validation, test = train_classic(
        classic_network(edition.backbone, shape, size, classes, str(advice.train_from)),
        few,
        data.validation,
        data.test,
        penalty=advice.penalty,
        rate=advice.learning_rate,
        seed=seed,
        **_schedule(len(few)),
    )
    choice = f"{advice.depth}, rate {advice.learning_rate:g}"
    return choice, validation.argmax(axis=1), test.argmax(axis=1)


@functools.cache
def _kept_rate(method: str, labels: int, edition: Edition) -> float:
    """The rate that did better on validation with seed 0; what won at the fewest serves all few labels."""
    tuned_at = SIZES[0] if _schedule(labels)["batch_size"] == FEW["batch_size"] else SIZES[-1]
    data = load(edition)
    few = draw(data.train, tuned_at, seed=0, rule=in_proportion)
    found = {rate: _from_scratch(method, edition, data, few, 0, rate)[1] for rate in RATES[method]}
    return best({rate: float(np.mean(named == data.validation.labels)) for rate, named in found.items()})


def _network(method: str, edition: Edition, classes: int, seed: int = 0) -> keras.Model:
    """What is trained from random weights, for photos of the size that it sees."""
    if method == "from scratch":
        return _convnet(classes=classes, seed=seed)
    size = IMAGE_SIZE[edition.name]
    backbone = load_backbone(edition.backbone, image_size=size, weights="random", seed=seed)
    follow_quickly(backbone, 0.9)
    inputs = keras.Input((size, size, 3))
    x = backbone(preparation(edition.backbone, inputs.shape[1:], image_size=size)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2, seed=0, name="dropout")(x)
    head = keras.layers.Dense(classes, "softmax", kernel_initializer=keras.initializers.GlorotUniform(seed))
    return keras.Model(inputs, head(x))


@functools.cache
def _untrained(method: str, edition: Edition, classes: int) -> keras.Model:
    """It, compiled; kept, since building its graph is slow."""
    model = _network(method, edition, classes)
    compile_with(keras.optimizers.Adam(), model, steps=1)
    return model


def _from_scratch(
    method: str, edition: Edition, data: datasets.Dataset, few: datasets.Split, seed: int, rate: float
) -> Found:
    classes = len(data.class_names)
    model = _untrained(method, edition, classes)
    forget(model, _network(method, edition, classes, seed).get_weights(), rate=rate, seed=seed)
    resize = keras.layers.Resizing(*model.input_shape[1:3])
    x, validation, test = (np.asarray(resize(part.images)) for part in (few, data.validation, data.test))
    keras.utils.set_random_seed(seed)
    held = (validation, data.validation.labels)
    history = fit_few(model, x, few.labels, held, monitor="val_accuracy", **STOPPING)
    named = (model.predict(each, verbose=0).argmax(axis=1) for each in (validation, test))
    return f"epoch {int(np.argmax(history)) + 1} of {len(history)}, rate {rate:g}", *named


STUDY = application(
    "flowers",
    methods=METHODS,
    sizes=SIZES,
    metric="accuracy",
    measure=measure,
    examples=lambda edition: len(load(edition).test),
    # From random weights its rate would have to be searched for again, which is not cheap.
    where=f"method not in {SCRATCH}",
    left_out=lambda method, labels: method == SCRATCH[1] and labels not in (SIZES[0], SIZES[-1]),
)
