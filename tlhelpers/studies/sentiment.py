"""Sentiment of review sentences: a sentence encoder, word vectors and word counts, by number of labels.

All methods choose their settings on the same validation sentences. Explained in the chapter "Read sentiment".
"""

import functools
import itertools
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from tlhelpers import _inputs, downloads, page
from tlhelpers._errors import check_name
from tlhelpers._formats import labelled_sentences, polarity_sentences, word_vectors
from tlhelpers.encoders import STAND_IN_WORDS, Encoder, check_texts, load_encoder, pooled_blocks
from tlhelpers.features import precompute
from tlhelpers.freezing import freeze
from tlhelpers.page import Edition
from tlhelpers.prefix import split

from . import skeleton
from .skeleton import ENCODERS, SEEDS, Network, Study, application, best, draw, loaded

__all__ = [
    "DOMAINS",
    "METHODS",
    "SENTENCES",
    "SIZES",
    "STUDY",
    "TRANSFER",
    "Domain",
    "Fitted",
    "Reviews",
    "encode_domain",
    "fit",
    "load",
    "measure",
    "read_labelled",
]

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]

TRANSFER = ("frozen", "fine-tuned", "word vectors")
METHODS = (*TRANSFER, "TF-IDF")
"""Linear probe on the frozen encoder's states; its last two blocks trained; logistic regression on the mean
of GloVe's word vectors; logistic regression on TF-IDF of words and pairs of words, from scratch."""
SIZES = (20, 100, 200, 600)
"""Numbers of labelled sentences in the measured table, of the domain "amazon"."""
FILM_METHODS, FILM_SIZES = ("frozen", "TF-IDF"), (100, 300, 1_000, 3_000)
"""Of the table "sentences": the critics' film sentences, which go on where the others end."""

DOMAINS = {"amazon": "products", "yelp": "restaurants", "imdb": "films", "rt-polarity": "films, by critics"}
"""What the sentences of each domain are about."""

TEST = 280
"""Sentences for the test, of rt-polarity more: see `load`."""
PENALTIES = (10.0, 1.0, 0.1, 0.01)
INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
RATES = (0.0001, 0.0004)
TUNED_BLOCKS = 2
TUNED_LENGTH = 32
"""Tokens of a sentence that fine-tuning reads: its cost grows with them. What goes beyond is cut."""
STEPS = 38
"""Of fine-tuning, whatever the number of labels: 608 sentences, twenty many times or six hundred once."""
BATCH_SIZE = 16


@dataclass(frozen=True, eq=False)
class Reviews:
    """Sentences, none of them empty, and their labels: int64 (n,), 1 for praise, 0 for blame."""

    texts: tuple[str, ...]
    labels: Labels

    def __post_init__(self) -> None:
        check_texts(self.texts)
        _inputs.labels("labels", self.labels, len(self.texts), 2)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Array) -> "Reviews":
        """Those at the given positions."""
        return Reviews(tuple(self.texts[row] for row in rows), self.labels[rows])


@dataclass(frozen=True, eq=False)
class Domain:
    """Review sentences of one kind, split once and for all; no sentence is in two splits."""

    name: str
    about: str
    train: Reviews
    validation: Reviews
    test: Reviews

    @property
    def texts(self) -> tuple[str, ...]:
        """All of them: train first, then validation, then test."""
        return (*self.train.texts, *self.validation.texts, *self.test.texts)


# -- sentences ------------------------------------------------------------------------------------


def read_labelled(path: str | Path, *, encoding: str = "utf-8") -> Reviews:
    """Read sentences of one's own: a line each, a tab, and 0 or 1. Those that come twice count once.

    Raises ValueError if the bytes are of another encoding (many older collections are "latin-1"), or a line
    has no sentence, tab and label.
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{Path(path).name}: expected {encoding}, got byte {data[error.start]:#04x} at {error.start:,}. "
            "Name the file's encoding: encoding='latin-1', say."
        ) from None
    return _labelled([line for line in text.split("\n") if line.strip()], Path(path).name)


def _labelled(lines: Sequence[str], where: str) -> Reviews:
    texts, labels = [], []
    for number, line in enumerate(lines, start=1):
        text, _, label = line.strip().rpartition("\t")
        if label not in ("0", "1") or not text.strip():
            raise ValueError(
                f"{where}: expected a sentence, a tab, and 0 or 1 in each line, got {line[:60]!r} as number "
                f"{number}. Correct that line."
            )
        texts.append(text.strip())
        labels.append(int(label))
    return _once(texts, labels)


def _once(texts: Sequence[str], labels: Sequence[int]) -> Reviews:
    """Each sentence at its first place only, whatever its case: none may be in two splits."""
    first = {text.lower(): row for row, text in reversed(list(enumerate(texts)))}
    rows = sorted(first.values())
    return Reviews(tuple(texts[row] for row in rows), np.array([labels[row] for row in rows], np.int64))


_OPENINGS = {
    "amazon": ("the phone is", "this cable was", "i find the battery", "the case looks"),
    "yelp": ("the soup is", "our waiter was", "i find the menu", "the table looks"),
    "imdb": ("the film is", "this plot was", "i find the cast", "the ending looks"),
}
_VERDICTS = (("good", 1), ("lovely", 1), ("perfect", 1), ("bad", 0), ("ugly", 0), ("useless", 0))


def load(name: str, *, edition: Edition | None = None) -> Domain:
    """Load the review sentences of one of `DOMAINS`, in splits that never change.

    "amazon", "yelp" and "imdb" have 1,000 sentences each, as many praise as blame; 100 are validation, 280
    test, the others train. Of the 10,662 of "rt-polarity" a part is used: 200 validation, 600 test, 3,010
    train. Sentences that come twice are left out. The pocket edition has a stand-in for each but
    "rt-polarity": 24 sentences of our own, 12 train, 6 validation, 6 test.

    Sources: Kotzias et al., *From group to individual labels using deep features*, 2015; Pang and Lee,
    *Seeing stars*, 2005.
    """
    edition = edition or page.current()
    names = DOMAINS if edition.name == "full" else _OPENINGS
    check_name(f"domain of the {edition.name} edition", name, names)
    return _load(name, edition.name)


@functools.cache
def _load(name: str, edition: str) -> Domain:
    validation, test, train = 100, TEST, None
    if edition == "pocket":
        pairs = itertools.product(_OPENINGS[name], _VERDICTS)
        texts, labels = zip(*((f"{opening} {word}.", label) for opening, (word, label) in pairs), strict=True)
        reviews, validation, test = _once(texts, labels), 6, 6
    elif name == "rt-polarity":
        negative, positive = polarity_sentences(downloads.fetch("rt-polaritydata.tar.gz")).values()
        reviews = _once((*negative, *positive), [0] * len(negative) + [1] * len(positive))
        validation, test, train = 200, 600, 3_010
    else:
        file = "amazon_cells_labelled.txt" if name == "amazon" else f"{name}_labelled.txt"
        lines = labelled_sentences(downloads.fetch("sentiment_labelled_sentences.zip"))
        reviews = _labelled(lines[file], file)
    rest, test_rows = train_test_split(
        np.arange(len(reviews)), test_size=test, stratify=reviews.labels, random_state=0
    )
    train_rows, validation_rows = train_test_split(
        rest, train_size=train, test_size=validation, stratify=reviews.labels[rest], random_state=0
    )
    splits = (reviews.take(rows) for rows in (train_rows, validation_rows, test_rows))
    return Domain(name, DOMAINS[name], *splits)


# -- methods --------------------------------------------------------------------------------------


class Fitted(skeleton.Fitted):
    """A way to read sentiment, learned: `predict` takes texts and gives int64 labels (n,)."""

    def accuracy(self, reviews: Reviews) -> float:
        """Share of the labels found."""
        return float((self.predict(reviews.texts) == reviews.labels).mean())


def fit(
    method: str, few: Reviews, validation: Reviews, *, seed: int = 0, edition: Edition | None = None
) -> Fitted:
    """Learn from `few` by one of `METHODS`; choose its settings on `validation`.

    Raises ValueError if `few` holds one class only. The seed is for fine-tuning: the head's random weights,
    dropout and the order of the sentences.
    """
    check_name("method", method, METHODS)
    if len(np.unique(few.labels)) < 2:
        raise ValueError("few: expected praise and blame, got one of them only. Draw from both classes.")
    edition = edition or page.current()
    features = functools.partial(_features, method, edition)
    x, held = features(few.texts), features(validation.texts)
    began = time.process_time()
    if method == "fine-tuned":
        encoder = ENCODERS[edition.name]
        predict, score, choice = _fine_tuned(encoder, x, few.labels, held, validation.labels, seed)
    else:
        predict, score, choice = _searched(method, x, few.labels, held, validation.labels)
    seconds = round(time.process_time() - began, 1)
    return Fitted(lambda texts: predict(features(texts)), score, choice, seconds)


Features = dict[str, Array]
Learnt = tuple[Callable[[Features], Labels], float, str]
"""What predicts from features; its accuracy on validation; what that chose."""


def _features(method: str, edition: Edition, texts: Sequence[str]) -> Features:
    """What a method reads in texts, by name; of the encoder's blocks, the last one first, it chooses one."""
    encoder = ENCODERS[edition.name]
    if method == "frozen":
        states = _states(encoder, texts)
        return {f"block {block + 1}": states[:, block] for block in reversed(range(states.shape[1]))}
    if method == "fine-tuned":
        return {"tokens": _tokens(encoder, texts)}
    if method == "word vectors":
        return {"mean": _word_means(edition.name, texts)}
    return {"words": np.array(texts)}


def _searched(method: str, x: Features, labels: Labels, held: Features, held_labels: Labels) -> Learnt:
    """Try each setting with each kind of features, the strongest penalty first."""
    parts = x, labels, held, held_labels
    if method == "frozen":
        found, choice = skeleton.search_probes(PENALTIES, *parts)
    elif method == "word vectors":
        found, choice = skeleton.search_logistic(INVERSE_PENALTIES, *parts, steps=1_000, scaled=True)
    else:
        count, logistic = TfidfVectorizer(sublinear_tf=True), LogisticRegression(max_iter=1_000)
        grid = [
            {"tfidfvectorizer__ngram_range": [(1, most)], "logisticregression__C": INVERSE_PENALTIES}
            for most in (1, 2)
        ]
        found = skeleton.search(lambda _: make_pipeline(count, logistic), lambda _: grid, *parts)
        words = {1: "words", 2: "words and pairs"}[found.settings["tfidfvectorizer__ngram_range"][1]]
        choice = f"{words}, C {found.settings['logisticregression__C']:g}"
    return lambda features: found.classifier.predict(features[found.features]), found.score, choice


_known: dict[tuple[str, str, str], npt.NDArray[np.float32]] = {}
"""By encoder, kind and text: what came out, so that each sentence is encoded once in a process."""


def _remembered(
    encoder: str, kind: str, texts: Sequence[str], encode: Callable[[list[str]], Array]
) -> npt.NDArray[np.float32]:
    new = [text for text in dict.fromkeys(texts) if (encoder, kind, text) not in _known]
    if new:
        _known.update(zip(((encoder, kind, text) for text in new), encode(new), strict=True))
    return np.stack([_known[encoder, kind, text] for text in texts])


def _states(encoder: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """(n, blocks, width): the mean over the tokens after each block."""
    return _remembered(encoder, "states", texts, lambda new: pooled_blocks(loaded(encoder), new))


@functools.cache
def _tunable(encoder: str) -> tuple[Encoder, Network]:
    """An encoder of its own with a head, its last blocks to be trained, compiled once."""
    own = load_encoder(encoder)
    states = keras.layers.Dropout(0.1, name="dropout", seed=0)(own.model.output)
    whole = keras.Model(own.model.input, keras.layers.Dense(1, activation="sigmoid", name="head")(states))
    first = max(1, len(own.blocks) - TUNED_BLOCKS)
    freeze(whole, train_from=own.blocks[first])
    prefix, suffix = split(whole, at=own.blocks[first - 1])
    suffix.compile(keras.optimizers.Adam(), "binary_crossentropy", metrics=["accuracy"])
    return own, Network(prefix, suffix, suffix.get_weights())


def _tokens(encoder: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """(n, tokens, width): the states of all tokens after the last block that stays frozen."""
    own, network = _tunable(encoder)

    def encode(new: list[str]) -> Array:
        states: Array = precompute(network.prefix, own.tokenize(new, length=TUNED_LENGTH), batch_size=32)
        return states

    return _remembered(encoder, "tokens", texts, encode)


def _fine_tuned(
    encoder: str, x: Features, labels: Labels, held: Features, held_labels: Labels, seed: int
) -> Learnt:
    _, network = _tunable(encoder)
    suffix, tokens = network.suffix, x["tokens"]

    def says(features: Features) -> Labels:
        praise: Array = suffix.predict(features["tokens"], batch_size=50, verbose=0)[:, 0]
        return (praise > 0.5).astype(np.int64)

    # One pass over as many sentences as the steps take: passes over few would cost more than the steps.
    rng, seen = np.random.default_rng(seed), STEPS * BATCH_SIZE
    passes = [rng.permutation(len(tokens)) for _ in range(math.ceil(seen / len(tokens)))]
    order = np.concatenate(passes)[:seen]
    scores, weights = {}, {}
    for rate in RATES:
        network.reset(rate, seed)
        suffix.fit(tokens[order], labels[order], batch_size=BATCH_SIZE, shuffle=False, verbose=0)
        scores[rate] = float((says(held) == held_labels).mean())
        weights[rate] = suffix.get_weights()
    rate = best(scores)

    def predict(features: Features) -> Labels:
        suffix.set_weights(weights[rate])  # since then it may have learnt something else
        return says(features)

    return predict, scores[rate], f"rate {rate:g}"


_WORDS = re.compile(r"n't|[a-z]+?(?=n't)|'[a-z]+|[a-z0-9]+|[^\w\s]")


def _word_means(edition: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """The mean of the word vectors of each text's words, (n, 50); zero where no word has a vector.

    Texts are cut into words as GloVe's were, "don't" into "do" and "n't". Source: Pennington, Socher and
    Manning, *GloVe: Global vectors for word representation*, 2014.
    """
    places, vectors = _vectors(edition)
    result = np.zeros((len(texts), vectors.shape[1]), np.float32)
    for row, text in zip(result, texts, strict=True):
        rows = [places[word] for word in _WORDS.findall(text.lower()) if word in places]
        if rows:
            row[:] = vectors[rows].mean(axis=0)
    return result


@functools.cache
def _vectors(edition: str) -> tuple[dict[str, int], npt.NDArray[np.float32]]:
    """GloVe's 5,000 most frequent words in the full edition, random vectors in the pocket one."""
    if edition == "full":
        words, vectors = word_vectors(downloads.fetch("glove.6B.zip"))
    else:
        words = STAND_IN_WORDS
        vectors = np.random.default_rng(0).normal(size=(len(words), 50)).astype(np.float32)
    return {word: row for row, word in enumerate(words)}, vectors


def encode_domain(data: Domain, *, edition: Edition | None = None) -> npt.NDArray[np.float32]:
    """Encode all sentences of a domain in one go; "frozen" then finds them, now and in later processes.

    Gives (n, blocks, width): train first, then validation, then test.
    """
    return _states(ENCODERS[(edition or page.current()).name], data.texts)


# -- the measured tables --------------------------------------------------------------------------


def measure(
    method: str, labels: int, *, seed: int = 0, domain: str = "amazon", edition: Edition | None = None
) -> dict[str, Any]:
    """Draw so many labelled sentences, half of them praise, learn from them, and test."""
    edition = edition or page.current()
    data = load(domain, edition=edition)
    _features(method, edition, data.texts)  # at once, in one order: the same for all labels and seeds
    found = fit(method, draw(data.train, labels, seed=seed), data.validation, seed=seed, edition=edition)
    return found.row(found.accuracy(data.test))


STUDY = application(
    "sentiment",
    methods=METHODS,
    sizes=SIZES,
    metric="accuracy",
    measure=measure,
    examples=lambda edition: TEST,
)
SENTENCES = Study(
    table="sentences",
    keys=("domain", "method", "labels", "seed"),
    grid=lambda edition: itertools.product(
        ["rt-polarity"] * (edition.name == "full"), FILM_METHODS, FILM_SIZES, SEEDS
    ),
    row=lambda edition, domain, method, labels, seed: measure(
        method, labels, seed=seed, domain=domain, edition=edition
    ),
)
"""Where the encoder stops paying: the critics' film sentences, up to 3,000 labels."""
