"""Tune few weights: from a head alone to all weights of a sentence encoder, with the same labelled sentences.

All ways take the same steps over the same sentences, and choose from the same learning rates. Explained in
the chapter "Tune few weights".
"""

import functools
import re
import time
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import train_test_split

from tlhelpers.encoders import Encoder, load_encoder, pooled_blocks
from tlhelpers.features import precompute
from tlhelpers.freezing import freeze
from tlhelpers.page.editions import Edition
from tlhelpers.prefix import split

from . import intervals, skeleton
from .sentiment import Reviews, load
from .skeleton import ENCODERS, Study, balanced, climb, draw, draw_added, fit_with_cosine, loaded

__all__ = [
    "ENCODERS",
    "LABELS",
    "LENGTH",
    "LORA",
    "RATES",
    "STUDY",
    "WAYS",
    "Network",
    "answers",
    "gain",
    "network",
    "prepare",
    "sentences",
]

Array = npt.NDArray[Any]

LORA = {f"LoRA, rank {rank}": rank for rank in (1, 2, 4, 8, 16)}
WAYS = ("probe", "head", "bias terms", *LORA, "adapters", "last two blocks", "all weights")
"""What trains. A probe is linear, on the block that validation chooses; no network is trained for it. All
others train a head on the last block, and besides it what they are called. LoRA is added to queries and
values, an adapter of `BOTTLENECK` numbers stands after each block, and bias terms are those of the blocks."""
BOTTLENECK = 16

LABELS, SEEDS = {"full": 100, "pocket": 6}, range(5)
LENGTH = 16
"""Tokens of the longest sentence that is used: padding and long sentences would cost more than they tell."""
EPOCHS, BATCH_SIZE = 3, 10
RATES = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Adam's learning rates, for all ways. The search begins at `START` and ends where both neighbours are
worse on validation, with the first draw of labels."""
PENALTIES = (1_000.0, 100.0, 10.0, 1.0, 0.1, 0.01, 0.001)
"""Of the probe, for each number that it reads."""
START = dict.fromkeys(LORA, 0.01) | {
    "head": 0.03,
    "bias terms": 0.003,
    "LoRA, rank 16": 0.003,
    "adapters": 0.001,
    "last two blocks": 0.001,
    "all weights": 0.0001,
}


@functools.cache
def sentences(domain: str, edition: Edition) -> tuple[Reviews, Reviews, Reviews]:
    """Train, validation and test: the short ones among a domain's sentences, split anew."""
    data, words = load(domain, edition=edition), loaded(ENCODERS[edition.name]).words
    labels = np.concatenate([part.labels for part in (data.train, data.validation, data.test)])
    every = Reviews(data.texts, labels)
    short = [len(each.ids) <= LENGTH for each in words.encode_batch(list(every.texts))]
    rows, how = np.flatnonzero(short), {"random_state": 0}
    rest, test = train_test_split(rows, test_size=0.5, stratify=labels[rows], **how)
    train, held = train_test_split(rest, test_size=0.4, stratify=labels[rest], **how)
    return every.take(train), every.take(held), every.take(test)


def prepare(encoder: Encoder, way: str) -> keras.Model:
    """Give an encoder a head, and let train what one of `WAYS` trains, and nothing else."""
    model, blocks = encoder.model, encoder.blocks
    if way == "adapters":
        model = skeleton.add_adapters(model, blocks, BOTTLENECK)
    head = keras.layers.Dense(1, activation="sigmoid", name="head")
    model = keras.Model(model.input, head(model.output))
    first = {"bias terms": blocks[0], "last two blocks": blocks[-2], "all weights": model.layers[0].name}
    freeze(model, train_from=first.get(way, "head"))
    if way in LORA:
        skeleton.add_low_rank(model, LORA[way])
    for layer in model.layers:
        if "adapter" in layer.name:
            layer.trainable = True
    for weight in model.trainable_weights if way == "bias terms" else ():
        weight.trainable = weight.name in ("bias", "beta") or weight.path.startswith("head")
    return model


@dataclass(frozen=True, eq=False)
class Network(skeleton.Network):
    """An encoder with a head for one way to tune; its prefix is None where all of it trains."""

    encoder: Encoder
    model: keras.Model
    known: dict[str, Array] = field(default_factory=dict)

    def read(self, reviews: Reviews) -> Array:
        """What the suffix is given: token numbers, or the states at the cut, computed once a sentence."""
        numbers = self.encoder.tokenize(reviews.texts, length=LENGTH)
        if self.prefix is None:
            return numbers
        new = [row for row, text in enumerate(reviews.texts) if text not in self.known]
        if new:
            states = precompute(self.prefix, numbers[new], batch_size=32)
            self.known.update(zip((reviews.texts[row] for row in new), states, strict=True))
        return np.stack([self.known[text] for text in reviews.texts])

    def fit(self, few: Reviews, rate: float, *, seed: int) -> None:
        """Train from the start. The seed draws head, LoRA, adapters and the order."""
        self.reset(rate, seed)
        draw_added(self.model, seed)
        how: dict[str, Any] = {"rate": rate, "seed": seed, "epochs": EPOCHS, "batch_size": BATCH_SIZE}
        fit_with_cosine(self.suffix, self.read(few), few.labels, **how)

    def praise(self, reviews: Reviews) -> Array:
        """The probability that each sentence praises, (n,)."""
        found: Array = self.suffix.predict(self.read(reviews), batch_size=50, verbose=0)[:, 0]
        return found


@functools.lru_cache(maxsize=2)
def network(way: str, edition: Edition) -> Network:
    """A network of its own for one of `WAYS`."""
    encoder = load_encoder(ENCODERS[edition.name])
    model = prepare(encoder, way)
    cuts = ("embeddings", *encoder.blocks)
    at = {"head": "mean", "last two blocks": cuts[-3], "all weights": ""}.get(way, cuts[0])
    prefix, suffix = split(model, at=at) if at else (None, model)
    suffix.compile(keras.optimizers.Adam(), "binary_crossentropy")
    suffix.optimizer.build(suffix.trainable_variables)
    return Network(prefix, suffix, suffix.get_weights(), encoder, model)


# -- the measured table ---------------------------------------------------------------------------


def _validation(way: str, edition: Edition, rate: float) -> float:
    """Accuracy on validation with the first draw; of equals the one with the lower loss is higher."""
    train, held, _ = sentences("amazon", edition)
    net = network(way, edition)
    net.read(train)  # at once
    net.fit(draw(train, LABELS[edition.name], seed=0), rate, seed=0)
    praise = net.praise(held).astype(np.float64)
    loss = -np.log(np.clip(np.where(held.labels == 1, praise, 1 - praise), 1e-7, 1)).mean()
    return float(((praise > 0.5) == held.labels).mean() - loss / 1000)


def _probe(edition: Edition, seed: int) -> dict[str, Any]:
    parts, encoder = sentences("amazon", edition), loaded(ENCODERS[edition.name])
    states = [pooled_blocks(encoder, part.texts) for part in parts]
    began = time.process_time()
    rows = balanced(parts[0].labels, LABELS[edition.name], seed=seed)
    x, held, test = (
        {f"block {place + 1}": part[:, place] for place in reversed(range(part.shape[1]))}
        for part in (states[0][rows], *states[1:])
    )
    found, choice = skeleton.search_probes(PENALTIES, x, parts[0].labels[rows], held, parts[1].labels)
    right = found.classifier.predict(test[found.features]) == parts[2].labels
    return _found(right, found.score, choice, states[0].shape[-1] + 1, time.process_time() - began)


def _found(
    right: npt.NDArray[np.bool_], validation: float, choice: str, weights: int, seconds: float
) -> dict[str, Any]:
    return {
        "test_accuracy": float(right.mean()),
        "validation_accuracy": validation,
        "choice": choice,
        "weights": weights,
        "kilobytes": weights * 4 / 1000,
        "cpu_seconds": round(seconds, 1),
        "right": intervals.pack(right),
    }


def _measured(edition: Edition, way: str, seed: int, rate: float) -> dict[str, Any]:
    train, held, test = sentences("amazon", edition)
    net = network(way, edition)
    for part in (train, held, test):  # the frozen part, once for all draws: not in a draw's seconds
        net.read(part)
    began = time.process_time()
    net.fit(draw(train, LABELS[edition.name], seed=seed), rate, seed=seed)
    right, held_right = ((net.praise(part) > 0.5) == part.labels for part in (test, held))
    weights = sum(int(np.prod(weight.shape)) for weight in net.model.trainable_weights)
    seconds = time.process_time() - began
    return _found(right, float(held_right.mean()), f"rate {rate:g}", weights, seconds)


def _row(edition: Edition, way: str) -> pd.DataFrame:
    """All draws of one way, with the rate that the first of them chose."""
    if way == "probe":
        return pd.DataFrame([{"seed": seed, **_probe(edition, seed), "tried": ""} for seed in SEEDS])
    rate, tried = climb(RATES, START[way], functools.partial(_validation, way, edition))
    said = "; ".join(f"{each:g}: {tried[each]:.4f}" for each in sorted(tried))
    rows = ({"seed": seed, **_measured(edition, way, seed, rate), "tried": said} for seed in SEEDS)
    return pd.DataFrame(rows)


def _again(edition: Edition, row: "pd.Series[Any]") -> tuple[float, int]:
    seed, rate = int(row.seed), re.match(r"rate (\S+)", str(row.choice))
    found = _measured(edition, row.way, seed, float(rate[1])) if rate else _probe(edition, seed)
    return float(found["test_accuracy"]), len(sentences("amazon", edition)[2])


STUDY = Study(
    table="tuning",
    keys=("way",),
    grid=lambda edition: ((way,) for way in WAYS if edition.name == "full"),
    row=_row,
    again=_again,
    like=("way",),
    where="way in ('probe', 'head', 'last two blocks')",  # the others take a page too long
)


def answers(table: pd.DataFrame, way: str) -> Array:
    """Which test sentences each draw found, (draws, sentences)."""
    rows = table[table.way == way].sort_values("seed")
    return np.stack([intervals.right_answers(each) for each in rows.right]).astype(np.float64)


def gain(table: pd.DataFrame, way: str, rival: str) -> tuple[float, float, float]:
    """Points of accuracy by which a way is ahead of a rival, and the interval over draws and sentences."""
    apart = 100 * (answers(table, way) - answers(table, rival))
    return float(apart.mean()), *intervals.interval(apart)
