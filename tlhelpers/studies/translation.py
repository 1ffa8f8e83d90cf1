"""Translate a little: a small decoder writes Swedish from what a frozen encoder makes of English."""

import functools
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from keras import layers
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split

from tlhelpers import _formats, downloads
from tlhelpers.encoders import MINILM, Encoder, embed, load_encoder
from tlhelpers.features import precompute
from tlhelpers.freezing import freeze
from tlhelpers.page.editions import Edition

from .skeleton import SEEDS, Study, best, climb, fit_with_cosine, in_words

__all__ = ["METHODS", "SIZES", "STUDY", "asked", "chrf", "draw", "learn", "load", "measure", "translator"]

Array = npt.NDArray[Any]

METHODS = ("MiniLM", "random weights", "nearest pair")
"""A decoder that reads the frozen encoder's states; the same with random weights; the nearest training
sentence's translation, copied."""
WAYS = ("words", "letters", "vectors")  # of being near: words in common, runs of letters, MiniLM's vectors
SIZES = (1_000, 5_000)  # pairs to learn from
LETTERS, LENGTH = 28, 13  # the most letters of a sentence; the most tokens that are read or written
PIECES, WIDTH, DROPOUT = 1_000, 128, 0.3
TRAINING = {1_000: (15, 32), 5_000: (10, 64)}  # epochs and batch size: some 480 and 790 steps
RATES = (0.000625, 0.00125, 0.0025, 0.005, 0.01, 0.02, 0.04)
PADDING, _, BEGIN, END = range(4)

_WORDS = (
    {"the soup": "soppan", "the film": "filmen", "the phone": "telefonen", "the case": "fodralet"},
    {"is": "är", "was": "var"},
    {"good": "bra", "bad": "usel", "ugly": "ful", "lovely": "fin", "perfect": "perfekt"},
)


@functools.cache
def load(edition: Edition) -> list[pd.DataFrame]:
    """Short pairs to learn from; of 200 English sentences to choose by; of 400 to test. Pocket makes some."""
    if edition.name == "pocket":
        made = [zip(*some, strict=True) for some in itertools.product(*map(dict.items, _WORDS))]
        return split([(*(" ".join(words) + "." for words in pair), "") for pair in made], 4, 8)
    pairs = _formats.sentence_pairs(downloads.fetch("swe-eng.zip"))
    return split([pair for pair in pairs if max(map(len, pair[:2])) <= LETTERS], 200, 400)


def split(pairs: Sequence[tuple[str, ...]], validation: int, test: int) -> list[pd.DataFrame]:
    """Three tables. No sentence of one, whatever its case and stops, is in another, in either language.

    Translations of each other, directly or through others, are a group, which stays together. Of each group
    to choose by and to test with, the first English sentence is kept, with its translations.
    """
    table = pd.DataFrame(pairs, columns=["english", "swedish", "authors"])
    plain = (table[side].str.lower().str.findall(r"\w+").str.join(" ") for side in ("english", "swedish"))
    here, there = (pd.factorize(each)[0] for each in plain)
    joined = coo_array((np.ones(len(table)), (here, there + len(table))), shape=[2 * len(table)] * 2)
    table["group"] = connected_components(joined, directed=False)[1][here]
    rest, tested = train_test_split(table.group.unique(), test_size=test, random_state=1)
    learned, held = train_test_split(rest, test_size=validation, random_state=1)
    first = pd.Series(here).groupby(table.group).transform("first") == here
    test_like = (table[first & table.group.isin(few)] for few in (held, tested))
    return [table[table.group.isin(learned)], *test_like]


def draw(edition: Edition, number: int, *, seed: int) -> tuple[list[str], list[str]]:
    """So many English sentences to learn from, and their translations; fewer are the first of more."""
    pairs = load(edition)[0]
    drawn = pairs.iloc[np.random.default_rng(seed).permutation(len(pairs))[:number]]
    return list(drawn.english), list(drawn.swedish)


def asked(part: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The English sentences to be translated, and people's translations of each."""
    groups = part.groupby("group")
    return list(groups.english.first()), list(groups.swedish.agg(list))


def chrf(said: Sequence[str], references: Sequence[Sequence[str]]) -> Array:
    """Score each translation against the reference that it is nearest to, (n,), as sacrebleu's chrF does.

    Of runs of one to six letters: how many of the translation's are right, and, with four times the weight,
    how many of the reference's are there. Source: Popović, *chrF: character n-gram F-score*, 2015.
    """
    texts = zip(said, references, strict=True)
    return np.array([max(_chrf(text, each) for each in own) for text, own in texts])


def _chrf(said: str, meant: str) -> float:
    said, meant = "".join(said.split()), "".join(meant.split())
    precision = recall = orders = 0.0
    for n in range(1, min(6, len(said), len(meant)) + 1):
        one, other = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (said, meant))
        shared, orders = (one & other).total(), orders + 1
        precision, recall = precision + shared / one.total(), recall + shared / other.total()
    return 100 * 5 * precision * recall / max((4 * precision + recall) * orders, 1e-9)


@functools.cache
def encoder(edition: Edition) -> Encoder:
    """The edition's encoder, loaded once: nothing in it trains."""
    return load_encoder({"full": MINILM, "pocket": "tiny"}[edition.name])


def _copied(texts: Sequence[str], by: str, pairs: int, seed: int, edition: Edition) -> list[str]:
    """The translation of the nearest training sentence, by cosine, in one of `WAYS`."""
    english, swedish = draw(edition, pairs, seed=seed)
    if by == "vectors":
        there, here = (embed(encoder(edition), some) for some in (english, texts))
    else:
        most, kind, pattern = (2, "word", r"\w+") if by == "words" else (5, "char_wb", None)
        count = TfidfVectorizer(analyzer=kind, ngram_range=(1, most), token_pattern=pattern).fit(english)
        there, here = (count.transform(some).toarray() for some in (english, texts))
    return [swedish[place] for place in (here @ there.T).argmax(axis=1)]


def word_pieces(texts: Sequence[str]) -> Any:
    """A tokenizer with pieces of words learned from these texts: what often comes together is joined."""
    import tokenizers

    found = tokenizers.SentencePieceBPETokenizer(unk_token="[UNK]")
    special = ["[PAD]", "[UNK]", "[BEGIN]", "[END]"]
    found.train_from_iterator(texts, vocab_size=PIECES, special_tokens=special, show_progress=False)
    return found


def numbered(pieces: Any, texts: Sequence[str]) -> Array:
    """Numbers of pieces, int32 (n, `LENGTH` + 1), `BEGIN` first and `END` last; what goes beyond is cut."""
    rows = [[BEGIN, *each.ids, END] for each in pieces.encode_batch(list(texts))]
    return np.asarray(keras.utils.pad_sequences(rows, maxlen=LENGTH + 1, padding="post", truncating="post"))


def states(texts: Sequence[str], edition: Edition, *, random: int | None = None) -> Array:
    """What the frozen encoder's first half makes of each token, by its weights or drawn ones; else zero."""
    found = encoder(edition)
    half = found.blocks[len(found.blocks) // 2 - 1]
    reader = keras.Model(found.model.input, found.model.get_layer(half).output)
    if random is not None:
        keras.utils.set_random_seed(random)
        reader = keras.models.clone_model(reader)
        freeze(reader)
    return np.array(precompute(reader, found.tokenize(texts, length=LENGTH), batch_size=32))


def translator(x: Array) -> keras.Model:
    """A decoder: from what is read, states or numbers of pieces, and the pieces so far to the next one.

    Attention looks at the English sentence. What it looks for is scaled, as by Vaswani et al., *Attention is
    all you need*, 2017: if not, many seeds never learn where to look.
    """
    source = keras.Input(x.shape[1:])
    read = layers.BatchNormalization()(layers.Masking()(source))
    memory = layers.Dense(WIDTH)(layers.Dropout(DROPOUT)(read))
    start = layers.Dense(WIDTH, activation="tanh")(layers.GlobalAveragePooling1D()(memory))
    said = keras.Input((LENGTH,), dtype="int32")
    words = layers.Dropout(DROPOUT)(layers.Embedding(PIECES, WIDTH)(said))
    written = layers.GRU(WIDTH, return_sequences=True, unroll=True)(words, initial_state=start)
    seen = layers.Attention()([layers.Rescaling(WIDTH**-0.5)(written), memory])
    both = layers.Dense(WIDTH, activation="tanh")(layers.Concatenate()([written, seen]))
    return keras.Model([source, said], layers.Dense(PIECES)(layers.Dropout(DROPOUT)(both)))


def learn(model: keras.Model, x: Array, said: Array, *, rate: float, seed: int) -> None:
    """Fit to the next piece at each place, padding passed over."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=PADDING)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), loss)
    model.optimizer.build(model.trainable_variables)
    epochs, size = TRAINING.get(len(x), (25, 4))
    both: Any = [x, said[:, :-1]]
    fit_with_cosine(model, both, said[:, 1:], rate=rate, epochs=epochs, batch_size=size, seed=seed)


def translate(model: keras.Model, x: Array, pieces: Any) -> list[str]:
    """Write each translation piece by piece, the likeliest each time."""
    said = np.full((len(x), LENGTH + 1), PADDING, np.int32)
    said[:, 0] = BEGIN
    for place in range(LENGTH):
        likeliest = model.predict_on_batch([x, said[:, :-1]])[:, place].argmax(axis=1)
        said[:, place + 1] = np.where(np.isin(said[:, place], (END, PADDING)), PADDING, likeliest)
    return list(pieces.decode_batch(said.tolist()))  # which leaves special pieces out


def _decoded(texts: list[str], method: str, pairs: int, seed: int, kind: Edition, rate: float) -> list[str]:
    """Learn from so many pairs by a method that trains, and translate."""
    english, swedish = draw(kind, pairs, seed=seed)
    random = seed if method == "random weights" else None
    x, given = (states(each, kind, random=random) for each in (english, texts))
    pieces = word_pieces(swedish)
    keras.utils.set_random_seed(seed)
    model = translator(x)
    learn(model, x, numbered(pieces, swedish), rate=rate, seed=seed)
    return translate(model, given, pieces)


@functools.cache
def _rate(method: str, edition: Edition) -> float:
    """The rate that does best on validation with the fewest pairs of seed 0; more pairs have it, too."""
    held, truth = asked(load(edition)[1])
    way = held, method, SIZES[0], 0, edition
    rate, tried = climb(RATES, RATES[3], lambda rate: float(chrf(_decoded(*way, rate), truth).mean()))
    print(f"  {method}: {in_words(tried)}", flush=True)
    return rate


def measure(edition: Edition, method: str, pairs: int, seed: int) -> dict[str, Any]:
    """A row: learn by a method, or copy, and translate. ``cpu_seconds`` are without the choice of a rate."""
    (held, truth), (english, references) = (asked(part) for part in load(edition)[1:])
    rate = _rate(method, edition) if method in METHODS[:2] else 0
    began, how = time.process_time(), (pairs, seed, edition)
    if rate:
        choice, said = f"rate {rate:g}", _decoded(english, method, *how, rate)
    else:
        choice = best({by: float(chrf(_copied(held, by, *how), truth).mean()) for by in WAYS})
        said = _copied(english, choice, *how)
    seconds, found = round(time.process_time() - began, 1), chrf(said, references)
    each = " ".join(f"{value:.1f}" for value in found)
    return {"chrf": float(found.mean()), "choice": choice, "cpu_seconds": seconds, "by_sentence": each}


def by_sentence(table: pd.DataFrame, method: str, pairs: int) -> Array:
    """Every test sentence's chrF, (seeds, sentences): for `intervals.interval`."""
    rows = table[(table.method == method) & (table.pairs == pairs)].sort_values("seed")
    return np.array([[float(value) for value in row.split()] for row in rows.by_sentence])


STUDY = Study(
    table="translation",
    keys=("method", "pairs", "seed"),
    grid=lambda edition: itertools.product(METHODS * (edition.name == "full"), SIZES, SEEDS),
    row=measure,
    again=lambda edition, row: (measure(edition, row.method, int(row.pairs), int(row.seed))["chrf"], None),
    like=("method", "pairs"),
    value="chrf",
    where="method == 'nearest pair' and pairs == 1000",
)
