"""Credit scoring: one segment of a portfolio teaches another, by a network pre-trained on tables.

A table becomes float32 rows in one way (`preparation`), fitted on the source segment alone. A Keras network's
hidden layers are a prefix, frozen or trained on. Explained in the chapter "Score credit".
"""

import dataclasses
import functools
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, QuantileTransformer

from tlhelpers import _inputs, downloads, page
from tlhelpers._errors import check_name
from tlhelpers._formats import credit_table, german_table
from tlhelpers.evaluation import bootstrap_interval
from tlhelpers.features import precompute
from tlhelpers.freezing import freeze
from tlhelpers.page import Edition
from tlhelpers.prefix import split

from .recipes import table_network as network
from .skeleton import Fitted, application, best, fit_few, forget, in_proportion, search, search_logistic

__all__ = [
    "ALONE",
    "FILES",
    "GERMAN",
    "METHODS",
    "POOLED",
    "SIZES",
    "STUDY",
    "TRANSFER",
    "Columns",
    "Fitted",
    "Segments",
    "check_table",
    "cost",
    "fit",
    "groups",
    "load_german",
    "load_segments",
    "measure",
    "network",
    "preparation",
    "segments",
]

TRANSFER = ("frozen", "fine-tuned", "source only")
"""These need the source's network, and none of its rows."""
POOLED = ("pooled", "gradient boosting, pooled")
"""These need the source's rows beside the target's."""
ALONE = ("from scratch", "logistic regression", "gradient boosting")
"""These know the target's labels alone."""
METHODS = (*TRANSFER, *POOLED, *ALONE)
SIZES = (50, 200, 800, 2_400)
"""Numbers of labelled target rows in the measured table."""

FILES = ("default_of_credit_card_clients.csv", "german_credit.csv")
"""What the chapter's full edition fetches: see `tlhelpers.downloads`."""

RATES = {
    "source": (0.001,),
    "fine-tuned": (0.0001, 0.0003, 0.001),
    "from scratch": (0.001, 0.003, 0.01),
    "pooled": (0.001,),
}
"""Learning rates of Adam that validation chooses from."""
INVERSE_PENALTIES = (0.0001, 0.001, 0.01, 0.1, 1.0)
LEAVES, LEAF_ROWS, TREES = (4, 15), (5, 20, 80), (30, 100)
"""For gradient boosting: leaves in a tree at most, rows in a leaf at least, trees; validation chooses."""
STOPPING: dict[str, Any] = {"monitor": "val_loss", "steps": 20, "patience": 5}
"""How a network stops, for `skeleton.fit_few`."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Columns:
    """What a credit table holds: the names of its columns.

    `numbers` are amounts, any finite number; `categories` are codes or words; the `label` is 0 for repaid, 1
    for default. No model sees what is `kept_back`, such as protected attributes; `groups` are made of it.
    Each is named once: TypeError or ValueError otherwise.
    """

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    label: str
    kept_back: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        advice = "Name each column as the table does, its label in no other place."
        every: list[Any] = [self.label]
        for part in ("numbers", "categories", "kept_back"):
            every += _inputs.listed(part, getattr(self, part), "names of columns", advice)
        if wrong := [name for name in every if not isinstance(name, str)]:
            raise TypeError(f"columns: expected texts, got {type(wrong[0]).__name__}. {advice}")
        if twice := [name for name in every if every.count(name) > 1]:
            raise ValueError(
                f"columns: expected each once, got {twice[0]!r} {every.count(twice[0])} times. {advice}"
            )


TAIWAN = Columns(
    numbers=("LIMIT_BAL", *(f"{what}{month}" for what in ("BILL_AMT", "PAY_AMT") for month in range(1, 7))),
    categories=("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"),
    label="default",
    kept_back=("SEX", "MARRIAGE", "AGE"),
)
"""Credit-card clients: amounts in New Taiwan dollars; states of repayment (months of delay, or a code)."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Two segments of a portfolio, source and target; no row is in two parts.

    Few rows of `train`, the target's, get to be labelled. A network trains for so many `epochs` at most.
    """

    columns: Columns
    source: pd.DataFrame
    source_validation: pd.DataFrame
    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    licence: str = ""
    origin: str = ""
    epochs: int = 60


# -- tables ---------------------------------------------------------------------------------------


def check_table(table: pd.DataFrame, columns: Columns, *, labelled: bool = False) -> pd.DataFrame:
    """Check that a table, with its label if need be, is what `columns` says; bring it into one form.

    Gives the numbers as float64 and the categories as text (``"2"`` for 2 and for 2.0, which missing values
    make of it). Missing values are NaN, and a warning counts them. Raises TypeError where a column of numbers
    holds something else, or an argument is of another type; ValueError where a column is missing or there
    twice, a number is infinite, a whole column is missing values, a label is not 0 or 1, or there is no row.
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"table: expected a pandas.DataFrame, got {type(table).__name__}. Read it with pandas.read_csv."
        )
    if not isinstance(columns, Columns):
        raise TypeError(f"columns: expected Columns, got {type(columns).__name__}. Name them: Columns(...).")
    for name in (*columns.numbers, *columns.categories, *[columns.label] * labelled):
        there = list(table.columns).count(name)
        if there != 1:
            got = f"{there} of them" if there else "no such column"
            # A file whose columns are parted by something else is read as one column.
            one = len(table.columns) == 1 and not there
            advice = (
                f", or read the file with sep, since its one column is {table.columns[0]!r}" if one else ""
            )
            raise ValueError(
                f"table: expected the column {name!r}, got {got}. Name the columns of your table in "
                f"studies.credit.Columns(...), or rename them{advice}."
            )
    if table.empty:
        raise ValueError("table: expected at least one row, got none. Check what was selected.")
    checked = pd.DataFrame(
        {name: _numbers(table[name]) for name in columns.numbers}
        | {name: _categories(table[name]) for name in columns.categories},
        index=table.index,
    )
    missing = checked.isna().sum()
    empty = missing.index[missing == len(checked)]
    if len(empty) and len(checked) > 1:
        raise ValueError(f"column {empty[0]!r}: expected some values, got missing ones alone. Leave it out.")
    if missing.any():
        named = ", ".join(f"{name} ({count})" for name, count in missing[missing > 0].items())
        warnings.warn(
            f"table: missing values in {named}. The median of the rows fitted on stands for a missing "
            "number, 'rare' for a missing category.",
            stacklevel=2,
        )
    if labelled:
        label = list(table[columns.label])
        wrong = [each for each in label if not pd.api.types.is_number(each) or each not in (0, 1)]
        if wrong:
            raise ValueError(
                f"column {columns.label!r}: expected 0 (repaid) or 1 (default), got {wrong[0]!r}. "
                "Map yours to them."
            )
        checked[columns.label] = [int(each == 1) for each in label]
    return checked


def _numbers(column: "pd.Series[Any]") -> "pd.Series[float]":
    if column.dtype.kind not in "iuf":
        example = next((value for value in column if not isinstance(value, (int, float))), column.iloc[0])
        raise TypeError(
            f"column {column.name!r}: expected numbers, got {column.dtype} (as {example!r}). Turn it into "
            "numbers with pandas.to_numeric (decimal commas: pandas.read_csv with decimal=','), or name it "
            "among the categories."
        )
    values = column.astype("float64")
    if np.isinf(values).any():
        raise ValueError(
            f"column {column.name!r}: expected finite numbers, got infinity. Mark it as missing."
        )
    return values


def _categories(column: "pd.Series[Any]") -> "pd.Series[Any]":
    def word(value: object) -> str:
        """The same for a code however its column is kept, and whatever stands in other rows."""
        whole = isinstance(value, float | np.floating) and float(value).is_integer()
        return str(int(value)) if whole else str(value)  # type: ignore[call-overload]

    return column.astype(object).map(word, na_action="ignore").astype(object).where(column.notna(), np.nan)


def preparation(columns: Columns) -> Pipeline:
    """What turns a table into a network's input; fit it on the source's training rows, and keep it.

    The table is checked by `check_table`. Each number (the median, where one is missing) becomes its rank
    among the rows fitted on, spread like a normal distribution: amounts of money are too skewed to be used as
    they are. Each category becomes a column of zeros and ones; categories with fewer than 50 rows share one,
    "rare", which stands for unseen and missing ones as well. Where fitting met no rare one, those are all
    zeros. ``transform`` gives float32 (n, width).
    """
    numbers = make_pipeline(
        SimpleImputer(strategy="median"),
        QuantileTransformer(output_distribution="normal", n_quantiles=100, subsample=None, random_state=0),
        # The ends of the normal distribution are 5.2 away, which few rows should decide.
        FunctionTransformer(np.clip, kw_args={"a_min": -3, "a_max": 3}),
    )
    codes = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=50, sparse_output=False)
    return make_pipeline(
        FunctionTransformer(check_table, kw_args={"columns": columns}),
        ColumnTransformer(
            [("numbers", numbers, list(columns.numbers)), ("codes", codes, list(columns.categories))]
        ),
        FunctionTransformer(np.asarray, kw_args={"dtype": "float32"}),
    )


def segments(
    source: pd.DataFrame, target: pd.DataFrame, columns: Columns, *, validation: int = 500, test: int = 1_400
) -> Segments:
    """Split two segments of a portfolio once, by chance, with the same share of defaults in all parts.

    `source` and `target` are labelled tables. Of the target so many rows are kept aside for validation and
    test, of the source a fifth. Raises what `check_table` does, and ValueError if an index label is in both.
    """
    for table in (source, target):
        check_table(table, columns, labelled=True)
    shared = source.index.intersection(target.index)
    if len(shared):
        raise ValueError(
            f"source and target: expected different clients, got {len(shared)} index labels that are in "
            f"both, {shared[0]!r} first. Give each client one index label, and put it in one segment."
        )
    label, apart = columns.label, functools.partial(train_test_split, random_state=0)
    source_train, source_held = apart(source, test_size=len(source) // 5, stratify=source[label])
    rest, held_test = apart(target, test_size=test, stratify=target[label])
    train, held = apart(rest, test_size=validation, stratify=rest[label])
    return Segments(columns, source_train, source_held, train, held, held_test)


def load_segments(edition: Edition) -> Segments:
    """The chapter's data: credit-card clients in two segments by education, or the pocket edition's stand-in.

    Source: clients with a university degree or more (EDUCATION 1 or 2). Target: those whose education ended
    with high school (3). The few rows with other codes are left out. In the pocket edition tumours of
    scikit-learn's breast cancer table take the clients' place, in two segments by smoothness; sex and age are
    made up. That is for a smoke test, and says nothing on credit.

    Source of the data: Yeh and Lien, *The comparisons of data mining techniques for the predictive accuracy
    of probability of default of credit card clients*, 2009.
    """
    return _clients() if edition.name == "full" else _stand_in()


@functools.cache
def _clients() -> Segments:
    table = credit_table(downloads.fetch(FILES[0]))
    resource = downloads.RESOURCES[FILES[0]]
    parts = segments(table[table["EDUCATION"].isin([1, 2])], table[table["EDUCATION"] == 3], TAIWAN)
    return dataclasses.replace(parts, licence=resource.licence, origin=resource.source)


@functools.cache
def _stand_in() -> Segments:
    from sklearn.datasets import load_breast_cancer

    cancer = load_breast_cancer(as_frame=True)
    means = cancer.data.filter(regex="^mean ")
    rough, row = pd.qcut(means["mean texture"], 3, labels=False), np.arange(len(means))
    table = means.assign(default=1 - cancer.target, texture=rough, SEX=1 + row % 2, AGE=21 + row % 50)
    smooth = table["mean smoothness"] < table["mean smoothness"].median()
    columns = Columns(tuple(means), ("texture",), "default", ("SEX", "AGE"))
    parts = segments(table[smooth], table[~smooth], columns, validation=60, test=90)
    # A smoke test, not a measurement: a few epochs will do.
    return dataclasses.replace(parts, licence="CC BY 4.0", origin="scikit-learn", epochs=5)


# -- methods --------------------------------------------------------------------------------------


def fit(data: Segments, method: str, labels: int, *, seed: int = 0) -> Fitted:
    """Fit one of `METHODS` to so many labelled rows of the target, drawn with its share of defaults.

    All get the same rows, prepared in the same way, and choose their settings by the area under the ROC curve
    on the same validation rows. The seed is for the draw, the random weights (of pre-training, too) and the
    order of the batches. `predict` takes a table and gives the probability of default.

    The pre-trained network: "frozen", its last layer fitted anew (a logistic regression); "fine-tuned", all
    layers trained on; "source only", as it is. A network trained from random weights: "from scratch" on the
    target alone, "pooled" on source and target rows together. On the prepared columns themselves: "logistic
    regression", "gradient boosting", and on source and target rows together "gradient boosting, pooled".

    Examples
    --------
    >>> data = load_segments(Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example"))
    >>> model = fit(data, "logistic regression", 50)
    >>> model.predict(data.test).shape, model.validation > 0.9
    ((90,), True)
    """
    check_name("method", method, METHODS)
    labels = _inputs.whole("labels", labels, 10, len(data.train), "They are rows of the target.")
    few = data.train.iloc[in_proportion(data.train[data.columns.label].to_numpy(), labels, seed=seed)]
    (x, y), held = _rows(data, few), _rows(data, data.validation)
    if method in POOLED:
        source_x, source_y = _rows(data, data.source)
        x, y = np.concatenate([source_x, x]), np.concatenate([source_y, y])
    if method in TRANSFER:
        pretrained = _pretrained(data, seed)  # before the clock starts
    began = time.process_time()
    if method == "source only":
        score, choice = _network_score(pretrained), "nothing to choose"
    elif method == "frozen":
        score, choice = _frozen(pretrained, x, y, held)
    elif method == "logistic regression":
        score, choice = _logistic(x, y, held)
    elif method.startswith("gradient boosting"):
        score, choice = _boosted(x, y, held, rows=(20,) if method in POOLED else LEAF_ROWS)
    else:
        start = pretrained if method == "fine-tuned" else network(x.shape[1], seed=seed)
        model, choice = _trained(start, x, y, held, rates=RATES[method], epochs=data.epochs, seed=seed)
        score = _network_score(model)
    seconds = round(time.process_time() - began, 1)
    validation = float(roc_auc_score(held[1], score(held[0])))
    return Fitted(lambda table: score(_prepared(data).transform(table)), validation, choice, seconds)


Held = tuple[Array, Array]
"""Prepared rows and their labels."""
Score = Callable[[Array], Array]


@functools.cache
def _prepared(data: Segments) -> Pipeline:
    return preparation(data.columns).fit(data.source)


def _rows(data: Segments, part: pd.DataFrame) -> Held:
    return _prepared(data).transform(part), part[data.columns.label].to_numpy()


@functools.cache
def _pretrained(data: Segments, seed: int) -> keras.Model:
    """The network after the source segment; never trained further itself."""
    (x, y), held = _rows(data, data.source), _rows(data, data.source_validation)
    start = network(x.shape[1], seed=seed)
    return _trained(start, x, y, held, rates=RATES["source"], epochs=data.epochs, seed=seed)[0]


@functools.cache
def _workbench(width: int) -> keras.Model:
    """A compiled network that every training is done in; kept, since building its graph is slow."""
    model = network(width)
    model.compile(keras.optimizers.Adam(), "binary_crossentropy")
    rows = np.zeros((8, width), "float32"), np.zeros(8)
    model.fit(*rows, validation_data=rows, verbose=0)
    return model


def _trained(
    start: keras.Model, x: Array, y: Array, held: Held, *, rates: tuple[float, ...], epochs: int, seed: int
) -> tuple[keras.Model, str]:
    """Train from these weights with each rate; stop by the validation loss, choose by the AUC."""
    model, batch = _workbench(x.shape[1]), 32 if len(x) < 10_000 else 256
    scores, kept = {}, {}
    for rate in rates:
        keras.utils.set_random_seed(seed)
        forget(model, start.get_weights(), rate=rate, seed=seed)
        losses = fit_few(
            model, x, y, held, batch_size=batch, epochs=epochs, validation_batch_size=len(held[0]), **STOPPING
        )
        scores[rate] = float(roc_auc_score(held[1], _network_score(model)(held[0])))
        kept[rate] = f"rate {rate:g}, epoch {int(np.argmin(losses)) + 1}", model.get_weights()
    choice, weights = kept[best(scores)]
    chosen = network(x.shape[1])
    chosen.set_weights(weights)
    return chosen, choice


def _network_score(model: keras.Model) -> Score:
    return lambda x: np.asarray(keras.ops.convert_to_numpy(model(x, training=False))).ravel()


def _frozen(pretrained: keras.Model, x: Array, y: Array, held: Held) -> tuple[Score, str]:
    model = network(x.shape[1])
    model.set_weights(pretrained.get_weights())
    freeze(model, train_from="head")
    prefix, _ = split(model, at="hidden_2")
    score, choice = _logistic(precompute(prefix, x), y, (precompute(prefix, held[0]), held[1]))
    return lambda rows: score(precompute(prefix, rows)), choice


def _logistic(x: Array, y: Array, held: Held) -> tuple[Score, str]:
    parts = {"columns": x}, y, {"columns": held[0]}, held[1]
    how: dict[str, Any] = {"steps": 500, "scaled": True, "scoring": "roc_auc"}
    found, choice = search_logistic(INVERSE_PENALTIES, *parts, **how)
    return lambda rows: found.classifier.predict_proba(rows)[:, 1], choice


def _boosted(x: Array, y: Array, held: Held, *, rows: tuple[int, ...]) -> tuple[Score, str]:
    classifier = HistGradientBoostingClassifier(learning_rate=0.05, early_stopping=False, random_state=0)
    grid = [
        {"max_leaf_nodes": [leaves], "min_samples_leaf": [least], "max_iter": TREES}
        for leaves in LEAVES
        for least in rows
    ]
    parts = {"columns": x}, y, {"columns": held[0]}, held[1]
    found = search(lambda _: classifier, lambda _: grid, *parts, scoring="roc_auc")
    words = "{max_leaf_nodes} leaves of {min_samples_leaf} rows or more, {max_iter} trees"
    return lambda rows: found.classifier.predict_proba(rows)[:, 1], words.format(**found.settings)


# -- the measured table ---------------------------------------------------------------------------


def measure(method: str, labels: int, *, seed: int = 0, edition: Edition | None = None) -> dict[str, Any]:
    """Fit a method to so many labelled rows, and test; the value is the area under the ROC curve.

    Examples
    --------
    >>> pocket = Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> list(measure("logistic regression", 50, edition=pocket))
    ['value', 'validation', 'choice', 'cpu_seconds', 'average_precision']
    """
    data = load_segments(edition or page.current())
    fitted = fit(data, method, labels, seed=seed)
    truth, scores = data.test[data.columns.label], fitted.predict(data.test)
    row = fitted.row(float(roc_auc_score(truth, scores)))
    return {**row, "average_precision": float(average_precision_score(truth, scores))}


STUDY = application(
    "credit",
    methods=METHODS,
    sizes=SIZES,
    metric="AUC",
    measure=measure,
    # The area is the share of pairs (a default, a repaid loan) in the right order. Counting clients instead
    # of pairs gives a standard error somewhat smaller than the area's own.
    examples=lambda edition: len(load_segments(edition).test),
)


# -- decisions ------------------------------------------------------------------------------------


def _decisions(labels: npt.ArrayLike, flagged: npt.ArrayLike) -> tuple[Array, Array]:
    # Not a chance of default: any but 0 would pass for true.
    expected, advice = (
        "truth values, or 0 and 1, one for each client",
        "Compare scores with a threshold first.",
    )
    declined = _inputs.array("flagged", flagged, expected, advice, ndim=(1,), kinds="biu", low=0, high=1)
    return _inputs.labels("labels", labels, len(declined), 2) == 1, declined.astype(bool)


def cost(labels: npt.ArrayLike, flagged: npt.ArrayLike, *, miss: float = 5.0, alarm: float = 1.0) -> float:
    """What wrong decisions cost, on average over the clients.

    `labels` are 1 for a default, `flagged` says who was declined. A miss is a default that was not flagged, a
    false alarm a client declined who would have paid. Five to one is the cost matrix that comes with the
    German credit data.

    Examples
    --------
    >>> cost([1, 1, 0, 0], [True, False, True, False])
    1.5
    """
    truth, declined = _decisions(labels, flagged)
    miss, alarm = _inputs.real("miss", miss), _inputs.real("alarm", alarm)
    return float(np.mean(miss * (truth & ~declined) + alarm * (~truth & declined)))


def groups(labels: npt.ArrayLike, flagged: npt.ArrayLike, by: "pd.Series[Any]") -> pd.DataFrame:
    """How decisions fall on groups of clients: `by` has each client's, a categorical's order is kept.

    Gives a row for each group: ``clients``, ``defaults`` (share), ``flagged`` (share declined) and
    ``sensitivity`` (share of the defaults that were flagged, NaN if there is none), the last two with
    ``_low`` and ``_high``, their 95% bootstrap intervals. This is no test of fairness: which measure matters
    is a decision about the use.

    Examples
    --------
    >>> table = groups([1, 0, 1, 0], [1, 0, 0, 0], pd.Series(["a", "a", "b", "b"]))
    >>> table[["flagged", "sensitivity"]].values.tolist()
    [[0.5, 1.0], [0.0, 0.0]]
    """
    truth, declined = _decisions(labels, flagged)
    given: Any = by
    if not isinstance(given, pd.Series) or len(given) != len(truth) or given.isna().any():
        raise ValueError(
            f"by: expected a pandas.Series with a group for each of {len(truth)} clients, got "
            f"{type(given).__name__}. Give all for the same rows, and a name to what is missing."
        )
    names = by.astype("category")
    rows = {}
    for name in names.cat.categories[names.cat.categories.isin(names)]:
        here = (names == name).to_numpy()
        row = {"clients": int(here.sum()), "defaults": truth[here].mean()}
        for what, of in (("flagged", here), ("sensitivity", here & truth)):
            ends = bootstrap_interval(np.mean, declined[of]) if of.any() else (math.nan, math.nan)
            row[what] = declined[of].mean() if of.any() else math.nan
            row[f"{what}_low"], row[f"{what}_high"] = ends
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


# -- another bank ---------------------------------------------------------------------------------

GERMAN = Columns(
    numbers=("duration", "amount", "installment_rate", "residence", "credits", "dependents"),
    categories=(
        *("checking", "history", "purpose", "savings", "employment", "debtors", "property"),
        *("other_plans", "housing", "job", "telephone", "foreign"),
    ),
    label="default",
    kept_back=("status_sex", "age"),
)


def load_german(edition: Edition) -> pd.DataFrame:
    """The German credit data, columns of `GERMAN`: 1,000 loans of another bank, country and time.

    ``default`` is 1 for a bad risk. In the pocket edition random numbers take their place.

    Examples
    --------
    >>> load_german(Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")).shape
    (400, 21)
    """
    if edition.name == "full":
        return german_table(downloads.fetch(FILES[1]))
    rng = np.random.default_rng(0)
    numbers = {name: rng.integers(1, 100, 400) for name in (*GERMAN.numbers, "age", "default")}
    codes = {name: rng.choice(["A1", "A2"], 400) for name in (*GERMAN.categories, "status_sex")}
    return pd.DataFrame(numbers | codes).assign(default=lambda table: table["default"] % 2)
