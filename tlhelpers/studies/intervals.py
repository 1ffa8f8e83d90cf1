"""Which test examples each run found, and how far an average over runs and examples can be trusted.

A difference may come from the seeds (the labels that were drawn, the head, the order of the batches) or from
the test examples that happened to be chosen. An interval here covers both.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import roc_auc_score

__all__ = ["interval", "judged", "pack", "right_answers"]

Scores = npt.NDArray[np.floating[Any]]
Answers = npt.NDArray[np.int64]


def interval(*right: npt.NDArray[Any] | Sequence[Any]) -> tuple[float, float]:
    """A 95% interval for a mean over seeds and test examples: ``(low, high)``.

    `right` is (seeds, examples), two of each at least: 1 where a run found an example and 0 where not, or the
    difference between two ways with the same seed. Several are averaged, each counting alike, as of data sets
    that share nothing. In the place of one there may be a list, whose arrays share the examples and not the
    seeds, as few and many labels of a data set do. The variance of the mean over seeds and that over examples
    are added, and Student's t gets its degrees of freedom from them. What seeds and examples do together is
    counted in both, so the interval is a little wide rather than too narrow. Source of the degrees of
    freedom: Satterthwaite, *An approximate distribution of estimates of variance components*, 1946.

    Examples
    --------
    >>> import numpy as np
    >>> from tlhelpers import studies
    >>> runs = np.arange(300).reshape(3, 100) % 7 > 0  # three runs, six of seven found
    >>> low, high = studies.intervals.interval(runs)
    >>> print(f"{low:.2f} to {high:.2f}")
    0.82 to 0.89
    """
    parts, freedoms, means = list[float](), list[int](), list[float]()
    for each in right:
        cases = [np.asarray(case, np.float64) for case in (each if np.ndim(each[0]) > 1 else [each])]
        for case in cases:
            if case.ndim != 2 or min(case.shape) < 2:
                raise ValueError(
                    f"right: expected (seeds, examples) with two of each at least, got {case.shape}. "
                    "Stack the answers of several runs."
                )
        by_seed = [case.mean(axis=1) / len(cases) for case in cases]
        by_example = np.mean([case.mean(axis=0) for case in cases], axis=0)
        means.append(float(by_example.mean()))
        for values in (*by_seed, by_example):
            parts.append(values.var(ddof=1) / len(values) / len(right) ** 2)
            freedoms.append(len(values) - 1)
    mean, spread = float(np.mean(means)), np.array(parts)
    if not spread.any():
        return mean, mean
    freedom = spread.sum() ** 2 / (spread**2 / freedoms).sum()
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(spread.sum()))
    return mean - half, mean + half


def pack(right: npt.NDArray[np.bool_]) -> str:
    """Answers, bool (n,), as text for a table's column ``right``, which `right_answers` reads.

    Examples
    --------
    >>> import numpy as np
    >>> from tlhelpers import studies
    >>> studies.intervals.pack(np.array([True, False, True]))
    '3xa0'
    """
    # Eight answers in two hexadecimal digits. The letter keeps a reader from taking it for a number.
    return f"{len(right)}x{np.packbits(right).tobytes().hex()}"


def judged(held: Scores, truth: Answers, seen: Scores, labels: Answers) -> dict[str, Any]:
    """A row's accuracies, packed answers and, of two classes, AUC.

    From scores (n, classes) of the validation and of the test examples, each followed by their classes.
    """
    right = seen.argmax(axis=1) == labels
    auc = roc_auc_score(labels, seen[:, 1] - seen[:, 0]) if seen.shape[1] == 2 else np.nan
    return {
        "validation_accuracy": float((held.argmax(axis=1) == truth).mean()),
        "test_accuracy": float(right.mean()),
        "test_auc": float(auc),
        "right": pack(right),
    }


def right_answers(packed: str) -> npt.NDArray[np.bool_]:
    """Which test examples a row's column ``right`` says were found: bool, (n,), in the order of the test.

    Examples
    --------
    >>> from tlhelpers import studies
    >>> studies.intervals.right_answers("3xa0")
    array([ True, False,  True])
    """
    number, _, digits = str(packed).partition("x")
    try:
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))
        if 0 <= len(bits) - int(number) < 8:
            return bits[: int(number)].astype(bool)
    except ValueError:
        pass
    raise ValueError(
        f"right: expected a number, an x and hexadecimal digits, two for eight answers, got "
        f"{str(packed)[:20]!r}. Give the column `right` of a measured table."
    )
