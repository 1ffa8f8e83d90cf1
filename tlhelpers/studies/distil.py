"""Distil: a large network teaches a small one, by its probabilities of examples that nobody labelled.

The teachers have few labels: a linear probe on a frozen network, of digits or of sentences, and our recipe
of digits. Source: Hinton, Vinyals and Dean, *Distilling the knowledge in a neural network*, 2015.
"""

import functools
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

from tlhelpers import datasets, downloads
from tlhelpers._formats import polarity_sentences
from tlhelpers.encoders import MINILM, pooled_blocks
from tlhelpers.page.editions import Edition

from . import intervals, recipes
from .skeleton import SEEDS, Study, balanced, best, loaded, search_logistic

__all__ = ["PARTS", "SIZES", "STUDY", "WAYS", "Task", "load", "small_network", "teacher", "views"]

Array = npt.NDArray[Any]

WAYS = ("teacher", "its probabilities", "its answers", "few labels", "all labels", "TF-IDF")
TEACHER, SOFT, HARD, FEW, ALL, COUNTS = WAYS
"""The teacher. The small network, taught by the teacher's probabilities of unlabelled examples, or by the
likeliest class alone; taught by the teacher's few labels; by the true labels of all examples. And, of
sentences, logistic regression on counts of words, with the few labels."""
SIZES = {"digits": (100, 6_000), "sentences": (300,)}
"""Labels that the teacher has, drawn anew with each seed from the unlabelled examples. With 6,000 it is our
recipe, else a probe."""
PARTS = {"digits": (16_000, 2_000, 10_000), "sentences": (3_000, 500, 1_500)}
"""Unlabelled examples, those to choose by, whose labels are counted with nobody's, and those to test."""
CUTS, COPIES = ("block_2_add", "block_5_add"), 15
RATES = {"digits": (0.001, 0.004, 0.016, 0.064, 0.256), "sentences": (0.003, 0.01, 0.03, 0.1, 0.3)}
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
INVERSE_PENALTIES = tuple(10.0**power for power in range(-5, 5))
PASSES, BATCH_SIZE = {"digits": 2, "sentences": 6}, 128
"""Of every small network, over as many examples, however many labels. The search takes half."""
LENGTH = 64


@dataclass(frozen=True, eq=False)
class Task:
    """Examples and labels of three parts: unlabelled (their labels are for `ALL`), to choose by, to test.

    `network` makes the small network; `texts` are the sentences of all parts in turn.
    """

    parts: tuple[tuple[Array, Array], ...]
    network: Callable[[], keras.Model]
    texts: tuple[str, ...] = ()


@functools.cache
def load(data: str, edition: Edition) -> Task:
    """Digits, the first of each split; in the full edition also critics' sentences, shuffled once."""
    numbers = PARTS[data]
    if data == "digits":
        whole = datasets.load_dataset(edition.dataset)
        splits = zip((whole.train, whole.validation, whole.test), numbers, strict=True)
        parts = tuple((split.images[:number], split.labels[:number]) for split, number in splits)
        return Task(parts, functools.partial(small_network, parts[0][0].shape[1:]))
    files = polarity_sentences(downloads.fetch("rt-polaritydata.tar.gz")).values()
    once = {text.lower(): (text, label) for label, file in enumerate(files) for text in file}
    rows = np.random.default_rng(0).permutation(len(once))[: sum(numbers)]
    texts, labels = zip(*(list(once.values())[row] for row in rows), strict=True)
    tokens = loaded(MINILM).tokenize(texts, length=LENGTH)
    ends = np.cumsum(numbers)[:-1]
    vocabulary = loaded(MINILM).model.get_layer("token_embedding").input_dim
    parts = tuple(zip(np.split(tokens, ends), np.split(np.array(labels), ends), strict=True))
    return Task(parts, functools.partial(word_network, vocabulary), texts)


# -- the small networks, and how they learn -------------------------------------------------------


def small_network(image_shape: tuple[int, ...]) -> keras.Model:
    """Three convolutions and one dense layer; raw grey images to ten scores, before any softmax."""
    layers = [keras.Input(image_shape), keras.layers.Rescaling(1 / 255)]
    layers.append(keras.layers.Reshape((*image_shape, 1)))
    for filters, size in ((16, 5), (28, 3), (48, 3)):
        layers += [
            keras.layers.Conv2D(filters, size, strides=2, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.95),
            keras.layers.ReLU(),
        ]
    layers += [keras.layers.Flatten(), keras.layers.Dropout(0.2), keras.layers.Dense(10)]
    return keras.Sequential(layers)


def word_network(vocabulary: int) -> keras.Model:
    """The mean of 16 numbers for each piece of a word, and a dense layer; token numbers to two scores."""
    layers = [keras.Input((LENGTH,), dtype="int32"), keras.layers.Embedding(vocabulary, 16, mask_zero=True)]
    layers += [keras.layers.GlobalAveragePooling1D(), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    return keras.Sequential(layers)


def soften(probabilities: Array, temperature: float) -> Array:
    """What a softmax would give if its scores were divided by the temperature: (n, classes)."""
    powers = probabilities ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def distillation(temperature: float) -> Callable[[Any, Any], Any]:
    """A loss, from softened probabilities and the scores of the network that learns them."""

    def loss(soft: Any, scores: Any) -> Any:
        lost = keras.losses.categorical_crossentropy(soft, scores / temperature, from_logits=True)
        return temperature**2 * lost  # or the gradient would shrink with the square

    return loss


def train(
    task: Task, x: Array, taught: Array, *, rate: float, temperature: float, passes: int, seed: int
) -> keras.Model:
    """Train a new small network on the probabilities that it is taught; of true labels they are 0 or 1."""
    keras.utils.set_random_seed(seed)
    model = task.network()
    steps = passes * -(-len(x) // BATCH_SIZE)
    adam = keras.optimizers.Adam(recipes.up_and_down(rate, steps))
    model.compile(adam, distillation(temperature), steps_per_execution=20)
    model.optimizer.build(model.trainable_variables)
    model.fit(x, soften(taught, temperature), batch_size=BATCH_SIZE, epochs=passes, verbose=0)
    return model


def views(task: Task, rows: Array, *, seed: int) -> tuple[Array, Array]:
    """Some examples so often that all ways see as many, and which is which; digits as changed copies."""
    x = task.parts[0][0]
    if not task.texts:
        return recipes.augmented(x[rows], rows, copies=2 * len(x) // len(rows) - 1, seed=seed)
    each = np.tile(rows, len(x) // len(rows))
    return x[each], each


# -- teachers -------------------------------------------------------------------------------------

Said = tuple[list[Array], str, float]
"""Scores of the classes for each part, what validation chose, and the seconds to learn."""


def by_recipe(task: Task, rows: Array, edition: Edition, *, seed: int) -> keras.Model:
    """Our recipe of the chapter "Go beyond the article", on these digits alone."""
    x, labels = task.parts[0]
    images, labels = recipes.augmented(x[rows], labels[rows], seed=seed)
    model, batch, passes = recipes.our_model(edition, seed=seed), recipes.OURS_BATCH_SIZE, 2
    compiling = functools.partial(recipes.compile_as_ours, steps=passes * -(-len(images) // batch))
    how: dict[str, Any] = {"batch_size": batch, "epochs": passes, "seed": seed, "compiling": compiling}
    recipes.train_behind(model, recipes.OURS_CUT, images, labels, **how)
    return model


@functools.cache
def _features(edition: Edition, data: str) -> dict[str, Array]:
    """What the frozen network makes of the examples of all parts: (n, numbers), by where it is read."""
    task = load(data, edition)
    if not task.texts:
        return _read(edition, np.concatenate([x for x, _ in task.parts]))
    states = np.moveaxis(pooled_blocks(loaded(MINILM), task.texts), 1, 0)
    return {f"block {i + 1}": x for i, x in enumerate(states)}


def _read(edition: Edition, images: Array) -> dict[str, Array]:
    return dict(recipes.reader(edition.backbone, images.shape[1:], CUTS, batch_size=250)(images))


@functools.lru_cache(maxsize=1)
def teacher(edition: Edition, data: str, labels: int, seed: int = 0) -> Said:
    """Teach it with so many labels, and let it speak about all examples."""
    task = load(data, edition)
    x, truth = task.parts[0]
    rows = balanced(truth, labels, seed=seed)
    if (data, labels) != ("digits", SIZES["digits"][-1]):
        features = _features(edition, data)
        few = {name: each[rows] for name, each in features.items()}
        if not task.texts:
            images, rows = recipes.augmented(x[rows], rows, copies=COPIES, seed=seed)
            few = _read(edition, images)
        return _logistic(task, few, truth[rows], features, scaled=True)
    began = time.process_time()
    model = by_recipe(task, rows, edition, seed=seed)
    seconds = time.process_time() - began
    return [model.predict(x, batch_size=250, verbose=0) for x, _ in task.parts], "", seconds


def _logistic(
    task: Task, few: dict[str, Array], labels: Array, features: dict[str, Array], *, scaled: bool = False
) -> Said:
    """Logistic regression; validation chooses its penalty, and among kinds of features."""
    ends = np.cumsum([len(labels) for _, labels in task.parts])[:-1]
    held = {name: x[slice(*ends)] for name, x in features.items()}
    began = time.process_time()
    how: dict[str, Any] = {"steps": 1_000, "scaled": scaled}
    found, choice = search_logistic(INVERSE_PENALTIES, few, labels, held, task.parts[1][1], **how)
    seconds = time.process_time() - began
    scores = found.classifier.predict_proba(features[found.features]).astype(np.float32)
    return np.split(scores, ends), f"{found.features}, {choice}", seconds


def _counts(task: Task, rows: Array) -> Said:
    """TF-IDF of words, or of pairs too, of the few texts' own."""
    kinds = {"words": (1, 1), "words and pairs": (1, 2)}
    texts = [task.texts[row] for row in rows]
    counts = (TfidfVectorizer(sublinear_tf=True, ngram_range=kind).fit(texts) for kind in kinds.values())
    seen = [count.transform(task.texts).astype("float32").toarray() for count in counts]
    features = dict(zip(kinds, seen, strict=True))
    few = {name: each[rows] for name, each in features.items()}
    return _logistic(task, few, task.parts[0][1][rows], features)


# -- rows of the table ----------------------------------------------------------------------------


def _lesson(edition: Edition, data: str, way: str, labels: int, seed: int) -> tuple[Array, Array]:
    """What a small network is shown, and the probabilities that it is taught."""
    task = load(data, edition)
    truth = task.parts[0][1]
    rows = balanced(truth, labels, seed=seed) if way == FEW else np.arange(len(truth))
    x, which = views(task, rows, seed=seed)
    one_hot = np.eye(truth.max() + 1, dtype=np.float32)
    if way in (FEW, ALL):
        return x, one_hot[truth[which]]
    said = teacher(edition, data, labels, seed)[0][0]
    return x, (said if way == SOFT else one_hot[said.argmax(axis=1)])[which]


@functools.cache
def chosen(edition: Edition, data: str, way: str) -> tuple[float, float]:
    """Rate and temperature that validation likes best, with the fewest labels and one draw."""
    task, lesson = load(data, edition), _lesson(edition, data, way, SIZES[data][0], SEEDS[0])
    held, truth = task.parts[1]

    @functools.cache
    def score(rate: float, temperature: float) -> float:
        how: dict[str, Any] = {"rate": rate, "temperature": temperature, "seed": SEEDS[0]}
        scores = train(task, *lesson, passes=PASSES[data] // 2, **how).predict(
            held, batch_size=500, verbose=0
        )
        return float((scores.argmax(axis=1) == truth).mean())

    warm = TEMPERATURES[2] if way == SOFT else 1.0
    rate = best({rate: score(rate, warm) for rate in RATES[data]})
    return rate, best({t: score(rate, t) for t in TEMPERATURES}) if way == SOFT else warm


def _measured(edition: Edition, data: str, way: str, labels: int, seed: int) -> dict[str, Any]:
    """Learn by one of `WAYS`, and test; ``cpu_seconds`` are for that alone, without search and teacher."""
    task, (rate, temperature) = load(data, edition), (np.nan, np.nan)
    if way == TEACHER:
        scores, choice, seconds = teacher(edition, data, labels, seed)
    elif way == COUNTS:
        scores, choice, seconds = _counts(task, balanced(task.parts[0][1], labels, seed=seed))
    else:
        rate, temperature = chosen(edition, data, way)
        lesson, choice, began = _lesson(edition, data, way, labels, seed), "", time.process_time()
        how: dict[str, Any] = {"rate": rate, "temperature": temperature, "seed": seed}
        model = train(task, *lesson, passes=PASSES[data], **how)
        seconds = time.process_time() - began
        scores = [np.empty(0), *(model.predict(x, batch_size=500, verbose=0) for x, _ in task.parts[1:])]
    _, (_, truth), (_, tested) = task.parts
    accuracy = intervals.judged(scores[1], truth, scores[2], tested)
    settled = {"rate": rate, "temperature": temperature, "choice": choice}
    return {**accuracy, **settled, "cpu_seconds": round(seconds, 1)}


def _row(edition: Edition, data: str, labels: int, seed: int) -> pd.DataFrame:
    """All ways with so many labels; `ALL` stands alone, with as many as there are examples."""
    left_out = {ALL, COUNTS if data == "digits" else "", HARD if labels > SIZES[data][0] else ""}
    ways = [ALL] if labels == PARTS[data][0] else [way for way in WAYS if way not in left_out]
    return pd.DataFrame([{"way": way, **_measured(edition, data, way, labels, seed)} for way in ways])


def _grid(edition: Edition) -> list[tuple[str, int, int]]:
    sizes = [(data, labels) for data, some in SIZES.items() for labels in (*some, PARTS[data][0])]
    return [(*each, seed) for each, seed in itertools.product(sizes, SEEDS) if edition.name == "full"]


STUDY = Study(
    table="distil",
    keys=("data", "labels", "seed"),
    grid=_grid,
    row=_row,
    again=lambda edition, row: (
        _measured(edition, row.data, row.way, int(row.labels), int(row.seed))["test_accuracy"],
        PARTS[row.data][2],
    ),
    like=("data", "way", "labels"),
    where=f"data == 'sentences' and way in {[FEW, COUNTS]}",
)
