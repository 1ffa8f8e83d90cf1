"""Go on writing: a small GPT that has read children's stories learns to write fables, from few and from many.

All ways to adapt it, and all rivals, guess the same tokens of the same unseen fables. What is measured is
perplexity: among how many equally likely tokens the network would be as unsure.
"""

import functools
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logsumexp
from sklearn.model_selection import train_test_split

from tlhelpers import _formats, downloads, page
from tlhelpers.decoders import STORIES, Decoder, load_decoder
from tlhelpers.features import precompute
from tlhelpers.freezing import freeze
from tlhelpers.page.editions import Edition
from tlhelpers.prefix import split

from . import skeleton
from .intervals import interval
from .skeleton import SEEDS, Network, Study, best, climb, forget, in_words

__all__ = [
    "MEASURED_ON",
    "METHODS",
    "PUBLISHED",
    "SIZES",
    "STUDY",
    "Fables",
    "first_tokens",
    "load",
    "logarithms",
    "loss",
    "lower",
    "nats",
    "perplexity",
    "prepare",
    "windows",
]

Array = npt.NDArray[Any]
Texts = list[list[int]]
"""Token numbers of some texts; each begins with the token that begins a text, which nobody has to guess."""

SIZES = (3_000, 20_000, 70_000)
"""Numbers of tokens to learn from."""
LORA = {f"LoRA, rank {rank}": rank for rank in (1, 4, 16)}
"""By method: the rank of what is added to the kernels of queries and values, as Hu et al. (2021) do."""
ADAPTER = 16
TRAINED = ("all weights", "last two blocks", "adapters", *LORA, "norms", "from scratch")
"""These follow gradients. An adapter of `ADAPTER` numbers stands after each block. Norms are the scales of
all normalisations, the network's only terms of their kind, since it has no biases."""
METHODS = ("as loaded", "fables in context", *TRAINED, "counts of three tokens")
MANY = {
    20_000: ("all weights", "last two blocks", "LoRA, rank 4", "from scratch", "counts of three tokens"),
    70_000: ("all weights", "counts of three tokens"),
}
"""What is measured with more tokens than the fewest: the others would cost more than they tell."""

WINDOW, LONG = 64, 128
"""Tokens that are read at once in training, and in tests."""
BATCH_SIZE = 8
RATES = (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
"""Adam's learning rates. The search begins at `START` and goes on until both neighbours are worse."""
START = {"all weights": 0.0003, "last two blocks": 0.001, "norms": 0.01} | dict.fromkeys(
    [*LORA, "adapters", "from scratch"], 0.003
)
MOST_EPOCHS, MOST_TOKENS, LEAST_GAIN = 30, 240_000, 0.005
"""What training never goes beyond; it ends sooner, after an epoch that gains less on validation than half a
percent of perplexity, from scratch after three: what knows nothing halts at times."""
CONTEXTS = (32, 64, 128, 256)
"""Tokens of other fables that are put before what is to be guessed; validation chooses."""
DISCOUNTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

PUBLISHED = """\
Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she \
saw a big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. She said, "I want \
to play with your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she said, "I'm sorry, mom. I didn't know what to do." Her mom said, \
"Don't worry, Lily. We can help you."""
"""What the network writes if it takes the likeliest token each time, as its makers print it beside it."""
MEASURED_ON = "2f3dbedd8cca2f95b7b6b33df6a4fed39c6507cbae9c6ce2fca890dd19579025"
"""`cache.content_key` of the fables of the measured table. Other electronic texts differ by some words."""


# -- fables ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fables:
    """Fables as token numbers, split by fable once and for all; and the network that they are for."""

    decoder: Decoder
    texts: tuple[str, ...]
    train: Texts
    validation: Texts
    test: Texts


_ANIMALS = ("Fox", "Crow", "Lion", "Ass", "Wolf", "Crane")


@functools.cache
def load(edition: Edition) -> Fables:
    """Townsend's Aesop: 40 fables are test, 16 validation, the others train.

    The pocket edition has a stand-in: 30 sentences of our own, and a tiny network that reads bytes.
    """
    if edition.name == "full":
        decoder, held, test = load_decoder(STORIES), 16, 40
        texts = tuple(text for _, text in _formats.fables(downloads.fetch("pg21.txt")))
    else:
        decoder, held, test = load_decoder("tiny"), 4, 6
        texts = tuple(f"{a.upper()} met {b}. Pride falls." for a in _ANIMALS for b in _ANIMALS if a != b)
    numbers = decoder.tokenize(texts)
    rest, test_rows = train_test_split(np.arange(len(texts)), test_size=test, random_state=0)
    train_rows, held_rows = train_test_split(rest, test_size=held, random_state=0)
    parts = ([numbers[row] for row in rows] for rows in (train_rows, held_rows, test_rows))
    return Fables(decoder, texts, *parts)


def first_tokens(texts: Texts, number: int, *, seed: int) -> Texts:
    """Texts in the order of the seed, until so many tokens are to be guessed; the last one is cut.

    Raises ValueError if there are not so many.
    """
    found, left = Texts(), number
    for row in np.random.default_rng(seed).permutation(len(texts)):
        if left > 0:
            found.append(texts[row][: left + 1])
            left -= len(found[-1]) - 1
    if left > 0 or not found:
        total = sum(len(text) - 1 for text in texts)
        raise ValueError(f"number: expected 1 to {total:,} tokens, got {number:,}. Ask for fewer.")
    return found


def windows(texts: Texts, length: int) -> tuple[Array, Array]:
    """Cut texts into rows: what is read, and what is to be guessed at each place, int32 (rows, length).

    Each token is guessed once. Rows are filled up with 0, which the loss is told to pass over.
    """
    pieces = [text[place : place + length + 1] for text in texts for place in range(0, len(text) - 1, length)]
    if not pieces:
        raise ValueError("texts: expected some of two tokens or more, got none. Give longer ones.")
    rows = np.zeros((len(pieces), length + 1), np.int32)
    for row, piece in zip(rows, pieces, strict=True):
        row[: len(piece)] = piece
    read, guessed = rows[:, :-1].copy(), rows[:, 1:].copy()
    read[guessed == 0] = 0
    return read, guessed


def nats(model: keras.Model, texts: Texts, *, context: Sequence[int] = ()) -> Array:
    """Minus the logarithm of the probability that the model gave each token, a sum for each text, (texts,).

    `context` is put before each row.
    """
    read, guessed = windows(texts, LONG)
    rows = np.concatenate([np.tile(np.array(context, np.int32), (len(read), 1)), read], axis=1)
    # Called as it is: so few batches are done before `predict` has made its graph.
    parts = (model(rows[place : place + 16], training=False) for place in range(0, len(rows), 16))
    logits = np.concatenate([keras.ops.convert_to_numpy(part)[:, len(context) :] for part in parts])
    chosen = np.take_along_axis(logits, guessed[..., None], axis=2)[..., 0]
    lost = np.where(guessed == 0, 0, logsumexp(logits, axis=2) - chosen).sum(axis=1)
    return np.add.reduceat(lost, np.r_[0, np.cumsum([-(-(len(text) - 1) // LONG) for text in texts])[:-1]])


def perplexity(lost: Array, texts: Texts) -> float:
    """What `nats` found, as one number for all tokens together."""
    return float(np.exp(lost.sum() / sum(len(text) - 1 for text in texts)))


def _by_text(lost: Array, texts: Texts) -> Array:
    """The logarithm of the perplexity as a mean of one number for each text: a ratio, made linear.

    The spread of these numbers says how far other texts would move it.
    """
    tokens = np.array([len(text) - 1 for text in texts])
    ratio = lost.sum() / tokens.sum()
    return np.asarray(ratio + (lost - ratio * tokens) / tokens.mean())


# -- rows of the table ----------------------------------------------------------------------------

Found = tuple[str, int, Array, Array]
"""What validation chose, how many numbers are kept, and nats of the validation and the test fables."""


def measure(
    method: str, tokens: int, *, seed: int, edition: Edition | None = None, rate: float | None = None
) -> dict[str, Any]:
    """Learn from so many tokens by one of `METHODS`, and guess the test fables.

    Perplexity on test and on validation; what validation chose; weights trained, and kilobytes to keep for
    the task; ``cpu_seconds`` of all cores together, without the search for a rate, which is skipped if `rate`
    is given; and for each test fable a number for intervals, see `logarithms`.
    """
    edition = edition or page.current()
    data = load(edition)
    few = first_tokens(data.train, tokens, seed=seed) if tokens else Texts()
    if method in TRAINED:
        rate = rate or kept_rate(method, min(tokens, SIZES[0]), edition)
    began = time.process_time()
    found: Found
    if method == "as loaded":
        model = data.decoder.model
        found = "", 0, nats(model, data.validation), nats(model, data.test)
    elif method == "fables in context":
        found = _in_context(data, few)
    elif method == "counts of three tokens":
        found = _counts(data, few)
    else:
        found = _trained(method, data, few, seed, float(rate or 0))
    seconds = round(time.process_time() - began, 1)
    choice, kept, held, test = found
    return {
        "perplexity": perplexity(test, data.test),
        "validation": perplexity(held, data.validation),
        "choice": choice,
        "weights": kept if method in TRAINED else 0,
        "kilobytes": kept * 4 / 1000,
        "cpu_seconds": seconds,
        "by_fable": " ".join(f"{value:.4f}" for value in _by_text(test, data.test)),
    }


def logarithms(rows: pd.DataFrame) -> Array:
    """The logarithm of the perplexity, by seed and test fable, (seeds, fables): for `intervals.interval`."""
    return np.array([[float(value) for value in row.split()] for row in rows.sort_values("seed").by_fable])


def lower(
    table: pd.DataFrame, method: str, rival: str, tokens: int, *, than: int | None = None
) -> tuple[float, float, float]:
    """Per cent by which a way's perplexity is lower than a rival's, and the interval over draws and fables.

    `than` is the rival's number of tokens, where it is another.
    """
    ways = {method: tokens, rival: tokens if than is None else than}
    own, other = (
        logarithms(table[(table.method == way) & (table.tokens == number)]) for way, number in ways.items()
    )
    low, high = interval(own - other)
    share, least, most = (100 * (1 - np.exp(each)) for each in ((own - other).mean(), high, low))
    return float(share), float(least), float(most)


def _in_context(data: Fables, few: Texts) -> Found:
    stream = [number for text in few for number in text]  # begins as a fable begins
    model, most = data.decoder.model, data.decoder.places - LONG
    held = {
        size: nats(model, data.validation, context=stream[:size])
        for size in CONTEXTS
        if size <= min(most, len(stream))
    }
    size = best({size: -float(lost.sum()) for size, lost in held.items()})
    return f"{size} tokens", size, held[size], nats(model, data.test, context=stream[:size])


def _counts(data: Fables, few: Texts) -> Found:
    seen, tokens = _count(few), len(data.decoder.pieces)
    held = {discount: _by_counts(seen, discount, data.validation, tokens) for discount in DISCOUNTS}
    discount = best({discount: -float(lost.sum()) for discount, lost in held.items()})
    kept = sum(map(len, seen.values()))
    return f"discount {discount:g}", kept, held[discount], _by_counts(seen, discount, data.test, tokens)


Contexts = dict[tuple[int, ...], Counter[int]]
"""After each two tokens, each token, and none: how often each token came next, or after how many others."""


def _count(texts: Texts) -> Contexts:
    """After two tokens as it is; after fewer by how many others came before, as Kneser and Ney (1995) do."""
    seen: Contexts = defaultdict(Counter)
    for text in texts:
        for place in range(1, len(text)):
            seen[tuple(text[max(place - 2, 0) : place])][text[place]] += 1
    for length in (2, 1):
        for context in [context for context in seen if len(context) == length]:
            seen[context[1:]].update(seen[context].keys())
    return seen


def _by_counts(seen: Contexts, discount: float, texts: Texts, tokens: int) -> Array:
    """As `nats`. Each count is lowered by the discount; the shorter context shares out what that leaves."""

    def probability(token: int, context: tuple[int, ...]) -> float:
        shorter = probability(token, context[1:]) if context else 1 / tokens
        if not (after := seen.get(context)):
            return shorter
        return float(max(after[token] - discount, 0) + discount * len(after) * shorter) / after.total()

    def lost(text: list[int]) -> float:
        places = range(1, len(text))
        chances = [probability(text[place], tuple(text[max(place - 2, 0) : place])) for place in places]
        return float(-np.log(chances).sum())

    return np.array([lost(text) for text in texts])


# -- training -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Way(Network):
    """A network of its own for one way to train; its prefix is None where all of it trains."""

    model: keras.Model

    def read(self, rows: Array) -> Array:
        """What the suffix is given: token numbers, or the states after the frozen blocks."""
        return rows if self.prefix is None else np.array(precompute(self.prefix, rows))


def loss() -> keras.losses.Loss:
    """Of the tokens that are there; padding is passed over."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)


def prepare(decoder: Decoder, method: str) -> keras.Model:
    """Let train what one of `TRAINED` trains, and nothing else."""
    model = decoder.model
    freeze(model)
    if method == "adapters":
        model = skeleton.add_adapters(model, decoder.blocks, ADAPTER)
    if method in ("all weights", "from scratch"):
        freeze(model, train_from=0)
    elif method == "last two blocks":
        freeze(model, train_from=f"{decoder.blocks[-2]}_attention_norm")
    elif method in LORA:
        skeleton.add_low_rank(model, LORA[method])
    for layer in model.layers:
        norm = method == "norms" and isinstance(layer, keras.layers.RMSNormalization)
        if norm or "adapter" in layer.name:
            layer.trainable = True
    return model


@functools.cache
def _way(method: str, name: str) -> Way:
    decoder = load_decoder(name)
    model = prepare(decoder, method)
    prefix, suffix = None, model
    if method == "last two blocks":
        prefix, suffix = split(model, at=decoder.blocks[-3])
    suffix.compile(keras.optimizers.Adam(), loss())
    suffix.optimizer.build(suffix.trainable_variables)
    return Way(prefix, suffix, suffix.get_weights(), model)


def _reset(way: Way, method: str, name: str, rate: float, seed: int) -> None:
    scratch = method == "from scratch"
    weights = load_decoder(name, weights="random", seed=seed).model.get_weights() if scratch else way.weights
    forget(way.suffix, weights, rate=rate, seed=seed)
    skeleton.draw_added(way.model, seed)


def _fit(method: str, data: Fables, few: Texts, seed: int, rate: float) -> tuple[Way, list[float]]:
    """Train until validation gains no more, and keep the best epoch; with what validation said after each."""
    way = _way(method, data.decoder.name)
    _reset(way, method, data.decoder.name, rate, seed)
    (x, y), (x_held, y_held) = windows(few, WINDOW), windows(data.validation, LONG)
    wait = 3 if method == "from scratch" else 1
    stop = keras.callbacks.EarlyStopping(min_delta=LEAST_GAIN, patience=wait, restore_best_weights=True)
    keras.utils.set_random_seed(seed)
    history = way.suffix.fit(
        way.read(x),
        y,
        batch_size=BATCH_SIZE,
        epochs=min(MOST_EPOCHS, MOST_TOKENS // (y > 0).sum()),
        validation_data=(way.read(x_held), y_held),
        callbacks=[stop],
        verbose=0,
    ).history["val_loss"]
    return way, history


@functools.cache
def kept_rate(method: str, tokens: int, edition: Edition) -> float:
    """The rate that did best on validation with seed 0, and both of whose neighbours did worse.

    What won with the fewest tokens serves more of them, too: with these the search would be dear.
    """
    data = load(edition)
    few = first_tokens(data.train, tokens, seed=0)
    rate, tried = climb(RATES, START[method], lambda rate: -min(_fit(method, data, few, 0, rate)[1]))
    print(f"  {method}, {tokens:,} tokens: {in_words(tried)}", flush=True)
    return rate


def _trained(method: str, data: Fables, few: Texts, seed: int, rate: float) -> Found:
    way, history = _fit(method, data, few, seed, rate)
    choice = f"rate {rate:g}, epoch {int(np.argmin(history)) + 1} of {len(history)}"
    kept = sum(int(np.prod(weight.shape)) for weight in way.model.trainable_weights)
    return choice, kept, nats(way.model, data.validation), nats(way.model, data.test)


def _grid(edition: Edition) -> Iterator[tuple[str, int, int]]:
    """All methods with the fewest tokens, some with more."""
    if edition.name != "full":
        return
    yield "as loaded", 0, 0
    for tokens in SIZES:
        for method in METHODS[1:]:
            if method in MANY.get(tokens, METHODS):
                yield from ((method, tokens, seed) for seed in SEEDS)


def _again(edition: Edition, row: "pd.Series[Any]") -> tuple[float, None]:
    rate = re.match(r"rate (\S+),", str(row.choice))
    found = measure(
        row.method, int(row.tokens), seed=int(row.seed), edition=edition, rate=rate and float(rate[1])
    )
    return float(found["perplexity"]), None


STUDY = Study(
    table="fables",
    keys=("method", "tokens", "seed"),
    grid=_grid,
    row=lambda edition, method, tokens, seed: measure(method, tokens, seed=seed, edition=edition),
    again=_again,
    like=("method", "tokens"),
    value="perplexity",
    most_seconds=8,
)
