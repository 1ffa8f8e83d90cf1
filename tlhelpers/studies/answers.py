"""Find the answer: the paragraph that holds it, in that the sentence, and in that the words.

The first two by a ranking that nobody trains, the words by a head that learns from few labelled questions.
The articles are split once: no article is both chosen with and tested on.
"""

import functools
import itertools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from tlhelpers import _formats, downloads
from tlhelpers.encoders import STAND_IN_WORDS, Encoder, check_texts, embed
from tlhelpers.page.editions import Edition

from . import intervals
from .skeleton import ENCODERS, Study, best, loaded

__all__ = [
    "METHODS",
    "STUDY",
    "Texts",
    "bm25",
    "encoder",
    "load",
    "parts",
    "resampled",
    "scores",
    "search",
    "sentences",
    "tested",
]

Array = npt.NDArray[Any]

METHODS = ("MiniLM", "BM25", "MiniLM and BM25", "TF-IDF", "word vectors")
"""Cosine of the encoder's vectors; words in common, weighted by Okapi's formula; both, added up; cosine of
TF-IDF; cosine of the mean of GloVe's word vectors."""
VIEWS = ("whole", "best sentence", "both")
"""What of a paragraph is compared with the question: it as a whole, its best sentence, or the sum of both."""
WORDS = {"words": r"\w+", "first six letters": r"\b\w{1,6}"}
"""What is counted. Words cut short stand for a stemmer: *defended* and *defender* become the same."""
WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of MiniLM in the sum with BM25, both in units of their spread over a question's candidates."""


# -- texts ----------------------------------------------------------------------------------------

_END = re.compile(
    r"""(?:(?<=[.!?])|(?<=[.!?]["')\]]))(?<!\b[A-Z]\.)(?<!\b(?:St|Dr|Mr|Ms|Jr|Sr|No|Co|vs|al)\.)"""
    r"""(?<!\bv\.)(?<!\b(?:Mrs|Gen|Inc|Ltd|Rev|etc)\.)\s+(?=["'(\[]?[A-Z0-9])"""
)


def sentences(text: str) -> list[str]:
    """Cut a text into sentences that joined are the text: after . ! or ? before a capital or a digit."""
    check_texts([text])
    ends = [match.end() for match in _END.finditer(text)]
    return [text[start:end] for start, end in itertools.pairwise([0, *ends, len(text)])]


@dataclass(frozen=True, eq=False)
class Texts:
    """Paragraphs, their sentences, and questions on them.

    `article` is that of each paragraph, `of` the paragraph of each sentence. For each question: `paragraph`,
    `sentence`, and `spans`, where its answer begins and ends in that sentence, (n, 2).
    """

    paragraphs: tuple[str, ...]
    article: Array
    sentences: tuple[str, ...]
    of: Array
    questions: tuple[str, ...]
    paragraph: Array
    sentence: Array
    spans: Array

    @property
    def first(self) -> Array:
        """Each paragraph's first sentence."""
        return np.searchsorted(self.of, np.arange(len(self.paragraphs)))

    def answer(self, question: int) -> str:
        """What was asked for, as far as it lies in one sentence."""
        start, end = self.spans[question].tolist()
        text: str = self.sentences[self.sentence[question]]
        return text[start:end]


@functools.cache
def load(edition: Edition) -> Texts:
    """XQuAD's English paragraphs and questions; in the pocket edition a few of our own, of no meaning."""
    if edition.name == "full":
        return _texts(_formats.questions(downloads.fetch("xquad.en.json")))
    things = ("soup", "film", "phone", "menu", "plot", "case", "table", "cable")
    told = []
    for thing, other in itertools.product(things, ("good", "bad")):
        text = f"I find the {thing} {other}. Our {thing} is lovely. The waiter was useless."
        pairs = (f"is the {thing} {other}", other), (f"our {thing}", "lovely")
        told.append((thing, text, [(asked, text.index(word), word) for asked, word in pairs]))
    return _texts(told)


def _texts(found: Sequence[tuple[str, str, Sequence[_formats.Question]]]) -> Texts:
    _, article = np.unique([title for title, *_ in found], return_inverse=True)
    cut = [sentences(text) for _, text, _ in found]
    of = np.repeat(np.arange(len(cut)), [len(each) for each in cut])
    rows = []
    for place, (_, _, questions) in enumerate(found):
        starts = np.cumsum([0, *map(len, cut[place])])
        for question, start, answer in questions:
            sentence = np.searchsorted(starts, start, side="right") - 1
            begin = start - starts[sentence]
            end = min(begin + len(answer), len(cut[place][sentence]))
            rows.append((question, place, np.searchsorted(of, place) + sentence, (begin, end)))
    questions, paragraph, sentence, spans = zip(*rows, strict=True)
    paragraphs = tuple(text for _, text, _ in found)
    every = tuple(itertools.chain.from_iterable(cut))
    return Texts(paragraphs, article, every, of, questions, *map(np.array, (paragraph, sentence, spans)))


def parts(texts: Texts) -> tuple[Array, Array, Array]:
    """Rows of the questions to learn from, to choose by and to test with: 18, 6 and 24 of 48 articles."""
    articles = np.unique(texts.article)
    order = np.random.default_rng(0).permutation(articles)
    ends = [len(articles) * 3 // 8, len(articles) // 2]
    mine = texts.article[texts.paragraph]
    train, validation, test = (np.flatnonzero(np.isin(mine, some)) for some in np.split(order, ends))
    return train, validation, test


# -- search ---------------------------------------------------------------------------------------


def bm25(questions: Sequence[str], passages: Sequence[str], *, words: str = r"\w+") -> Array:
    """Okapi BM25 with k1 1.2 and b 0.75: (questions, passages). `words` is a pattern of what is counted.

    Source: Robertson and Zaragoza, *The probabilistic relevance framework: BM25 and beyond*, 2009.
    """
    k1, b = 1.2, 0.75
    vectorizer = CountVectorizer(token_pattern=words)
    counts = vectorizer.fit_transform(passages).tocoo()
    length = np.bincount(counts.row, counts.data, len(passages))
    spread = k1 * (1 - b + b * length / length.mean())
    with_it = np.bincount(counts.col, minlength=counts.shape[1])
    rare = np.log1p((len(passages) - with_it + 0.5) / (with_it + 0.5))
    weight = rare[counts.col] * counts.data * (k1 + 1) / (counts.data + spread[counts.row])
    table = csr_array((weight, (counts.row, counts.col)), counts.shape)
    found: Array = (vectorizer.transform(questions) @ table.T).toarray()
    return found


def _cosine(a: Array, b: Array) -> Array:
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    found: Array = a @ b.T
    return found


def _ways(method: str, edition: Edition) -> dict[str, Any]:
    """What there is to choose from: each takes questions and passages, and says how alike they are."""
    if method == "MiniLM":
        return {"vectors": lambda *some: _cosine(*(embed(encoder(edition), each) for each in some))}
    if method == "BM25":
        return {name: functools.partial(bm25, words=pattern) for name, pattern in WORDS.items()}
    if method == "TF-IDF":
        return {name: functools.partial(_tfidf, pattern) for name, pattern in WORDS.items()}
    return {
        f"{'weighted' if weighted else 'plain'} mean{', centred' if centred else ''}": functools.partial(
            _word_vectors, edition, weighted, centred
        )
        for weighted, centred in itertools.product((False, True), (False, True))
    }


def _tfidf(pattern: str, questions: Sequence[str], passages: Sequence[str]) -> Array:
    vectorizer = TfidfVectorizer(token_pattern=pattern, sublinear_tf=True)
    table = vectorizer.fit_transform(passages)
    found: Array = (vectorizer.transform(questions) @ table.T).toarray()
    return found


def _word_vectors(
    edition: Edition, weighted: bool, centred: bool, questions: Sequence[str], passages: Sequence[str]
) -> Array:
    """Means over words, with less weight on frequent ones or not, and their own mean taken off or not."""
    vectors: Array
    if edition.name == "full":
        words, vectors = _formats.word_vectors(downloads.fetch("glove.6B.zip"))
    else:
        words, vectors = STAND_IN_WORDS, np.random.default_rng(0).normal(size=(len(STAND_IN_WORDS), 50))
    counter = TfidfVectorizer(vocabulary=words, token_pattern=r"\w+|[^\w\s]", use_idf=weighted, norm="l1")
    means = counter.fit_transform(passages) @ vectors, counter.transform(questions) @ vectors
    middle = means[0].mean(axis=0) * centred
    return _cosine(means[1] - middle, means[0] - middle)


def encoder(edition: Edition) -> Encoder:
    """The edition's encoder, loaded once: nothing in it trains."""
    return loaded(ENCODERS[edition.name])


def _spread(x: Array) -> Array:
    found: Array = x / np.maximum(x.std(axis=1, keepdims=True), 1e-12)
    return found


Scores = tuple[str, Array, Array]
"""What was chosen; how well each paragraph fits each question; how well each sentence does."""


def _right(scores: Array, truth: Array, most: int) -> npt.NDArray[np.bool_]:
    """Whether fewer than `most` others score as well as the right one: bool, by question."""
    own = scores[np.arange(len(truth)), truth]
    found: npt.NDArray[np.bool_] = np.sum(scores >= own[:, None], axis=1) <= most
    return found


@functools.cache
def scores(method: str, edition: Edition) -> Scores:
    """Every question against every paragraph and sentence, by what the articles that choose liked best."""
    texts = load(edition)
    choose = np.concatenate(parts(texts)[:2])
    tried: dict[str, tuple[Array, Array]] = {}
    if method == "MiniLM and BM25":
        (_, *a), (_, *b) = (scores(each, edition) for each in METHODS[:2])
        for weight in WEIGHTS:
            pair = [weight * _spread(x) + (1 - weight) * _spread(y) for x, y in zip(a, b, strict=True)]
            tried[f"weight {weight:g}"] = pair[0], pair[1]
    else:
        for name, alike in _ways(method, edition).items():
            whole, each = alike(texts.questions, texts.paragraphs), alike(texts.questions, texts.sentences)
            top = np.maximum.reduceat(each, texts.first, axis=1)
            for view, paragraphs in zip(VIEWS, (whole, top, _spread(whole) + _spread(top)), strict=True):
                tried[f"{name}, {view}"] = paragraphs, each
    right = {
        name: float(_right(paragraphs[choose], texts.paragraph[choose], 1).mean())
        for name, (paragraphs, _) in tried.items()
    }
    choice = best(right)
    return choice, *tried[choice]


def search(edition: Edition, method: str) -> dict[str, Any]:
    """A row of the table: the right paragraph first or among five of all, the right sentence of that one."""
    began = time.process_time()
    texts = load(edition)
    *choose, test = parts(texts)
    choice, paragraphs, each = scores(method, edition)
    own = np.where(texts.of == texts.paragraph[:, None], each, -np.inf)
    found = {
        "paragraph": _right(paragraphs, texts.paragraph, 1),
        "among five": _right(paragraphs, texts.paragraph, 5),
        "sentence": _right(own, texts.sentence, 1),
        "sentence of all": _right(each, texts.sentence, 1),
    }
    return {
        "validation": float(found["paragraph"][np.concatenate(choose)].mean()),
        **{name: float(right[test].mean()) for name, right in found.items()},
        "choice": choice,
        **{f"right: {name}": intervals.pack(right[test]) for name, right in found.items()},
        "cpu_seconds": round(time.process_time() - began, 1),
    }


STUDY = Study(
    table="answers",
    keys=("method",),
    grid=lambda edition: ((method,) for method in METHODS if edition.name == "full"),
    row=search,
)


def tested(edition: Edition) -> Array:
    """The article of each question of the test."""
    texts = load(edition)
    found: Array = texts.article[texts.paragraph[parts(texts)[2]]]
    return found


def resampled(values: Array, groups: Array) -> tuple[float, float]:
    """A 95% interval for the mean of `values` (n,), whose groups are drawn anew, whole, ten thousand times.

    Source of the bootstrap by groups: Davison and Hinkley, *Bootstrap methods and their application*, 1997.
    """
    _, group = np.unique(groups, return_inverse=True)
    total, number = np.bincount(group, values), np.bincount(group)
    drawn = np.random.default_rng(0).multinomial(len(total), np.full(len(total), 1 / len(total)), 10_000)
    low, high = np.quantile((drawn @ total) / (drawn @ number), [0.025, 0.975])
    return float(low), float(high)
