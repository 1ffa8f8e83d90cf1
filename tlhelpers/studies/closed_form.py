"""Read-outs of frozen features, and scores of how well features fit labels, in closed form.

Nearest centroid, nearest neighbour and ridge with leave-one-out; H-score, LogME, NCE. Explained in the
chapter "Do without validation".
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import mutual_info_score
from sklearn.neighbors import KNeighborsClassifier

__all__ = ["PENALTIES", "READOUTS", "SCORES", "in_span", "ridge"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Of ridge, in units of the mean squared distance of the labelled examples from their mean."""


def in_span(few: Array, *others: Array) -> list[Floats]:
    """Turn features (n, ...) so that n - 1 numbers say all that the `few` can tell; others in the same axes.

    The axes are the principal ones of the few. What is left out of `others` is at right angles to all of the
    few: it changes no order of distances to them, and ridge gives it no weight. So the read-outs name the
    same classes, in less time.
    """
    few, *rest = (np.asarray(each, np.float32).reshape(len(each), -1) for each in (few, *others))
    mean = few.mean(axis=0)
    away = few - mean
    sizes, turned = np.linalg.eigh(away.astype(float) @ away.T)
    kept = sizes > 1e-6 * sizes[-1]
    axes = (away.T @ turned[:, kept] / np.sqrt(sizes[kept])).astype(np.float32)
    return [(each @ axes - mean @ axes).astype(float) for each in (few, *rest)]


# -- read-outs ------------------------------------------------------------------------------------


def _centroid(x: Floats, labels: Array) -> Any:
    """Nearest centroid; scikit-learn's own warns where a class has one example."""
    classes = np.unique(labels)
    means = [x[labels == each].mean(axis=0) for each in classes]
    return KNeighborsClassifier(1).fit(means, classes)


READOUTS: dict[str, Callable[[Floats, Array], Any]] = {
    "nearest centroid": _centroid,
    "nearest neighbour": lambda x, labels: KNeighborsClassifier(1).fit(x, labels),
}
"""By name: what takes features in the span of the few, and labels, and gives a fitted classifier. The third,
ridge, is in closed form: see `ridge`."""


def ridge(few: Floats, labels: Array, penalty: float) -> tuple[Floats, Floats, float]:
    """Ridge on the principal axes of the few: weights, offsets, and leave-one-out mean squared error.

    Scores of the classes are ``x @ weights + offsets``. The axes make both a division.
    Source: Golub, Heath and Wahba, *Generalized cross-validation*, 1979.
    """
    targets = np.where(labels[:, None] == np.unique(labels), 1.0, -1.0)
    squares = (few**2).sum(axis=0)
    shrunk = few / (squares + penalty * squares.sum() / len(few))
    weights = shrunk.T @ targets
    pull = 1 / len(few) + (few * shrunk).sum(axis=1)  # of an example's target on its own prediction
    errors = (targets - targets.mean(axis=0) - few @ weights) / (1 - pull)[:, None]
    return weights, targets.mean(axis=0), float((errors**2).mean())


# -- scores of how well features fit labels: the higher the better --------------------------------


def loo_neighbour(x: Floats, labels: Array) -> float:
    """Share of examples whose nearest other example is of their class."""
    nearest = KNeighborsClassifier(1).fit(x, labels).kneighbors(return_distance=False)[:, 0]
    return float((labels[nearest] == labels).mean())


def loo_centroid(x: Floats, labels: Array) -> float:
    """Share of examples nearest to their class' centroid once it is taken without them; two a class at least.

    Without an example its centroid is k / (k - 1) times as far from it, for k examples of the class.
    """
    classes, own, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.stack([x[labels == each].mean(axis=0) for each in classes])
    far = np.linalg.norm(x[:, None] - means, axis=2)
    far[np.arange(len(x)), own] *= (counts / (counts - 1))[own]
    return float((far.argmin(axis=1) == own).mean())


def h_score(x: Floats, labels: Array) -> float:
    """How much of the features' spread lies between classes: trace of inverse covariance times that of means.

    With fewer examples than numbers the plain score is the same for any features, so the covariance is
    shrunk (Ledoit and Wolf). Sources: Bao et al., *An information-theoretic approach to transferability in
    task transfer learning*, 2019; the shrinking: Ibrahim et al., *Newer is not always better*, 2022.
    """
    x = x - x.mean(axis=0)
    means = np.stack([x[labels == each].mean(axis=0) for each in labels])
    spread, _ = ledoit_wolf(x, assume_centered=True)
    return float(np.trace(np.linalg.solve(spread, means.T @ means / len(x))))


def log_me(x: Floats, labels: Array) -> float:
    """Logarithm of the evidence of a linear model for each class, at its best two variances, by example.

    Mean over the classes. Source: You et al., *LogME*, 2021; a fixed point for the variances of weights
    (1 / a) and noise (1 / b). Targets have their mean taken off, as the features have.
    """
    n = len(x) - 1  # the mean takes one
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    u, s = u[:, s > 1e-6 * s[0]], s[s > 1e-6 * s[0]]
    y = labels[:, None] == np.unique(labels)
    y = y - y.mean(axis=0)
    s2, along = s[:, None] ** 2, (u.T @ y) ** 2
    outside = np.maximum((y**2).sum(axis=0) - along.sum(axis=0), 0)
    a = b = np.ones(y.shape[1])
    for _ in range(100):
        used = (b * s2 / (a + b * s2)).sum(axis=0)
        size = (b**2 * s2 * along / (a + b * s2) ** 2).sum(axis=0)
        wrong = (a**2 * along / (a + b * s2) ** 2).sum(axis=0) + outside
        a, b = used / np.maximum(size, 1e-12), (n - used) / np.maximum(wrong, 1e-12)
    variances = 1 / b + s2 / a
    fit = (along / variances + np.log(variances)).sum(axis=0) + b * outside - (n - len(s)) * np.log(b)
    return float(np.mean(-0.5 * (fit / n + np.log(2 * np.pi))))


def nce(x: Floats, labels: Array) -> float:
    """Minus the entropy of the labels, in nats, once it is known which cluster an example is in.

    Source: Tran et al., *Transferability and hardness of supervised classification tasks*, 2019. There the
    clusters are the source's classes; a cut in the middle names none, so k-means makes as many as there are
    labels.
    """
    clusters = KMeans(len(np.unique(labels)), n_init=1, random_state=0).fit_predict(x)
    entropy = stats.entropy(np.unique(labels, return_counts=True)[1])
    return float(mutual_info_score(labels, clusters) - entropy)


SCORES: dict[str, Callable[[Floats, Array], float]] = {
    "nearest neighbour": loo_neighbour,
    "nearest centroid": loo_centroid,
    "H-score": h_score,
    "LogME": log_me,
    "NCE, clusters": nce,
}
"""By name: what takes features in the span of the few, and their labels."""
