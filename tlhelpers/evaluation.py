"""Numbers from predictions: loss, accuracy with its interval, confusion matrix, calibration."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from . import _inputs

__all__ = [
    "Evaluation",
    "bootstrap_interval",
    "confident_mistakes",
    "evaluate",
    "history_table",
    "linear_probe",
    "probe",
]


@dataclass(frozen=True, eq=False)  # eq: comparing tables gives a table, not a yes or no
class Evaluation:
    """What one set of predictions is worth; made by `evaluate`.

    Attributes
    ----------
    n : int
        Number of images.
    loss : float
        Mean categorical cross-entropy, in nats.
    accuracy : float
        Share of right predictions, 0 to 1.
    interval : tuple of float
        95% Wilson interval of the accuracy, (low, high).
    confusion : pandas.DataFrame
        Counts, shape (k, k): a row for each true class, a column for each predicted class.
    per_class : pandas.DataFrame
        A row for each class; columns precision, recall, f1 (0 to 1; NaN where undefined, as is the precision
        of a class that was never predicted) and support (images of that class).
    reliability : pandas.DataFrame
        A row for each of 15 bins of confidence, equally wide; columns low, high (its edges), confidence
        (mean), accuracy, count. An empty bin has count 0 and NaN.
    calibration_error : float
        Expected calibration error, 0 to 1.
    """

    n: int
    loss: float
    accuracy: float
    interval: tuple[float, float]
    confusion: pd.DataFrame
    per_class: pd.DataFrame
    reliability: pd.DataFrame
    calibration_error: float


def evaluate(labels: npt.ArrayLike, probabilities: npt.ArrayLike, class_names: Sequence[str]) -> Evaluation:
    """Measure predicted probabilities against the true classes.

    Parameters
    ----------
    labels : array_like of int, shape (n,)
        True class numbers, 0 to k - 1.
    probabilities : array_like of float, shape (n, k)
        Predicted probabilities: each row sums to 1 (within 0.001; rows are then scaled to exactly 1).
    class_names : sequence of str, length k
        One name for each class, in the order of the columns.

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError, ValueError
        If one of them is not as above, or they do not fit together.

    Notes
    -----
    Loss: `sklearn.metrics.log_loss`, which floors a probability at 2.2e-16, so that no single image costs
    more than 36 nats. Interval: Wilson (1927), by `scipy.stats.binomtest`. Calibration error: Guo, Pleiss,
    Sun, Weinberger, "On calibration of modern neural networks", ICML 2017, equation 3, 15 bins.

    Explained in the chapters "Evaluate on the test set" and "Read the confusion matrix".

    Examples
    --------
    >>> from tlhelpers import evaluation
    >>> result = evaluation.evaluate([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], ["cat", "dog"])
    >>> print(f"{result.accuracy:.2f} ({result.interval[0]:.2f} to {result.interval[1]:.2f})")
    0.67 (0.21 to 0.94)
    """
    true, chances, names = _checked(labels, probabilities, class_names)
    n, k = chances.shape
    numbers = np.arange(k)
    predicted, confidence = chances.argmax(axis=1), chances.max(axis=1)
    right = predicted == true
    interval = stats.binomtest(int(right.sum()), n).proportion_ci(0.95, method="wilson")
    confusion = pd.DataFrame(confusion_matrix(true, predicted, labels=numbers), names, names)
    scores = precision_recall_fscore_support(true, predicted, labels=numbers, zero_division=np.nan)
    per_class = dict(zip(("precision", "recall", "f1", "support"), scores, strict=True))
    reliability = _reliability(confidence, right)
    gaps = (reliability["accuracy"] - reliability["confidence"]).abs()
    return Evaluation(
        n=n,
        loss=float(log_loss(true, chances, labels=numbers)),
        accuracy=float(right.mean()),
        interval=(float(interval.low), float(interval.high)),
        confusion=confusion.rename_axis(index="true", columns="predicted"),
        per_class=pd.DataFrame(per_class, pd.Index(names, name="class")),
        reliability=reliability,
        # Empty bins are NaN and drop out of the sum.
        calibration_error=float((gaps * reliability["count"]).sum() / n),
    )


def confident_mistakes(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    k: int = 9,
    class_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """List the wrong predictions that were made with the highest confidence.

    Parameters
    ----------
    labels, probabilities : array_like
    class_names : sequence of str, optional
        As in `evaluate`, with the same errors. Without names, class numbers are shown.
    k : int, optional
        List at most this many.

    Returns
    -------
    pandas.DataFrame
        Columns index (position in `labels`), true, predicted, confidence (0 to 1); the most confident first.

    Notes
    -----
    Explained in the chapter "Look at the mistakes".

    Examples
    --------
    >>> from tlhelpers import evaluation
    >>> chances = [[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]
    >>> evaluation.confident_mistakes([1, 1, 1], chances, k=2, class_names=["cat", "dog"])
       index true predicted  confidence
    0      0  dog       cat         0.9
    1      1  dog       cat         0.7
    """
    true, chances, names = _checked(labels, probabilities, class_names)
    k = _inputs.whole("k", k, 1, advice="Give the number of mistakes to list.")
    predicted, confidence = chances.argmax(axis=1), chances.max(axis=1)
    wrong = np.flatnonzero(predicted != true)
    # A stable sort lists equal confidences in the order of the images, the same in every run.
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")[:k]]
    shown = {"true": np.asarray(names)[true[chosen]], "predicted": np.asarray(names)[predicted[chosen]]}
    return pd.DataFrame({"index": chosen, **shown, "confidence": confidence[chosen]})


def history_table(history: Any, *, phase: str, first_epoch: int = 1) -> pd.DataFrame:
    """Turn what ``fit`` returned into a table with a row for each epoch.

    Parameters
    ----------
    history : keras.callbacks.History
        What ``fit`` returned, or anything else with a ``history`` dictionary of lists.
    phase : str
        Name of this stretch of training, for example ``"frozen"``.
    first_epoch : int, optional
        Number of the first epoch: one more than the epochs of the phases before this one.

    Returns
    -------
    pandas.DataFrame
        Columns epoch, phase, accuracy, loss, val_accuracy, val_loss. Accuracies are shares from 0 to 1, and
        losses are in nats. Join phases with `pandas.concat`.

    Raises
    ------
    TypeError, ValueError
        If `history` has no such dictionary; a metric is missing, or no epoch was run.

    Notes
    -----
    Explained in the chapter "Train the head".

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from tlhelpers import evaluation
    >>> recorded = {"accuracy": [0.5], "loss": [1.4], "val_accuracy": [0.6], "val_loss": [1.3]}
    >>> evaluation.history_table(SimpleNamespace(history=recorded), phase="fine-tuned", first_epoch=11)
       epoch       phase  accuracy  loss  val_accuracy  val_loss
    0     11  fine-tuned       0.5   1.4           0.6       1.3
    """
    recorded = getattr(history, "history", None)
    if not isinstance(recorded, Mapping):
        raise TypeError(
            "history: expected what model.fit returned (a History with a .history dictionary), got "
            f"{type(history).__name__}. Write history = model.fit(...) and hand that over."
        )
    if not isinstance(phase, str):
        raise TypeError(f"phase: expected a text, got {type(phase).__name__}. Give the phase a name.")
    first = _inputs.whole("first_epoch", first_epoch, 0)
    columns: dict[str, npt.NDArray[Any]] = {}
    epochs = None
    for name in ("accuracy", "loss", "val_accuracy", "val_loss"):
        expected = f"a number for each of {epochs or 'one or more'} epochs"
        advice = "Compile with metrics=['accuracy'] and fit with validation_data."
        # Without limits: a loss is NaN where training diverged.
        given = _inputs.array(name, recorded.get(name, ()), expected, advice, ndim=(1,), n=epochs)
        columns[name], epochs = given.astype(float), len(given)
    return pd.DataFrame({"epoch": np.arange(first, first + len(columns["loss"])), "phase": phase} | columns)


def bootstrap_interval(
    statistic: Callable[..., float], *arrays: npt.ArrayLike, draws: int = 500, seed: int = 0
) -> tuple[float, float]:
    """Where a figure would lie with other test examples: the 95% interval of the bootstrap.

    Parameters
    ----------
    statistic
        Takes `arrays`, drawn anew together, and gives a number.
    *arrays : array_like, shape (n, ...)
        What belongs to the same examples: labels, one model's scores, another one's.
    draws, seed : int, optional
        How many draws, each of n examples with replacement; and their seed.

    Returns
    -------
    low, high : float
        The 2.5 and 97.5 percentiles over the draws, those aside in which the figure is not defined.

    Raises
    ------
    TypeError, ValueError
        If the arrays hold no numbers, differ in length or are empty, or the figure is not defined for them.

    Notes
    -----
    Source: Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13; scipy draws. It covers
    the choice of test examples alone, not that of the labelled ones, nor another place.

    Explained in the chapter "Judge chest X-rays".

    Examples
    --------
    >>> import numpy as np
    >>> from tlhelpers import evaluation
    >>> low, high = evaluation.bootstrap_interval(np.mean, [0, 1] * 200)
    >>> round(low, 1), round(high, 1)
    (0.5, 0.5)
    """
    draws, seed = _inputs.whole("draws", draws, 1), _inputs.whole("seed", seed, 0, _inputs.SEED)
    values: list[npt.NDArray[Any]] = []
    for array in arrays or ((),):
        expected = "numbers for one example or more, as many in each"
        advice = "Give labels and scores of the same examples."
        n = len(values[0]) if values else None
        values.append(_inputs.array("arrays", array, expected, advice, ndim=range(1, 65), n=n))

    def estimate(rows: npt.NDArray[np.int64]) -> float:
        return float(statistic(*(value[rows] for value in values)))

    rows = np.arange(len(values[0]))
    if not np.isfinite(found := estimate(rows)):
        raise ValueError(f"statistic: expected a finite number for all examples, got {found}. Try it alone.")
    if len(rows) == 1:  # scipy refuses it; every draw is the same
        return found, found
    with warnings.catch_warnings():
        # In a draw with a single class the area under the curve is not defined, and NaN.
        warnings.filterwarnings("ignore", message="Only one class is present")
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap((rows,), estimate, method="percentile", n_resamples=draws, random_state=seed)
    low, high = np.nanquantile(drawn.bootstrap_distribution, [0.025, 0.975])
    return float(low), float(high)


def probe(width: int, *, penalty: float = 0.1) -> Pipeline:
    """The classifier of `linear_probe`, to be kept or cross-validated.

    Parameters
    ----------
    width : int
        Features of an example.
    penalty : float, optional
        Ridge penalty for each of them, so that depths of different width compare.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Standardises each feature, then fits a ridge classifier.

    Raises
    ------
    TypeError, ValueError
        If `width` is no whole number from 1, or `penalty` no number from 0.

    Notes
    -----
    Explained in the chapter "Go beyond the article".

    Examples
    --------
    >>> from tlhelpers import evaluation
    >>> evaluation.probe(4)
    Pipeline(steps=[('standardscaler', StandardScaler()),
                    ('ridgeclassifier', RidgeClassifier(alpha=0.4))])
    """
    alpha = _inputs.real("penalty", penalty) * _inputs.whole("width", width, 1)
    return make_pipeline(StandardScaler(), RidgeClassifier(alpha=alpha))


def linear_probe(
    train_features: npt.ArrayLike,
    train_labels: npt.ArrayLike,
    test_features: npt.ArrayLike,
    test_labels: npt.ArrayLike,
    *,
    penalty: float = 0.1,
) -> float:
    """Accuracy of a linear classifier on fixed features: how much of the answer lies open in them.

    A `probe` is fitted to the training part: one solution, found at once, with no learning rate and no seed.

    Parameters
    ----------
    train_features, test_features : array_like, shape (n, ...) and (m, ...)
        Outputs of a frozen network, up to 1e15 in size; every axis after the first is flattened.
    train_labels, test_labels : array_like of int, shape (n,) and (m,)
        Class numbers, 0 or more.
    penalty : float, optional
        As in `probe`.

    Returns
    -------
    float
        Share of the test labels found, 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If numbers or shapes do not fit together, there is but one class, or a feature is not finite.

    Notes
    -----
    Source: Alain and Bengio, *Understanding intermediate layers using linear classifier probes*, 2016;
    the ridge solution in place of their gradient descent is ours.

    Explained in the chapter "Go beyond the article".

    Examples
    --------
    >>> import numpy as np
    >>> from tlhelpers import evaluation
    >>> features = np.array([[0.0, 5.0], [0.1, 5.1], [1.0, 5.0], [1.1, 5.1]])
    >>> evaluation.linear_probe(features, [0, 0, 1, 1], features, [0, 0, 1, 1])
    1.0
    """
    _inputs.same_columns("test_features", train_features, test_features)
    x, x_test = map(_inputs.features, ("train_features", "test_features"), (train_features, test_features))
    y = _inputs.labels("train_labels", train_labels, len(x))
    y_test = _inputs.labels("test_labels", test_labels, len(x_test))
    if x.shape[1] != x_test.shape[1]:
        raise ValueError(
            f"test_features: expected {x.shape[1]} an example, as in training, got {x_test.shape[1]}. Take "
            "both from the same layer."
        )
    if len(np.unique(y)) < 2:
        raise ValueError("train_labels: expected two classes or more, got one. Draw the images at random.")
    return float(probe(x.shape[1], penalty=penalty).fit(x, y).score(x_test, y_test))


def _checked(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, class_names: Sequence[str] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], list[Any]]:
    """Return labels, probabilities with rows scaled to a sum of 1, and names or numbers of the classes."""
    expected = "floating-point numbers of shape (n, classes), n of 1 or more, classes of 2 or more"
    advice = "Give what model.predict returns for a softmax; of a sigmoid's p, np.hstack([1 - p, p])."
    given = _inputs.array("probabilities", probabilities, expected, advice, ndim=(2,), kinds="f")
    n, k = given.shape
    if k < 2:
        raise ValueError(f"probabilities: expected {expected}, got {given.shape}. {advice}")
    true, chances = _inputs.labels("labels", labels, n, k), given.astype(np.float64)
    sums = chances.sum(axis=1)
    good = (np.abs(sums - 1) <= 1e-3) & (chances >= 0).all(axis=1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(
            f"probabilities: expected rows from 0 to 1 that sum to 1, got a lowest value of "
            f"{chances[row].min():.4g} and a sum of {sums[row]:.4g} in row {row}. Apply a softmax to logits "
            "first; NaN means that training diverged: lower the learning rate."
        )
    names: list[Any] = list(range(k))
    if class_names is not None:
        names = list(_inputs.names("class_names", class_names, k, different=True))
    return true, chances / sums[:, np.newaxis], names


def _reliability(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Tabulate mean confidence, accuracy and count in bins of equal width that include their upper edge."""
    bins = 15
    edges = np.linspace(0, 1, bins + 1)
    which = np.digitize(confidence, edges[1:-1], right=True)
    count = np.bincount(which, minlength=bins)
    filled = np.where(count > 0, count, np.nan)  # an empty bin has no mean: NaN, without a warning
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "confidence": np.bincount(which, weights=confidence, minlength=bins) / filled,
            "accuracy": np.bincount(which, weights=right, minlength=bins) / filled,
            "count": count,
        }
    )
