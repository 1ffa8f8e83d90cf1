"""Chest X-rays: thresholds and shares against numbers worked out by hand; rows on the stand-in."""

import numpy as np
import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import page
from tlhelpers.studies import xrays

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


@pytest.fixture(autouse=True)
def _pocket(tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")


@pytest.mark.parametrize(
    ("share", "expected"),
    # Ten healthy, 0.0 to 0.9: of 9 in ten one may lie above; 0.95 can't be had with ten, so none may.
    [(0.5, 0.4), (0.9, 0.8), (0.95, 0.9), (0.1, 0.0)],
)
def test_a_threshold_keeps_its_specificity_and_no_more(share, expected):
    labels = np.repeat([0, 1], [10, 3])
    scores = np.r_[np.arange(10)[::-1] / 10, [0.05, 0.85, 1.0]]
    above = xrays.threshold_at_specificity(labels, scores, specificity=share)
    assert above == expected
    assert xrays.sensitivity_specificity(labels, scores, above=above)["specificity"] >= share


def test_equal_scores_are_no_way_around_the_threshold():
    labels, scores = [0, 0, 0, 0, 1, 1], [0.1, 0.7, 0.7, 0.7, 0.7, 0.9]
    above = xrays.threshold_at_specificity(labels, scores, specificity=0.5)
    found = xrays.sensitivity_specificity(labels, scores, above=above)
    assert found == {"sensitivity": 0.5, "specificity": 1.0}


def test_probabilities_move_to_another_share_of_the_sick():
    # By Bayes' rule: a finding three times as frequent among the sick, at shares of 1/2 and of 1/4.
    assert xrays.prior_shift([0.75], old=0.5, new=0.25) == pytest.approx([0.5])
    here = np.array([0.0, 0.2, 0.6, 1.0])
    there = xrays.prior_shift(here, old=0.7, new=0.4)
    assert there[[0, 3]].tolist() == [0, 1]
    assert xrays.prior_shift(there, old=0.4, new=0.7) == pytest.approx(here)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: xrays.threshold_at_specificity([0, 1], [0.5]), r"score each, got .*\(2,\) labels"),
        (lambda: xrays.threshold_at_specificity([0, 1], [0.5, np.nan]), "finite score"),
        (lambda: xrays.threshold_at_specificity([1, 1], [0.5, 0.6]), r"expected both labels, .* got \[1\]"),
        (lambda: xrays.threshold_at_specificity([0, 1], [0.5, 0.6], specificity=90), "share .*, got 90"),
        (lambda: xrays.sensitivity_specificity([0, 2], [0.5, 0.6], above=0.5), r"got \[0, 2\]"),
        (lambda: xrays.prior_shift([1.5], old=0.5, new=0.5), r"expected numbers from 0 to 1.*got \[1.5\]"),
        (lambda: xrays.prior_shift([0.5], old=0.5, new=1), "neither 0 nor 1, got .* 0.5 and 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_stand_in_is_two_digits():
    data, digits = xrays.load(POCKET), tl.load_dataset("digits")
    for name in ("train", "validation", "test"):
        whole, two = getattr(digits, name), getattr(data, name)
        digit = dict(zip(whole.indices, whole.labels, strict=True))
        assert [digit[index] for index in two.indices] == [(3, 8)[label] for label in two.labels]
        assert len(two) == np.isin(whole.labels, (3, 8)).sum()


def test_training_takes_two_hundred_steps_or_three_looks():
    plans = [xrays.schedule(labels) for labels in xrays.SIZES]
    expected = [(16, 64), (16, 16), (32, 7), (32, 3)]
    assert [(plan["batch_size"], plan["epochs"]) for plan in plans] == expected


@pytest.mark.parametrize(
    ("method", "choice"), [("frozen", "block_5_add, penalty 0.01"), ("raw pixels", "C 0.001")]
)
def test_a_row_learns_and_follows_its_seed(method, choice):
    first, other, again = (xrays.measure(method, 20, seed=seed) for seed in (0, 1, 0))
    assert list(first) == ["value", "validation", "choice", "cpu_seconds", "sensitivity", "specificity"]
    for row in (first, other, again):
        row.pop("cpu_seconds")
    assert first == again != other
    assert first["value"] > 0.9
    assert first["choice"] == choice


def test_test_is_judged_at_validations_threshold(monkeypatch):
    data = xrays.load(POCKET)
    scores = ("as I please", data.validation.labels, 1.0 - 2 * data.test.labels)
    monkeypatch.setattr(xrays, "_searched", lambda *_: scores)
    found = xrays.measure("raw pixels", 20, seed=0)
    assert (found["validation"], found["value"], found["choice"]) == (1.0, 0.0, "as I please")
    assert (found["sensitivity"], found["specificity"]) == (0.0, 0.0)
    row = pd.Series({"method": "raw pixels", "labels": 20, "seed": 0})
    assert xrays.STUDY.again(POCKET, row) == (0.0, np.bincount(data.test.labels).min())


def test_from_scratch_takes_the_better_rate_and_learns(monkeypatch):
    monkeypatch.setattr(xrays, "schedule", lambda labels: {"batch_size": 16, "epochs": 8})
    monkeypatch.setattr(xrays, "RATES", (1e-7, 0.004))
    found = xrays.measure("from scratch", 60, seed=0)
    assert found["choice"] == "rate 0.004"
    assert found["value"] > 0.8


def test_fine_tuning_does_as_the_classic_advice_says(monkeypatch):
    def train(network, few, *others, **how):
        given = {"penalty": advice.penalty, "rate": advice.learning_rate, "seed": 3}
        assert how == given | xrays.schedule(len(few))
        assert network == ("mobilenet_v2_glyphs", (8, 8), 32, 2, advice.train_from)
        return [np.eye(2)[part.labels] for part in others]

    monkeypatch.setattr(xrays, "classic_network", lambda *settings: settings)
    monkeypatch.setattr(xrays, "train_classic", train)
    question = {"n_examples": 60, "n_classes": 2, "similarity": "different"}
    advice = tl.recommend_strategy(**question, by="classic")
    assert advice.cut == "end"
    found = xrays.measure("fine-tuned", 60, seed=3)
    assert found["choice"] == f"{advice.depth}, rate {advice.learning_rate:g}"
    assert (found["validation"], found["value"]) == (1.0, 1.0)
