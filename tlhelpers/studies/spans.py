"""Find the words that answer, in the sentence that holds them: an encoder with a head, from few labels.

The head says of each token how much it looks like the answer's first, and like its last.
"""

import functools
import itertools
import re
import string
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from tlhelpers.encoders import Encoder, load_encoder
from tlhelpers.features import precompute
from tlhelpers.freezing import freeze
from tlhelpers.page.editions import Edition
from tlhelpers.prefix import split

from . import answers
from .skeleton import ENCODERS, SEEDS, Network, Study, best, climb, fit_with_cosine, in_words

__all__ = [
    "FEW",
    "MANY",
    "STUDY",
    "WAYS",
    "judged",
    "numbers",
    "overlap",
    "pair",
    "read_off",
    "with_span_head",
]

Array = npt.NDArray[Any]
Places = list[tuple[int, int]]

RANDOM = "last two blocks, random weights"
WAYS = ("word overlap", "head alone", "last two blocks", RANDOM)
FEW, MANY = 100, 250
"""Labelled questions. Only two ways are measured with the fewer ones as well."""
LENGTH, LONGEST = 64, 128
"""Tokens of question and sentence together, in training and in tests. Longer ones are not learned from."""
STEPS, BATCH_SIZE = 36, 16
RATES: tuple[float, ...] = tuple(0.00005 * 2**place for place in range(12))
START = dict(zip(WAYS[1:], (0.0128, 0.0016, 0.0016), strict=True))
"""Adam's rates; the search begins at `START` and ends where both neighbours are worse on validation."""
LONGEST_ANSWER = 12
"""Tokens of an answer that is looked for."""
FIRST = 100
"""Test questions of a row that a page measures again."""


# -- reading --------------------------------------------------------------------------------------


def pair(
    encoder: Encoder, questions: Sequence[str], texts: Sequence[str]
) -> tuple[npt.NDArray[np.int32], list[int], list[Places]]:
    """Each question and its sentence as tokens that an encoder reads at once; what goes beyond is cut.

    Gives tokens, (n, `LONGEST`) or as many as it has positions for; where the sentence's begin; and where in
    the text each of these begins and ends.
    """
    most = min(LONGEST, encoder.model.get_layer("position_embedding").sequence_length)
    asked, told = (encoder.words.encode_batch(list(some)) for some in (questions, texts))
    rows = [[*question.ids, *text.ids[1:]][:most] for question, text in zip(asked, told, strict=True)]
    begins = [len(question.ids) for question in asked]
    places = [text.offsets[1:-1][: max(most - begin, 0)] for text, begin in zip(told, begins, strict=True)]
    return keras.utils.pad_sequences(rows, maxlen=most, padding="post"), begins, places


def with_span_head(encoder: Encoder, way: str, *, seed: int = 0) -> tuple[keras.Model, keras.Model]:
    """A head on the states of all tokens, cut before what a way lets train: prefix, and compiled suffix.

    The suffix gives (n, 2, tokens): how much each token looks like the answer's first, and like its last.
    """
    whole = encoder.model
    if way == RANDOM:
        keras.utils.set_random_seed(seed)
        whole = keras.models.clone_model(whole)  # the same layers with weights drawn anew
    states = keras.layers.Dropout(0.1, name="dropout", seed=0)(whole.get_layer(encoder.blocks[-1]).output)
    ends = keras.layers.Dense(2, name="head")(states)
    model = keras.Model(whole.input, keras.layers.Permute((2, 1))(ends))
    layers = ["embeddings", *encoder.blocks, "head"]
    first = -1 if way == "head alone" else -3
    freeze(model, train_from=layers[first])
    prefix, suffix = split(model, at=layers[first - 1])
    suffix.compile(keras.optimizers.Adam(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    suffix.optimizer.build(suffix.trainable_variables)
    return prefix, suffix


def read_off(ends: Array, begin: int, places: Places, text: str) -> str:
    """The words of a sentence between the best two ends, (2, tokens), `LONGEST_ANSWER` tokens at most."""
    if not places:
        return ""  # a question so long that nothing of its sentence was read
    first, last = ends[:, begin : begin + len(places)]
    far = np.arange(len(places)) - np.arange(len(places))[:, None]
    both = np.where((far >= 0) & (far < LONGEST_ANSWER), first[:, None] + last, -np.inf)
    start, end = np.unravel_index(both.argmax(), both.shape)
    return text[places[start][0] : places[end][1]]


def _plain(text: str) -> list[str]:
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return [word for word in kept.split() if word not in ("a", "an", "the")]


def judged(found: str, answer: str) -> tuple[float, float]:
    """SQuAD's two measures of an answer: all words are right, and F1 of the words, both 0 to 1.

    Case, punctuation and articles don't count. Source: Rajpurkar et al., *SQuAD*, 2016.
    """
    one, other = _plain(found), _plain(answer)
    shared = (Counter(one) & Counter(other)).total()
    return float(one == other), 2 * shared / max(len(one) + len(other), 1)


_WORD = re.compile(r"\w+(?:[.,'’-]\w+)*")


def overlap(question: str, text: str, most: int) -> str:
    """The run of at most so many words, none of the question's, nearest to the question's words."""
    asked = {word[:6] for word in _WORD.findall(question.lower())}
    words = list(_WORD.finditer(text))
    common = np.array([word[0].lower() in ENGLISH_STOP_WORDS for word in words])
    hit = np.array([word[0].lower()[:6] in asked for word in words]) & ~common
    place, tried = np.arange(len(words)), {}
    for start, end in itertools.combinations_with_replacement(range(len(words)), 2):
        free = end - start < most and not (hit[start : end + 1].any() or common[start] or common[end])
        away = np.maximum(np.maximum(start - place, place - end), 1)
        tried[start, end] = float(np.sum(hit / away)) if free else -1.0
    start, end = best(tried)
    found: str = text[words[start].start() : words[end].end()]
    return found


# -- learning -------------------------------------------------------------------------------------


@functools.cache
def _part(edition: Edition, part: int) -> tuple[list[str], list[str], list[str]]:
    """Questions of a part, their sentences, and the answers."""
    texts = answers.load(edition)
    rows = answers.parts(texts)[part]
    told = [texts.sentences[row] for row in texts.sentence[rows]]
    return [texts.questions[row] for row in rows], told, [texts.answer(row) for row in rows]


@functools.cache
def _labelled(edition: Edition) -> tuple[Array, Array]:
    """The questions that may be learned from, those of at most `LENGTH` tokens, and the answers' ends."""
    asked, told, _ = _part(edition, 0)
    texts = answers.load(edition)
    tokens, begins, places = pair(answers.encoder(edition), asked, told)
    ends = np.zeros((len(asked), 2), np.int64)
    for row, (start, end) in enumerate(texts.spans[answers.parts(texts)[0]]):
        hit = [place for place, (a, b) in enumerate(places[row]) if a < end and b > start]
        ends[row] = (begins[row] + hit[0], begins[row] + hit[-1]) if hit else 0
    short = np.sum(tokens != 0, axis=1) <= LENGTH
    return tokens[short, :LENGTH], ends[short]


@functools.lru_cache(maxsize=1)
def _network(way: str, edition: Edition, seed: int) -> Network:
    own = load_encoder(ENCODERS[edition.name])  # what another way trained is no start for this one
    prefix, suffix = with_span_head(own, way, seed=seed)
    return Network(prefix, suffix, suffix.get_weights())


@functools.lru_cache(maxsize=4)
def _learned(way: str, edition: Edition, labels: int, seed: int, rate: float) -> list[Array]:
    """The suffix's weights after so many questions, which the seed draws, as it does the head."""
    network = _network(way, edition, seed if way == RANDOM else 0)
    tokens, ends = _labelled(edition)
    rows = np.random.default_rng(seed).permutation(len(tokens))[:labels]
    network.reset(rate, seed)
    x, epochs = np.array(precompute(network.prefix, tokens[rows])), -(-STEPS * BATCH_SIZE // len(rows))
    how: dict[str, Any] = {"rate": rate, "epochs": epochs, "batch_size": BATCH_SIZE, "seed": seed}
    fit_with_cosine(network.suffix, x, ends[rows], **how)
    weights: list[Array] = network.suffix.get_weights()
    return weights


def _fit(way: str, edition: Edition, labels: int, seed: int, rate: float) -> Network:
    """What `_learned` gives, in its network."""
    weights = _learned(way, edition, labels, seed, rate)
    network = _network(way, edition, seed if way == RANDOM else 0)
    network.suffix.set_weights(weights)
    return network


def _tested(network: Network, edition: Edition, part: int, most: int | None = None) -> Array:
    """`judged` for the questions of a part, or the first of them: (n, 2)."""
    asked, told, truth = (each[:most] for each in _part(edition, part))
    tokens, begins, places = pair(answers.encoder(edition), asked, told)
    short = np.sum(tokens != 0, axis=1) <= LENGTH
    found = np.empty((len(asked), 2))
    for rows, length in ((np.flatnonzero(short), LENGTH), (np.flatnonzero(~short), LONGEST)):
        if len(rows):
            x = np.array(precompute(network.prefix, tokens[rows, :length]))
            ends = network.suffix.predict(x, batch_size=32, verbose=0)
            for row, some in zip(rows, ends, strict=True):
                found[row] = judged(read_off(some, begins[row], places[row], told[row]), truth[row])
    return found


@functools.cache
def _kept_rate(way: str, edition: Edition) -> float:
    """The rate that did best on validation with seed 0, and both of whose neighbours did worse.

    A way that is measured with the fewer labels, too, chooses with these.
    """
    labels = FEW if way in WAYS[1:3] else MANY

    def score(rate: float) -> float:
        return float(_tested(_fit(way, edition, labels, 0, rate), edition, 1)[:, 1].mean())

    rate, tried = climb(RATES, START[way], score)
    print(f"  {way}: {in_words(tried)}", flush=True)
    return rate


def _overlapped(edition: Edition, part: int, most: int) -> Array:
    texts = zip(*_part(edition, part), strict=True)
    return np.array([judged(overlap(asked, told, most), answer) for asked, told, answer in texts])


def _row(edition: Edition, way: str, labels: int, seed: int) -> dict[str, Any]:
    began = time.process_time()
    if way == WAYS[0]:
        most = best({most: float(_overlapped(edition, 1, most)[:, 1].mean()) for most in range(1, 9)})
        choice, (held, found) = f"{most} words", (_overlapped(edition, part, most) for part in (1, 2))
    else:
        network = _fit(way, edition, labels, seed, _kept_rate(way, edition))
        choice = f"rate {_kept_rate(way, edition):g}"
        held, found = (_tested(network, edition, part) for part in (1, 2))
    _, article = np.unique(answers.tested(edition), return_inverse=True)
    exact, f1 = (np.bincount(article, column) / np.bincount(article) for column in found.T)
    return {
        "f1": float(found[:, 1].mean()),
        "exact": float(found[:, 0].mean()),
        "validation": float(held[:, 1].mean()),
        "choice": choice,
        "first": float(found[:FIRST, 1].mean()),
        "f1 by article": " ".join(f"{value:.4f}" for value in f1),
        "exact by article": " ".join(f"{value:.4f}" for value in exact),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def _again(edition: Edition, row: Any) -> tuple[float, int]:
    rate = float(row.choice.removeprefix("rate "))
    network = _fit(row.way, edition, int(row.labels), int(row.seed), rate)
    return float(_tested(network, edition, 2, FIRST)[:, 1].mean()), FIRST


def _grid(edition: Edition) -> Iterator[tuple[str, int, int]]:
    if edition.name == "full":
        yield WAYS[0], 0, 0
        for way in WAYS[1:]:
            for labels in (FEW, MANY) if way in WAYS[1:3] else (MANY,):
                yield from ((way, labels, seed) for seed in SEEDS)


STUDY = Study(
    table="spans",
    keys=("way", "labels", "seed"),
    grid=_grid,
    row=_row,
    again=_again,
    like=("way", "labels"),
    value="first",
    # The other ways take half a minute a row.
    where=f"labels == {FEW} and way == 'head alone'",
)


def numbers(rows: Any, way: str, labels: int, column: str = "f1") -> Array:
    """Mean over the questions of each tested article, by seed: (seeds, articles)."""
    kept = rows[(rows.way == way) & (rows.labels == labels)].sort_values("seed")
    return np.array([[float(value) for value in text.split()] for text in kept[f"{column} by article"]])
