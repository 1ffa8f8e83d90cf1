"""Unfreeze with care: each block's multiplier of the learning rate, epoch by epoch, in five ways.

All ways train one network on the same digits; nothing but these multipliers differs. Discriminative rates and
gradual unfreezing: Howard and Ruder, *Universal language model fine-tuning for text classification*, 2018.
Linear probe, then fine-tuning: Kumar et al., *Fine-tuning can distort pretrained features and underperform
out-of-distribution*, 2022. Explained in the chapter "Unfreeze with care".
"""

import functools
import time
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from tlhelpers import datasets
from tlhelpers._errors import unknown_name
from tlhelpers.freezing import freeze
from tlhelpers.page.editions import Edition
from tlhelpers.prefix import split

from . import recipes
from .skeleton import Network, Study, best, draw, fit_with_cosine, in_words

__all__ = ["EPOCHS", "GROUPS", "RATES", "STUDY", "WAYS", "GroupAdam", "multipliers", "shifted", "train"]

GROUPS = (*(f"block_{number}" for number in range(3, 10)), "head")
"""What has a multiplier of its own, from the input on: the blocks that our recipe trains, and the head."""

WAYS = ("head only", "all at once", "discriminative rates", "gradual unfreezing", "probe, then fine-tune")
"""The ways that are compared."""

DIVISOR = 2.6
"""Howard and Ruder's: each layer's rate over that of the layer below it."""

EPOCHS, BATCH_SIZE, LABELS = 20, 32, 300
"""What every way has in common: passes over the labels, images a step, labels."""

RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Learning rates tried with seed 0. The one with the best validation accuracy serves all seeds."""

SEEDS = range(10)
_VALIDATION, _TEST = 1000, 2000


def multipliers(way: str, epoch: int, *, epochs: int = EPOCHS) -> npt.NDArray[np.float32]:
    """Each group's multiplier of the learning rate, 0 to 1, in one epoch, counted from 0.

    float32, one for each of `GROUPS`. A group with 0 does not move.

    Examples
    --------
    >>> from tlhelpers import studies
    >>> studies.unfreezing.multipliers("gradual unfreezing", epoch=2).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    """
    if way not in WAYS:
        raise unknown_name("way", way, WAYS)
    from_the_head = np.arange(len(GROUPS))[::-1]
    if way == "discriminative rates":
        return np.asarray(DIVISOR ** -from_the_head.astype(float), np.float32)
    probing = way == "head only" or (way == "probe, then fine-tune" and epoch < epochs // 2)
    opened = 0 if probing else epoch if way == "gradual unfreezing" else len(GROUPS)
    return np.asarray(from_the_head <= opened, np.float32)


class GroupAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam with a multiplier of the learning rate for each group of layers.

    Adam divides each gradient by its usual size, so to scale a gradient changes nothing: the rate itself
    must be scaled. A group's multiplier may change between epochs, without another `compile`; its moments go
    on being averaged while it is 0. Source: the discriminative learning rates of Howard and Ruder, 2018.

    `groups` are beginnings of layer names, each followed by ``_`` or the name's end. `multipliers` is a
    variable, float32, one number for each group, 1 at first: ``adam.multipliers.assign([0.1, 1.0])``.
    """

    def __init__(self, learning_rate: float = 0.001, groups: tuple[str, ...] = GROUPS) -> None:
        super().__init__(learning_rate)
        self.groups = tuple(groups)
        ones = np.ones(len(groups), "float32")
        self.multipliers = keras.Variable(ones, trainable=False, name="multipliers")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step, at its group's rate."""
        # TensorFlow's own variable, which Keras hands on here, has the path for a name.
        path = getattr(variable, "path", variable.name).partition(":")[0]
        layer = path.split("/")[-2]
        for place, group in enumerate(self.groups):
            if layer == group or layer.startswith(f"{group}_"):
                super().update_step(gradient, variable, learning_rate * self.multipliers[place])
                return
        raise ValueError(
            f"{path}: expected a layer of one of {', '.join(self.groups)}, got none of them. "
            "Freeze it, or name its group."
        )


def shifted(edition: Edition) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Digits of another kind than those trained on: uint8 (n, height, width), 0..255, and their labels.

    Full edition: the digits inside scikit-learn, which other people wrote and another scanner read, enlarged
    to 20 pixels and framed to 28 as MNIST's are. Pocket: its test digits, moved, turned and resized.
    """
    digits = datasets.load_dataset("digits")
    if edition.name == "pocket":
        images, labels = recipes.augmented(digits.test.images, digits.test.labels, seed=0)
        n = len(digits.test)
        return images[n:], labels[n:]
    parts = (digits.train, digits.validation, digits.test)
    images = np.concatenate([part.images for part in parts]).astype("float32")
    larger = keras.ops.image.resize(images[..., None], (20, 20), interpolation="bilinear")
    framed = np.pad(keras.ops.convert_to_numpy(larger)[..., 0], ((0, 0), (4, 4), (4, 4)))
    return framed.round().astype("uint8"), np.concatenate([part.labels for part in parts])


@functools.cache
def _network(edition: Edition) -> Network:
    """Our network with BatchNorm frozen, cut before what trains; compiled once, since tracing is slow."""
    whole = recipes.our_model(edition, seed=0)
    freeze(whole.get_layer("backbone"), train_from="block_3_expand")
    prefix, suffix = split(whole, at=recipes.OURS_CUT)
    suffix.compile(GroupAdam(), "sparse_categorical_crossentropy")
    suffix.optimizer.build(suffix.trainable_variables)
    return Network(prefix, suffix, suffix.get_weights())


@functools.cache
def _held_out(edition: Edition) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[np.int64]]]:
    """What block 2 makes of validation, test and shifted digits, and their labels."""
    data = datasets.load_dataset(edition.dataset)
    parts = {
        "validation": (data.validation.images[:_VALIDATION], data.validation.labels[:_VALIDATION]),
        "test": (data.test.images[:_TEST], data.test.labels[:_TEST]),
        "shifted": shifted(edition),
    }
    see = _network(edition).prefix
    return {name: (see.predict(x, batch_size=250, verbose=0), y) for name, (x, y) in parts.items()}


def train(edition: Edition, way: str, *, seed: int, rate: float) -> dict[str, float]:
    """Train our network in one way, and test it at home and away: accuracies, and seconds of the training.

    The learning rate follows a cosine from `rate` to zero. Draw, head, dropout and order of batches follow
    the seed, so that all ways with one seed differ in nothing but the multipliers.
    """
    few = draw(datasets.load_dataset(edition.dataset).train, LABELS, seed=seed)
    network = _network(edition)
    suffix = network.suffix
    x = network.prefix.predict(few.images, batch_size=100, verbose=0)
    began = time.process_time()
    network.reset(rate, seed)
    begin = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: suffix.optimizer.multipliers.assign(multipliers(way, epoch))
    )
    fit_with_cosine(
        suffix, x, few.labels, rate=rate, epochs=EPOCHS, batch_size=BATCH_SIZE, seed=seed, callbacks=[begin]
    )
    seconds = time.process_time() - began
    found = {}
    for name, (images, labels) in _held_out(edition).items():
        answers = suffix.predict(images, batch_size=250, verbose=0).argmax(axis=1)
        found[f"{name}_accuracy"] = float((answers == labels).mean())
    return {**found, "cpu_seconds": round(seconds, 1)}


@functools.cache
def _tried(edition: Edition, way: str) -> dict[float, dict[str, float]]:
    """Seed 0 at every rate."""
    return {rate: train(edition, way, seed=SEEDS[0], rate=rate) for rate in RATES}


def _row(edition: Edition, way: str, seed: int) -> dict[str, Any]:
    """One row, at the rate that seed 0's validation digits chose."""
    tried = _tried(edition, way)
    scores = {rate: found["validation_accuracy"] for rate, found in tried.items()}
    kept = best(scores)
    found = tried[kept] if seed == SEEDS[0] else train(edition, way, seed=seed, rate=kept)
    return {"learning_rate": kept, **found, "tried": in_words(scores)}


def _again(edition: Edition, row: "pd.Series[Any]") -> tuple[float, int]:
    found = train(edition, row.way, seed=int(row.seed), rate=float(row.learning_rate))
    return found["test_accuracy"], len(_held_out(edition)["test"][1])


STUDY = Study(
    table="unfreezing",
    keys=("way", "seed"),
    grid=lambda edition: [(way, seed) for seed in SEEDS for way in WAYS],
    row=_row,
    again=_again,
    like=("way",),
)
