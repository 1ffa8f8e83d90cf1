"""The ladder: rungs of a case differ in depth alone, and a row measured again must agree."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tlhelpers import page
from tlhelpers.studies import ladder, recipes
from tlhelpers.studies.intervals import right_answers

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
DIGITS = ladder.case("pocket", "digits", "few")
QUICK = dataclasses.replace(DIGITS, epochs=2)


def test_a_rung_is_the_same_whatever_was_trained_before_it():
    """The network is kept between rungs, so nothing of one may be left in the next."""
    recipes.classic_network.cache_clear()
    first = ladder.rung(QUICK, "block 16", seed=0, rate=0.001)
    other = ladder.rung(QUICK, "block 16", seed=1, rate=0.0003)
    again = ladder.rung(QUICK, "block 16", seed=0, rate=0.001)
    assert first["right"] == again["right"] != other["right"]
    assert first["validation_accuracy"] == again["validation_accuracy"]
    # Training began at the depth, and kept BatchNorm.
    network = recipes.classic_network(DIGITS.backbone, (8, 8), 32, 10, "block_16_expand")
    start = dict(zip([w.path for w in network.suffix.weights], network.weights, strict=True))
    moved = {
        w.path.split("/")[-2]
        for w in network.suffix.weights
        if not np.array_equal(start[w.path], w.numpy()) and "seed" not in w.path
    }
    assert moved == {"Conv_1", "block_16_depthwise", "block_16_expand", "block_16_project", "head"}


def test_a_rung_is_judged_on_the_whole_test_part():
    found = ladder.rung(QUICK, "head only", seed=0, rate=0.01)
    right = right_answers(found["right"])
    assert len(right) == 500
    assert right.mean() == found["test_accuracy"] > 0.5
    assert np.isnan(found["test_auc"])
    assert found["epochs"] == 2


def test_an_unknown_case_or_depth_says_which_there_are():
    with pytest.raises(LookupError, match=r"unknown case of the ladder 'full, flower, few'.*did you mean"):
        ladder.case("full", "flower", "few")
    with pytest.raises(LookupError, match="unknown depth 'block 7'"):
        ladder.rung(DIGITS, "block 7", seed=0, rate=0.001)


def test_seed_0_of_every_case_comes_first():
    rows = ladder.STUDY.grid(FULL)
    assert len(rows) == len(set(rows)) == 6 * 6 * 3
    assert [row[-1] for row in rows] == [0] * 36 + [1] * 36 + [2] * 36
    assert len(ladder.STUDY.grid(POCKET)) == 6


def test_seed_0_tries_the_rates_and_the_others_take_the_better_one(monkeypatch):
    asked = []

    def rung(case, depth, *, seed, rate):
        asked.append((seed, rate))
        return {"validation_accuracy": 0.8, "test_accuracy": rate, "right": "1x80"}

    monkeypatch.setattr(ladder, "rung", rung)
    row = ladder.STUDY.row(POCKET, "digits", "few", "head only", 0)
    # Of equals, the lower.
    assert (row["learning_rate"], row["test_accuracy"]) == (0.001, 0.001)
    assert (row["tried"], row["right"]) == ("0.001: 0.8000; 0.01: 0.8000", "1x80")
    key = {"edition": "pocket", "data": "digits", "labels": "few", "depth": "head only", "seed": 0}
    kept = pd.DataFrame([{**key, **row, "learning_rate": 0.01}])
    monkeypatch.setattr(page, "measured", lambda name: kept)
    ladder.STUDY.row(POCKET, "digits", "few", "head only", 1)
    assert asked == [(0, 0.001), (0, 0.01), (1, 0.01)]
    with pytest.raises(LookupError, match="expected 'block 6' of digits, few labels"):
        ladder.STUDY.row(POCKET, "digits", "few", "block 6", 1)


def test_the_measured_ladder_is_whole_and_its_answers_fit():
    table = page.measured("ladder")
    depths = table.groupby(["edition", "data", "labels"]).depth.nunique()
    assert depths.groupby("edition").agg(set).to_dict() == {"full": {len(ladder.DEPTHS)}, "pocket": {2}}
    rungs = table.groupby(["edition", "data", "labels", "depth"])
    assert (rungs.seed.nunique() == 3).all()
    # One rate: the seeds differ in nothing else.
    assert (rungs.learning_rate.nunique() == 1).all()
    found = [right_answers(packed).mean() for packed in table.right]
    np.testing.assert_allclose(found, table.test_accuracy, atol=1e-5)
