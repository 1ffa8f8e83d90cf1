"""Catching fraud: who learns from which days, what an alert is, and that no way asks the days of test."""

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from tlhelpers import page
from tlhelpers.studies import fraud

FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


@pytest.fixture(autouse=True)
def one_thread():
    """Threads of small trees wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def small():
    """Few cards, so that features, trees and networks are quick; of the source few frauds."""
    with pytest.MonkeyPatch.context() as patch:
        simulate = fraud.simulate
        patch.setattr(fraud, "simulate", lambda told, *, seed: simulate(told, seed=seed, cards=200))
        patch.setattr(fraud, "SOURCE", {"train": 60, "validation": 30})
        patch.setattr(fraud, "MANY", {"max_leaf_nodes": (8,), "max_iter": (20,)})
        patch.setattr(fraud, "FEW", {"max_leaf_nodes": (4,), "max_iter": (20,)})
        patch.setattr(fraud, "RATES", dict.fromkeys(fraud.RATES, (0.003,)))
        for name in ("portfolio", "source"):
            getattr(fraud, name).cache_clear()
        yield fraud.portfolio(1.0, 0.5, 0)
    for name in ("portfolio", "source"):
        getattr(fraud, name).cache_clear()


def test_days_of_training_validation_and_test_follow_each_other(small):
    ends = [(part.time.min(), part.time.max()) for part in (fraud.rows(small, span) for span in fraud.SPANS)]
    assert ends[0][1] < ends[1][0]
    assert ends[1][1] < ends[2][0] - 7  # a week until labels are known
    assert ends[2][1] < 61


def test_few_labels_are_a_part_of_more(small):
    few, more = (fraud.rows(small, "train", n, seed=1) for n in (10, 40))
    assert (few.kind > 0).sum() == 10
    assert len(few) == 10 * (1 + fraud.GENUINE)
    assert set(few.index) <= set(more.index)
    assert set(few.index) != set(fraud.rows(small, "train", 10, seed=2).index)
    with pytest.raises(ValueError, match=r"frauds: expected at most \d+, all of the train days, got 9999"):
        fraud.rows(small, "train", 9999)


@pytest.mark.parametrize("method", fraud.METHODS)
def test_every_way_learns_and_repeats_itself(small, method):
    few, held = (fraud.xy(fraud.rows(small, span, 40)) for span in ("train", "validation"))
    x, truth = fraud.xy(fraud.rows(small, "test"))
    score, value, _ = fraud.fit(method, few, held, seed=0)
    found = score(x)
    assert fraud._judge(score, held) == pytest.approx(value)
    assert found.shape == truth.shape
    assert found[truth == 1].mean() > found[truth == 0].mean()
    assert fraud._judge(score, (x, truth)) > 3 * truth.mean()  # far above guessing
    again, _, _ = fraud.fit(method, few, held, seed=0)
    assert (again(x) == found).all()


def test_what_is_as_it_is_and_frozen_leave_the_source_alone(small):
    few, held = (fraud.xy(fraud.rows(small, span, 40)) for span in ("train", "validation"))
    weights = [each.copy() for each in fraud.source(0).network.get_weights()]
    for method in ("frozen", "fine-tuned"):
        fraud.fit(method, few, held, seed=0)
    assert all((a == b).all() for a, b in zip(weights, fraud.source(0).network.get_weights(), strict=True))
    upside_down = few[0], 1 - few[1]
    for method, same in (("source as it is", True), ("network as it is", True), ("frozen", False)):
        a, b = (fraud.fit(method, labels, held, seed=0)[0](held[0]) for labels in (few, upside_down))
        assert (a == b).all() == same


def test_validation_chooses(small):
    few, held = (fraud.xy(fraud.rows(small, span, 40)) for span in ("train", "validation"))
    fooled = held[0], 1 - held[1]
    (_, _, honest), (_, _, other) = (fraud.fit("logistic regression", few, h, seed=0) for h in (held, fooled))
    assert honest != other


def test_an_alert_is_a_card_of_a_day(monkeypatch):
    monkeypatch.setattr(fraud, "ALERTS", 2)
    table = pd.DataFrame(
        {
            "time": [47.1, 47.2, 47.3, 47.9, 48.1, 48.2, 48.3],
            "card": [1, 1, 2, 3, 1, 2, 3],
            "kind": [0, 2, 0, 0, 0, 1, 3],
        }
    )
    scores = np.array([0.9, 0.1, 0.5, 0.4, 0.3, 0.9, 0.8])
    # Day 47: cards 1 (a fraud, though by another payment) and 2. Day 48: cards 2 and 3.
    assert fraud.precision(table, scores).tolist() == [0.5, 1]
    assert fraud.precision(table, -scores).tolist() == [0.5, 0.5]


def test_rows_of_the_table_and_their_intervals(small, monkeypatch):
    monkeypatch.setattr(fraud, "SIZES", (20, 40))
    monkeypatch.setattr(fraud, "METHODS", ("source as it is", "logistic regression"))
    found = fraud._row(FULL, 1.0, 0.5, 0)
    assert found[["method", "labels"]].to_numpy().tolist() == [
        ["source as it is", 20],
        ["logistic regression", 20],
        ["logistic regression", 40],
    ]
    table = pd.concat([found.assign(clients=1.0, fraud=0.5, seed=seed) for seed in (1, 0)])
    table.loc[table.seed == 1, "precision"] += 0.1
    once, twice = (fraud.by_simulation(table, "source as it is", n, 1.0, 0.5) for n in (20, 40))
    assert once.tolist() == twice.tolist()
    assert np.diff(once) == pytest.approx(0.1)
    low, high = fraud.interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    row = table[table.seed == 0].iloc[1]
    assert fraud.STUDY.again(FULL, row)[0] == pytest.approx(row.precision)


def test_the_grid_has_the_full_edition_alone():
    assert len(list(fraud.STUDY.grid(FULL))) == 24
    assert not list(fraud.STUDY.grid(POCKET))
