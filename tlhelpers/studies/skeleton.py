"""What all studies have in common: a table measured row by row, and the parts that a row is made of.

`measure` fills a `Study`'s table in ``book/measured``; `check_one` measures one row again on a page. The rest
is what several studies do alike: draw few examples, choose by validation, train.
"""

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tlhelpers import cache, datasets, page
from tlhelpers._graph import walk
from tlhelpers.encoders import MINILM, load_encoder
from tlhelpers.evaluation import probe
from tlhelpers.page.editions import Edition
from tlhelpers.prefix import split

__all__ = ["Study", "application", "balanced", "check_one", "draw", "in_proportion", "measure"]

Array = npt.NDArray[Any]
SEEDS = (0, 1, 2)
TRAINS = ("backbones", "freezing", "studies/recipes", "studies/skeleton")
"""Modules besides `cache.COMPUTES` and a study's own whose code its rows may rest on."""


@dataclass(frozen=True)
class Study:
    """A measured table: its grid, how one row is measured, what may differ when it is measured again.

    Attributes
    ----------
    table
        The file in ``book/measured``, without its ending. Several studies may share one.
    keys, grid
        Columns that name a row within an edition; and, for an edition, their values in each wanted row.
    row
        Takes an edition and a row's keys; gives its other columns, or a table of several rows.
    again
        Takes an edition and a row; gives its value now, and the number of examples that this is a share of
        (None where it is no share). None where no page measures a row again.
    like, value
        Columns that are the same in rows that differ in their seed only; what is compared.
    where, most_seconds
        Which rows a page has time for: a condition on columns, and the most ``cpu_seconds`` of such a point.
    """

    table: str
    keys: tuple[str, ...]
    grid: Callable[[Edition], Iterable[tuple[Any, ...]]]
    row: Callable[..., "dict[str, Any] | pd.DataFrame"]
    again: "Callable[[Edition, pd.Series[Any]], tuple[float, int | None]] | None" = None
    like: tuple[str, ...] = ()
    value: str = "test_accuracy"
    where: str = "seed >= 0"
    most_seconds: float | None = None


def application(
    domain: str,
    *,
    methods: Sequence[str],
    sizes: Sequence[int],
    metric: str,
    measure: Callable[..., dict[str, Any]],
    examples: Callable[[Edition], int] | None = None,
    where: str = "seed >= 0",
    table: str = "applications",
    left_out: Callable[[str, int], bool] = lambda method, labels: False,
) -> Study:
    """A domain's rows of a table, in the full edition alone: the pocket one lacks the data.

    `measure(method, labels, seed=, edition=)` gives a row from ``value`` on; if the row has a ``rate``, it
    takes that, too, when the row is measured again. `examples(edition)` is what the value is a share of,
    `left_out(method, labels)` says which rows are too dear.
    """

    def grid(edition: Edition) -> Iterable[tuple[Any, ...]]:
        every = itertools.product([domain] * (edition.name == "full"), methods, sizes, SEEDS)
        return (row for row in every if not left_out(row[1], row[2]))

    def row(edition: Edition, domain: str, method: str, labels: int, seed: int) -> dict[str, Any]:
        return {"metric": metric, **measure(method, labels, seed=seed, edition=edition)}

    def again(edition: Edition, row: "pd.Series[Any]") -> tuple[float, int | None]:
        how = {"rate": float(row.rate)} if hasattr(row, "rate") else {}
        found = measure(row.method, int(row.labels), seed=int(row.seed), edition=edition, **how)
        return float(found["value"]), examples and examples(edition)

    row.__module__ = measure.__module__  # whose code chooses the row that is measured again
    return Study(
        table=table,
        keys=("domain", "method", "labels", "seed"),
        grid=grid,
        row=row,
        again=again,
        like=("method", "labels"),
        value="value",
        where=f"domain == {domain!r} and {where}",
        most_seconds=10,
    )


def measure(study: Study, edition: Edition, folder: Path) -> None:
    """Measure the rows that the table in `folder` lacks, one by one; each is kept as soon as it is there."""
    path = folder / f"{study.table}.csv"
    for values in study.grid(edition):
        key: dict[str, Any] = {"edition": edition.name, **dict(zip(study.keys, values, strict=True))}
        table = pd.read_csv(path, dtype={"commit": str}) if path.exists() else pd.DataFrame()
        if len(table) and (table[list(key)] == pd.Series(key)).all(axis=1).any():
            continue
        print(f"{study.table}: {', '.join(map(str, values))} ...", flush=True)
        found = study.row(edition, *values)
        rows = found if isinstance(found, pd.DataFrame) else pd.DataFrame([found])
        rows = pd.concat([pd.DataFrame(key, index=rows.index), rows], axis=1).assign(**page.stamp())
        with cache.atomic_file(path) as partial:
            if set(rows) <= set(table):  # what is there stays as it is, to the byte
                rows = rows.reindex(columns=table.columns)
                lines = rows.to_csv(index=False, header=False, float_format="%.6g")
                partial.write_text(path.read_text() + lines)
            else:
                pd.concat([table, rows]).to_csv(partial, index=False, float_format="%.6g")


def check_one(study: Study, *, edition: Edition | None = None, which: int | None = None) -> pd.DataFrame:
    """Measure one row of a study's table again, and stop if it does not agree.

    `which`, a number, chooses the row, or else the code that computes does: another row as the project moves
    on. Gives one row: the columns `Study.like`, ``seed``, ``then``, ``now`` and ``allowed``, the tolerance
    over the point's seeds. Raises page.Disagreement if they differ by more, LookupError if no point has three
    seeds. Explained in the chapter "Map the choices".
    """
    assert study.again is not None, study.table
    edition = edition or page.current()
    like, most = list(study.like), study.most_seconds
    rows = page.measured(study.table).query(f"edition == {edition.name!r}").query(study.where)
    if len(rows):
        rows = rows.groupby(like).filter(
            lambda point: len(point) >= 3 and (most is None or bool(point.cpu_seconds.max() <= most))
        )
    if rows.empty:
        raise LookupError(
            f"{study.table}: expected rows of the {edition.name} edition with three seeds, which a page has "
            f"time for, got none. Run `make measure TABLE={study.table}` in this edition first."
        )
    number = int(cache.code_key(*TRAINS, study.row.__module__), 16) if which is None else which
    row = rows.iloc[number % len(rows)]
    now, examples = study.again(edition, row)
    then = float(row[study.value])
    seeds = rows[(rows[like] == row[like]).all(axis=1)][study.value]
    allowed = page.tolerance(list(seeds), examples=examples)
    what = ", ".join(f"{name} {row[name]}" for name in (*like, "seed"))
    if not abs(now - then) <= allowed:
        raise page.Disagreement(
            f"{what}: expected {study.value} {then:.4f} within {allowed:.4f}, as in the measured table, "
            f"got {now:.4f}. If the method was meant to change, delete its rows, run `make measure` and "
            "commit the table. If not, something broke."
        )
    # For the card at the page's end. Tables with several measures name theirs in a column.
    name = str(row.get("metric", study.value)).replace("_", " ")
    page.glue(f"measured again: {name}, {what}", json.dumps({"then": then, "now": now, "allowed": allowed}))
    return pd.DataFrame([{**row[[*like, "seed"]], "then": then, "now": now, "allowed": allowed}])


# -- few examples ---------------------------------------------------------------------------------


class _Some(Protocol):
    def __len__(self) -> int: ...

    def take(self, rows: Array) -> Self:
        """Those at the given positions."""


class _Labelled(_Some, Protocol):
    @property
    def labels(self) -> npt.NDArray[np.int64]: ...


Own = TypeVar("Own", bound=_Some)
Examples = TypeVar("Examples", bound=_Labelled)


def balanced(labels: npt.ArrayLike, number: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Positions of `number` examples, equally many of each class, one class after another.

    Raises ValueError if `number` is no multiple of the classes, or a class has too few.
    """
    labels, rng = np.asarray(labels), np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    each, left = divmod(number, len(classes))
    if left or not 0 < each <= counts.min():
        raise ValueError(
            f"labels: expected a multiple of {len(classes)} classes, from {len(classes)} to "
            f"{len(classes) * counts.min()} (the smallest class has {counts.min()}), got {number}."
        )
    return np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:each] for c in classes])


def in_proportion(labels: npt.ArrayLike, number: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Positions of `number` examples with the classes in proportion; all, in order, if there are no more.

    Raises ValueError if a class would have none.
    """
    labels = np.asarray(labels)  # a table's column would be looked up by its index
    everything = np.arange(len(labels))
    if number >= len(labels):
        return everything
    drawn, _ = train_test_split(everything, train_size=number, stratify=labels, random_state=seed)
    if missing := set(labels.tolist()) - set(labels[drawn].tolist()):
        raise ValueError(f"number: expected enough for every class, got {number}: none of {sorted(missing)}.")
    return np.asarray(drawn)


@dataclass(frozen=True)
class Parts(Generic[Own]):
    """The parts of a study's own data, and what a reader should know of them, as Markdown."""

    card: str
    train: Own
    validation: Own
    test: Own


def draw_any(examples: Own, number: int, *, seed: int) -> Own:
    """So many labelled examples; fewer are a part of more with the same seed."""
    return examples.take(np.random.default_rng(seed).permutation(len(examples))[:number])


def draw(
    train: Examples, number: int, *, seed: int, rule: Callable[..., npt.NDArray[np.int64]] = balanced
) -> Examples:
    """So many labelled examples, by the rule `balanced` or `in_proportion`."""
    return train.take(rule(train.labels, number, seed=seed))


@functools.cache
def parts(data: str) -> tuple[datasets.Split, datasets.Split, datasets.Split]:
    """Training images, 1,000 of validation and 2,000 of test, or all there are: the same for all seeds."""
    whole = datasets.load_dataset(data)
    validation, test = (
        part.take(np.sort(in_proportion(part.labels, most, seed=0)))
        for part, most in ((whole.validation, 1000), (whole.test, 2000))
    )
    return whole.train, validation, test


# -- choosing by validation -----------------------------------------------------------------------

Choice = TypeVar("Choice")


def best(tried: Mapping[Choice, float]) -> Choice:
    """The setting with the highest validation score; of equals the first, so the lower of rising rates."""
    return max(tried, key=lambda setting: tried[setting])


def climb(
    rates: Sequence[float], start: float, score: Callable[[float], float]
) -> tuple[float, dict[float, float]]:
    """The rate with the highest score, both of whose neighbours were tried, too; and each score."""
    tried: dict[float, float] = {}
    place = rates.index(start)
    while True:
        for rate in rates[max(place - 1, 0) : place + 2]:
            if rate not in tried:
                tried[rate] = score(rate)
        if best(tried) == rates[place]:
            return rates[place], tried
        place = rates.index(best(tried))


def in_words(tried: Mapping[float, float]) -> str:
    """What validation said at each learning rate, for a column of a table."""
    return "; ".join(f"{rate:g}: {score:.4f}" for rate, score in tried.items())


@dataclass(frozen=True)
class Chosen:
    """The classifier that validation chose: fitted, with its features' name, its settings and its score."""

    classifier: Any
    features: str
    settings: dict[str, Any]
    score: float


def search(
    classifier: Callable[[int], Any],
    grid: Callable[[int], Any],
    train: Mapping[str, Array],
    labels: Array,
    validation: Mapping[str, Array],
    validation_labels: Array,
    *,
    scoring: str | None = None,
) -> Chosen:
    """Fit a classifier to each kind of features with each setting; keep the one that validation likes best.

    `train` and `validation` hold arrays (n, ...) by the features' name. `classifier` and `grid` take the
    number of features and give an estimator, and what scikit-learn's GridSearchCV takes for it. The first of
    the best wins. Only `train` is fitted to.
    """
    found: list[Chosen] = []
    for name, x in train.items():
        rows, held = (np.asarray(each) for each in (x, validation[name]))
        if rows.dtype.kind == "f":
            rows, held = rows.reshape(len(rows), -1), held.reshape(len(held), -1)
        width = 1 if rows.ndim == 1 else rows.shape[1]
        folds = PredefinedSplit([-1] * len(rows) + [0] * len(held))
        tried = GridSearchCV(classifier(width), grid(width), cv=folds, refit=False, scoring=scoring)
        fitted = clone(classifier(width))
        with threadpool_limits(1):  # threads of small matrices wait for each other
            tried.fit(np.concatenate([rows, held]), np.concatenate([labels, validation_labels]))
            fitted.set_params(**tried.best_params_).fit(rows, labels)
        found.append(Chosen(fitted, name, tried.best_params_, float(tried.best_score_)))
    return max(found, key=lambda each: each.score)


def search_probes(
    penalties: Sequence[float],
    train: Mapping[str, Array],
    labels: Array,
    validation: Mapping[str, Array],
    validation_labels: Array,
    *,
    scoring: str | None = None,
) -> tuple[Chosen, str]:
    """`search` among linear probes, by the penalty for each feature; the choice, and in words."""
    alpha = "ridgeclassifier__alpha"

    def grid(width: int) -> dict[str, list[float]]:
        return {alpha: [penalty * width for penalty in penalties]}

    found = search(probe, grid, train, labels, validation, validation_labels, scoring=scoring)
    penalty = found.settings[alpha] / found.classifier.n_features_in_
    return found, f"{found.features}, penalty {penalty:g}"


def search_logistic(
    inverse_penalties: Sequence[float],
    *parts: Any,
    steps: int,
    scaled: bool = False,
    scoring: str | None = None,
) -> tuple[Chosen, str]:
    """`search` among logistic regressions, by C, of so many steps at most; the choice, and in words.

    `parts` are train, its labels, validation and its labels, as `search` takes them.
    """
    logistic, name = LogisticRegression(max_iter=steps), "logisticregression__C"
    classifier = make_pipeline(StandardScaler(), logistic) if scaled else make_pipeline(logistic)
    found = search(lambda _: classifier, lambda _: {name: inverse_penalties}, *parts, scoring=scoring)
    return found, f"C {found.settings[name]:g}"


@dataclass(frozen=True, eq=False)
class Fitted:
    """A classifier, learned, and how it was chosen.

    `predict` takes texts or a table and gives labels or probabilities, (n,). `validation` is the score on
    validation, `choice` what that chose. `cpu_seconds` are those of all cores, for learning and choosing,
    without what is paid once: encoding, pre-training, building Keras' graph.
    """

    predict: Callable[[Any], Array]
    validation: float
    choice: str
    cpu_seconds: float

    def row(self, value: float) -> dict[str, Any]:
        """A row's columns, from ``value`` on, what it is worth on test."""
        about = {"validation": self.validation, "choice": self.choice, "cpu_seconds": self.cpu_seconds}
        return {"value": value, **about}


def pixels(images: Array) -> dict[str, Array]:
    """Raw images as features for `search_logistic`."""
    return {"pixels": images.reshape(len(images), -1) / np.float32(255)}


# -- training -------------------------------------------------------------------------------------


def forget(model: keras.Model, weights: list[Array], *, rate: float, seed: int) -> None:
    """Give a compiled model these weights, the seed's dropout, and an optimiser that has seen nothing."""
    model.set_weights(weights)
    for layer in model.layers:
        if layer.name == "dropout":
            layer.seed_generator.state.assign(np.array([seed, 0], "uint32"))
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape))
    model.optimizer.learning_rate = rate


ENCODERS = {"full": MINILM, "pocket": "tiny"}
loaded = functools.cache(load_encoder)
"""For what is frozen: networks that are tuned are loaded anew."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network cut before what trains, compiled once and set back before each training."""

    prefix: keras.Model
    suffix: keras.Model
    weights: list[Array]

    @functools.cached_property
    def read(self) -> keras.Model:
        """From what the prefix gives to the features that the head reads, without its dropout."""
        return split(self.suffix, at="pool")[0]

    def reset(self, rate: float, seed: int) -> None:
        """As at first, but for a head drawn from the seed."""
        forget(self.suffix, self.weights, rate=rate, seed=seed)
        kernel, bias = self.suffix.get_layer("head").weights
        kernel.assign(keras.initializers.GlorotUniform(seed=seed)(kernel.shape))
        bias.assign(np.zeros(bias.shape))


def add_low_rank(model: keras.Model, rank: int) -> None:
    """Let LoRA of that rank train on the kernels of all queries and values, also on those inside a layer.

    Source: Hu et al., *LoRA*, 2021.
    """
    for layer in walk(model):
        if layer.name.endswith(("query", "value")):
            layer.trainable = True  # first: it would thaw the kernel, which LoRA freezes
            layer.enable_lora(rank)
            if layer.bias is not None:
                layer.bias.trainable = False


def add_adapters(model: keras.Model, blocks: Sequence[str], size: int) -> keras.Model:
    """The same layers, with an adapter after each block: a narrow dense layer, a wide one, and a sum.

    The wide one begins at zero, so the model does what it did. There are no biases: states of zero, which are
    padding, stay zero. Source: Houlsby et al., *Parameter-efficient transfer learning for NLP*, 2019, who put
    two into each block.
    """
    dense = functools.partial(keras.layers.Dense, use_bias=False)

    def call(layer: keras.Layer, *given: Any, **how: Any) -> Any:
        states = layer(*given, **how)
        if layer.name not in blocks:
            return states
        name, width = f"{layer.name}_adapter", states.shape[-1]
        inner = dense(size, "gelu", name=f"{name}_narrow")(states)
        outer = dense(width, kernel_initializer="zeros", name=f"{name}_wide")(inner)
        return keras.layers.Add(name=name)([states, outer])

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def draw_added(model: keras.Model, seed: int) -> None:
    """Draw anew what LoRA and adapters begin with: the first of their two matrices, the second being zero."""
    for place, layer in enumerate(walk(model)[1:]):
        first = layer.lora_kernel_a if getattr(layer, "lora_enabled", False) else None
        if layer.name.endswith("adapter_narrow"):
            first = layer.kernel
        if first is not None:
            first.assign(keras.initializers.HeUniform(seed=1_000 * seed + place)(first.shape))


def fit_with_cosine(
    model: keras.Model,
    x: Array,
    labels: Array,
    *,
    rate: float,
    epochs: int,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Fit a compiled model; its learning rate follows a cosine to zero, epoch by epoch.

    The seed orders the batches. Epochs before `first_epoch` are left out. Source: Loshchilov and Hutter,
    *SGDR*, 2017, without its restarts.
    """
    cosine = keras.callbacks.LearningRateScheduler(
        lambda epoch: float(rate * (1 + np.cos(np.pi * epoch / epochs)) / 2)
    )
    keras.utils.set_random_seed(seed)
    how: dict[str, Any] = {"batch_size": batch_size, "initial_epoch": first_epoch, "epochs": epochs}
    model.fit(x, labels, callbacks=[cosine, *callbacks], verbose=0, **how)


def fit_few(
    model: keras.Model,
    x: Array,
    labels: Array,
    validation: tuple[Array, Array],
    *,
    monitor: str,
    batch_size: int,
    steps: int,
    patience: int,
    **how: Any,
) -> list[float]:
    """Fit with early stopping where examples are few; gives what `monitor` was after each epoch.

    An epoch has `steps` steps at least: few examples are shown several times, or an epoch without progress
    would be one look at a handful of them. The best epoch's weights stay. `how` is what ``fit`` takes.
    """
    times = math.ceil(steps * batch_size / len(x))
    history: list[float] = model.fit(
        np.concatenate([x] * times),
        np.concatenate([labels] * times),
        batch_size=batch_size,
        validation_data=validation,
        callbacks=[keras.callbacks.EarlyStopping(monitor, patience=patience, restore_best_weights=True)],
        verbose=0,
        **how,
    ).history[monitor]
    return history
