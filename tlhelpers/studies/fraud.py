"""Catch fraud: a simulated portfolio of cards teaches another one, as far from it as two dials say.

What is found shows what the simulator in `payments` was told, and what follows from it. Explained in the
chapter "Catch fraud".
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from tlhelpers.page.editions import Edition
from tlhelpers.prefix import split

from .payments import features, habits, simulate
from .recipes import table_network as network
from .skeleton import Study, fit_few, forget, search, search_logistic

__all__ = [
    *("ALERTS", "DIALS", "METHODS", "SIZES", "SPANS", "STUDY", "by_simulation", "fit", "interval"),
    *("network", "portfolio", "precision", "rows", "source", "xy"),
]

Array = npt.NDArray[Any]
Score = Callable[[Array], Array]

SPANS = {"train": (10, 30), "validation": (30, 40), "test": (47, 61)}
"""Days. The first ten only fill histories. Labels are known a week late, so a week lies before the test."""
ALERTS, GENUINE, SOURCE = 10, 20, {"train": 400, "validation": 160}
"""Cards looked at each day; labelled genuine payments a labelled fraud; the source's frauds, by use."""

DIALS = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
"""How far clients and fraud of the target are from those of the source."""
SIZES, SEEDS = (20, 80, 320), range(6)
"""Labelled frauds of the target, half of them on days of validation; simulations."""
METHODS = (
    *("source as it is", "network as it is", "frozen", "fine-tuned", "pooled", "score added"),
    *("score added, boosting", "logistic regression", "boosting", "from scratch"),
)
RATES = {"source": (0.001, 0.003, 0.01), "fine-tuned": (0.003,), "from scratch": (0.003,)}
"""Learning rates. The source's is chosen in each simulation. Of five, the other two had the highest average
precision on days of validation of a simulation in no table (seed 99), over two dials and `SIZES`."""
INVERSE_PENALTIES = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
FEW = {"max_leaf_nodes": (4, 15), "min_samples_leaf": (5, 20), "max_iter": (30, 100)}
MANY, REPEATS = {"max_leaf_nodes": (15,), "max_iter": (50, 100, 200)}, (1, 10)
"""What validation chooses from: boosting on few rows and on many; how often pooling repeats the target's."""


@functools.lru_cache(maxsize=4)
def portfolio(clients: float, fraud: float, seed: int, which: str = "target") -> pd.DataFrame:
    """Payments with their features beside them; source and target of a seed share nothing."""
    payments = simulate(habits(clients, fraud), seed=[seed, which == "target"])
    return pd.concat([payments, features(payments).add_prefix("_")], axis=1)


def rows(payments: pd.DataFrame, span: str, frauds: int | None = None, *, seed: int = 0) -> pd.DataFrame:
    """A span's payments: all, or so many frauds by chance and `GENUINE` others for each."""
    within = payments[payments.time.between(*SPANS[span], inclusive="left")]
    if frauds is None:
        return within
    bad, good = (within[(within.kind > 0) == fraud] for fraud in (True, False))
    if len(bad) < frauds:
        raise ValueError(f"frauds: expected at most {len(bad)}, all of the {span} days, got {frauds}.")
    bad, good = (part.sample(frac=1, random_state=seed) for part in (bad, good))
    return pd.concat([bad[:frauds], good[: GENUINE * frauds]])


def xy(part: pd.DataFrame) -> tuple[Array, Array]:
    """Features, float32 (n, 16), and labels."""
    return part.filter(regex="^_").to_numpy(), (part.kind > 0).to_numpy(int)


# -- methods --------------------------------------------------------------------------------------

Held = tuple[Array, Array]
Found = tuple[Score, float, str]
"""A score for features, its average precision on days of validation, and what these chose."""


@dataclass(frozen=True, eq=False)
class Source:
    """What the source has: labelled rows, a boosted model, a network and the scaling that it takes."""

    rows: Held
    boosted: Score
    scale: Score
    network: keras.Model

    def add_score(self, x: Array) -> Array:
        """The logarithm of the boosted model's score beside the features."""
        return np.column_stack([x, np.log(self.boosted(x) + 1e-6)])

    def hidden(self, x: Array) -> Array:
        """What comes out of the network's last hidden layer."""
        return _ask(split(self.network, at="hidden_2")[0], self.scale(x))


@functools.cache
def source(seed: int) -> Source:
    """Learn from the source's days of training; its days of validation choose."""
    data = portfolio(0.0, 0.0, seed, "source")
    few, held = (xy(rows(data, *use, seed=seed)) for use in SOURCE.items())
    scaler = StandardScaler().fit(few[0])

    def scale(x: Array) -> Array:
        return np.asarray(np.clip(scaler.transform(x), -5, 5), "float32")

    start = network(few[0].shape[1], seed=seed)
    tried = [_trained(start, scale, few, held, rate=rate, seed=seed) for rate in RATES["source"]]
    return Source(few, _boosted(few, held, MANY)[0], scale, max(tried, key=lambda each: each[1])[0])


def fit(method: str, few: Held, held: Held, *, seed: int, rate: float | None = None) -> Found:
    """Fit one of `METHODS` to labelled rows of the target's days of training, and of validation."""
    known = source(seed)
    if method.endswith("as it is"):
        score = known.boosted if "source" in method else _answers(known.network, known.scale)
        return score, _judge(score, held), "nothing to choose"
    if method in RATES:
        start = known.network if method == "fine-tuned" else network(few[0].shape[1], seed=seed)
        rate = rate or RATES[method][0]
        model, value = _trained(start, known.scale, few, held, rate=rate, seed=seed)
        return _answers(model, known.scale), value, f"rate {rate:g}"
    if method == "pooled":
        tried = []
        for times in REPEATS:
            x, y = (np.concatenate([a, *[b] * times]) for a, b in zip(known.rows, few, strict=True))
            score, value, choice = _boosted((x, y), held, MANY)
            tried.append((score, value, f"target {times} times, {choice}"))
        return max(tried, key=lambda each: each[1])
    see = known.hidden if method == "frozen" else known.add_score if "added" in method else np.asarray
    learn = _boosted if "boosting" in method else _logistic
    outer, value, choice = learn((see(few[0]), few[1]), (see(held[0]), held[1]))
    return lambda x: outer(see(x)), value, choice


def _judge(score: Score, held: Held) -> float:
    return float(average_precision_score(held[1], score(held[0])))


def _logistic(few: Held, held: Held) -> Found:
    parts = {"": few[0]}, few[1], {"": held[0]}, held[1]
    how: dict[str, Any] = {"steps": 500, "scaled": True, "scoring": "average_precision"}
    found, choice = search_logistic(INVERSE_PENALTIES, *parts, **how)
    return lambda x: found.classifier.predict_proba(x)[:, 1], found.score, choice


def _boosted(few: Held, held: Held, grid: dict[str, Any] = FEW) -> Found:
    trees = HistGradientBoostingClassifier(early_stopping=False, random_state=0)
    parts = {"": few[0]}, few[1], {"": held[0]}, held[1]
    found = search(lambda _: trees, lambda _: grid, *parts, scoring="average_precision")
    choice = ", ".join(f"{name} {value}" for name, value in found.settings.items())
    return lambda x: found.classifier.predict_proba(x)[:, 1], found.score, choice


@functools.cache
def _workbench(width: int) -> keras.Model:
    model = network(width)
    model.compile(keras.optimizers.Adam(), "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)
    return model


def _trained(
    start: keras.Model, scale: Score, few: Held, held: Held, *, rate: float, seed: int
) -> tuple[keras.Model, float]:
    """Train on from a network's weights; the loss on days of validation ends it."""
    bench, model = _workbench(few[0].shape[1]), network(few[0].shape[1])
    forget(bench, start.get_weights(), rate=rate, seed=seed)
    keras.utils.set_random_seed(seed)
    how: dict[str, Any] = {"batch_size": 64, "steps": 30, "patience": 2, "epochs": 15}
    held_too = scale(held[0]), held[1]
    fit_few(bench, scale(few[0]), few[1], held_too, monitor="val_loss", validation_batch_size=9999, **how)
    model.set_weights(bench.get_weights())
    return model, _judge(_answers(model, scale), held)


def _ask(model: keras.Model, x: Array) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))


def _answers(model: keras.Model, scale: Score) -> Score:
    return lambda x: _ask(model, scale(x))[:, 0]


# -- the measured table ---------------------------------------------------------------------------


def precision(payments: pd.DataFrame, scores: Array) -> Array:
    """For each day the share of right alerts, among the `ALERTS` cards with the highest scores.

    A card has its highest score of the day; it is right if one of its payments on that day is a fraud.
    """
    day, fraud = payments.time.astype(int).to_numpy(), (payments.kind > 0).to_numpy()
    table = pd.DataFrame({"day": day, "card": payments.card.to_numpy(), "score": scores, "fraud": fraud})
    cards = table.groupby(["day", "card"], as_index=False).max().sort_values("score", ascending=False)
    return np.asarray(cards.groupby("day").head(ALERTS).groupby("day").fraud.mean())


def _measured(clients: float, fraud: float, seed: int, method: str, labels: int) -> dict[str, Any]:
    payments = portfolio(clients, fraud, seed)
    few, held = (xy(rows(payments, span, labels // 2, seed=seed)) for span in ("train", "validation"))
    source(seed)  # paid once, so before the clock starts
    began = time.process_time()
    score, validation, choice = fit(method, few, held, seed=seed)
    seconds, test = round(time.process_time() - began, 1), rows(payments, "test")
    found = score(xy(test)[0])
    return {
        "precision": float(precision(test, found).mean()),
        "average_precision": float(average_precision_score(test.kind > 0, found)),
        "validation": validation,
        "choice": choice,
        "cpu_seconds": seconds,
    }


def _row(_: Edition, clients: float, fraud: float, seed: int) -> pd.DataFrame:
    """All methods and sizes with one target; what is as it is has no use for labels."""
    every = [(m, n) for m in METHODS for n in (SIZES[:1] if m.endswith("as it is") else SIZES)]
    found = [{"method": m, "labels": n, **_measured(clients, fraud, seed, m, n)} for m, n in every]
    return pd.DataFrame(found)


STUDY = Study(
    table="fraud",
    keys=("clients", "fraud", "seed"),
    grid=lambda edition: ((*d, s) for d in DIALS for s in SEEDS if edition.name == "full"),
    row=_row,
    again=lambda _, row: (
        _measured(row.clients, row.fraud, int(row.seed), row.method, int(row.labels))["precision"],
        ALERTS * (SPANS["test"][1] - SPANS["test"][0]),
    ),
    like=("clients", "fraud", "method", "labels"),
    value="precision",
)


def by_simulation(table: pd.DataFrame, method: str, labels: int, clients: float, fraud: float) -> Array:
    """Precision in each simulation; what is as it is has the same for any number of labels."""
    labels = SIZES[0] if method.endswith("as it is") else labels
    wanted = {"method": method, "labels": labels, "clients": clients, "fraud": fraud}
    kept = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)].sort_values("seed")
    return kept.precision.to_numpy()


def interval(values: Array) -> tuple[float, float]:
    """A 95% interval for the mean over simulations (Student's t); each has its own days of test."""
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return float(values.mean()) - half, float(values.mean()) + half
