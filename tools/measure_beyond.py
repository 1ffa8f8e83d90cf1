"""What the chapter "Go beyond the article" shows and does not compute: each step's gain, learning rates.

In the full edition every study trains on the first 6,000 digits. `tools/measure.py` runs them.
"""

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import keras
import pandas as pd

import tlhelpers as tl

SEEDS = (0, 1, 2)
KEYS = ("study", "setting", "seed")
DIGITS = 6_000
RATES = (0.0005, 0.002, 0.008, 0.032)


@dataclass(frozen=True)
class Setting:
    """Our recipe, or what it is without some of its steps."""

    batch_norm: str = "train"
    momentum: float = 0.95
    rate: float = 0.002
    schedule: bool = True
    dropout: float = 0.3
    copies: int = 3
    passes: int = 2

    def train(self, edition: tl.editions.Edition, data: tl.datasets.Dataset, seed: int) -> keras.Model:
        """The trained classifier."""
        model = tl.recipes.our_model(edition, seed=seed)
        backbone = model.get_layer("backbone")
        tl.freeze(backbone, train_from="block_3_expand", batch_norm=self.batch_norm)  # type: ignore[arg-type]
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = self.momentum
        model.get_layer("dropout").rate = self.dropout
        prefix, suffix = tl.split(model, at=tl.recipes.OURS_CUT)
        images, labels = tl.recipes.augmented(
            data.train.images[:DIGITS], data.train.labels[:DIGITS], copies=self.copies, seed=seed
        )
        steps = self.passes * -(-len(images) // tl.recipes.OURS_BATCH_SIZE)
        rate: Any = self.rate
        if self.schedule:
            rate = keras.optimizers.schedules.CosineDecay(
                0.0, steps - steps // 10, warmup_target=self.rate, warmup_steps=steps // 10
            )
        _fit(suffix, tl.precompute(prefix, images), labels, rate, self.passes, seed, batch_size=128)
        return model


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


def wanted(edition: tl.editions.Edition) -> list[tuple[str, str, int]]:
    """(study, setting, seed) of every row that the table should have for this edition."""
    rows = [("ours", "ours", seed) for seed in SEEDS]
    if edition.name == "full":
        rows += [("steps", name, seed) for name in STEPS for seed in SEEDS]
        rows += [
            ("rates", f"{kind} {rate:g}", seed)
            for kind in ("constant", "up and down")
            for rate in RATES
            for seed in SEEDS
        ]
    return rows


def run(edition: tl.editions.Edition, study: str, setting: str, seed: int) -> pd.DataFrame:
    """One row: accuracy on validation and test, and the seconds it took, prefix included."""
    data = tl.load_dataset(edition.dataset)
    started = time.perf_counter()
    if study == "ours":
        limit = DIGITS if edition.name == "full" else None
        model = tl.recipes.our_classifier(edition, limit=limit, seed=seed).model
    elif study == "rates":
        kind, _, rate = setting.rpartition(" ")
        # Half the steps and no copies, so that thirty runs take minutes.
        model = dataclasses.replace(
            OURS, rate=float(rate), schedule=kind == "up and down", copies=0, passes=4
        ).train(edition, data, seed)
    elif (steps := STEPS[setting]) is not None:
        model = steps.train(edition, data, seed)
    else:
        model = _head_only(edition, data, seed, early="block 5" in setting)
    seconds = time.perf_counter() - started
    row: dict[str, Any] = {"edition": edition.name, "study": study, "setting": setting, "seed": seed}
    for part in ("validation", "test"):
        split = getattr(data, part)
        answers = model.predict(split.images, batch_size=256, verbose=0).argmax(axis=1)
        row[f"{part}_accuracy"] = float((answers == split.labels).mean())
    return pd.DataFrame([{**row, "seconds": round(seconds, 1), **tl.published.stamp()}])


def _head_only(
    edition: tl.editions.Edition, data: tl.datasets.Dataset, seed: int, *, early: bool
) -> keras.Model:
    model = tl.recipes.article_model(edition, seed=seed)
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
    prefix, suffix = tl.split(model, at=at)
    images, labels = data.train.images[:DIGITS], data.train.labels[:DIGITS]
    _fit(suffix, tl.precompute(prefix, images), labels, rate, epochs, seed, batch_size=32)
    return model


def _fit(model: keras.Model, x: Any, y: Any, rate: Any, epochs: int, seed: int, *, batch_size: int) -> None:
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        steps_per_execution=tl.recipes.STEPS_PER_EXECUTION,
    )
    keras.utils.set_random_seed(seed)
    model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0)
