"""Sentiment of review sentences: a sentence encoder, word vectors and word counts, by number of labels.

Four ways to learn whether a sentence praises. Three transfer: a linear probe on a frozen encoder, the same
encoder with its last two blocks fine-tuned, and the mean of word vectors. One starts from nothing but the
labelled sentences: TF-IDF. All choose their settings on the same validation sentences.
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
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from . import downloads, editions, published
from ._errors import unknown_name
from ._restart import Network
from .encoders import MINILM, Encoder, check_texts, load_encoder, pooled_blocks
from .evaluation import probe
from .freezing import freeze
from .prefix import precompute, split
from .unfreezing import balanced

__all__ = [
    "DOMAINS",
    "METHODS",
    "METRIC",
    "SIZES",
    "TRANSFER",
    "Domain",
    "Fitted",
    "Reviews",
    "check_one",
    "draw",
    "encode_domain",
    "fit",
    "load",
    "measure",
    "read_labelled",
    "word_means",
]

METRIC = "accuracy"
"""What the table counts."""
TRANSFER = ("frozen", "fine-tuned", "word vectors")
"""These need what was read before."""
METHODS = (*TRANSFER, "TF-IDF")
"""Linear probe on the frozen encoder's states; its last two blocks trained; logistic regression on the mean
of GloVe's word vectors; logistic regression on TF-IDF of words and pairs of words, from scratch."""
SIZES = (20, 100, 200, 600)
"""Numbers of labelled sentences in the measured table, of the domain "amazon"."""

_COLLECTION = "sentiment_labelled_sentences.zip"
DOMAINS = {
    "amazon": "products",
    "yelp": "restaurants",
    "imdb": "films",
    "rt-polarity": "films, by critics",
}
"""What the sentences of each domain are about."""
_FILES = {
    "amazon": "amazon_cells_labelled.txt",
    "yelp": "yelp_labelled.txt",
    "imdb": "imdb_labelled.txt",
}

VALIDATION, TEST = 100, 280
"""Sentences kept aside of each domain; of rt-polarity more, see `load`."""
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
    """Sentences and what they say.

    Attributes
    ----------
    texts : tuple of str
        None of them empty.
    labels : numpy.ndarray, int64, shape (n,)
        1 for praise, 0 for blame.
    """

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        check_texts(self.texts)
        if self.labels.shape != (len(self.texts),) or not np.isin(self.labels, (0, 1)).all():
            raise ValueError(
                f"labels: expected 0 or 1 for each of {len(self.texts)} texts, got shape {self.labels.shape} "
                f"and values {np.unique(self.labels)[:5].tolist()}. Make blame 0 and praise 1."
            )

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: npt.NDArray[Any]) -> "Reviews":
        """Those at the given positions."""
        return Reviews(tuple(self.texts[row] for row in rows), self.labels[rows])


@dataclass(frozen=True, eq=False)
class Domain:
    """Review sentences of one kind, split once and for all; no sentence is in two splits.

    Attributes
    ----------
    name, about : str
        A key of `DOMAINS`, and what the sentences are about.
    train, validation, test : Reviews
        Choose on validation; look at test once.
    """

    name: str
    about: str
    train: Reviews
    validation: Reviews
    test: Reviews


def read_labelled(path: str | Path, *, encoding: str = "utf-8") -> Reviews:
    r"""Read sentences of one's own: a line each, a tab, and 0 or 1.

    Parameters
    ----------
    path
        A text file.
    encoding
        Its encoding. Many older collections are "latin-1".

    Returns
    -------
    Reviews
        Without sentences that come twice.

    Raises
    ------
    ValueError
        If the bytes are of another encoding, or a line has no sentence, tab and label.
    OSError
        If the file can't be read.

    Examples
    --------
    >>> import tempfile
    >>> from tlhelpers import sentiment
    >>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    ...     _ = file.write("Works well.\t1\nBroke at once.\t0\n")
    ...     file.flush()
    ...     sentiment.read_labelled(file.name).labels.tolist()
    [1, 0]
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
STAND_IN_WORDS = tuple(
    sorted(
        {word for openings in _OPENINGS.values() for opening in openings for word in opening.split()}
        | {word for word, _ in _VERDICTS}
    )
)
"""All words of the pocket edition's sentences."""


def load(name: str, *, edition: editions.Edition | None = None) -> Domain:
    """Load the review sentences of one domain, in splits that never change.

    Parameters
    ----------
    name
        A key of `DOMAINS`. "amazon", "yelp" and "imdb" have 1,000 sentences each, as many praise as blame;
        100 are validation, 280 test, the others train. Of the 10,662 of "rt-polarity" a part is used: 200
        validation, 600 test, 3,010 train. Sentences that come twice are left out.
    edition
        The current one by default. The pocket edition has a stand-in for each but "rt-polarity": 24
        sentences of our own, 12 train, 6 validation, 6 test.

    Returns
    -------
    Domain

    Raises
    ------
    LookupError
        If no domain goes by that name in this edition.
    tlhelpers.downloads.DownloadError
        If the data can't be had.

    Notes
    -----
    Sources: Kotzias et al., *From group to individual labels using deep features*, 2015; Pang and Lee,
    *Seeing stars*, 2005. Explained in the chapter "Read sentiment".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.sentiment.load("yelp", edition=pocket).about
    'restaurants'
    """
    edition = edition or editions.current()
    names = tuple(DOMAINS) if edition.name == "full" else tuple(_OPENINGS)
    if name not in names:
        raise unknown_name(f"domain of the {edition.name} edition", name, names)
    return _load(name, edition.name)


@functools.cache
def _load(name: str, edition: str) -> Domain:
    sizes: tuple[int, int, int | None] = (VALIDATION, TEST, None)
    if edition == "pocket":
        pairs = itertools.product(_OPENINGS[name], _VERDICTS)
        texts, labels = zip(*((f"{opening} {word}.", label) for opening, (word, label) in pairs), strict=True)
        reviews, sizes = _once(texts, labels), (6, 6, None)
    elif name in _FILES:
        lines = downloads.review_lines(_COLLECTION, downloads.fetch(_COLLECTION))
        reviews = _labelled(lines[_FILES[name]], _FILES[name])
    else:
        archive = "rt-polaritydata.tar.gz"
        negative, positive = downloads.review_lines(archive, downloads.fetch(archive)).values()
        reviews = _once((*negative, *positive), [0] * len(negative) + [1] * len(positive))
        sizes = (200, 600, 3_010)
    validation, test, train = sizes
    rest, test_rows = train_test_split(
        np.arange(len(reviews)), test_size=test, stratify=reviews.labels, random_state=0
    )
    train_rows, validation_rows = train_test_split(
        rest, train_size=train, test_size=validation, stratify=reviews.labels[rest], random_state=0
    )
    splits = [reviews.take(rows) for rows in (train_rows, validation_rows, test_rows)]
    return Domain(name, DOMAINS[name], *splits)


def draw(train: Reviews, labels: int, *, seed: int) -> Reviews:
    """So many labelled sentences, half of them praise.

    Parameters
    ----------
    train
        Where to draw from.
    labels
        How many, an even number.
    seed
        Which draw.

    Returns
    -------
    Reviews

    Raises
    ------
    ValueError
        If the number is odd, or a class has too few.

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> few = tl.sentiment.draw(tl.sentiment.load("yelp", edition=pocket).train, 4, seed=0)
    >>> sorted(few.labels.tolist())
    [0, 0, 1, 1]
    """
    return train.take(balanced(train.labels, labels, seed=seed))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A way to read sentiment, learnt.

    Attributes
    ----------
    predict : callable
        Takes texts; gives int64 labels (n,).
    validation : float
        Accuracy on the validation sentences, which chose the settings.
    choice : str
        What they chose.
    cpu_seconds : float
        Of all cores, for learning and choosing. Encoding the sentences, once for all, is left out.
    """

    predict: Callable[[Sequence[str]], npt.NDArray[np.int64]]
    validation: float
    choice: str
    cpu_seconds: float

    def accuracy(self, reviews: Reviews) -> float:
        """Share of the labels found."""
        return float((self.predict(reviews.texts) == reviews.labels).mean())


def fit(
    method: str, few: Reviews, validation: Reviews, *, seed: int = 0, edition: editions.Edition | None = None
) -> Fitted:
    """Learn from labelled sentences; choose the settings on others.

    Parameters
    ----------
    method
        One of `METHODS`.
    few
        What to learn from; both classes.
    validation
        What chooses among the encoder's blocks and penalties, learning rates, or pairs of words or not.
    seed
        For fine-tuning: the head's random weights, dropout and the order of the sentences.
    edition
        Names the encoder and word vectors; the current one by default.

    Returns
    -------
    Fitted

    Raises
    ------
    LookupError
        If there is no such method.
    ValueError
        If there is one class only.
    tlhelpers.downloads.DownloadError
        If encoder or word vectors can't be had.

    Notes
    -----
    Explained in the chapter "Read sentiment".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> data = tl.sentiment.load("yelp", edition=pocket)
    >>> tl.sentiment.fit("TF-IDF", data.train, data.validation, edition=pocket).validation
    1.0
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if len(np.unique(few.labels)) < 2:
        raise ValueError("few: expected praise and blame, got one of them only. Draw from both classes.")
    edition = edition or editions.current()
    features = _features(method, edition)
    x, x_validation = features(few.texts), features(validation.texts)
    if method == "fine-tuned":
        found, predict = _fine_tuned(
            _ENCODERS[edition.name], x, few.labels, x_validation, validation.labels, seed=seed
        )
        return Fitted(predict=lambda texts: predict(features(texts)), **found)
    began = time.process_time()
    candidates = _candidates(method, x.shape)
    scores = []
    for _, place, classifier in candidates:
        classifier.fit(x[place], few.labels)
        scores.append(float(classifier.score(x_validation[place], validation.labels)))
    best = int(np.argmax(scores))  # the first of the best
    choice, place, classifier = candidates[best]
    return Fitted(
        predict=lambda texts: classifier.predict(features(texts)[place]),
        validation=scores[best],
        choice=choice,
        cpu_seconds=round(time.process_time() - began, 1),
    )


def _features(method: str, edition: editions.Edition) -> Callable[[Sequence[str]], npt.NDArray[Any]]:
    """What a method reads in texts."""
    encoder = _ENCODERS[edition.name]
    if method == "fine-tuned":
        return functools.partial(_tokens, encoder)
    if method == "frozen":
        return functools.partial(_states, encoder)
    if method == "word vectors":
        return functools.partial(word_means, edition=edition)
    return np.array


def _candidates(method: str, shape: tuple[int, ...]) -> list[tuple[str, Any, Any]]:
    """The settings to choose from: in words, which features, and the classifier; strongest penalty first."""
    everything = slice(None)
    if method == "frozen":
        return [
            (f"block {block + 1}, penalty {penalty:g}", (everything, block), probe(shape[2], penalty=penalty))
            for block in reversed(range(shape[1]))
            for penalty in PENALTIES
        ]
    if method == "word vectors":
        return [(words, everything, make_pipeline(StandardScaler(), model)) for words, model in _logistic()]
    return [
        (
            f"{'words' if most == 1 else 'words and pairs'}, {words}",
            everything,
            make_pipeline(TfidfVectorizer(ngram_range=(1, most), sublinear_tf=True), model),
        )
        for most in (1, 2)
        for words, model in _logistic()
    ]


def _logistic() -> list[tuple[str, LogisticRegression]]:
    return [(f"C {c:g}", LogisticRegression(C=c, max_iter=1_000)) for c in INVERSE_PENALTIES]


_ENCODERS = {"full": MINILM, "pocket": "tiny"}
_known: dict[tuple[str, str, str], npt.NDArray[np.float32]] = {}
"""By encoder, kind and text: what came out, so that each sentence is encoded once in a process."""


def _remembered(
    encoder: str, kind: str, texts: Sequence[str], encode: Callable[[list[str]], npt.NDArray[Any]]
) -> npt.NDArray[np.float32]:
    new = [text for text in dict.fromkeys(texts) if (encoder, kind, text) not in _known]
    if new:
        _known.update(zip(((encoder, kind, text) for text in new), encode(new), strict=True))
    return np.stack([_known[encoder, kind, text] for text in texts])


_loaded = functools.cache(load_encoder)


def _states(encoder: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """(n, blocks, width): the mean over the tokens after each block."""
    return _remembered(encoder, "states", texts, lambda new: pooled_blocks(_loaded(encoder), new))


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
    return _remembered(
        encoder,
        "tokens",
        texts,
        lambda new: precompute(network.prefix, own.tokenize(new, length=TUNED_LENGTH), batch_size=32),
    )


def _fine_tuned(
    encoder: str,
    x: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    x_validation: npt.NDArray[Any],
    validation_labels: npt.NDArray[np.int64],
    *,
    seed: int,
) -> tuple[dict[str, Any], Callable[[npt.NDArray[Any]], npt.NDArray[np.int64]]]:
    _, network = _tunable(encoder)
    suffix = network.suffix
    began = time.process_time()
    # One pass over as many sentences as the steps take: passes over few would cost more than the steps.
    rng, seen = np.random.default_rng(seed), STEPS * BATCH_SIZE
    passes = [rng.permutation(len(x)) for _ in range(math.ceil(seen / len(x)))]
    order = np.concatenate(passes)[:seen]
    tried = []
    for rate in RATES:
        network.reset(rate, seed)
        suffix.fit(x[order], labels[order], batch_size=BATCH_SIZE, shuffle=False, verbose=0)
        right = float((_says(suffix, x_validation) == validation_labels).mean())
        tried.append((right, rate, suffix.get_weights()))
    best, rate, weights = max(tried, key=lambda each: each[0])  # the first of the best: the lower rate

    def predict(features: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        suffix.set_weights(weights)  # since then it may have learnt something else
        return _says(suffix, features)

    seconds = round(time.process_time() - began, 1)
    return {"validation": best, "choice": f"rate {rate:g}", "cpu_seconds": seconds}, predict


def _says(suffix: keras.Model, features: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    says: npt.NDArray[np.int64] = (suffix.predict(features, batch_size=50, verbose=0)[:, 0] > 0.5).astype(
        np.int64
    )
    return says


_WORDS = re.compile(r"n't|[a-z]+?(?=n't)|'[a-z]+|[a-z0-9]+|[^\w\s]")


def word_means(texts: Sequence[str], *, edition: editions.Edition | None = None) -> npt.NDArray[np.float32]:
    """The mean of the word vectors of each text's words; words without a vector are passed over.

    Parameters
    ----------
    texts
        Texts, as `encoders.check_texts` takes them.
    edition
        The current one by default: GloVe's 5,000 most frequent words in the full one, random vectors in the
        pocket one.

    Returns
    -------
    numpy.ndarray
        float32 (n, 50); zero where no word is known.

    Raises
    ------
    TypeError, ValueError
        As `encoders.check_texts`.
    tlhelpers.downloads.DownloadError
        If the vectors can't be had.

    Notes
    -----
    Source: Pennington, Socher and Manning, *GloVe: Global vectors for word representation*, 2014; words are
    cut from texts as theirs are, "don't" into "do" and "n't". Explained in the chapter "Read sentiment".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.sentiment.word_means(["the soup is good"], edition=pocket).shape
    (1, 50)
    """
    check_texts(texts)
    places, vectors = _vectors((edition or editions.current()).name)
    result = np.zeros((len(texts), vectors.shape[1]), np.float32)
    for row, text in zip(result, texts, strict=True):
        rows = [places[word] for word in _WORDS.findall(text.lower()) if word in places]
        if rows:
            row[:] = vectors[rows].mean(axis=0)
    return result


@functools.cache
def _vectors(edition: str) -> tuple[dict[str, int], npt.NDArray[np.float32]]:
    if edition == "full":
        words, vectors = downloads.word_vectors(downloads.fetch("glove.6B.zip"))
    else:
        words = STAND_IN_WORDS
        vectors = np.random.default_rng(0).normal(size=(len(words), 50)).astype(np.float32)
    return {word: row for row, word in enumerate(words)}, vectors


def measure(
    method: str,
    labels: int,
    *,
    seed: int = 0,
    domain: str = "amazon",
    edition: editions.Edition | None = None,
) -> dict[str, Any]:
    """One row of the measured table: draw labelled sentences, learn from them, and test.

    Parameters
    ----------
    method
        One of `METHODS`.
    labels
        Number of labelled sentences to learn from, half of them praise.
    seed
        For the draw, random weights, dropout and order.
    domain
        A key of `DOMAINS`.
    edition
        The current one by default.

    Returns
    -------
    dict
        ``value`` (accuracy on the test sentences), ``validation`` (on those that chose), ``choice``,
        ``cpu_seconds`` as in `Fitted`.

    Raises
    ------
    LookupError
        If there is no such method or domain.
    ValueError
        If so many sentences can't be drawn.
    tlhelpers.downloads.DownloadError
        If data or encoder can't be had.

    Notes
    -----
    Explained in the chapter "Read sentiment".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> sorted(tl.sentiment.measure("TF-IDF", 12, seed=0, edition=pocket))
    ['choice', 'cpu_seconds', 'validation', 'value']
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    edition = edition or editions.current()
    data = load(domain, edition=edition)
    few = draw(data.train, labels, seed=seed)
    # All at once, in one order, and so once for all numbers of labels and seeds.
    _features(method, edition)(_all_texts(data))
    found = fit(method, few, data.validation, seed=seed, edition=edition)
    return {
        "value": found.accuracy(data.test),
        "validation": found.validation,
        "choice": found.choice,
        "cpu_seconds": found.cpu_seconds,
    }


def encode_domain(data: Domain, *, edition: editions.Edition | None = None) -> npt.NDArray[np.float32]:
    """Encode all sentences of a domain in one go; "frozen" then finds them, now and in later processes.

    Parameters
    ----------
    data
        From `load`.
    edition
        Names the encoder; the current one by default.

    Returns
    -------
    numpy.ndarray
        float32 (n, blocks, width), train first, then validation, then test.

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.sentiment.encode_domain(tl.sentiment.load("yelp", edition=pocket), edition=pocket).shape
    (24, 2, 32)
    """
    return _states(_ENCODERS[(edition or editions.current()).name], _all_texts(data))


def _all_texts(data: Domain) -> tuple[str, ...]:
    return (*data.train.texts, *data.validation.texts, *data.test.texts)


def check_one(*, which: int | None = None) -> pd.DataFrame:
    """Measure one cheap row of the table again, and stop if it does not agree.

    Parameters
    ----------
    which
        A number that chooses the row; by default the library's own source does.

    Returns
    -------
    pandas.DataFrame
        As `published.check_one`, by ``method`` and ``labels``.

    Raises
    ------
    tlhelpers.published.Disagreement
        If they differ by more than the tolerance.
    LookupError
        If the table has no cheap rows.

    Notes
    -----
    Explained in the chapter "Read sentiment".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> found = tl.sentiment.check_one()  # doctest: +SKIP
    """
    rows = published.measured("applications").query("domain == 'sentiment'")

    def again(row: "pd.Series[Any]") -> tuple[float, int]:
        return measure(str(row.method), int(row.labels), seed=int(row.seed))["value"], TEST

    return published.check_one(
        rows, again, like=["method", "labels"], value="value", most_seconds=10, which=which
    )
