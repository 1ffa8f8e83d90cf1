"""Read-outs and scores for few labels, each against scikit-learn, a brute force or a value by hand."""

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from tlhelpers.studies import few_labels

LABELS = np.repeat([0, 1, 2], 4)


def some(width=30, spread=2.0, n=40):
    rng = np.random.default_rng(0)
    few = rng.normal(size=(12, width)) + spread * np.eye(3, width)[LABELS]
    return few.astype(np.float32), rng.normal(size=(n, width)).astype(np.float32)


@pytest.mark.parametrize("width", [5, 30])
def test_in_the_span_of_the_few_the_readouts_name_the_same_classes(width):
    few, others = some(width)
    x, seen = few_labels.in_span(few, others)
    assert x.shape[1] == min(width, 11)
    size = ((few - few.mean(axis=0)) ** 2).sum(axis=1).mean()
    penalties = np.array(few_labels.PENALTIES) * size
    plain = {"nearest centroid": NearestCentroid(), "nearest neighbour": KNeighborsClassifier(1)}
    for name, classifier in plain.items():
        model = few_labels.READOUTS[name](x, LABELS)
        np.testing.assert_array_equal(model.predict(seen), classifier.fit(few, LABELS).predict(others))
    # Ridge, and leave-one-out, one by one.
    errors = []
    for penalty, ours in zip(penalties, few_labels.PENALTIES, strict=True):
        each = []
        for row in range(len(few)):
            rest = np.arange(len(few)) != row
            left = RidgeClassifier(penalty).fit(few[rest], LABELS[rest])
            each.append(left.decision_function(few[[row]])[0] - np.where(np.arange(3) == LABELS[row], 1, -1))
        weights, error = few_labels.ridge(x, LABELS, ours)
        errors.append(error)
        assert error == pytest.approx(np.mean(np.square(each)), rel=1e-4)
        whole = RidgeClassifier(penalty).fit(few, LABELS)
        np.testing.assert_allclose(seen @ weights - 1 / 3, whole.decision_function(others), atol=1e-3)
    assert RidgeClassifierCV(penalties).fit(few, LABELS).alpha_ == penalties[np.argmin(errors)]


def test_scores_that_leave_one_out_do_so():
    x = some(spread=1.0)[0].astype(float)
    for score, classifier in (
        (few_labels.loo_neighbour, KNeighborsClassifier(1)),
        (few_labels.loo_centroid, NearestCentroid()),
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
    assert few_labels.h_score(x + 7, LABELS) == pytest.approx(np.trace(np.linalg.inv(spread) @ between))


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
    assert few_labels.log_me(x + 3, LABELS) == pytest.approx(np.mean(found), abs=2e-3)


def test_nce_by_hand():
    # Two far clusters; one holds both classes in halves (one bit), the other a single class.
    x = np.array([[0.0], [0.1], [9.0], [9.1]])
    assert few_labels.nce(x, np.array([0, 1, 1, 1])) == pytest.approx(-0.5 * np.log(2))


def test_a_draw_and_its_choices():
    rng = np.random.default_rng(1)
    labels = [np.arange(n) % 3 for n in (60, 30, 40)]
    every = np.concatenate(labels)
    features = {
        "noise": rng.normal(size=(130, 6)),
        "signal": rng.normal(size=(130, 6)) + 5 * np.eye(3, 6)[every],
    }
    found = few_labels.try_draw(features, labels, 10, seed=0)
    right = found.set_index(["cut", "readout"]).right
    assert {len(each) for each in right} == {40}
    for by in ("leave-one-out", "validation"):
        assert right["signal", f"chosen by {by}"].mean() > 0.9
    ridge = found[found.readout == "ridge"].set_index("cut")
    for score in (*few_labels.SCORES, "leave-one-out", "validation"):
        assert ridge[score]["signal"] > ridge[score]["noise"], score
    # Test labels choose nothing: with wrong ones the same examples are named, and so all others are right.
    other = few_labels.try_draw(features, [*labels[:2], (labels[2] + 1) % 3], 10, seed=0)
    assert list(other.cut) == list(found.cut)
    assert not any((a & b).any() for a, b in zip(found.right, other.right, strict=True))
    # Validation's ridge, in closed form, is scikit-learn's.
    x, known, unseen = few_labels.in_span(*np.split(features["signal"], [60, 90]))
    size = (x**2).sum(axis=1).mean()
    drawn = few_labels.try_draw({"signal": features["signal"]}, labels, 20, seed=0).iloc[-1]
    models = [RidgeClassifier(penalty * size).fit(x, labels[0]) for penalty in few_labels.PENALTIES]
    best = max(models, key=lambda model: model.score(known, labels[1]))
    np.testing.assert_array_equal(drawn.right, best.predict(unseen) == labels[2])


def test_intervals_cover_draws_and_examples():
    rng = np.random.default_rng(0)
    right = (rng.random((20, 400)) < 0.8).astype(float)
    low, high = few_labels.interval(right)
    assert low < right.mean() < high
    # Draws that are all alike leave the luck of the examples, and the other way round.
    alike = np.repeat(right[:1], 20, axis=0)
    assert np.ptp(few_labels.interval(alike)) == pytest.approx(3.92 * alike[0].std() / 20, rel=0.15)
    assert np.ptp(few_labels.interval(np.repeat(right[:, :1], 400, axis=1))) > 0.3


def test_rank_agreement():
    rng = np.random.default_rng(0)
    right = (rng.random((4, 5, 200)) < np.linspace(0.2, 0.8, 5)[:, None]).astype(float)
    scores = rng.integers(0, 4, (4, 5)).astype(float)
    by_hand = np.mean(
        [stats.spearmanr(s, r.mean(axis=1)).statistic for s, r in zip(scores, right, strict=True)]
    )
    found, low, high = few_labels.agreement(scores, right)
    assert found == pytest.approx(by_hand)
    assert low < found < high
    assert few_labels.agreement(right.mean(axis=2), right)[0] == pytest.approx(1)
    assert few_labels.agreement(np.ones((4, 5)), right)[0] == 0
