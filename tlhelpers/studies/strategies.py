"""Which layers to train: the classic advice, what the measured ladder says instead, and what each costs.

The classic advice is a table of four cases: few or many examples, similar to the source or not. The
ladder in ``book/measured/ladder.csv`` was climbed in all four, and the advice here follows it.
Explained in the chapter "Choose what to freeze".
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn.model_selection import StratifiedKFold, cross_val_score

from tlhelpers import _inputs, page
from tlhelpers.evaluation import probe

from .intervals import right_answers

__all__ = [
    "Similarity",
    "Strategy",
    "advice_table",
    "estimate_similarity",
    "ladder_means",
    "recommend_strategy",
    "regret",
]

Kind = Literal["similar", "different"]
Labels = Literal["few", "many"]

CLASSIC: dict[tuple[Kind, Labels], str] = {
    ("similar", "few"): "block 16",
    ("similar", "many"): "block 10",
    ("different", "few"): "block 6",
    ("different", "many"): "everything",
}
"""The classic table, read as rungs of the ladder. How many layers "more" and "nearer the input" mean it
leaves open: block 10 and block 6 are our reading."""

_IN_WORDS = {
    ("similar", "few"): "freeze most, train the last one or two layers",
    ("similar", "many"): "unfreeze more layers",
    ("different", "few"): "fine-tune the layers nearer the input",
    ("different", "many"): "fine-tune the whole network",
}

EDITION = "full"
"""The advice rests on the full edition's ladder, whichever edition runs."""

PER_CLASS, IN_ALL = 10, 100
"""Examples of the rarest class, and in all, that an estimate of similarity needs. With fewer, draws of
one data set fall on both sides."""

SIMILAR_FROM = 1 / 3
"""Share of the mistakes that pre-trained features save on data called similar."""

MARGIN = 0.01
"""Of depths this close to the best on validation, the advice takes the one that trains fewest layers: a
point lies within chance here, and frozen layers cost nothing and cannot overfit."""

_DRAWS = 2000

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
    """Which layers to train, how fast, and why.

    Attributes
    ----------
    depth
        The rung of the ladder: where training begins.
    train_from, batch_norm
        What `tlhelpers.freeze` takes; None is for the head alone.
    learning_rate
        For Adam, to begin with; the ladder lets it follow a cosine to zero.
    why, evidence
        The reasons in words, and the rungs they rest on, as `ladder_means` gives them.
    """

    depth: str
    train_from: str | None
    batch_norm: Literal["frozen"]
    learning_rate: float
    why: str
    evidence: pd.DataFrame = field(repr=False)

    @property
    def words(self) -> str:
        """Which layers train and which don't, in a sentence."""
        if self.train_from is None:
            return "Train the head alone; freeze the whole backbone."
        if self.depth == "everything":
            return "Train everything; freeze every BatchNorm layer."
        return f"Train {_begins(self.depth)}, and the head; freeze all before it, and every BatchNorm layer."

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
    features
        Outputs of the frozen pre-trained backbone, pooled, (n, channels), up to 1e15 in size.
    random_features
        The same backbone's with random weights, for the same images, (n, channels).
    labels
        Class numbers, (n,), int, 0 or more.

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
    linear classifier probes*, 2016. The control with random weights, and the third, are ours: they part
    flower photographs from digits and X-rays, three data sets in all.
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


def ladder_means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over the seeds for each rung of the measured ladder, in the table's order.

    For validation and test accuracy there are the mean (``test_accuracy``) and its 95% interval by Student's
    t (``test_low``, ``test_high``; NaN for one seed).
    """
    keys = ["data", "labels", "examples", "similarity", "depth", "learning_rate"]
    groups = table.groupby(keys, sort=False, dropna=False)
    means = groups.seed.count().rename("seeds").reset_index()
    for name in ("validation", "test"):
        values = groups[f"{name}_accuracy"]
        mean, spread, number = (values.agg(what).to_numpy() for what in ("mean", "std", "count"))
        half = stats.t.ppf(0.975, np.maximum(number - 1, 1)) * spread / np.sqrt(number)
        means[f"{name}_accuracy"] = mean
        means[f"{name}_low"], means[f"{name}_high"] = mean - half, mean + half
    return means


def recommend_strategy(
    *,
    n_examples: int,
    n_classes: int,
    similarity: str | float | Similarity,
    by: Literal["measured", "classic"] = "measured",
) -> Strategy:
    """Say which layers of a pre-trained MobileNetV2 to train, and on what evidence.

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
        ``"measured"``: of the depths tried on data of this kind, those within a point of the best on
        validation, and of these the one that trains fewest layers. ``"classic"``: the classic table.

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
        If the ladder was not measured for such a case.

    Notes
    -----
    Few and many are counted by class. Between the few and the many of the ladder nothing was
    measured; the border is their geometric mean. Source of the classic table: it is told in many places;
    Yosinski et al., *How transferable are features in deep neural networks?*, 2014, measured what lies under
    it. Explained in the chapter "Choose what to freeze".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> advice = tl.recommend_strategy(n_examples=60, n_classes=5, similarity="similar", by="classic")
    >>> advice.freeze
    {'train_from': 'block_16_expand', 'batch_norm': 'frozen'}
    """
    kind = _kind(similarity)
    _check_counts(n_examples=n_examples, n_classes=n_classes)
    _inputs.word("by", by, ("measured", "classic"))
    labels: Labels = "few" if n_examples / n_classes < _climbed(kind).border else "many"
    return _strategy(kind, labels, by)


def advice_table(*, by: Literal["measured", "classic"] = "measured") -> pd.DataFrame:
    """Every answer that `recommend_strategy` has, and what was measured where it applies.

    Four answers, for two kinds of data with few and with many examples; each has a row for every data set
    that it rests on. ``from`` and ``to`` are the examples a class that it holds for (`to` itself belongs to
    the next answer), ``accuracy`` the share of the test examples found by following it, ``measured_rate`` the
    learning rate it had there, ``seconds`` the median over the seeds. ``low`` to ``high`` is the wider, on
    each side, of two intervals: Student's t over the seeds and the bootstrap over the test examples, since
    three seeds that happen to agree say nothing of 200 test images.
    """
    _inputs.word("by", by, ("measured", "classic"))
    found = []
    for kind, labels in CLASSIC:
        climbed, advice = _climbed(kind), _strategy(kind, labels, by)
        border, rows = climbed.border, climbed.rows[labels]
        for case in advice.evidence[advice.evidence.depth == advice.depth].itertuples():
            here = rows[(rows.data == case.data) & (rows.depth == advice.depth)]
            low, high = _interval(_resampled(_found(here, advice.depth)))
            found.append(
                {
                    "similarity": kind,
                    # One example a class is the least that an advice is given for.
                    "from": 1.0 if labels == "few" else border,
                    "to": border if labels == "few" else math.inf,
                    "depth": advice.depth,
                    "strategy": advice.words,
                    "learning_rate": advice.learning_rate,
                    "data": case.data,
                    "labels": case.examples,
                    "classes": int(here.classes.iloc[0]),
                    "accuracy": case.test_accuracy,
                    "low": np.nanmin([case.test_low, low]),
                    "high": min(np.nanmax([case.test_high, high]), 1.0),
                    "measured_rate": case.learning_rate,
                    "seconds": float(here.seconds.median()),
                    "why": advice.why,
                }
            )
    return pd.DataFrame(found)


@dataclass(frozen=True, eq=False)
class _Climbed:
    """The ladder for one kind of data, and the examples a class that part few from many."""

    rows: dict[Labels, pd.DataFrame]
    most_few: float
    least_many: float
    border: float


def _climbed(kind: Kind) -> _Climbed:
    table = page.measured("ladder")
    like = table[(table.edition == EDITION) & (table.similarity == kind)]
    few, many = (like[like.labels == labels] for labels in ("few", "many"))
    if few.empty or many.empty:
        raise LookupError(
            f"expected {kind} data with few and with many labels in the measured ladder, got none. "
            "Run `make measure TABLE=ladder` in the full edition."
        )
    most_few = float((few.examples / few.classes).max())
    least_many = float((many.examples / many.classes).min())
    return _Climbed({"few": few, "many": many}, most_few, least_many, math.sqrt(most_few * least_many))


def _strategy(kind: Kind, labels: Labels, by: Literal["measured", "classic"]) -> Strategy:
    """One of the four answers. Its text holds nothing of the question, so that it can be looked up."""
    climbed = _climbed(kind)
    rows = climbed.rows[labels]
    evidence = ladder_means(rows)
    depth = CLASSIC[kind, labels] if by == "classic" else _advised_depth(evidence)
    here = rows[rows.depth == depth]
    first = here.train_from.iloc[0]
    side = "fewer than" if labels == "few" else "at least"
    amount = (
        f"That is {labels} examples a class: {side} the border, {climbed.border:.3g}. The ladder was "
        f"climbed with up to {climbed.most_few:.3g} and with {climbed.least_many:.3g} or more a class, and "
        "the border lies half way between them on a logarithmic scale, where nothing was measured."
    )
    taken = (
        f"The data is taken as {kind} {'to' if kind == 'similar' else 'from'} what the network was "
        f"pre-trained on, like {' and '.join(rows.data.unique())} in the ladder."
    )
    return Strategy(
        depth=depth,
        train_from=None if pd.isna(first) else str(first),
        batch_norm="frozen",
        # Where the cases differ, the lower rate is the safe one.
        learning_rate=float(here.learning_rate.min()),
        why=f"{amount} {taken} {_reason(rows, evidence, depth, (kind, labels), by)}",
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


def _behind(means: pd.DataFrame) -> pd.Series:
    """By depth, how far validation accuracy lies behind each case's best depth, averaged over the cases."""
    by_case = means.pivot(index="depth", columns="data", values="validation_accuracy")
    # The order of the ladder, shallow first. A depth that is missing in one case can't be compared.
    by_case = by_case.reindex(means.depth.unique()).dropna()
    return pd.Series((by_case.max() - by_case).mean(axis=1))


def _advised_depth(means: pd.DataFrame) -> str:
    """The depth that trains fewest layers among those that lose little."""
    behind = _behind(means)
    return str(behind.index[(behind <= behind.min() + MARGIN).argmax()])


def _begins(depth: str) -> str:
    return {"head only": "the head alone", "everything": "everything"}.get(depth, f"from {depth} on")


def _reason(
    rows: pd.DataFrame, evidence: pd.DataFrame, depth: str, answer: tuple[Kind, Labels], by: str
) -> str:
    """What the ladder says of this depth and of the classic one."""
    classic = CLASSIC[answer]
    said = f'The classic advice here is "{_IN_WORDS[answer]}", read as training {_begins(classic)}.'
    if by == "classic":
        return said
    behind = _behind(evidence)
    order = list(behind.index)
    top = str(behind.idxmin())
    best = f"Training {_begins(top)} was best on validation."
    if depth != top:
        best += f" Training {_begins(depth)} was within a point of it, with fewer layers."
    if classic == depth:
        return f"{best} {said} The measurement agrees."
    if classic not in order:
        return f"{best} {said} That was not measured in every case."
    compared = [_lost(case, depth, classic) for _, case in rows.groupby("data")]
    points = 100 * np.mean([lost for lost, _ in compared])
    low, high = 100 * _interval(np.mean([draws for _, draws in compared], axis=0))
    verdict = "contradicts it" if low > 0 else "speaks for it" if high < 0 else "can't tell the two apart"
    cheaper = ""
    if low <= 0 <= high and order.index(depth) < order.index(classic):
        cheaper = f" Training {_begins(depth)} trains fewer layers, so it is the cheaper of the two."
    return (
        f"{best} {said} The measurement {verdict}: against training {_begins(depth)} it lost {points:.1f} "
        f"points on test (95% interval {low:.1f} to {high:.1f}; below zero is a gain).{cheaper}"
    )


Advice = Literal["measured", "classic", "measured elsewhere"]


def regret(
    by: Advice = "measured",
    *,
    against: Advice | Literal["best"] = "best",
    table: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Points of test accuracy lost by following an advice instead of the best depth, or another advice.

    ``"measured elsewhere"`` follows the ladders of the *other* data sets of the same kind, and leaves a case
    out where there is none: what the advice is worth on new data. The best depth of a case has the highest
    mean validation accuracy. One row a case of `table` (rows of the measured ladder; by default those the
    advice rests on), and a last one, ``"all"``, for their mean; a negative regret is a gain.

    ``low`` to ``high`` is a 95% interval over other test examples, not over the few seeds: both depths are
    judged on the same resampled examples. Source of this paired bootstrap: Efron and Tibshirani, *An
    Introduction to the Bootstrap*, 1993; 2,000 resamples, percentiles.
    """
    advices = ("measured", "classic", "measured elsewhere")
    _inputs.word("by", by, advices)
    _inputs.word("against", against, ("best", *advices))
    if table is None:
        table = page.measured("ladder").query("edition == @EDITION")
    rows, compared = [], []
    for (data, labels), case in table.groupby(["data", "labels"], sort=False):
        advised, instead = (_depth_by(each, table, case) for each in (by, against))
        if advised is not None and instead is not None:
            rows.append((data, labels, advised, instead))
            compared.append(_lost(case, instead, advised))
    if not rows:
        raise LookupError("expected at least one case with an advice in the ladder, got none.")
    lost, draws = [lost for lost, _ in compared], [draws for _, draws in compared]
    result = pd.DataFrame([*rows, ("all", "", "", "")], columns=["data", "labels", "advised", "against"])
    result["regret"] = 100 * np.array([*lost, np.mean(lost)])
    result["low"], result["high"] = 100 * _interval(np.array([*draws, np.mean(draws, axis=0)]))
    return result


def _depth_by(by: str, table: pd.DataFrame, case: pd.DataFrame) -> str | None:
    """The depth that an advice gives for a case of a ladder; None where it has nothing to go by."""
    data, kind = case.data.iloc[0], cast("Kind", case.similarity.iloc[0])
    labels = cast("Labels", case.labels.iloc[0])
    if by == "classic":
        return CLASSIC[kind, labels]
    if by == "best":
        return str(_behind(ladder_means(case)).idxmin())
    base = table[(table.similarity == kind) & (table.labels == labels)]
    if by == "measured elsewhere":
        base = base[base.data != data]
    return None if base.empty else _advised_depth(ladder_means(base))


def _lost(case: pd.DataFrame, instead: str, advised: str) -> tuple[float, npt.NDArray[np.float64]]:
    """Test accuracy lost by one depth against another in one case, and the same over resampled examples."""
    lost = _found(case, instead) - _found(case, advised)
    return float(lost.mean()), _resampled(lost)


def _resampled(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means over examples drawn again and again with replacement."""
    # The same draws for all cases with the same test examples, so that their mean is paired, too.
    draws = np.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))
    return np.asarray(values[draws].mean(axis=1), dtype=np.float64)


def _interval(draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The ends of the middle 95% of each row."""
    return np.asarray(np.quantile(draws, [0.025, 0.975], axis=-1))


def _found(case: pd.DataFrame, depth: str) -> npt.NDArray[np.float64]:
    """How often, over the seeds, each test example was found."""
    rows = case[case.depth == depth]
    if rows.empty:
        raise LookupError(
            f"expected {depth!r} of {case.data.iloc[0]}, {case.labels.iloc[0]} labels, in the measured "
            "ladder, got none. Run `make measure TABLE=ladder` to its end."
        )
    right = [right_answers(packed) for packed in rows.right]
    return np.asarray(np.mean(right, axis=0), dtype=np.float64)
