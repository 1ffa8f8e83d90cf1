"""What the part on limits shows and does not compute each time: three studies in one table.

"race" trains one network in three ways and looks at it after each epoch; "search" reads the answer out of
frozen features, random features and raw pixels, at every depth of several targets; "forget" trains a backbone
on digits and looks at what is left of its source task.
"""

import functools
import string
import time
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

import tlhelpers as tl
from tlhelpers.datasets import Dataset, Split
from tlhelpers.page.editions import Edition

from . import recipes, skeleton
from .skeleton import SEEDS, Study, balanced, draw

__all__ = ["STUDY", "classifier", "forget", "interleaved", "letters", "patches", "race", "search", "source"]

Array = npt.NDArray[Any]


def interleaved(labels: npt.NDArray[np.int64], number: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Positions of `number` examples or of as many as there are, equally many of each class.

    One of each class after another, so that a smaller draw with the same seed is part of a larger one.
    """
    classes, counts = np.unique(labels, return_counts=True)
    each = int(min(number // len(classes), counts.min()))
    chosen = balanced(labels, each * len(classes), seed=seed)
    return chosen.reshape(len(classes), each).T.ravel()


# -- search: where transfer hurts -----------------------------------------------------------------

TARGETS = {
    "full": ("mnist, 32 px", "pneumonia, 32 px", "flowers, 64 px"),
    "pocket": ("digits, 32 px", "patches, 32 px"),
}
DEPTHS = (*recipes.BLOCKS, "block_15_add", "out_relu")
LABELS = (100, 500)
MOST = 500
"""Images of validation, and of test."""
SEARCH_SEEDS = (0, 1)
"""Cases are picked by these, on validation; the others confirm, on test."""
CONFIRM_SEEDS = (2, 3, 4)
CONFIRMED = "mnist, 32 px"
"""The target that the worst case of the search is of; the chapter makes sure that it still is."""


def patches() -> Dataset:
    """Squares of 32 pixels out of the two photos inside scikit-learn; the class is the photo."""
    from sklearn.datasets import load_sample_images

    squares, labels, columns = [], [], []
    for label, photo in enumerate(load_sample_images().images):
        for top in range(0, photo.shape[0] - 31, 16):
            for left in range(0, photo.shape[1] - 31, 32):
                squares.append(photo[top : top + 32, left : left + 32])
                labels.append(label)
                columns.append(left // 32)
    everything = Split(np.stack(squares), np.array(labels), np.arange(len(labels)))
    # Squares overlap up and down only, so parts made of whole columns share no pixel.
    column = np.array(columns) % 4
    return Dataset(
        "patches",
        everything.take(column < 2),
        everything.take(column == 2),
        everything.take(column == 3),
        class_names=("china", "flower"),
        licence="CC BY 2.0",
        source="china.jpg and flower.jpg, the sample photos inside scikit-learn",
    )


def search(edition: Edition, target: str, seed: int) -> pd.DataFrame:
    """Linear read-outs of one target, at every depth, for few and more labels."""
    name, _, pixels = target.removesuffix(" px").partition(", ")
    data = patches() if name == "patches" else tl.load_dataset(name)
    train = draw(data.train, max(LABELS), seed=seed, rule=interleaved)
    others = [draw(part, MOST, seed=0, rule=interleaved) for part in (data.validation, data.test)]
    shape = train.images.shape[1:]
    rows = []
    for way in ("pretrained", "random", "raw pixels"):
        how: dict[str, Any] = {"image_size": int(pixels), "pixel_range": recipes.ARTICLE_RANGE}
        if way == "raw pixels":
            prepare = tl.preparation(edition.backbone, shape, **how)
            found = [[prepare.predict(part.images, verbose=0)] for part in (train, *others)]
            if len(shape) == 2:  # grey: three times the same channel
                found = [[part[0][..., 0]] for part in found]
        else:
            how |= {"weights": way, "seed": seed}
            see = tl.backbones.feature_extractor(edition.backbone, shape, cuts=DEPTHS, **how)
            found = [see.predict(part.images, batch_size=64, verbose=0) for part in (train, *others)]
        for i, depth in enumerate(DEPTHS if way != "raw pixels" else ("-",)):
            x, *held = (part[i].reshape(len(part[i]), -1) for part in found)
            for labels in LABELS:
                probe = tl.evaluation.probe(x.shape[1]).fit(x[:labels], train.labels[:labels])
                val, test = (probe.score(h, part.labels) for h, part in zip(held, others, strict=True))
                row = {"way": way, "depth": depth, "labels": labels}
                rows.append({**row, "val_accuracy": val, "test_accuracy": test})
    return pd.DataFrame(rows)


# -- race: what pre-training gains ----------------------------------------------------------------

LABELED, EPOCHS, MOMENTUM = 100, 25, 0.8
"""BatchNorm's averages have only a hundred steps to catch up in, so they must follow quickly."""
RATES = {"frozen": 0.01, "fine-tuned": 0.001, "from scratch": 0.001}
CUTS = {"frozen": "flatten", "fine-tuned": recipes.OURS_CUT, "from scratch": "three_channels"}
BATCH_SIZE = 25


def classifier(edition: Edition, way: str, seed: int) -> keras.Model:
    """Our network (ten blocks, flatten, dropout, head): frozen, with blocks 3 to 9 trained, or all new."""
    scratch = way == "from scratch"
    model = recipes.our_model(edition, weights="random" if scratch else "pretrained", seed=seed)
    backbone = model.get_layer("backbone")
    if way == "frozen":
        tl.freeze(backbone)
    if scratch:
        tl.freeze(backbone, train_from=0, batch_norm="train")
    recipes.follow_quickly(backbone, MOMENTUM)
    return model


class Seconds(keras.callbacks.Callback):  # type: ignore[misc]
    """Seconds of training up to the end of each epoch, with the prefix and without validation."""

    def __init__(self, spent: float) -> None:
        super().__init__()
        self.epochs = [spent]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_test_begin(self, logs: Any = None) -> None:
        """Stop it: what follows is validation."""
        self.epochs.append(self.epochs[-1] + time.perf_counter() - self.began)


def race(edition: Edition, way: str, seed: int) -> pd.DataFrame:
    """One network trained in one way; a row for each epoch."""
    data = tl.load_dataset(edition.dataset)
    few = draw(data.train, LABELED, seed=seed, rule=interleaved)
    model = classifier(edition, way, seed)
    prefix, trained = tl.split(model, at=CUTS[way])
    trained.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    # Not after the warm-up: a new seed clears what TensorFlow has built.
    keras.utils.set_random_seed(seed)
    # An epoch with batches as in the race builds both graphs, so that no way pays for that. Its steps are
    # taken back.
    before = trained.get_weights()
    x = prefix.predict(few.images, batch_size=BATCH_SIZE, verbose=0)
    trained.fit(x, few.labels, batch_size=BATCH_SIZE, verbose=0)
    skeleton.forget(trained, before, rate=RATES[way], seed=seed)
    began = time.perf_counter()
    x = prefix.predict(few.images, batch_size=BATCH_SIZE, verbose=0)
    seconds = Seconds(time.perf_counter() - began)
    held_out = prefix.predict(data.validation.images[:MOST], batch_size=100, verbose=0)
    history = trained.fit(
        x,
        few.labels,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        validation_data=(held_out, data.validation.labels[:MOST]),
        validation_batch_size=100,
        verbose=0,
        callbacks=[seconds],
    )
    # Keras' own training accuracy is taken with dropout, while the weights still change.
    return pd.DataFrame(history.history).assign(
        epoch=range(1, EPOCHS + 1),
        seconds=seconds.epochs[1:],
        train_accuracy=_accuracy(trained, x, few.labels),
    )


def _accuracy(model: keras.Model, x: Array, labels: Array) -> float:
    return float((model.predict(x, batch_size=100, verbose=0).argmax(axis=1) == labels).mean())


# -- forget: what is left of the source task ------------------------------------------------------

FORGET_EPOCHS = 4
FORGET_DIGITS = 1000
FONTS = (
    ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "cmr10", "cmss10"),
    ("DejaVuSans-Bold", "DejaVuSerif-Italic", "STIXGeneralItalic", "cmti10"),
)
"""To learn from, and to test on."""


def letters(fonts: tuple[str, ...]) -> tuple[Array, Array]:
    """Capital letters in fonts that matplotlib brings, white on black, with three changed copies of each."""
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    images = []
    for name in fonts:
        font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{name}.ttf", 26)
        for letter in string.ascii_uppercase:
            picture = Image.new("L", (32, 32))
            ImageDraw.Draw(picture).text((16, 16), letter, fill=255, font=font, anchor="mm")
            images.append(np.asarray(picture))
    return recipes.augmented(np.stack(images), np.tile(np.arange(26), len(fonts)))


def source(edition: Edition) -> tuple[Array, Array, Array, Array]:
    """Images like those that the backbone was pre-trained on: photos, or letters."""
    if edition.name == "pocket":
        return (*letters(FONTS[0]), *letters(FONTS[1]))
    data = tl.load_dataset("flowers")
    return data.train.images, data.train.labels, data.test.images, data.test.labels


@functools.cache
def _eyes(edition: Edition) -> tuple[keras.Model, keras.Model, tuple[Array, ...]]:
    """The first ten blocks at the source's image size, alone and with all around them; the source."""
    images = source(edition)
    size = 64 if edition.name == "full" else 32
    whole = tl.load_backbone(edition.backbone, image_size=size)
    blocks = keras.Model(whole.inputs, whole.get_layer(recipes.OURS_END).output)
    prepare = tl.preparation(
        edition.backbone, images[0].shape[1:], image_size=size, pixel_range=recipes.ARTICLE_RANGE
    )
    return blocks, keras.Sequential([prepare, blocks, keras.layers.Flatten()]), images


def forget(edition: Edition, seed: int) -> pd.DataFrame:
    """Train blocks 3 to 9 on digits; before, and after some epochs, read the source task out of block 9.

    "old head" was fitted before the digits came; "new head" is fitted to the features as they are now. The
    floor for it is "random weights", a head on the features of a network that has learned nothing.
    """
    blocks, see, (x_source, y_source, x_test, y_test) = _eyes(edition)
    digits = tl.load_dataset(edition.dataset)
    model = recipes.our_model(edition, seed=seed)
    backbone = model.get_layer("backbone")
    prefix, suffix = tl.split(model, at=recipes.OURS_CUT)
    few = draw(digits.train, FORGET_DIGITS, seed=seed, rule=interleaved)
    held_out = draw(digits.test, FORGET_DIGITS, seed=0, rule=interleaved)  # MNIST's first ones are harder
    x = prefix.predict(few.images, batch_size=50, verbose=0)
    suffix.compile(keras.optimizers.Adam(0.001), "sparse_categorical_crossentropy", metrics=["accuracy"])

    def features(network: keras.Model) -> list[Array]:
        for layer in blocks.layers:
            if layer.weights:
                layer.set_weights(network.get_layer(layer.name).get_weights())
        return [see.predict(part, batch_size=50, verbose=0) for part in (x_source, x_test)]

    train, test = features(tl.load_backbone(edition.backbone, weights="random", seed=seed))
    floor = tl.evaluation.probe(train.shape[1]).fit(train, y_source).score(test, y_test)
    rows: list[dict[str, Any]] = [{"way": "random weights", "epoch": 0, "accuracy": floor}]
    heads: dict[str, Any] = {}
    for epoch in range(FORGET_EPOCHS + 1):
        if epoch:
            keras.utils.set_random_seed(100 * seed + epoch)
            suffix.fit(x, few.labels, batch_size=50, epochs=1, verbose=0)
        if epoch not in (0, 1, FORGET_EPOCHS):
            continue
        train, test = features(backbone)
        heads["new head"] = tl.evaluation.probe(train.shape[1]).fit(train, y_source)
        heads.setdefault("old head", heads["new head"])
        target = _accuracy(model, held_out.images, held_out.labels)
        for way in ("old head", "new head"):
            accuracy = heads[way].score(test, y_test)
            rows.append({"way": way, "epoch": epoch, "accuracy": accuracy, "test_accuracy": target})
    return pd.DataFrame(rows)


# -- the table ------------------------------------------------------------------------------------


def _grid(edition: Edition) -> list[tuple[str, str, int]]:
    rows = [("race", way, seed) for seed in SEEDS for way in RATES]
    rows += [("search", target, seed) for seed in SEARCH_SEEDS for target in TARGETS[edition.name]]
    if edition.name == "full":  # in the other one, no case is negative
        rows += [("search", CONFIRMED, seed) for seed in CONFIRM_SEEDS]
    return [*rows, *(("forget", "digits", seed) for seed in SEEDS)]


def _row(edition: Edition, study: str, setting: str, seed: int) -> pd.DataFrame:
    """The rows of one run; the same columns whatever the study."""
    if study == "race":
        rows = race(edition, setting, seed).assign(way=setting, labels=LABELED)
    else:
        rows = search(edition, setting, seed) if study == "search" else forget(edition, seed)
    columns = ["way", "depth", "labels", "epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    return rows.reindex(columns=[*columns, "train_accuracy", "test_accuracy", "seconds"])


STUDY = Study(table="limits", keys=("study", "setting", "seed"), grid=_grid, row=_row)
