"""Few labels: a draw's choices, and what is said of many draws."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import RidgeClassifier

from tlhelpers.studies import closed_form, few_labels


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
    for score in (*closed_form.SCORES, "leave-one-out", "validation"):
        assert ridge[score]["signal"] > ridge[score]["noise"], score
    # Test labels choose nothing: with wrong ones the same examples are named, and so all others are right.
    other = few_labels.try_draw(features, [*labels[:2], (labels[2] + 1) % 3], 10, seed=0)
    assert list(other.cut) == list(found.cut)
    assert not any((a & b).any() for a, b in zip(found.right, other.right, strict=True))
    # Validation's ridge, in closed form, is scikit-learn's.
    x, known, unseen = closed_form.in_span(*np.split(features["signal"], [60, 90]))
    size = (x**2).sum(axis=1).mean()
    drawn = few_labels.try_draw({"signal": features["signal"]}, labels, 20, seed=0).iloc[-1]
    models = [RidgeClassifier(penalty * size).fit(x, labels[0]) for penalty in closed_form.PENALTIES]
    best = max(models, key=lambda model: model.score(known, labels[1]))
    np.testing.assert_array_equal(drawn.right, best.predict(unseen) == labels[2])


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
