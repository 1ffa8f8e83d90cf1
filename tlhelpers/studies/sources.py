"""What a source task is worth: one small network from five sources, each read out on three targets.

Explained in the chapter "Say what transfer learning is".
"""

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from tlhelpers import datasets
from tlhelpers.backbones import load_backbone, preparation
from tlhelpers.page.editions import Edition

from . import closed_form, intervals, recipes
from .skeleton import Study, best, draw, parts

__all__ = ["CUTS", "DRAWS", "EACH", "SOURCES", "STUDY", "TARGETS", "lead", "matrix"]

Array = npt.NDArray[Any]

_SMALL = "mobilenet_v2_glyphs"  # alpha 0.35
PACKAGED = {"ImageNet": "mobilenet_v2_035_imagenet", "glyphs": _SMALL}
TRAINED = {"X-rays": "pneumonia", "unlabelled digits": "mnist"}
RANDOM = "random weights"
SOURCES = (*PACKAGED, *TRAINED, RANDOM)
"""Of one architecture, MobileNetV2 with alpha 0.35. Of the two that are trained here, one learns to tell
pneumonia from the training X-rays' labels. The other one sees training digits without their labels, each
turned by 0, 90, 180 or 270 degrees, and learns to say by how much. Source of that task: Gidaris, Singh and
Komodakis, *Unsupervised Representation Learning by Predicting Image Rotations*, 2018."""
TARGETS = {"digits": "mnist", "X-rays": "pneumonia", "flowers": "flowers"}
EACH, DRAWS = 10, range(10)
"""Labels a class, and draws of them. Random weights are drawn anew with each."""

CUTS = ("Conv1_relu", *recipes.BLOCKS, "out_relu")
READOUTS = (*(f"{cut}, pooled" for cut in CUTS), *CUTS)
PENALTIES = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001, 1e-4)
"""What validation chooses from: where to read out, pooled or at all places, and the probe's penalty."""

STEPS, BATCH, PEAK_RATE = 1000, 128, 0.003
"""How the study trains a source: always so many steps. A second head reads in block 6, as with the glyphs,
since at 32 pixels the end is far from what digits want."""
_ABOUT = ("source_accuracy", "source_cpu_seconds")


def _turned(images: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Each image turned by some quarters, and by how many."""
    turns = rng.integers(0, 4, len(images))
    return np.stack([np.rot90(x, k) for x, k in zip(images, turns, strict=True)]), turns


@functools.cache
def _trained(source: str) -> tuple[keras.Model, dict[str, float]]:
    """The backbone, how well it does its source task on validation, and processor seconds."""
    data, rng = datasets.load_dataset(TRAINED[source]), np.random.default_rng(0)
    train = data.train.take(rng.integers(0, len(data.train), STEPS * BATCH))
    parts = [(part.images, part.labels) for part in (train, data.validation)]
    if source == "unlabelled digits":
        parts = [_turned(images, rng) for images, _ in parts]
    (x, y), (known, truth) = parts
    keras.utils.set_random_seed(0)
    backbone = load_backbone(_SMALL, weights="random")
    recipes.follow_quickly(backbone, 0.95)
    taps = keras.Model(backbone.input, [backbone.output, backbone.get_layer("block_6_expand_relu").output])
    inputs = keras.Input(x.shape[1:])
    ends = map(keras.layers.GlobalAveragePooling2D(), taps(preparation(_SMALL, x.shape[1:])(inputs)))
    model = keras.Model(inputs, [keras.layers.Dense(int(y.max()) + 1, "softmax")(each) for each in ends])
    rate = recipes.up_and_down(PEAK_RATE, STEPS)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", steps_per_execution=20)
    model.optimizer.build(model.trainable_variables)
    began = time.process_time()
    model.fit(x, [y, y], batch_size=BATCH, shuffle=False, verbose=0)
    seconds = time.process_time() - began
    named = model.predict(known, batch_size=BATCH, verbose=0)[0].argmax(axis=1)
    return backbone, dict(zip(_ABOUT, (float((named == truth).mean()), seconds), strict=True))


@functools.lru_cache(maxsize=1)
def _reader(source: str, target: str, seed: int) -> tuple[Callable[[Array], list[Array]], list[list[Array]]]:
    """Raw images of the target to features at all cuts; and those of validation and test."""
    train, *others = parts(TARGETS[target])
    name = PACKAGED.get(source, _SMALL)
    if source in TRAINED:
        network = _trained(source)[0]
    else:
        network = load_backbone(name, weights="random" if source == RANDOM else "pretrained", seed=seed)
    ends = [network.get_layer(cut).output for cut in CUTS]
    pooled = [keras.layers.GlobalAveragePooling2D()(each) for each in ends]
    inputs = keras.Input(train.images.shape[1:])
    prepare = preparation(name, train.images.shape[1:])
    model = keras.Model(inputs, keras.Model(network.inputs, [*pooled, *ends])(prepare(inputs)))
    see = functools.partial(model.predict, batch_size=100, verbose=0)
    return see, [see(part.images) for part in others]


def _measured(source: str, target: str, seed: int) -> dict[str, Any]:
    """One draw of labels: a linear probe at the cut, and with the penalty, that validation chooses."""
    train, validation, test = parts(TARGETS[target])
    few = draw(train, EACH * len(np.unique(train.labels)), seed=seed)
    see, others = _reader(source, target, seed if source == RANDOM else 0)
    tried = dict[tuple[str, float], dict[str, Any]]()
    with threadpool_limits(1):  # threads of small matrices wait for each other
        for readout, *arrays in zip(READOUTS, see(few.images), *others, strict=True):
            x, *unseen = closed_form.in_span(*arrays)
            for penalty in PENALTIES:
                weights, level, _ = closed_form.ridge(x, few.labels, penalty)
                held, seen = (each @ weights + level for each in unseen)
                tried[readout, penalty] = intervals.judged(held, validation.labels, seen, test.labels)
    readout, penalty = kept = best({each: row["validation_accuracy"] for each, row in tried.items()})
    return {"readout": readout, "penalty": penalty, **tried[kept]}


def _row(edition: Edition, source: str, target: str) -> pd.DataFrame:
    """All draws of one source and target."""
    about = dict.fromkeys(_ABOUT, np.nan) | (_trained(source)[1] if source in TRAINED else {})
    return pd.DataFrame([{"seed": seed, **_measured(source, target, seed), **about} for seed in DRAWS])


_KEY = ["source", "target", "seed"]
STUDY = Study(
    table="sources",
    keys=("source", "target"),
    grid=lambda edition: itertools.product(SOURCES if edition.name == "full" else (), TARGETS),
    row=_row,
    again=lambda _, row: (_measured(*row[_KEY])["test_accuracy"], len(parts(TARGETS[row.target])[2])),
    like=("source", "target"),
    where=f"source not in {list(TRAINED)}",
)


def _right(rows: pd.DataFrame, source: str, target: str) -> Array:
    """Which test images each draw named, (draws, images)."""
    kept = rows[(rows.source == source) & (rows.target == target)].sort_values("seed")
    return np.stack([intervals.right_answers(each) for each in kept.right])


def matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy of each source on each target, with its interval over draws and test images."""
    table = pd.DataFrame("", SOURCES, [*TARGETS])
    for source, target in itertools.product(SOURCES, TARGETS):
        right = _right(rows, source, target)
        table.loc[source, target] = "{:.3f} [{:.3f}, {:.3f}]".format(right.mean(), *intervals.interval(right))
    return table


def lead(rows: pd.DataFrame, target: str, one: str, other: str) -> tuple[float, float]:
    """By how much one source is ahead of another on a target: interval of the difference, draw by draw."""
    return intervals.interval(_right(rows, one, target).astype(float) - _right(rows, other, target))
