"""Read-outs and scores in closed form, each against scikit-learn, a brute force or a value by hand."""

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from tlhelpers.studies import closed_form

LABELS = np.repeat([0, 1, 2], 4)


def some(width=30, spread=2.0, n=40):
    rng = np.random.default_rng(0)
    few = rng.normal(size=(12, width)) + spread * np.eye(3, width)[LABELS]
    return few.astype(np.float32), rng.normal(size=(n, width)).astype(np.float32)


@pytest.mark.parametrize("width", [5, 30])
def test_in_the_span_of_the_few_the_readouts_name_the_same_classes(width):
    few, others = some(width)
    x, seen = closed_form.in_span(few, others)
    assert x.shape[1] == min(width, 11)
    size = ((few - few.mean(axis=0)) ** 2).sum(axis=1).mean()
    penalties = np.array(closed_form.PENALTIES) * size
    plain = {"nearest centroid": NearestCentroid(), "nearest neighbour": KNeighborsClassifier(1)}
    for name, classifier in plain.items():
        model = closed_form.READOUTS[name](x, LABELS)
        np.testing.assert_array_equal(model.predict(seen), classifier.fit(few, LABELS).predict(others))
    # Ridge, and leave-one-out, one by one.
    errors = []
    for penalty, ours in zip(penalties, closed_form.PENALTIES, strict=True):
        each = []
        for row in range(len(few)):
            rest = np.arange(len(few)) != row
            left = RidgeClassifier(penalty).fit(few[rest], LABELS[rest])
            each.append(left.decision_function(few[[row]])[0] - np.where(np.arange(3) == LABELS[row], 1, -1))
        weights, level, error = closed_form.ridge(x, LABELS, ours)
        errors.append(error)
        assert error == pytest.approx(np.mean(np.square(each)), rel=1e-4)
        whole = RidgeClassifier(penalty).fit(few, LABELS)
        np.testing.assert_allclose(seen @ weights + level, whole.decision_function(others), atol=1e-3)
    assert RidgeClassifierCV(penalties).fit(few, LABELS).alpha_ == penalties[np.argmin(errors)]


def test_ridge_starts_from_how_frequent_each_class_is():
    """Without a mean over the classes' own shares the commonest would be named too rarely."""
    labels = np.repeat([0, 1, 2], [9, 2, 1])
    few, others = some(spread=1.0)
    x, seen = closed_form.in_span(few, others)
    weights, level, error = closed_form.ridge(x, labels, 1.0)
    np.testing.assert_allclose(level, [0.5, -2 / 3, -5 / 6])
    penalty = ((few - few.mean(axis=0)) ** 2).sum(axis=1).mean()
    whole = RidgeClassifier(penalty).fit(few, labels)
    np.testing.assert_allclose(seen @ weights + level, whole.decision_function(others), atol=1e-4)
    scores = RidgeClassifierCV([penalty], store_cv_results=True).fit(few, labels)
    assert error == pytest.approx(scores.cv_results_.mean(), rel=1e-4)


def test_scores_that_leave_one_out_do_so():
    x = some(spread=1.0)[0].astype(float)
    for score, classifier in (
        (closed_form.loo_neighbour, KNeighborsClassifier(1)),
        (closed_form.loo_centroid, NearestCentroid()),
    ):
        rest = [np.arange(12) != row for row in range(12)]
        right = [classifier.fit(x[r], LABELS[r]).predict(x[~r])[0] == LABELS[~r][0] for r in rest]
        assert score(x, LABELS) == pytest.approx(np.mean(right))
        assert 0 < np.mean(right) < 1


def test_h_score():
    x = some(width=4)[0].astype(float)
    x -= x.mean(axis=0)
    spread = ledoit_wolf(x, assume_centered=True)[0]
    between = sum(4 / 12 * np.outer(m, m) for m in (x[c == LABELS].mean(axis=0) for c in range(3)))
    assert closed_form.h_score(x + 7, LABELS) == pytest.approx(np.trace(np.linalg.inv(spread) @ between))


@pytest.mark.parametrize("width", [4, 30])
def test_log_me_is_the_evidence_at_its_maximum(width):
    x = some(width, spread=0.5)[0].astype(float)
    basis = np.linalg.svd(np.ones((1, 12)))[2][1:].T  # at right angles to a constant: what has no mean
    within = basis.T @ x @ x.T @ basis
    found = []
    for each in range(3):
        y = basis.T @ (each == LABELS)

        def minus_evidence(logs, y=y):
            covariance = np.exp(logs[0]) * within + np.exp(logs[1]) * np.eye(11)
            return -stats.multivariate_normal(np.zeros(11), covariance).logpdf(y)

        starts = [(a, b) for a in (-6, 0) for b in (-6, 0)]
        tries = [optimize.minimize(minus_evidence, start, bounds=[(-12, 5)] * 2) for start in starts]
        found.append(-min(each.fun for each in tries) / 11)
    assert closed_form.log_me(x + 3, LABELS) == pytest.approx(np.mean(found), abs=2e-3)


def test_nce_by_hand():
    # Two far clusters; one holds both classes in halves (one bit), the other a single class.
    x = np.array([[0.0], [0.1], [9.0], [9.1]])
    assert closed_form.nce(x, np.array([0, 1, 1, 1])) == pytest.approx(-0.5 * np.log(2))
