"""What the chapter "Go beyond the article" shows and does not compute: each step's gain, learning rates.

In the full edition everything trains on the first 6,000 digits.
"""

import dataclasses
import time
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

import tlhelpers as tl
from tlhelpers.page.editions import Edition

from . import recipes
from .skeleton import SEEDS, Study

__all__ = ["DIGITS", "RATES", "STEPS", "STUDY", "Setting"]

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
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = self.momentum
        model.get_layer("dropout").rate = self.dropout
        images, labels = recipes.augmented(train.images, train.labels, copies=self.copies, seed=seed)
        steps = self.passes * -(-len(images) // recipes.OURS_BATCH_SIZE)
        rate = recipes.up_and_down(self.rate, steps) if self.schedule else self.rate
        at, size = recipes.OURS_CUT, recipes.OURS_BATCH_SIZE
        return _fit(model, at, images, labels, rate=rate, epochs=self.passes, seed=seed, batch_size=size)


OURS = Setting()
# Each differs from the one after it in what the next one's name says.
STEPS: dict[str, Setting | None] = {
    "article: last cut, head only": None,
    "cut after block 5, all numbers, head only": None,
    "blocks 3 to 9 train, BatchNorm frozen": Setting("frozen", 0.999, 0.001, False, 0.0, 0, 8),
    "BatchNorm trains": Setting("train", 0.999, 0.001, False, 0.0, 0, 8),
    "its averages follow quickly": Setting("train", 0.95, 0.001, False, 0.0, 0, 8),
    "learning rate up and down": Setting("train", 0.95, 0.002, True, 0.0, 0, 8),
    "dropout": Setting("train", 0.95, 0.002, True, 0.3, 0, 8),
    "three copies of each digit": OURS,
}


def _grid(edition: Edition) -> list[tuple[str, str, int]]:
    rows = [("ours", "ours", seed) for seed in SEEDS]
    if edition.name == "full":
        rows += [("steps", name, seed) for name in STEPS for seed in SEEDS]
        schedules = [f"{kind} {rate:g}" for kind in ("constant", "up and down") for rate in RATES]
        rows += [("rates", schedule, seed) for schedule in schedules for seed in SEEDS]
    return rows


def _row(edition: Edition, study: str, setting: str, seed: int) -> dict[str, Any]:
    """Accuracy on validation and test, and the seconds it took, prefix included."""
    data = tl.load_dataset(edition.dataset)
    few = data.train.take(np.arange(len(data.train))[:DIGITS])
    began = time.perf_counter()
    if study == "ours":
        limit = DIGITS if edition.name == "full" else None
        model = recipes.our_classifier(edition, limit=limit, seed=seed).model
    elif study == "rates":
        kind, _, rate = setting.rpartition(" ")
        # Half the steps and no copies, so that thirty runs take minutes.
        changed: dict[str, Any] = {"rate": float(rate), "schedule": kind == "up and down"}
        model = dataclasses.replace(OURS, **changed, copies=0, passes=4).train(edition, few, seed)
    elif (step := STEPS[setting]) is not None:
        model = step.train(edition, few, seed)
    else:
        model = _head_only(edition, few, seed, early="block 5" in setting)
    seconds = round(time.perf_counter() - began, 1)
    accuracy = {
        f"{name}_accuracy": float(
            (model.predict(part.images, batch_size=256, verbose=0).argmax(axis=1) == part.labels).mean()
        )
        for name, part in (("validation", data.validation), ("test", data.test))
    }
    return {**accuracy, "seconds": seconds}


def _head_only(edition: Edition, few: tl.datasets.Split, seed: int, *, early: bool) -> keras.Model:
    model = recipes.article_model(edition, seed=seed)
    at, rate, epochs = "pool", 0.001, 10
    if early:
        backbone = model.get_layer("backbone")
        prepare, digits = model.get_layer("prepare"), model.inputs[0]
        first = keras.Model(backbone.inputs, backbone.get_layer("block_5_add").output)
        x = keras.layers.Flatten(name="flatten")(first(prepare(digits)))
        initial = keras.initializers.GlorotUniform(seed=seed)
        head = keras.layers.Dense(10, activation="softmax", kernel_initializer=initial, name="head")
        model = keras.Model(digits, head(x))
        at, rate, epochs = "flatten", 0.003, 5
    return _fit(model, at, few.images, few.labels, rate=rate, epochs=epochs, seed=seed, batch_size=32)


def _fit(
    model: keras.Model, at: str, x: Any, y: Any, *, rate: Any, epochs: int, seed: int, batch_size: int
) -> keras.Model:
    prefix, suffix = tl.split(model, at=at)
    features = tl.precompute(prefix, x)
    suffix.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        steps_per_execution=recipes.STEPS_PER_EXECUTION,
    )
    keras.utils.set_random_seed(seed)
    suffix.fit(features, y, batch_size=batch_size, epochs=epochs, verbose=0)
    return model


STUDY = Study(table="beyond", keys=("study", "setting", "seed"), grid=_grid, row=_row)
