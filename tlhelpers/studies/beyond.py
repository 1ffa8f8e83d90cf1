"""What the chapter "Measure the recipe" shows and does not compute.

Each step's gain and learning rates, on the first 6,000 digits of the full edition. Contestants that nobody
trains. And the protocol of MTEB's task MNIST: 16 digits a class, logistic regression on frozen features.
"""

import dataclasses
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

import tlhelpers as tl
from tlhelpers.page.editions import Edition

from . import recipes
from .skeleton import SEEDS, Study, draw

__all__ = ["DIGITS", "FEW", "RATES", "STEPS", "STUDY", "UNTRAINED", "Setting"]

Array = npt.NDArray[Any]
Answers = Callable[[Array], Array]
DIGITS = 6_000
RATES = (0.0005, 0.002, 0.008, 0.032)


@dataclass(frozen=True)
class Setting:
    """Our recipe, or what it is without some of its steps."""

    batch_norm: Literal["frozen", "train"] = "train"
    momentum: float = 0.95
    rate: float = 0.002
    schedule: bool = True
    dropout: float = 0.3
    copies: int = 3
    passes: int = 2

    def train(self, edition: Edition, train: tl.datasets.Split, seed: int) -> keras.Model:
        """The trained classifier."""
        model = recipes.our_model(edition, seed=seed)
        backbone = model.get_layer("backbone")
        tl.freeze(backbone, train_from="block_3_expand", batch_norm=self.batch_norm)
        recipes.follow_quickly(backbone, self.momentum)
        model.get_layer("dropout").rate = self.dropout
        images, labels = recipes.augmented(train.images, train.labels, copies=self.copies, seed=seed)
        steps = self.passes * -(-len(images) // recipes.OURS_BATCH_SIZE)
        rate = recipes.up_and_down(self.rate, steps) if self.schedule else self.rate
        how = {"epochs": self.passes, "batch_size": recipes.OURS_BATCH_SIZE, "seed": seed}
        _fit(model, recipes.OURS_CUT, images, labels, rate, **how)
        return model


OURS = Setting()
# Each differs from the one after it in what the next one's name says.
STEPS: dict[str, Setting | None] = {
    "article: last cut, head only": None,
    "cut after block 5, pooled, head only": None,
    "cut after block 5, all numbers, head only": None,
    "blocks 3 to 9 train, BatchNorm frozen": Setting("frozen", 0.999, 0.001, False, 0.0, 0, 8),
    "BatchNorm trains": Setting("train", 0.999, 0.001, False, 0.0, 0, 8),
    "its averages follow quickly": Setting("train", 0.95, 0.001, False, 0.0, 0, 8),
    "learning rate up and down": Setting("train", 0.95, 0.002, True, 0.0, 0, 8),
    "dropout": Setting("train", 0.95, 0.002, True, 0.3, 0, 8),
    "three copies of each digit": OURS,
}
# What it learns from, in digits (None: all); nothing else in it is trained.
UNTRAINED: dict[str, int | None] = {
    "raw pixels, logistic regression": 1_000,
    "random filters, least squares": DIGITS,
    "raw pixels, least squares, all digits": None,
    "random filters, least squares, all digits": None,
}
# What is read out with few labels, by the cut; the first is the article's.
FEW = {"last layer": "pool", "cut after block 5": "block_5_add", "raw pixels": "scale"}
FEW_EACH, DRAWS = 16, 5


def _grid(edition: Edition) -> list[tuple[str, str, int]]:
    rows = [("ours", "ours", seed) for seed in SEEDS]
    rows += [("few", name, seed) for name in FEW for seed in range(DRAWS)]
    if edition.name == "full":
        rows += [("steps", name, seed) for name in STEPS for seed in SEEDS]
        schedules = [f"{kind} {rate:g}" for kind in ("constant", "up and down") for rate in RATES]
        rows += [("rates", schedule, seed) for schedule in schedules for seed in SEEDS]
        rows += [
            ("untrained", name, seed)
            for name, digits in UNTRAINED.items()
            for seed in (SEEDS if digits else SEEDS[:1])
        ]
    return rows


def _row(edition: Edition, study: str, setting: str, seed: int) -> dict[str, Any]:
    """Accuracy on validation and test, and the seconds until it is trained, prefix included.

    Where no network trains, they are the processor's, with one thread for linear algebra.
    """
    data = tl.load_dataset(edition.dataset)
    linear = {"untrained": _untrained, "few": _few}.get(study)
    clock = time.process_time if linear else time.perf_counter
    began = clock()
    if linear:
        with threadpool_limits(1):
            answers = linear(edition, data.train, setting, seed)
    else:
        model = _trained(edition, data.train, study, setting, seed)
        answers = lambda images: model.predict(images, batch_size=256, verbose=0).argmax(axis=1)  # noqa: E731
    seconds = round(clock() - began, 1 if clock() - began > 1 else 2)
    accuracy = {
        f"{name}_accuracy": float((answers(part.images) == part.labels).mean())
        for name, part in (("validation", data.validation), ("test", data.test))
    }
    return {**accuracy, "seconds": seconds}


def _trained(edition: Edition, train: tl.datasets.Split, study: str, setting: str, seed: int) -> keras.Model:
    if study == "ours":
        limit = DIGITS if edition.name == "full" else None
        return recipes.our_classifier(edition, limit=limit, seed=seed).model
    few = train.take(np.arange(len(train))[:DIGITS])
    if study == "rates":
        kind, _, rate = setting.rpartition(" ")
        # Half the steps and no copies, so that thirty runs take minutes.
        changed: dict[str, Any] = {"rate": float(rate), "schedule": kind == "up and down"}
        return dataclasses.replace(OURS, **changed, copies=0, passes=4).train(edition, few, seed)
    if (step := STEPS[setting]) is not None:
        return step.train(edition, few, seed)
    return _head_only(edition, few, seed, setting)


def _untrained(edition: Edition, train: tl.datasets.Split, setting: str, seed: int) -> Answers:
    """A linear read-out of pixels, or of 128 random filters of 7 by 7 pixels at 25 places."""
    height, width = train.images.shape[1:]
    layers: list[Any] = [keras.Input((height, width)), keras.layers.Rescaling(1 / 255)]
    if setting.startswith("random"):
        draws = keras.initializers.RandomNormal(seed=seed)
        layers += [
            keras.layers.Reshape((height, width, 1)),
            keras.layers.Conv2D(128, 7, padding="same", activation="relu", kernel_initializer=draws),
            keras.layers.MaxPooling2D(height // 4, strides=height // 5),
        ]
    see = keras.Sequential([*layers, keras.layers.Flatten()])
    few = train.take(np.random.default_rng(seed).permutation(len(train))[: UNTRAINED[setting]])
    x = see.predict(few.images, batch_size=256, verbose=0)
    read = LogisticRegression() if "logistic" in setting else tl.evaluation.probe(x.shape[1])
    read.fit(x, few.labels)
    return lambda images: np.asarray(read.predict(see.predict(images, batch_size=256, verbose=0)))


def _few(edition: Edition, train: tl.datasets.Split, setting: str, seed: int) -> Answers:
    """MTEB's probe: scikit-learn's logistic regression, a hundred steps at most, on features as they are."""
    prefix, _ = tl.split(recipes.article_model(edition), at=FEW[setting])

    def see(images: Array) -> Array:
        return np.asarray(tl.precompute(prefix, images)).reshape(len(images), -1)

    drawn = draw(train, FEW_EACH * 10, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        read = LogisticRegression(max_iter=100).fit(see(drawn.images), drawn.labels)
    return lambda images: np.asarray(read.predict(see(images)))


def _head_only(edition: Edition, few: tl.datasets.Split, seed: int, setting: str) -> keras.Model:
    model = recipes.article_model(edition, seed=seed)
    at, rate, epochs = "pool", 0.001, 10
    if "block 5" in setting:
        backbone = model.get_layer("backbone")
        prepare, digits = model.get_layer("prepare"), model.inputs[0]
        first = keras.Model(backbone.inputs, backbone.get_layer("block_5_add").output)
        pool, flatten = keras.layers.GlobalAveragePooling2D, keras.layers.Flatten
        x = (pool if "pooled" in setting else flatten)(name="read")(first(prepare(digits)))
        initial = keras.initializers.GlorotUniform(seed=seed)
        head = keras.layers.Dense(10, activation="softmax", kernel_initializer=initial, name="head")
        model = keras.Model(digits, head(x))
        at, rate, epochs = "read", 0.003, 5
    _fit(model, at, few.images, few.labels, rate, epochs=epochs, batch_size=32, seed=seed)
    return model


def _fit(model: keras.Model, at: str, x: Array, y: Array, rate: Any, **how: Any) -> None:
    def compiling(suffix: keras.Model) -> None:
        recipes.compile_with(keras.optimizers.Adam(rate), suffix)
        tl.fuse(suffix)

    recipes.train_behind(model, at, x, y, compiling=compiling, **how)


STUDY = Study(table="beyond", keys=("study", "setting", "seed"), grid=_grid, row=_row)
