"""Unfreeze with care: ways to fine-tune on few digits, judged on digits as in training and on others.

The ways in `WAYS` train one network on the same digits; nothing but each block's multiplier of the learning
rate differs. Discriminative rates and gradual unfreezing: Howard and Ruder, *Universal language model
fine-tuning for text classification*, 2018. Linear probe, then fine-tuning: Kumar et al., *Fine-tuning can
distort pretrained features and underperform out-of-distribution*, 2022.

The others of `ALL` are L2-SP (Li, Grandvalet and Davoine, *Explicit inductive bias for transfer learning with
convolutional networks*, 2018), WiSE-FT (Wortsman et al., *Robust fine-tuning of zero-shot models*, 2022), a
soup (Wortsman et al., *Model soups*, 2022), BatchNorm measured on the images that are asked about, and a
linear probe of the frozen network cut early. Explained in the chapter "Unfreeze with care".
"""

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score

import tlhelpers as tl
from tlhelpers import datasets, page
from tlhelpers._errors import check_name
from tlhelpers.evaluation import evaluate, probe
from tlhelpers.freezing import freeze
from tlhelpers.page.editions import Edition
from tlhelpers.prefix import split

from . import recipes
from .intervals import pack
from .recipes import GroupAdam
from .skeleton import Network, Study, best, draw, fit_with_cosine, in_proportion, in_words

__all__ = [
    "EPOCHS",
    "GROUPS",
    "STUDY",
    "WAYS",
    "GroupAdam",
    "average",
    "fitted",
    "held_out",
    "multipliers",
    "shifted",
    "tempered",
    "train",
]

GROUPS = recipes.GROUPS
"""What has a multiplier of its own, from the input on: the blocks that our recipe trains, and the head."""

PROBE_FIRST, LATE = "probe, then fine-tune", "late start"
WAYS = ("head only", "all at once", "discriminative rates", "gradual unfreezing", PROBE_FIRST, LATE)
"""The ways that differ in their multipliers alone."""

L2_SP, MIXED, HALF, SOUP = "L2-SP", "WiSE-FT, chosen share", "WiSE-FT, half", "soup of four"
ON_DIGITS, EARLY = "gradual, digit statistics", "early cut, frozen"
REFRESHED = {f"{way}, refreshed": way for way in ("all at once", "gradual unfreezing", ON_DIGITS)}
ALL = (*WAYS, L2_SP, MIXED, HALF, SOUP, ON_DIGITS, *REFRESHED, EARLY)
"""All ways of the table, in the order in which they are measured."""

BASE = {
    **dict.fromkeys((LATE, MIXED, HALF, SOUP), PROBE_FIRST),
    **REFRESHED,
    ON_DIGITS: "gradual unfreezing",
    L2_SP: "all at once",
}
"""The way that another one changes, and whose learning rate it takes."""

DIVISOR = 2.6
"""Howard and Ruder's: each layer's rate over that of the layer below it."""

EPOCHS, BATCH_SIZE, LABELS = 20, 32, 300
"""What every way has in common: passes over the labels, images a step, labels."""

SEEDS = {
    "full": dict.fromkeys(ALL, 10) | dict.fromkeys((L2_SP, SOUP, ON_DIGITS, *REFRESHED), 5),
    "pocket": dict.fromkeys(ALL, 3) | dict.fromkeys((L2_SP, SOUP), 0),
}
"""How many seeds an edition has for each way."""

TUNING_SEEDS = (0, 1)
"""Those whose mean validation accuracy chooses what is to be chosen."""

CUTS = ("block_5_add", "block_9_add", "block_12_add")
_VALIDATION, _TEST = 1000, 2000


def multipliers(way: str, epoch: int, *, epochs: int = EPOCHS) -> npt.NDArray[np.float32]:
    """Each group's multiplier of the learning rate, 0 to 1, in one epoch, counted from 0.

    float32, one for each of `GROUPS`. A group with 0 does not move.

    Examples
    --------
    >>> from tlhelpers import studies
    >>> studies.unfreezing.multipliers("gradual unfreezing", epoch=2).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    """
    check_name("way", way, WAYS)
    from_the_head = np.arange(len(GROUPS))[::-1]
    if way == "discriminative rates":
        return np.asarray(DIVISOR ** -from_the_head.astype(float), np.float32)
    waiting = way in (PROBE_FIRST, LATE) and epoch < epochs // 2
    if way == LATE and waiting:
        return np.zeros(len(GROUPS), np.float32)
    opened = 0 if waiting or way == "head only" else epoch if way == "gradual unfreezing" else len(GROUPS)
    return np.asarray(from_the_head <= opened, np.float32)


def shifted(edition: Edition) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Digits of another kind than those trained on: uint8 (n, height, width), 0..255, and their labels.

    Full edition: the digits inside scikit-learn, which other people wrote and another scanner read, enlarged
    to 20 pixels and framed to 28 as MNIST's are. Pocket: its test digits, moved, turned and resized.
    """
    digits = datasets.load_dataset("digits")
    if edition.name == "pocket":
        images, labels = recipes.augmented(digits.test.images, digits.test.labels, copies=1, seed=0)
        n = len(digits.test)
        return images[n:], labels[n:]
    parts = (digits.train, digits.validation, digits.test)
    images = np.concatenate([part.images for part in parts]).astype("float32")
    larger = keras.ops.image.resize(images[..., None], (20, 20), interpolation="bilinear")
    framed = np.pad(keras.ops.convert_to_numpy(larger)[..., 0], ((0, 0), (4, 4), (4, 4)))
    return framed.round().astype("uint8"), np.concatenate([part.labels for part in parts])


def _foreign(edition: Edition) -> npt.NDArray[np.uint8]:
    """Images that are no digits, of the digits' size."""
    if edition.name == "full":
        return tl.load_dataset("pneumonia").test.images
    photos = np.stack(load_sample_images().images)[:, :416].mean(axis=-1)
    pieces = photos.reshape(2, 13, 8, 4, 20, 8, 4).mean(axis=(3, 6)).transpose(0, 1, 3, 2, 4)
    return np.asarray(pieces.reshape(-1, 8, 8), np.uint8)


@functools.cache
def held_out(edition: Edition) -> dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64] | None]]:
    """Images and labels that no way trains on: ``"validation"``, ``"test"``, ``"shifted"``, ``"foreign"``.

    Validation and test digits are drawn at random, the same for every seed. See `shifted`. Foreign images are
    no digits and have no labels: X-rays of chests in the full edition, in the pocket edition pieces of the
    two photos in scikit-learn, in grey.
    """
    data = datasets.load_dataset(edition.dataset)
    validation, test = (
        part.take(in_proportion(part.labels, most, seed=0))
        for part, most in ((data.validation, _VALIDATION), (data.test, _TEST))
    )
    drawn = {"validation": (validation.images, validation.labels), "test": (test.images, test.labels)}
    return {**drawn, "shifted": shifted(edition), "foreign": (_foreign(edition), None)}


# -- training and asking --------------------------------------------------------------------------


def _suffix(edition: Edition, batch_norm: Literal["frozen", "train"]) -> tuple[keras.Model, keras.Model]:
    whole = recipes.our_model(edition, seed=0)
    freeze(whole.get_layer("backbone"), train_from="block_3_expand", batch_norm=batch_norm)
    return split(whole, at=recipes.OURS_CUT)


class _Pull(keras.regularizers.Regularizer):  # type: ignore[misc]  # Keras has no types
    """A spring to where a weight began."""

    def __init__(self, strength: keras.Variable, start: npt.NDArray[Any]) -> None:
        self.strength, self.start = strength, start

    def __call__(self, x: Any) -> Any:
        return self.strength * keras.ops.sum((x - self.start) ** 2)


@functools.cache
def _network(edition: Edition, *, pulled: bool = False) -> tuple[Network, keras.Variable]:
    """Our network with BatchNorm frozen, compiled once, since tracing is slow; and the strength of L2-SP."""
    prefix, suffix = _suffix(edition, "frozen")
    strength = keras.Variable(0.0, trainable=False)
    for variable in suffix.trainable_variables:
        if pulled and not variable.path.startswith("head"):
            variable.regularizer = _Pull(strength, variable.numpy())
    suffix.compile(GroupAdam(), "sparse_categorical_crossentropy")
    suffix.optimizer.build(suffix.trainable_variables)
    return Network(prefix, suffix, suffix.get_weights()), strength


@functools.cache
def _seen(edition: Edition, part: str, at: str) -> npt.NDArray[np.float32]:
    """What the frozen network makes of one of `held_out`'s parts, at a cut."""
    return np.asarray(_frozen(edition, at).predict(held_out(edition)[part][0], batch_size=250, verbose=0))


@functools.cache
def _frozen(edition: Edition, at: str) -> keras.Model:
    return (
        _network(edition)[0].prefix
        if at == recipes.OURS_CUT
        else split(recipes.article_model(edition), at)[0]
    )


@functools.lru_cache(maxsize=32)
def _few(edition: Edition, seed: int, at: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The labelled digits of a seed as the frozen network sees them at a cut, and their labels."""
    few = draw(datasets.load_dataset(edition.dataset).train, LABELS, seed=seed)
    return _frozen(edition, at).predict(few.images, batch_size=100, verbose=0), few.labels


class Run(NamedTuple):
    """The weights of a training at half of its epochs and at its end, and its seconds."""

    halfway: list[npt.NDArray[Any]]
    weights: list[npt.NDArray[Any]]
    cpu_seconds: float


@functools.lru_cache(maxsize=128)
def train(
    edition: Edition,
    way: str,
    *,
    seed: int,
    rate: float,
    strength: float = 0.0,
    order: int | None = None,
    on_digits: bool = False,
) -> Run:
    """Train our network in one of `WAYS`.

    The learning rate follows a cosine from `rate` to zero. Draw, head, dropout and order of batches follow
    the seed, so that all ways with one seed differ in nothing but the multipliers. `strength` is that of the
    penalty on the squared distance of the blocks' weights from their start. With an `order`, the first half
    is that of the seed, and the second begins anew from there with dropout and batches in another order.
    `on_digits` has the frozen BatchNorm of the blocks measured on the labelled digits before training.
    """
    x, labels = _few(edition, seed, recipes.OURS_CUT)
    network, penalty = _network(edition, pulled=strength > 0)
    suffix = network.suffix
    halfway: list[npt.NDArray[Any]] = []
    if order is not None:
        halfway += train(edition, way, seed=seed, rate=rate, order=None).halfway
    began = time.process_time()
    penalty.assign(strength)
    network.reset(rate, seed if order is None else order)
    if order is not None:
        suffix.set_weights(halfway)
    elif on_digits:
        suffix.set_weights(_refreshed(edition, suffix.get_weights(), x, batch_size=100).get_weights())

    def begin(epoch: int, logs: object) -> None:
        suffix.optimizer.multipliers.assign(multipliers(way, epoch, epochs=EPOCHS))
        if epoch == EPOCHS // 2:
            halfway[:] = suffix.get_weights()

    fit_with_cosine(
        suffix,
        x,
        labels,
        rate=rate,
        epochs=EPOCHS,
        first_epoch=0 if order is None else EPOCHS // 2,
        batch_size=BATCH_SIZE,
        seed=seed if order is None else order,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=begin)],
    )
    return Run(halfway, suffix.get_weights(), time.process_time() - began)


def average(
    networks: Sequence[list[npt.NDArray[Any]]], shares: Sequence[float] | None = None
) -> list[npt.NDArray[Any]]:
    """The weights of several networks of one shape, averaged array by array."""
    return [np.average(arrays, axis=0, weights=shares) for arrays in zip(*networks, strict=True)]


@functools.cache
def _loose(edition: Edition) -> keras.Model:
    """The network once more, with BatchNorm that can be measured anew."""
    return _suffix(edition, "train")[1]


def _refreshed(
    edition: Edition, weights: list[npt.NDArray[Any]], x: npt.NDArray[np.float32], batch_size: int
) -> keras.Model:
    """The network with these weights, and BatchNorm of the blocks that train measured on `x`."""
    model = _loose(edition)
    model.set_weights(weights)
    tl.refresh_batch_norm(model, np.random.default_rng(0).permutation(x), batch_size=batch_size)
    return model


def fitted(
    edition: Edition, way: str, *, seed: int, rate: float, setting: float, at: str
) -> tuple[Callable[[str], npt.NDArray[np.float32]], float]:
    """Train in one of `ALL` ways; give what asks about one of `held_out`'s parts, and the seconds.

    Asked for a part's name, it gives probabilities (n, 10). Refreshed networks are measured on the images
    that they are asked about. `setting` and `at` are what the way's column says, if it has one.
    """
    if way == EARLY:
        x, labels = _few(edition, seed, at)
        began = time.process_time()
        ridge = probe(x[0].size, penalty=setting).fit(x.reshape(len(x), -1), labels)

        def scores(part: str) -> npt.NDArray[np.float32]:
            x = _seen(edition, part, at)
            return np.asarray(softmax(ridge.decision_function(x.reshape(len(x), -1)), axis=1))

        return scores, time.process_time() - began

    how: dict[str, Any] = {"seed": seed, "rate": rate}
    if ON_DIGITS in (way, BASE.get(way)):
        how["on_digits"] = True
    name = way
    while name not in WAYS:
        name = BASE[name]
    if way == L2_SP:
        how["strength"] = setting
    orders = [1000 * number + seed for number in (1, 2, 3, 4)] if way == SOUP else [None]
    runs = [train(edition, name, **how, order=order) for order in orders]
    weights, seconds = average([run.weights for run in runs]), sum(run.cpu_seconds for run in runs)
    if way in (MIXED, HALF):
        weights = average([runs[0].halfway, weights], [1 - setting, setting])

    def ask(part: str) -> npt.NDArray[np.float32]:
        x = _seen(edition, part, recipes.OURS_CUT)
        if way in REFRESHED:
            model = _refreshed(edition, weights, x, batch_size=250)
        else:
            model = _network(edition)[0].suffix
            model.set_weights(weights)
        return np.asarray(model.predict(x, batch_size=250, verbose=0))

    return ask, seconds


# -- choosing on validation -----------------------------------------------------------------------


def _half_decade(number: int) -> float:
    """Steps of about three, to one digit: 0.01, 0.03, 0.1."""
    return float(f"{10 ** (number / 2):.0e}")


def _widened(score: Callable[[float], float], first: range) -> dict[float, float]:
    """The score of each setting, in half decades; more are tried until none at an edge beats all within."""
    tried = {number: score(_half_decade(number)) for number in first}
    while True:
        low, *within, high = sorted(tried)
        top = max(tried[number] for number in within)
        if tried[low] > top:
            tried[low - 1] = score(_half_decade(low - 1))
        elif tried[high] > top:
            tried[high + 1] = score(_half_decade(high + 1))
        else:
            return {_half_decade(number): tried[number] for number in (low, *within, high)}


def _best(tried: dict[float, float]) -> float:
    """The setting with the best score; none at an edge, since one within is as good."""
    return best(dict(list(tried.items())[1:-1]))


@functools.cache
def _chosen(edition: Edition, way: str) -> dict[str, Any]:
    """What validation digits chose for a way, over `TUNING_SEEDS`: its rate, its setting, its cut.

    Where the table has a row of the way, its choice stands.
    """
    with contextlib.suppress(LookupError):  # the first row of all has no table yet
        table = page.measured("unfreezing")
        rows = table[(table.edition == edition.name) & (table.way == way)]
        if len(rows):
            kept = rows.iloc[0]
            return {"rate": kept.learning_rate, **kept[["setting", "at", "tried"]]}
    labels = held_out(edition)["validation"][1]

    def score(rate: float, setting: float = np.nan, at: str = "") -> float:
        asked = (fitted(edition, way, seed=s, rate=rate, setting=setting, at=at)[0] for s in TUNING_SEEDS)
        return float(np.mean([ask("validation").argmax(axis=1) == labels for ask in asked]))

    found = {"rate": np.nan, "setting": np.nan, "at": "", "tried": ""}
    if way == EARLY:
        penalties = range(-4, 1)
        by_cut = {at: _widened(functools.partial(score, np.nan, at=at), penalties) for at in CUTS}
        tops = {at: max(tried.values()) for at, tried in by_cut.items()}
        said = "; ".join(f"{at}: {top:.4f}" for at, top in tops.items())
        return {**found, "setting": _best(by_cut[best(tops)]), "at": best(tops), "tried": said}
    if way not in BASE:
        tried = _widened(score, range(-6, -2))
        return {**found, "rate": _best(tried), "tried": in_words(tried)}
    found["rate"] = rate = _chosen(edition, BASE[way])["rate"]
    if way == HALF:
        found["setting"] = 0.5
    elif way == L2_SP:
        tried = _widened(functools.partial(score, rate), range(-5, -1))
        found |= {"setting": _best(tried), "tried": in_words(tried)}
    elif way == MIXED:
        tried = {share: score(rate, share) for share in np.linspace(0, 1, 11).round(1).tolist()}
        found |= {"setting": best(tried), "tried": in_words(tried)}
    return found


# -- rows -----------------------------------------------------------------------------------------


def tempered(
    chances: npt.NDArray[Any], held: npt.NDArray[Any], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Probabilities (n, k) at the temperature that makes those of held-out examples most likely.

    Source: Guo et al., *On calibration of modern neural networks*, 2017.
    """

    def at(temperature: float, p: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.asarray(softmax(np.log(np.maximum(p, 1e-12)) / temperature, axis=1))

    def loss(log: float) -> float:
        return float(-np.log(at(np.exp(log), held)[np.arange(len(labels)), labels] + 1e-300).mean())

    return at(np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x), chances)


def _row(edition: Edition, way: str, seed: int) -> dict[str, Any]:
    """One row, with what validation digits chose."""
    choice = dict(_chosen(edition, way))
    tried = choice.pop("tried")
    ask, seconds = fitted(edition, way, seed=seed, **choice)
    parts = held_out(edition)
    chances = {part: ask(part) for part in (("test", "shifted") if way in REFRESHED else parts)}
    right = {
        part: chances[part].argmax(axis=1) == labels
        for part, (_, labels) in parts.items()
        if part in chances and labels is not None
    }
    return {
        "learning_rate": choice["rate"],
        "setting": choice["setting"],
        "at": choice["at"],
        **{f"{part}_accuracy": right[part].mean() if part in right else np.nan for part in list(parts)[:3]},
        **(_doubts(chances, parts, raw=way != EARLY) if "foreign" in chances else {}),
        "cpu_seconds": round(seconds, 1),
        "tried": tried,
        "right": pack(right["test"]),
        "right_shifted": pack(right["shifted"]),
    }


def _doubts(chances: dict[str, Any], parts: dict[str, Any], *, raw: bool) -> dict[str, float]:
    """Calibration errors, and how well the largest probability parts digits from other images."""

    def error(part: str, p: npt.NDArray[Any]) -> float:
        return evaluate(parts[part][1], p, list("0123456789")).calibration_error

    held, labels = chances["validation"], parts["validation"][1]
    fair = {part: tempered(p, held, labels) for part, p in chances.items()}
    sure = [fair[part].max(axis=1) for part in ("test", "foreign")]
    return {
        "error": error("test", chances["test"]) if raw else np.nan,
        "error_tempered": error("test", fair["test"]),
        "error_shifted": error("shifted", fair["shifted"]),
        "foreign_auroc": roc_auc_score(np.repeat([1, 0], [len(s) for s in sure]), np.concatenate(sure)),
    }


def _again(edition: Edition, row: "pd.Series[Any]") -> tuple[float, int]:
    how = {"seed": int(row.seed), "rate": row.learning_rate, "setting": row.setting, "at": row["at"]}
    chances = fitted(edition, row.way, **how)[0]("test")
    labels = held_out(edition)["test"][1]
    return float((chances.argmax(axis=1) == labels).mean()), len(chances)


def _grid(edition: Edition) -> list[tuple[str, int]]:
    most = SEEDS[edition.name]
    return [(way, seed) for seed in range(max(most.values())) for way in ALL if seed < most[way]]


STUDY = Study(
    table="unfreezing",
    keys=("way", "seed"),
    grid=_grid,
    row=_row,
    again=_again,
    like=("way",),
    where=f"way in {(*WAYS, MIXED, HALF, EARLY)}",
)
"""All ways, on the same digits, at home and away; a page measures those again that take one training."""
