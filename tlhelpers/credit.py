"""Credit scoring: one segment of a portfolio teaches another, by a network pre-trained on tables.

A table becomes float32 rows in one way (`preparation`), fitted on the source segment alone. The rest is the
book's usual engine: a Keras network whose hidden layers are a prefix, frozen or trained on.
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
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, QuantileTransformer, StandardScaler

from . import downloads, editions, published
from ._errors import unknown_name
from ._restart import forget
from .evaluation import bootstrap_interval
from .freezing import freeze
from .prefix import precompute, split

__all__ = [
    "ALONE",
    "METHODS",
    "METRIC",
    "POOLED",
    "RATES",
    "SIZES",
    "TAIWAN",
    "TRANSFER",
    "Columns",
    "Fitted",
    "Segments",
    "check_one",
    "check_table",
    "cost",
    "draw",
    "fit",
    "groups",
    "load_german",
    "load_segments",
    "measure",
    "network",
    "preparation",
    "segments",
]

METRIC = "AUC"
"""What the table counts."""
TRANSFER = ("frozen", "fine-tuned", "source only")
"""These need the source's network, and none of its rows."""
POOLED = ("pooled", "gradient boosting, pooled")
"""These need the source's rows beside the target's."""
ALONE = ("from scratch", "logistic regression", "gradient boosting")
"""These know the target's labels alone."""
METHODS = (*TRANSFER, *POOLED, *ALONE)
"""All of them, in the order of the chapter's tables."""
SIZES = (50, 200, 800, 2_400)
"""Numbers of labelled target rows."""

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
STEPS = 20
"""Steps in an epoch at least, or fifty rows would be a look at two batches."""
PATIENCE = 5

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Columns:
    """What a credit table holds.

    Attributes
    ----------
    numbers
        Amounts: any finite number; missing ones become the median of the rows fitted on.
    categories
        Codes or words; one that is missing, or was not seen when fitting, counts as a rare one.
    label
        0 for repaid, 1 for default.
    kept_back
        Columns that no model sees, such as protected attributes; needed to look at groups.
    """

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    label: str
    kept_back: tuple[str, ...] = ()


_MONTHS = (1, 2, 3, 4, 5, 6)
TAIWAN = Columns(
    numbers=(
        "LIMIT_BAL",
        *(f"BILL_AMT{month}" for month in _MONTHS),
        *(f"PAY_AMT{month}" for month in _MONTHS),
    ),
    categories=("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"),
    label="default",
    kept_back=("SEX", "MARRIAGE", "AGE"),
)
"""Credit-card clients: amounts in New Taiwan dollars; states of repayment (months of delay, or a code)."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Two segments of a portfolio; no row is in two parts.

    Attributes
    ----------
    columns
        What each table holds.
    source, source_validation
        The segment with many labels.
    train, validation, test
        The segment of interest; few rows of `train` get to be labelled.
    licence, origin
        For the page that uses them.
    epochs
        How long a network trains at most.
    """

    columns: Columns
    source: pd.DataFrame
    source_validation: pd.DataFrame
    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    licence: str
    origin: str
    epochs: int = 60


def check_table(table: pd.DataFrame, columns: Columns, *, labelled: bool = False) -> pd.DataFrame:
    """Make sure that a table is what `columns` says, and bring it into one form.

    Parameters
    ----------
    table
        A row for each client. More columns than needed do no harm.
    columns
        What it should hold.
    labelled
        Whether the label is needed, too.

    Returns
    -------
    pandas.DataFrame
        The numbers as float64, the categories as text (a whole number as such: ``"2"``, also where
        missing values made a column of whole numbers one of floats); missing ones are NaN.

    Raises
    ------
    TypeError
        If it is no DataFrame, or a column that should hold numbers holds something else.
    ValueError
        If a column is missing or there twice, a number is infinite, a whole column is missing values, a
        label is not 0 or 1, or there is no row.

    Warns
    -----
    UserWarning
        If values are missing: how many, in which columns, and what stands for them.

    Notes
    -----
    Explained in the chapter "Score credit".

    Examples
    --------
    >>> import pandas as pd, tlhelpers as tl
    >>> columns = tl.credit.Columns(("amount",), ("state",), "default")
    >>> tl.credit.check_table(pd.DataFrame({"amount": [5, 7], "state": [0.0, 2.0]}), columns).state.tolist()
    ['0', '2']
    >>> tl.credit.check_table(pd.DataFrame({"amount": [5, 7]}), columns)
    Traceback (most recent call last):
        ...
    ValueError: table: expected the column 'state', got no such column. ...
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"table: expected a pandas.DataFrame, got {type(table).__name__}. Read it with pandas.read_csv."
        )
    wanted = [*columns.numbers, *columns.categories, *([columns.label] if labelled else [])]
    for name in wanted:
        there = int((table.columns == name).sum())
        if there != 1:
            got = "no such column" if there == 0 else f"{there} of them"
            raise ValueError(
                f"table: expected the column {name!r}, got {got}. Name the columns of your table in "
                "tl.credit.Columns(...), or rename them."
            )
    if table.empty:
        raise ValueError("table: expected at least one row, got none. Check what was selected.")
    checked = pd.DataFrame(
        {name: _numbers(table[name]) for name in columns.numbers}
        | {name: _categories(table[name]) for name in columns.categories},
        index=table.index,
    )
    missing = checked.isna().sum()
    empty = [name for name, count in missing.items() if count == len(checked) and len(checked) > 1]
    if empty:
        raise ValueError(f"column {empty[0]!r}: expected some values, got missing ones alone. Leave it out.")
    if missing.any():
        named = ", ".join(f"{name} ({count})" for name, count in missing[missing > 0].items())
        warnings.warn(
            f"table: missing values in {named}. The median of the rows fitted on stands for a missing "
            "number, 'rare' for a missing category.",
            stacklevel=2,
        )
    if labelled:
        label = table[columns.label]
        if not label.isin([0, 1]).all():
            wrong = label[~label.isin([0, 1])].iloc[0]
            raise ValueError(
                f"column {columns.label!r}: expected 0 (repaid) or 1 (default), got {wrong!r}. "
                "Map yours to them."
            )
        checked[columns.label] = label.astype("int64")
    return checked


def _numbers(column: "pd.Series[Any]") -> "pd.Series[float]":
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        example = next((value for value in column if not isinstance(value, (int, float))), column.iloc[0])
        raise TypeError(
            f"column {column.name!r}: expected numbers, got {column.dtype} (as {example!r}). Turn it into "
            "numbers with pandas.to_numeric, or name it among the categories."
        )
    values = column.astype("float64")
    if np.isinf(values).any():
        raise ValueError(
            f"column {column.name!r}: expected finite numbers, got infinity. Mark it as missing."
        )
    return values


def _categories(column: "pd.Series[Any]") -> "pd.Series[Any]":
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype(object).map(str, na_action="ignore").astype(object).where(column.notna(), np.nan)


def preparation(columns: Columns) -> Pipeline:
    """What turns a table into a network's input; fit it on the source's training rows, and keep it.

    The table is checked. Each number becomes its rank among the rows fitted on, spread like a normal
    distribution: amounts of money are too skewed to be used as they are. Each category becomes a column of
    zeros and ones; categories with fewer than 50 rows share one, "rare", which stands for unseen and missing
    ones as well. Where fitting met no rare one, those are all zeros.

    Parameters
    ----------
    columns
        What the tables hold.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Not fitted. ``transform`` takes a table and gives float32 (n, width).

    Notes
    -----
    Errors and warnings are those of `check_table`. Explained in the chapter "Score credit".

    Examples
    --------
    >>> import pandas as pd, tlhelpers as tl
    >>> columns = tl.credit.Columns(("amount",), ("state",), "default")
    >>> table = pd.DataFrame({"amount": range(200), "state": [0, 1] * 100})
    >>> prepared = tl.credit.preparation(columns).fit(table)
    >>> prepared.transform(table).shape
    (200, 3)
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
    source: pd.DataFrame,
    target: pd.DataFrame,
    columns: Columns,
    *,
    validation: int = 500,
    test: int = 1_400,
    licence: str = "",
    origin: str = "",
) -> Segments:
    """Split two segments of a portfolio once, by chance, with the same share of defaults in all parts.

    Parameters
    ----------
    source, target
        Labelled tables that share no row.
    columns
        What both hold.
    validation, test
        Rows of the target kept aside for each. Of the source a fifth is kept aside.
    licence, origin
        For the page that uses them.

    Returns
    -------
    Segments

    Raises
    ------
    TypeError, ValueError
        As `check_table`; also if source and target share an index label, or the target is too small.

    Notes
    -----
    Explained in the chapter "Score credit".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> data = tl.credit.load_segments(pocket)
    >>> again = tl.credit.segments(data.source, data.train, data.columns, validation=20, test=30)
    >>> len(again.test)
    30
    """
    for table in (source, target):
        check_table(table, columns, labelled=True)
    shared = source.index.intersection(target.index)
    if len(shared):
        raise ValueError(
            f"source and target: expected different clients, got {len(shared)} index labels that are in "
            f"both, {shared[0]!r} first. Give each client one index label, and put it in one segment."
        )
    if len(target) <= validation + test:
        raise ValueError(
            f"target: expected more than validation + test = {validation + test} rows, got {len(target)}. "
            "Keep fewer aside."
        )

    def apart(table: pd.DataFrame, n: int) -> list[pd.DataFrame]:
        parts: list[pd.DataFrame] = train_test_split(
            table, test_size=n, stratify=table[columns.label], random_state=0
        )
        return parts

    source_train, source_validation = apart(source, len(source) // 5)
    rest, held_test = apart(target, test)
    train, held_validation = apart(rest, validation)
    return Segments(
        columns, source_train, source_validation, train, held_validation, held_test, licence, origin
    )


def load_segments(edition: editions.Edition) -> Segments:
    """The chapter's data: credit-card clients in two segments by education, or the pocket edition's stand-in.

    Source: clients with a university degree or more (EDUCATION 1 or 2). Target: those whose education ended
    with high school (3). The few rows with other codes are left out.

    Parameters
    ----------
    edition
        In the pocket edition tumours of scikit-learn's breast cancer table take the clients' place, in two
        segments by smoothness; sex and age are made up. That is for a smoke test, and says nothing on credit.

    Returns
    -------
    Segments

    Raises
    ------
    tlhelpers.downloads.DownloadError
        If the data can't be had.

    Notes
    -----
    Source: Yeh and Lien, *The comparisons of data mining techniques for the predictive accuracy of
    probability of default of credit card clients*, 2009. Explained in the chapter "Score credit".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.credit.load_segments(pocket).test.shape
    (90, 14)
    """
    if edition.name == "pocket":
        return _stand_in()
    name = FILES[0]
    table = downloads.credit_table(downloads.fetch(name))
    resource = downloads.RESOURCES[name]
    return segments(
        table[table["EDUCATION"].isin([1, 2])],
        table[table["EDUCATION"] == 3],
        TAIWAN,
        licence=resource.licence,
        origin=resource.source,
    )


def _stand_in() -> Segments:
    from sklearn.datasets import load_breast_cancer

    cancer = load_breast_cancer(as_frame=True)
    names = tuple(str(name) for name in cancer.feature_names if name.startswith("mean"))
    table = cancer.data[list(names)].assign(default=1 - cancer.target)
    rough = pd.qcut(table["mean texture"], 3, labels=False)
    row = np.arange(len(table))
    table = table.assign(texture=rough, SEX=1 + row % 2, AGE=21 + row % 50)
    smooth = table["mean smoothness"] < table["mean smoothness"].median()
    columns = Columns(names, ("texture",), "default", ("SEX", "AGE"))
    parts = segments(table[smooth], table[~smooth], columns, validation=60, test=90)
    # A smoke test, not a measurement: a few epochs will do.
    return dataclasses.replace(parts, licence="CC BY 4.0", origin="scikit-learn", epochs=5)


def network(width: int, *, seed: int = 0) -> keras.Model:
    """A small network for prepared rows: two hidden layers, dropout, and a head of one number.

    Parameters
    ----------
    width
        Columns after preparation.
    seed
        For the weights and the dropout.

    Returns
    -------
    keras.Model
        float32 (n, width) to the probability of default, (n, 1). Layers ``hidden_1``, ``hidden_2``,
        ``dropout`` and ``head``; not compiled.

    Notes
    -----
    Explained in the chapter "Score credit".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.cut_points(tl.credit.network(55))
    ['hidden_1', 'hidden_2', 'dropout']
    """
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((width,))
    x = keras.layers.Dense(64, activation="relu", name="hidden_1")(inputs)
    x = keras.layers.Dense(32, activation="relu", name="hidden_2")(x)
    x = keras.layers.Dropout(0.2, seed=seed, name="dropout")(x)
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="head")(x))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A scoring model, and how it was chosen.

    Attributes
    ----------
    predict
        Takes a table; gives the probability of default, float (n,).
    validation
        Area under the ROC curve on the target's validation rows.
    choice
        What validation chose.
    cpu_seconds
        From labelled rows to the model, all settings tried, on all cores together. Pre-training, which is
        paid once, and building Keras' graph are left out.
    """

    predict: Callable[[pd.DataFrame], Array]
    validation: float
    choice: str
    cpu_seconds: float


def fit(data: Segments, method: str, labels: int, *, seed: int = 0) -> Fitted:
    """Fit one of `METHODS` to a few labelled rows of the target.

    All methods get the same rows, drawn with the target's share of defaults, and prepared in the same way;
    all choose their settings by the area under the ROC curve on the same validation rows.

    Parameters
    ----------
    data
        Two segments.
    method
        "frozen": the pre-trained network's hidden layers as they are, its last layer fitted anew (a logistic
        regression). "fine-tuned": all its layers trained on. "source only": used as it is. "pooled": the
        network trained on source and target rows together. "from scratch": the network trained on the target
        alone. "logistic regression": on the prepared columns. "gradient boosting": on the same; "gradient
        boosting, pooled": on source and target rows.
    labels
        Number of labelled rows.
    seed
        For the draw, the random weights (of pre-training, too) and the order of the batches.

    Returns
    -------
    Fitted

    Raises
    ------
    LookupError
        If there is no such method.
    ValueError
        If so many rows can't be drawn.

    Notes
    -----
    Explained in the chapter "Score credit".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> data = tl.credit.load_segments(pocket)
    >>> model = tl.credit.fit(data, "logistic regression", 50)
    >>> model.predict(data.test).shape, model.validation > 0.9
    ((90,), True)
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    few = draw(data, labels, seed=seed)
    prepared = _prepared(data)
    label = data.columns.label
    x, y = prepared.transform(few), few[label].to_numpy()
    held = prepared.transform(data.validation), data.validation[label].to_numpy()
    if method in POOLED:
        x = np.concatenate([prepared.transform(data.source), x])
        y = np.concatenate([data.source[label].to_numpy(), y])
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

    def predict(table: pd.DataFrame) -> Array:
        return score(prepared.transform(table))

    return Fitted(predict, float(roc_auc_score(held[1], score(held[0]))), choice, seconds)


def draw(data: Segments, labels: int, *, seed: int) -> pd.DataFrame:
    """Draw the rows of the target that get to be labelled.

    Parameters
    ----------
    data
        Two segments.
    labels
        Number of rows, 10 or more and fewer than `data.train` has.
    seed
        For the draw.

    Returns
    -------
    pandas.DataFrame
        With the share of defaults that the target has.

    Raises
    ------
    ValueError
        If so many can't be drawn.

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> len(tl.credit.draw(tl.credit.load_segments(pocket), 20, seed=0))
    20
    """
    if not 10 <= labels < len(data.train):
        raise ValueError(
            f"labels: expected 10 to {len(data.train) - 1} rows of the target, got {labels}. "
            "Give another number."
        )
    label = data.train[data.columns.label]
    drawn: pd.DataFrame = train_test_split(data.train, train_size=labels, stratify=label, random_state=seed)[
        0
    ]
    return drawn


Held = tuple[Array, Array]
Score = Callable[[Array], Array]


@functools.cache
def _prepared(data: Segments) -> Pipeline:
    return preparation(data.columns).fit(data.source)


@functools.cache
def _pretrained(data: Segments, seed: int) -> keras.Model:
    """The network after the source segment; never trained further itself."""
    prepared, label = _prepared(data), data.columns.label
    x, held_x = (prepared.transform(part) for part in (data.source, data.source_validation))
    y, held_y = (part[label].to_numpy() for part in (data.source, data.source_validation))
    start = network(x.shape[1], seed=seed)
    return _trained(start, x, y, (held_x, held_y), rates=RATES["source"], epochs=data.epochs, seed=seed)[0]


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
    batch_size = 32 if len(x) < 10_000 else 256
    times = math.ceil(STEPS * batch_size / len(x))
    x, y = np.concatenate([x] * times), np.concatenate([y] * times)
    model = _workbench(x.shape[1])
    found = []
    for rate in rates:
        keras.utils.set_random_seed(seed)
        forget(model, start.get_weights(), rate=rate, seed=seed)
        stop = keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE, restore_best_weights=True)
        history = model.fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=held,
            validation_batch_size=len(held[0]),
            callbacks=[stop],
            verbose=0,
        ).history["val_loss"]
        auc = float(roc_auc_score(held[1], _network_score(model)(held[0])))
        found.append((auc, f"rate {rate:g}, epoch {int(np.argmin(history)) + 1}", model.get_weights()))
    _, choice, weights = max(found, key=lambda run: run[0])
    best = network(x.shape[1])
    best.set_weights(weights)
    return best, choice


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
    models = {
        f"C {c:g}": make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=500)).fit(x, y)
        for c in INVERSE_PENALTIES
    }
    return _best({name: _probability(model) for name, model in models.items()}, held)


def _boosted(x: Array, y: Array, held: Held, *, rows: tuple[int, ...]) -> tuple[Score, str]:
    models = {
        f"{leaves} leaves of {least} rows or more, {trees} trees": HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=trees,
            max_leaf_nodes=leaves,
            min_samples_leaf=least,
            early_stopping=False,
            random_state=0,
        ).fit(x, y)
        for leaves in LEAVES
        for least in rows
        for trees in TREES
    }
    return _best({name: _probability(model) for name, model in models.items()}, held)


def _probability(model: Any) -> Score:
    return lambda x: model.predict_proba(x)[:, 1]


def _best(scores: dict[str, Score], held: Held) -> tuple[Score, str]:
    """The first of those with the highest area under the ROC curve on validation."""
    name = max(scores, key=lambda name: float(roc_auc_score(held[1], scores[name](held[0]))))
    return scores[name], name


@functools.cache
def _full() -> Segments:
    return load_segments(editions.Edition("full", "mnist", "mobilenet_v2_imagenet", "for the measured table"))


def measure(method: str, labels: int, *, seed: int = 0) -> dict[str, Any]:
    """One point of the chapter's table, on the credit-card clients.

    Parameters
    ----------
    method, labels, seed
        As `fit` takes them.

    Returns
    -------
    dict
        ``value`` (area under the ROC curve) and ``average_precision``, both on the target's test rows;
        ``validation``, ``choice`` and ``cpu_seconds`` as in `Fitted`.

    Raises
    ------
    LookupError, ValueError, tlhelpers.downloads.DownloadError
        As `fit` and `load_segments`.

    Notes
    -----
    Explained in the chapter "Score credit".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.credit.measure("frozn", 50)
    Traceback (most recent call last):
        ...
    LookupError: unknown method 'frozn': expected one of ...
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    data = _full()
    fitted = fit(data, method, labels, seed=seed)
    truth, scores = data.test[data.columns.label], fitted.predict(data.test)
    return {
        "value": float(roc_auc_score(truth, scores)),
        "validation": fitted.validation,
        "choice": fitted.choice,
        "cpu_seconds": fitted.cpu_seconds,
        "average_precision": float(average_precision_score(truth, scores)),
    }


def check_one(*, which: int | None = None) -> pd.DataFrame:
    """Measure one row of the chapter's table again, and stop if it does not agree.

    Parameters
    ----------
    which
        A number that chooses the row; without it the library's own source does.

    Returns
    -------
    pandas.DataFrame
        One row, as `tlhelpers.published.check_one` gives it.

    Raises
    ------
    tlhelpers.published.Disagreement
        If they differ by more than `tlhelpers.published.tolerance` allows for as many test clients.
    LookupError
        If the table has no such rows yet.
    tlhelpers.downloads.DownloadError
        If the data can't be had.

    Notes
    -----
    Explained in the chapter "Score credit".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.credit.check_one()  # doctest: +SKIP
    """
    rows = published.measured("applications").query("domain == 'credit'")

    def again(row: "pd.Series[Any]") -> tuple[float, int | None]:
        value = measure(str(row["method"]), int(row["labels"]), seed=int(row["seed"]))["value"]
        # The area is the share of pairs (a default, a repaid loan) in the right order. Counting clients
        # instead of pairs gives a standard error somewhat smaller than the area's own.
        return value, len(_full().test)

    return published.check_one(
        rows, again, like=["method", "labels"], value="value", most_seconds=10, which=which
    )


def cost(labels: npt.ArrayLike, flagged: npt.ArrayLike, *, miss: float = 5.0, alarm: float = 1.0) -> float:
    """What wrong decisions cost, on average over the clients.

    Parameters
    ----------
    labels
        1 for a default, 0 for none, (n,).
    flagged
        Whether the client was declined, (n,).
    miss
        Cost of a default that was not flagged.
    alarm
        Cost of a client declined who would have paid.

    Returns
    -------
    float
        In the unit of `miss` and `alarm`, for each client.

    Raises
    ------
    ValueError
        If the two differ in length, or a cost is negative.

    Notes
    -----
    The default, five to one, is the cost matrix that comes with the German credit data. Explained in the
    chapter "Score credit".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.credit.cost([1, 1, 0, 0], [True, False, True, False])
    1.5
    """
    truth, declined = np.asarray(labels) == 1, np.asarray(flagged).astype(bool)
    if truth.shape != declined.shape or truth.size == 0:
        raise ValueError(
            f"labels and flagged: expected one each for every client, got {truth.shape} and "
            f"{declined.shape}. Give both for the same rows."
        )
    if min(miss, alarm) < 0:
        raise ValueError(f"miss and alarm: expected costs of 0 or more, got {miss} and {alarm}. Give losses.")
    return float(np.mean(miss * (truth & ~declined) + alarm * (~truth & declined)))


def groups(labels: npt.ArrayLike, flagged: npt.ArrayLike, by: "pd.Series[Any]") -> pd.DataFrame:
    """How decisions fall on groups of clients, with intervals.

    Parameters
    ----------
    labels, flagged
        As for `cost`.
    by
        Each client's group, (n,); the order of a categorical is kept.

    Returns
    -------
    pandas.DataFrame
        A row for each group: ``clients``, ``defaults`` (share), ``flagged`` (share declined), ``found``
        (share of the defaults that were flagged), and ``flagged_low``, ``flagged_high``, ``found_low``,
        ``found_high``: their 95% bootstrap intervals. Without a default in the group the last are NaN.

    Raises
    ------
    ValueError
        If the three differ in length.

    Notes
    -----
    To compare two groups is no test of fairness: which measure matters is a decision about the use. Explained
    in the chapter "Score credit".

    Examples
    --------
    >>> import pandas as pd, tlhelpers as tl
    >>> table = tl.credit.groups([1, 0, 1, 0], [1, 0, 0, 0], pd.Series(["a", "a", "b", "b"]))
    >>> table[["flagged", "found"]].values.tolist()
    [[0.5, 1.0], [0.0, 0.0]]
    """
    names = by.astype("category")
    truth, declined = np.asarray(labels) == 1, np.asarray(flagged).astype(bool)
    if not len(truth) == len(declined) == len(names):
        raise ValueError(
            f"labels, flagged and by: expected one each for every client, got {len(truth)}, "
            f"{len(declined)} and {len(names)}. Give all for the same rows."
        )
    rows = {}
    for name in names.cat.categories[names.cat.categories.isin(names)]:
        here = (names == name).to_numpy()
        found = declined[here & truth]
        row = {"clients": int(here.sum()), "defaults": truth[here].mean(), "flagged": declined[here].mean()}
        row["flagged_low"], row["flagged_high"] = bootstrap_interval(np.mean, declined[here])
        row["found"] = found.mean() if len(found) else math.nan
        row["found_low"], row["found_high"] = (
            bootstrap_interval(np.mean, found) if len(found) else (math.nan, math.nan)
        )
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


GERMAN = Columns(
    numbers=("duration", "amount", "installment_rate", "residence", "credits", "dependents"),
    categories=(
        "checking",
        "history",
        "purpose",
        "savings",
        "employment",
        "debtors",
        "property",
        "other_plans",
        "housing",
        "job",
        "telephone",
        "foreign",
    ),
    label="default",
    kept_back=("status_sex", "age"),
)
"""The German credit data."""


def load_german(edition: editions.Edition) -> pd.DataFrame:
    """The German credit data: 1,000 loans of another bank, country and time.

    Parameters
    ----------
    edition
        In the pocket edition random numbers under the same names take their place.

    Returns
    -------
    pandas.DataFrame
        Columns of `GERMAN`; ``default`` is 1 for a bad risk.

    Raises
    ------
    tlhelpers.downloads.DownloadError
        If the data can't be had.

    Notes
    -----
    Explained in the chapter "Score credit".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.credit.load_german(pocket).shape
    (400, 21)
    """
    if edition.name == "full":
        return downloads.german_table(downloads.fetch(FILES[1]))
    rng = np.random.default_rng(0)
    numbers = {name: rng.integers(1, 100, 400) for name in (*GERMAN.numbers, "age", "default")}
    codes = {name: rng.choice(["A1", "A2"], 400) for name in (*GERMAN.categories, "status_sex")}
    return pd.DataFrame(numbers | codes).assign(default=lambda table: table["default"] % 2)
