"""Where to read a pre-trained network out and which layers to train: the classic advice, and the map's.

The classic advice is a table of four cases: few or many examples, similar to the source or not. The map in
``book/measured/freezing_map.csv`` was measured in all four, and the advice here follows it by one rule.
Explained in the chapter "Choose what to freeze".
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedKFold, cross_val_score

from tlhelpers import _inputs, page
from tlhelpers.evaluation import probe

from .freezing_map import CUTS, DEPTHS, train_from
from .intervals import interval, right_answers

__all__ = [
    "Similarity",
    "Strategy",
    "advice_table",
    "compare",
    "cost",
    "estimate_similarity",
    "map_means",
    "recommend_strategy",
]

Kind = Literal["similar", "different"]
Labels = Literal["few", "many"]
By = Literal["measured", "classic"]
Right = npt.NDArray[np.float64]
Cell = tuple[str, str]
"""A cut and a depth, by their names in the map."""

CLASSIC: dict[tuple[Kind, Labels], Cell] = {
    ("similar", "few"): ("end", "last block"),
    ("similar", "many"): ("end", "half"),
    ("different", "few"): ("end", "half"),
    ("different", "many"): ("end", "everything"),
}
"""The classic table, read as cells of the map. It names no cut, so it reads out at the network's end. How
many layers "more" and "nearer the input" mean it leaves open: both are the later half, in our reading."""

_IN_WORDS = {
    ("similar", "few"): "freeze most, train the last one or two layers",
    ("similar", "many"): "unfreeze more layers",
    ("different", "few"): "fine-tune the layers nearer the input",
    ("different", "many"): "fine-tune the whole network",
}
_TRAINS = {"last block": "the last block", "half": "the later half", "everything": "all"}

EDITION = "full"
"""The advice rests on the full edition's map, whichever edition runs."""

PER_CLASS, IN_ALL = 10, 100
"""Examples of the rarest class, and in all, that an estimate of similarity needs. With fewer, draws of
one data set fall on both sides."""

SIMILAR_FROM = 1 / 3
"""Share of the mistakes that pre-trained features save on data called similar."""

MARGIN = 0.01
"""Of cells this close to the best on validation, the advice takes the one that takes fewest seconds: a
point lies within chance here."""

WHOLE = "{name}: expected a whole number, got {got}."
_TOO_FEW = "n_examples: expected at least one for each of {n_classes} classes, got {n_examples}. "
LEAST: tuple[tuple[str, int | str, str], ...] = (
    ("n_examples", 1, "n_examples: expected at least 1, got {n_examples}. Nothing learns from nothing."),
    ("n_classes", 2, "n_classes: expected at least 2, got {n_classes}. One class needs no classifier."),
    ("n_examples", "n_classes", _TOO_FEW + "Label more examples first."),
)
"""What a question must hold, in order: the number, the least it may be (or the number that it may not be
less than), and what is said otherwise. Data, because the page with the adviser checks by it, too."""


@dataclass(frozen=True, eq=False)
class Strategy:
    """Where to read out, which layers to train, how fast, and why.

    Attributes
    ----------
    cut, depth
        The cell of the map: where the network is cut, and how deep training goes.
    layer
        The last layer of MobileNetV2 that is kept.
    train_from, batch_norm
        What `tlhelpers.freeze` takes; None where nothing but the linear classifier is fitted.
    readout, penalty
        What the linear classifier takes: ``"pooled"`` features or ``"all places"``; and its ridge penalty, in
        units of the features' mean squared distance from their mean.
    learning_rate
        For Adam, to begin with; a cosine takes it to zero. 0 where nothing trains.
    cpu_seconds
        One fit, of all cores together: mean over the cases that the advice rests on, on the map's machine.
    why, evidence
        The reasons in words, and the cells that they rest on, as `map_means` gives them.
    """

    cut: str
    depth: str
    layer: str
    train_from: str | None
    batch_norm: Literal["frozen"]
    readout: Literal["pooled", "all places"]
    penalty: float
    learning_rate: float
    cpu_seconds: float
    why: str
    evidence: pd.DataFrame = field(repr=False)

    @property
    def words(self) -> str:
        """Where to cut, what the linear classifier reads, and what trains."""
        where = f"Cut after {self.cut}." if self.cut != "end" else "Keep the whole network."
        reads = "its pooled output" if self.readout == "pooled" else "all of its output"
        if self.train_from is None:
            return f"{where} Freeze all of it, and fit a linear classifier to {reads}."
        trains = f"then train {_TRAINS[self.depth]} of the network with it"
        return f"{where} Fit a linear classifier to {reads}, {trains}; freeze BatchNorm."

    @property
    def freeze(self) -> dict[str, Any]:
        """What ``tl.freeze(backbone, **strategy.freeze)`` takes."""
        return {"train_from": self.train_from, "batch_norm": self.batch_norm}


@dataclass(frozen=True)
class Similarity:
    """How like the source the new data is, by what pre-training helps to tell its classes apart.

    Attributes
    ----------
    kind
        ``"similar"`` or ``"different"``.
    saved
        Share of the mistakes that the pre-trained features avoid: 1 for all, 0 for none, below 0
        where they make more.
    accuracy, reference
        Cross-validated accuracy with the pre-trained features, and what it is compared with: the
        random network's features or always the commonest class, whichever does better.
    examples
        How many it rests on.
    """

    kind: Kind
    saved: float
    accuracy: float
    reference: float
    examples: int


def estimate_similarity(
    features: npt.ArrayLike, random_features: npt.ArrayLike, labels: npt.ArrayLike
) -> Similarity:
    """Estimate how like its source a data set is to a pre-trained network.

    A linear classifier reads the classes off the frozen features of the pre-trained network, and off those of
    the same network with random weights. If pre-training saves at least a third of the mistakes, the network
    knows such data: "similar".

    Parameters
    ----------
    features : array_like, shape (n, channels)
        Outputs of the frozen pre-trained backbone, pooled, up to 1e15 in size.
    random_features : array_like, shape (n, channels)
        The same backbone's with random weights, for the same images.
    labels : array_like of int, shape (n,)
        Class numbers, 0 or more.

    Returns
    -------
    Similarity

    Raises
    ------
    ValueError
        If the three differ in number, features are not finite, there are fewer than two classes, or
        fewer examples than an estimate needs: 100, and ten of each class (the message says both).

    Notes
    -----
    Source of the method: the linear probe of Alain and Bengio, *Understanding intermediate layers using
    linear classifier probes*, 2016. The control with random weights, and the third, are ours: a third
    separates flower photographs from digits and X-rays, three data sets in all.
    Explained in the chapter "Choose what to freeze".

    Examples
    --------
    >>> import numpy as np, tlhelpers as tl
    >>> labels = np.arange(100) % 2
    >>> noise = np.random.default_rng(0).normal(size=(100, 3))
    >>> found = tl.estimate_similarity(noise + 5 * labels[:, None], noise, labels)
    >>> found.kind, found.accuracy
    ('similar', 1.0)
    """
    x = _inputs.features("features", features)
    parts = x, _inputs.features("random_features", random_features, len(x))
    y = _inputs.labels("labels", labels, len(x))
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"labels: expected two classes or more, got {len(classes)}. Give them all.")
    needed = max(IN_ALL, PER_CLASS * len(classes))
    if counts.min() < PER_CLASS or len(y) < needed:
        raise ValueError(
            f"labels: expected at least {needed} examples for an estimate, {PER_CLASS} or more of each of "
            f"{len(classes)} classes, got {len(y)}, {counts.min()} of class {classes[counts.argmin()]}. "
            "Give more, or say similarity='similar' or similarity='different' yourself."
        )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    accuracy, random = (float(cross_val_score(probe(x.shape[1]), x, y, cv=folds).mean()) for x in parts)
    reference = max(random, float(counts.max() / len(y)))
    # Where nothing is left to save, nothing was saved.
    saved = 1 - (1 - accuracy) / (1 - reference) if reference < 1 else 0.0
    return Similarity(_kind(saved), saved, accuracy, reference, examples=len(y))


def map_means(table: pd.DataFrame) -> pd.DataFrame:
    """Each cell's mean over the seeds that all cells of `table` have, so that they differ in nothing else.

    Columns: what names a cell, its setting, ``seeds``, ``validation_accuracy``, ``test_accuracy`` with a 95%
    interval over seeds and test images (``low``, ``high``: `tlhelpers.studies.intervals.interval`),
    ``test_auc`` and ``cpu_seconds``. The cells keep the table's order.
    """
    keys = ["data", "labels", "examples", "classes", "similarity", "cut", "depth"]
    cells_with = table.seed.value_counts()
    shared = table[table.seed.isin(cells_with.index[cells_with == cells_with.max()])]
    rows = []
    for name, cell in shared.groupby(keys, sort=False):
        low, high = np.clip(interval(_right(cell)), 0, 1)
        means = cell[["validation_accuracy", "test_accuracy", "test_auc", "cpu_seconds"]].mean()
        kept = cell.iloc[0][["readout", "penalty", "learning_rate"]]
        ends = {"low": low, "high": high, "seeds": len(cell)}
        rows.append({**dict(zip(keys, name, strict=True)), **kept, **means, **ends})
    return pd.DataFrame(rows)


def _right(cell: pd.DataFrame) -> Right:
    """Which test images each of a cell's rows found: (seeds, images)."""
    return np.array([right_answers(packed) for packed in cell.right], float)


def recommend_strategy(
    *, n_examples: int, n_classes: int, similarity: str | float | Similarity, by: By = "measured"
) -> Strategy:
    """Say where to read out a pre-trained MobileNetV2 and which of its layers to train, and on what evidence.

    Parameters
    ----------
    n_examples
        Labelled training examples.
    n_classes
        Classes they are of.
    similarity
        Whether the data is like the source: ``"similar"``, ``"different"``, what `estimate_similarity`
        returned, or its ``saved``.
    by
        ``"measured"``: of the cells of the map within a point of the best on validation, on data of this
        kind, the one that takes fewest seconds. ``"classic"``: the classic table.

    Returns
    -------
    Strategy

    Raises
    ------
    ValueError
        If there are no examples, fewer than two classes, more classes than examples, or `similarity`
        or `by` is none of the above.
    TypeError
        If a number is no whole number.
    LookupError
        If the map was not measured for such a case.

    Notes
    -----
    Few and many are counted by class. Between the few and the many of the map nothing was
    measured; the border is their geometric mean. Source of the classic table: it is told in many places;
    Yosinski et al., *How transferable are features in deep neural networks?*, 2014, measured what lies under
    it. Explained in the chapter "Choose what to freeze".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> advice = tl.recommend_strategy(n_examples=60, n_classes=5, similarity="similar", by="classic")
    >>> advice.layer, advice.freeze
    ('out_relu', {'train_from': 'block_16_expand', 'batch_norm': 'frozen'})
    """
    kind = _kind(similarity)
    _check_counts(n_examples=n_examples, n_classes=n_classes)
    _inputs.word("by", by, ("measured", "classic"))
    labels: Labels = "few" if n_examples / n_classes < _mapped(kind)[1] else "many"
    return _strategy(kind, labels, by)


def advice_table(*, by: By = "measured") -> pd.DataFrame:
    """Every answer that `recommend_strategy` has, and what was measured where it applies.

    Four answers, for two kinds of data with few and with many examples; each has a row for every data set
    that it rests on. ``from`` and ``to`` are the examples a class that it holds for (`to` itself belongs to
    the next answer), ``accuracy`` the share of the test examples found by following it, ``low`` to ``high``
    its 95% interval over seeds and test images, ``measured_rate`` the learning rate it had there, ``seconds``
    the processor time of one fit.
    """
    _inputs.word("by", by, ("measured", "classic"))
    found = []
    for kind, labels in CLASSIC:
        advice, border = _strategy(kind, labels, by), _mapped(kind)[1]
        cases = _of(advice.evidence, (advice.cut, advice.depth))
        answer = {
            "similarity": kind,
            # One example a class is the least that an advice is given for.
            "from": 1.0 if labels == "few" else border,
            "to": border if labels == "few" else math.inf,
            "cut": advice.cut,
            "depth": advice.depth,
            "strategy": advice.words,
            "learning_rate": advice.learning_rate,
            "data": cases.data,
            "labels": cases.examples,
            "classes": cases.classes,
            "accuracy": cases.test_accuracy,
            "low": cases.low,
            "high": cases.high,
            "measured_rate": cases.learning_rate,
            "seconds": cases.cpu_seconds,
            "why": advice.why,
        }
        found.append(pd.DataFrame(answer))
    return pd.concat(found, ignore_index=True)


def _mapped(kind: Kind) -> tuple[dict[Labels, pd.DataFrame], float, float, float]:
    """The map for one kind of data; the border in examples a class, the most below it, the fewest above."""
    table = page.measured("freezing_map")
    like = table[(table.edition == EDITION) & (table.similarity == kind)]
    few, many = (like[like.labels == labels] for labels in ("few", "many"))
    if few.empty or many.empty:
        raise LookupError(
            f"expected {kind} data with few and with many labels in the measured map, got none. "
            "Run `make measure TABLE=freezing_map` in the full edition."
        )
    below, above = float((few.examples / few.classes).max()), float((many.examples / many.classes).min())
    return {"few": few, "many": many}, math.sqrt(below * above), below, above


def _strategy(kind: Kind, labels: Labels, by: By) -> Strategy:
    """One of the answers. Its text holds nothing of the question, so that it can be looked up."""
    cases, border, below, above = _mapped(kind)
    rows = cases[labels]
    evidence = map_means(rows)
    cut, depth = CLASSIC[kind, labels] if by == "classic" else _advised(evidence)
    here = _of(evidence, (cut, depth))
    amount = (
        f"That is {labels} examples a class: {'fewer than' if labels == 'few' else 'at least'} the border, "
        f"{border:.3g}. The map was measured with up to {below:.3g} and with {above:.3g} or more a class, "
        "and the border lies half way between them on a logarithmic scale, where nothing was measured."
    )
    taken = (
        f"The data is taken as {kind} {'to' if kind == 'similar' else 'from'} what the network was "
        f"pre-trained on, like {' and '.join(rows.data.unique())} in the map."
    )
    return Strategy(
        cut=cut,
        depth=depth,
        layer=CUTS[cut],
        train_from=train_from(cut, depth),
        batch_norm="frozen",
        readout="pooled" if (here.readout == "pooled").all() else "all places",
        penalty=float(here.penalty.max()),
        # Where the cases differ, the lower rate is the safe one, and the higher penalty.
        learning_rate=float(here.learning_rate.min()),
        cpu_seconds=float(here.cpu_seconds.mean()),
        why=f"{amount} {taken} {_reason(rows, evidence, (cut, depth), (kind, labels), by)}",
        evidence=evidence,
    )


def _kind(similarity: object) -> Kind:
    """What is said or estimated, as one of the two words."""
    if isinstance(similarity, Similarity):
        return similarity.kind
    if isinstance(similarity, str):
        if similarity in ("similar", "different"):
            return cast("Kind", similarity)
    elif isinstance(similarity, int | float) and not isinstance(similarity, bool) and similarity <= 1:
        return "similar" if similarity >= SIMILAR_FROM else "different"
    raise ValueError(
        "similarity: expected 'similar', 'different', what tl.estimate_similarity returns or its `saved` "
        f"(at most 1), got {similarity!r}."
    )


def _check_counts(**counts: int) -> None:
    for name, number in counts.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise TypeError(WHOLE.format(name=name, got=repr(number)))
    for name, least, message in LEAST:
        if counts[name] < (counts[least] if isinstance(least, str) else least):
            raise ValueError(message.format(**counts))


def _of(rows: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """The rows of one cell, which has to be there for every case."""
    found = rows[(rows[["cut", "depth"]] == [*cell]).all(axis=1)]
    for case in rows[["data", "labels"]].drop_duplicates().itertuples():
        if not ((found.data == case.data) & (found.labels == case.labels)).any():
            raise LookupError(
                f"expected {', '.join(cell)} of {case.data}, {case.labels} labels, in the measured map, got "
                "none. Run `make measure TABLE=freezing_map` to its end."
            )
    return found


def _behind(means: pd.DataFrame) -> pd.Series:
    """By cell, how far validation accuracy lies behind each case's best cell, averaged over the cases."""
    by_case = means.pivot(index=["cut", "depth"], columns=["data", "labels"], values="validation_accuracy")
    # A cell that is missing in one case can't be compared.
    order = [(cut, depth) for cut in CUTS for depth in DEPTHS if (cut, depth) in by_case.index]
    by_case = by_case.loc[order].dropna()
    return pd.Series((by_case.max() - by_case).mean(axis=1))


def _advised(means: pd.DataFrame) -> Cell:
    """The cell that takes fewest seconds among those that lose little on validation."""
    behind = _behind(means)
    close = behind.index[behind <= behind.min() + MARGIN]
    return cast("Cell", means.groupby(["cut", "depth"]).cpu_seconds.mean()[close].idxmin())


def _in_place(cell: Cell) -> str:
    cut, depth = cell
    end = "its end" if cut == "end" else cut
    if depth == "frozen":
        return f"a linear classifier on the frozen network, read out at {end}"
    return f"training {_TRAINS[depth]} of the network up to {end}"


def _reason(
    rows: pd.DataFrame, evidence: pd.DataFrame, cell: Cell, answer: tuple[Kind, Labels], by: By
) -> str:
    """What the map says of this cell and of the classic one."""
    classic = CLASSIC[answer]
    said = f'The classic advice here is "{_IN_WORDS[answer]}", read as {_in_place(classic)}.'
    if by == "classic":
        return said
    behind = _behind(evidence)
    top = cast("Cell", behind.idxmin())
    best = f"Best on validation was {_in_place(top)}."
    if cell != top:
        best += f" Within a point of it, and of these the quickest, was {_in_place(cell)}."
    if classic == cell:
        return f"{best} {said} The measurement agrees."
    lost, low, high = _points(*(_lost(case, cell, classic) for _, case in rows.groupby("data")))
    verdict = (
        "contradicts it" if low > 0 else "speaks for it" if high < 0 else "does not decide between the two"
    )
    return (
        f"{best} {said} The measurement {verdict}: against the advice here it lost {lost:z.1f} points on "
        f"test (95% interval over seeds and test images {low:z.1f} to {high:z.1f}; below zero is a gain)."
    )


Advice = Literal["measured", "classic", "measured elsewhere", "frozen", "validation"]


def cost(by: Advice, against: Advice = "validation") -> pd.DataFrame:
    """Points of test accuracy lost by following one way to choose a cell instead of another, by case.

    ``"validation"`` takes the case's cell with the best mean validation accuracy, ``"frozen"`` the best one
    among the frozen cells, which takes seconds. ``"measured elsewhere"`` follows the maps of the *other* data
    sets of the same kind, and leaves a case out where there is none: what the advice is worth on new data.

    One row a case of the map, and a last one, ``"all"``, the mean over the data sets. Below zero is a gain.
    ``low`` to ``high`` is a 95% interval over seeds and test images, the same for both cells: see
    `tlhelpers.studies.intervals`.
    """
    for name, way in (("by", by), ("against", against)):
        _inputs.word(name, way, get_args(Advice))
    table = page.measured("freezing_map").query("edition == @EDITION")
    rows, compared = [], dict[str, list[Right]]()
    for (data, labels), case in table.groupby(["data", "labels"], sort=False):
        advised, instead = (_cell_by(each, table, case) for each in (by, against))
        if advised is None or instead is None:
            continue
        lost = _lost(case, instead, advised)
        compared.setdefault(str(data), []).append(lost)
        rows.append((data, labels, *(", ".join(cell) for cell in (advised, instead)), *_points(lost)))
    if not rows:
        raise LookupError("expected at least one case with an advice in the map, got none.")
    columns = ["data", "labels", "advised", "against", "cost", "low", "high"]
    return pd.DataFrame([*rows, ("all", "", "", "", *_points(*compared.values()))], columns=columns)


def compare(case: pd.DataFrame, cell: Cell, other: Cell) -> tuple[float, float, float]:
    """Points of test accuracy that one cell of a case has over another, and the ends of its 95% interval.

    `case` are the rows of one case of the measured map, a cell is a cut and a depth. As in `cost`.
    """
    return _points(_lost(case, cell, other))


def _cell_by(by: Advice, table: pd.DataFrame, case: pd.DataFrame) -> Cell | None:
    """The cell that a way of choosing gives for a case of a map; None where it has nothing to go by."""
    data, kind, labels = case.iloc[0][["data", "similarity", "labels"]]
    if by == "classic":
        return CLASSIC[kind, labels]
    if by in ("validation", "frozen"):
        means = map_means(case)
        among = means if by == "validation" else means[means.depth == "frozen"]
        return cast("Cell", _behind(among).idxmin())
    base = table[(table.similarity == kind) & (table.labels == labels)]
    if by == "measured elsewhere":
        base = base[base.data != data]
    return None if base.empty else _advised(map_means(base))


def _lost(case: pd.DataFrame, instead: Cell, advised: Cell) -> Right:
    """What one cell finds and another does not: differences, (seeds, test images), with the same seeds."""
    better, worse = (_of(case, cell).set_index("seed") for cell in (instead, advised))
    seeds = better.index.intersection(worse.index)
    return _right(better.loc[seeds]) - _right(worse.loc[seeds])


def _points(*lost: Right | list[Right]) -> tuple[float, float, float]:
    """A mean over data sets in points, and its interval; the cases of a data set share its test images."""
    low, high = interval(*lost)
    return 50 * (low + high), 100 * low, 100 * high
