"""What the part on limits shows and does not compute each time. `tools/measure.py` runs these.

Three studies: "race" trains one network in three ways and looks at it after each epoch; "search" reads the
answer out of frozen features, random features and raw pixels, at every depth of several targets; "forget"
trains a backbone on digits and looks at what is left of its source task.
"""

import functools
import time
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

import tlhelpers as tl
from tlhelpers import _restart

Array = npt.NDArray[Any]

TARGETS = {
    "full": ("mnist, 32 px", "pneumonia, 32 px", "flowers, 64 px"),
    "pocket": ("digits, 32 px", "patches, 32 px"),
}
DEPTHS = (
    "block_2_add",
    "block_5_add",
    "block_6_expand_relu",
    "block_9_add",
    "block_12_add",
    "block_15_add",
    "out_relu",
)
KEYS = ("study", "setting", "seed")
LABELS = (100, 500)
MOST = 500
"""Images of validation, and of test."""
SEARCH_SEEDS = (0, 1)
"""Cases are picked by these, on validation; the others confirm, on test."""
CONFIRM_SEEDS = (2, 3, 4)
CONFIRMED = "mnist, 32 px"
"""The target that the worst case of the search is of; the chapter makes sure that it still is."""


def patches() -> tl.datasets.Dataset:
    """Squares of 32 pixels out of the two photos inside scikit-learn; the class is the photo."""
    from sklearn.datasets import load_sample_images

    squares, labels, columns = [], [], []
    for label, photo in enumerate(load_sample_images().images):
        for top in range(0, photo.shape[0] - 31, 16):
            for left in range(0, photo.shape[1] - 31, 32):
                squares.append(photo[top : top + 32, left : left + 32])
                labels.append(label)
                columns.append(left // 32)
    images, classes, column = np.stack(squares), np.array(labels), np.array(columns)
    # Squares overlap up and down only, so parts made of whole columns share no pixel.
    parts = [np.flatnonzero(np.isin(column % 4, which)) for which in ((0, 1), (2,), (3,))]
    train, validation, test = (tl.datasets.Split(images[i], classes[i], i) for i in parts)
    return tl.datasets.Dataset(
        "patches",
        train,
        validation,
        test,
        class_names=("china", "flower"),
        licence="CC BY 2.0",
        source="china.jpg and flower.jpg, the sample photos inside scikit-learn",
    )


def draw(split: tl.datasets.Split, n: int, seed: int) -> tuple[Array, Array]:
    """Images and labels, equally many of each class, `n` in all or as many as there are."""
    rng = np.random.default_rng(seed)
    classes = np.unique(split.labels)
    each = min(n // len(classes), np.bincount(split.labels)[classes].min())
    # One more of each class after another: a smaller draw with the same seed is part of a larger one.
    of_class = [rng.permutation(np.flatnonzero(split.labels == c))[:each] for c in classes]
    chosen = np.stack(of_class, axis=1).ravel()
    return split.images[chosen], split.labels[chosen]


def search(edition: tl.editions.Edition, target: str, seed: int) -> list[dict[str, Any]]:
    """Linear read-outs of one target, at every depth, for few and more labels."""
    name, _, pixels = target.removesuffix(" px").partition(", ")
    data = patches() if name == "patches" else tl.load_dataset(name)
    x, y = draw(data.train, max(LABELS), seed)
    x_validation, y_validation = draw(data.validation, MOST, 0)
    x_test, y_test = draw(data.test, MOST, 0)
    images = (x, x_validation, x_test)
    prepare = tl.preparation(x.shape[1:], image_size=int(pixels))
    rows = []
    for kind in ("pretrained", "random", "raw pixels"):
        if kind == "raw pixels":
            found: dict[str, list[Array]] = {"-": [np.asarray(prepare.predict(p, verbose=0)) for p in images]}
            if x.ndim == 3:  # grey: three times the same channel
                found["-"] = [part[..., 0] for part in found["-"]]
        else:
            backbone = tl.load_backbone(
                edition.backbone,
                image_size=int(pixels),
                weights=kind,  # type: ignore[arg-type]
                seed=seed,
            )
            inputs = keras.Input(x.shape[1:])
            taps = keras.Model(backbone.inputs, [backbone.get_layer(depth).output for depth in DEPTHS])
            model = keras.Model(inputs, taps(prepare(inputs)))
            outputs = [model.predict(part, batch_size=64, verbose=0) for part in images]
            found = {depth: [part[i] for part in outputs] for i, depth in enumerate(DEPTHS)}
        for depth, (train, validation, test) in found.items():
            for labels in LABELS:
                features = train[:labels].reshape(min(labels, len(train)), -1)
                probe = tl.evaluation.probe(features.shape[1]).fit(features, y[:labels])
                rows.append(
                    {
                        "way": kind,
                        "depth": depth,
                        "labels": labels,
                        "val_accuracy": probe.score(validation.reshape(len(validation), -1), y_validation),
                        "test_accuracy": probe.score(test.reshape(len(test), -1), y_test),
                    }
                )
    return rows


LABELED, EPOCHS, MOMENTUM = 100, 25, 0.8
"""BatchNorm's averages have only a hundred steps to catch up in, so they must follow quickly."""
RATES = {"frozen": 0.01, "fine-tuned": 0.001, "from scratch": 0.001}
BATCH_SIZE = 25


def classifier(edition: tl.editions.Edition, way: str, seed: int) -> keras.Model:
    """Our network (ten blocks, flatten, dropout, head): frozen, with blocks 3 to 9 trained, or all new."""
    scratch = way == "from scratch"
    model = tl.recipes.our_model(edition, weights="random" if scratch else "pretrained", seed=seed)
    backbone = model.get_layer("backbone")
    if way == "frozen":
        tl.freeze(backbone)
    if scratch:
        tl.freeze(backbone, train_from=0, batch_norm="train")
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM
    return model


class Seconds(keras.callbacks.Callback):  # type: ignore[misc]
    """Seconds of training up to the end of each epoch, with the prefix and without validation."""

    def __init__(self, spent: float) -> None:
        super().__init__()
        self.spent, self.epochs = spent, [spent]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_test_begin(self, logs: Any = None) -> None:
        """Stop it: what follows is validation."""
        self.epochs.append(self.epochs[-1] + time.perf_counter() - self.began)


def _warm_up(
    prefix: keras.Model, trained: keras.Model, x: Array, y: Array, *, rate: float, seed: int
) -> None:
    """Build both graphs, so that no way pays for that, and take the steps back."""
    before = trained.get_weights()
    # An epoch as in the race: batches of other shapes would have the graph built again there.
    x = prefix.predict(x, batch_size=BATCH_SIZE, verbose=0)
    trained.fit(x, y, batch_size=BATCH_SIZE, verbose=0)
    _restart.forget(trained, before, rate=rate, seed=seed)


def race(edition: tl.editions.Edition, way: str, seed: int) -> pd.DataFrame:
    """One network trained in one way; a row for each epoch."""
    data = tl.load_dataset(edition.dataset)
    x, y = draw(data.train, LABELED, seed)
    x_validation, y_validation = data.validation.images[:MOST], data.validation.labels[:MOST]
    model = classifier(edition, way, seed)
    cut = {"frozen": "flatten", "fine-tuned": tl.recipes.OURS_CUT, "from scratch": "three_channels"}[way]
    prefix, trained = tl.split(model, at=cut)
    trained.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    # Not after the warm-up: a new seed clears what TensorFlow has built.
    keras.utils.set_random_seed(seed)
    _warm_up(prefix, trained, x, y, rate=RATES[way], seed=seed)
    began = time.perf_counter()
    x = prefix.predict(x, batch_size=BATCH_SIZE, verbose=0)
    seconds = Seconds(time.perf_counter() - began)
    x_validation = prefix.predict(x_validation, batch_size=100, verbose=0)
    history = trained.fit(
        x,
        y,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        validation_data=(x_validation, y_validation),
        validation_batch_size=100,
        verbose=0,
        callbacks=[seconds],
    )
    rows = pd.DataFrame(history.history)
    rows.insert(0, "epoch", range(1, len(rows) + 1))
    rows["seconds"] = seconds.epochs[1:]
    # Keras' own training accuracy is taken with dropout, while the weights still change.
    answers = trained.predict(x, batch_size=100, verbose=0).argmax(axis=1)
    rows["train_accuracy"] = (answers == y).mean()
    answers = model.predict(data.test.images[:2000], batch_size=100, verbose=0).argmax(axis=1)
    rows["test_accuracy"] = (answers == data.test.labels[:2000]).mean()
    return rows


FORGET_EPOCHS = 4
FORGET_DIGITS = 1000
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FONTS = (
    ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "cmr10", "cmss10"),
    ("DejaVuSans-Bold", "DejaVuSerif-Italic", "STIXGeneralItalic", "cmti10"),
)
"""To learn from, and to test on."""


def letters(fonts: tuple[str, ...]) -> tuple[Array, Array]:
    """Capital letters in fonts that matplotlib brings, white on black, with three changed copies of each."""
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    images = np.zeros((len(fonts), 26, 32, 32), np.uint8)
    for i, name in enumerate(fonts):
        font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{name}.ttf", 26)
        for j, letter in enumerate(LETTERS):
            picture = Image.new("L", (32, 32))
            ImageDraw.Draw(picture).text((16, 16), letter, fill=255, font=font, anchor="mm")
            images[i, j] = np.asarray(picture)
    return tl.recipes.augmented(images.reshape(-1, 32, 32), np.tile(np.arange(26), len(fonts)))


def source(edition: tl.editions.Edition) -> tuple[Array, Array, Array, Array]:
    """Images like those that the backbone was pre-trained on: photos, or letters."""
    if edition.name == "pocket":
        return (*letters(FONTS[0]), *letters(FONTS[1]))
    data = tl.load_dataset("flowers")
    return data.train.images, data.train.labels, data.test.images, data.test.labels


@functools.cache
def _eyes(edition: tl.editions.Edition) -> tuple[keras.Model, keras.Model, tuple[Array, ...]]:
    """The first ten blocks at the source's image size, alone and with all around them; the source."""
    images = source(edition)
    size = 64 if edition.name == "full" else 32
    whole = tl.load_backbone(edition.backbone, image_size=size)
    blocks = keras.Model(whole.inputs, whole.get_layer(tl.recipes.OURS_END).output)
    prepare = tl.preparation(images[0].shape[1:], image_size=size)
    return blocks, keras.Sequential([prepare, blocks, keras.layers.Flatten()]), images


def _features(edition: tl.editions.Edition, backbone: keras.Model) -> tuple[Array, Array]:
    """What the ten blocks make of the source's training and test images, with this backbone's weights."""
    blocks, see, (x_train, _, x_test, _) = _eyes(edition)
    for layer in blocks.layers:
        if layer.weights:
            layer.set_weights(backbone.get_layer(layer.name).get_weights())
    return see.predict(x_train, batch_size=50, verbose=0), see.predict(x_test, batch_size=50, verbose=0)


def forget(edition: tl.editions.Edition, seed: int) -> list[dict[str, Any]]:
    """Train blocks 3 to 9 on digits; before, and after some epochs, read the source task out of block 9.

    "old head" was fitted before the digits came; "new head" is fitted to the features as they are now.
    """
    _, y_train, _, y_test = _eyes(edition)[2]
    digits = tl.load_dataset(edition.dataset)
    model = tl.recipes.our_model(edition, seed=seed)
    backbone = model.get_layer("backbone")
    prefix, suffix = tl.split(model, at=tl.recipes.OURS_CUT)
    x, y = draw(digits.train, FORGET_DIGITS, seed)
    x = prefix.predict(x, batch_size=50, verbose=0)
    suffix.compile(keras.optimizers.Adam(0.001), "sparse_categorical_crossentropy", metrics=["accuracy"])
    rows = []
    for epoch in range(FORGET_EPOCHS + 1):
        if epoch:
            keras.utils.set_random_seed(100 * seed + epoch)
            suffix.fit(x, y, batch_size=50, epochs=1, verbose=0)
        if epoch not in (0, 1, FORGET_EPOCHS):
            continue
        train, test = _features(edition, backbone)
        new = tl.evaluation.probe(train.shape[1]).fit(train, y_train)
        if epoch == 0:
            old = new
        answers = model.predict(digits.test.images[:1000], batch_size=100, verbose=0).argmax(axis=1)
        target = float((answers == digits.test.labels[:1000]).mean())
        for way, head in (("old head", old), ("new head", new)):
            rows.append(
                {"way": way, "epoch": epoch, "accuracy": head.score(test, y_test), "test_accuracy": target}
            )
    return rows


SEEDS = (0, 1, 2)


def wanted(edition: tl.editions.Edition) -> list[tuple[str, str, int]]:
    """(study, setting, seed) of every run that the table should have for this edition."""
    rows = [("race", way, seed) for seed in SEEDS for way in RATES]
    rows += [("search", target, seed) for seed in SEARCH_SEEDS for target in TARGETS[edition.name]]
    if edition.name == "full":  # in the other one, no case is negative
        rows += [("search", CONFIRMED, seed) for seed in CONFIRM_SEEDS]
    rows += [("forget", "digits", seed) for seed in SEEDS]
    return rows


def run(edition: tl.editions.Edition, study: str, setting: str, seed: int) -> pd.DataFrame:
    """The rows of one run."""
    if study == "race":
        rows = race(edition, setting, seed).assign(way=setting, labels=LABELED)
    elif study == "search":
        rows = pd.DataFrame(search(edition, setting, seed))
    else:
        rows = pd.DataFrame(forget(edition, seed))
    key: dict[str, Any] = {"edition": edition.name, "study": study, "setting": setting, "seed": seed}
    # The same columns whatever the study, so that rows can be appended to one file.
    columns = [*key, "way", "depth", "labels", "epoch", "accuracy", "loss"]
    columns += ["val_accuracy", "val_loss", "train_accuracy", "test_accuracy", "seconds"]
    return rows.assign(**key).reindex(columns=columns).assign(**tl.published.stamp())
