"""The ladder: rungs of a case differ in depth alone, and a row measured again must agree."""

import dataclasses
import inspect

import measure_ladder
import numpy as np
import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import ladder, published, strategies

POCKET = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
DIGITS = tl.ladder.case("pocket", "digits", "few")
QUICK = dataclasses.replace(DIGITS, epochs=2)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")


def test_a_rung_is_the_same_whatever_was_trained_before_it():
    """The network is kept between rungs, so nothing of one may be left in the next."""
    first = ladder.rung(QUICK, "block 16", seed=0, rate=0.001)
    other = ladder.rung(QUICK, "block 16", seed=1, rate=0.0003)
    again = ladder.rung(QUICK, "block 16", seed=0, rate=0.001)
    ladder.network.cache_clear()
    fresh = ladder.rung(QUICK, "block 16", seed=0, rate=0.001)
    assert first["right"] == again["right"] == fresh["right"]
    assert first["validation_accuracy"] == again["validation_accuracy"] == fresh["validation_accuracy"]
    assert first["right"] != other["right"]


def test_a_rung_trains_from_its_depth_on_and_keeps_batch_norm():
    ladder.rung(QUICK, "block 16", seed=0, rate=0.001)
    network = ladder.network(DIGITS.backbone, (8, 8), 32, 10, "block_16_expand")
    start = dict(zip([w.path for w in network.suffix.weights], network.weights, strict=True))
    moved = [
        w.path.split("/")[-2]
        for w in network.suffix.weights
        if not np.array_equal(start[w.path], w.numpy()) and "seed" not in w.path
    ]
    assert sorted(set(moved)) == [
        "Conv_1",
        "block_16_depthwise",
        "block_16_expand",
        "block_16_project",
        "head",
    ]
    assert network.prefix.output.name != network.suffix.output.name
    assert not network.prefix.trainable_weights


def test_a_rung_is_judged_on_the_whole_test_part():
    found = ladder.rung(QUICK, "head only", seed=0, rate=0.01)
    right = strategies.right_answers(found["right"])
    assert len(right) == 500
    assert right.mean() == found["test_accuracy"] > 0.5
    assert np.isnan(found["test_auc"])
    assert found["epochs"] == 2


def test_examples_are_drawn_in_proportion_and_by_seed():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    drawn = ladder.in_proportion(labels, 10, seed=0)
    assert np.bincount(labels[drawn]).tolist() == [5, 3, 2]
    assert len(set(drawn)) == 10
    assert (drawn == ladder.in_proportion(labels, 10, seed=0)).all()
    assert (drawn != ladder.in_proportion(labels, 10, seed=1)).any()
    assert ladder.in_proportion(labels, 100, seed=0).tolist() == list(range(100))


def test_an_unknown_case_or_depth_says_which_there_are():
    with pytest.raises(LookupError, match=r"unknown case of the ladder 'full, flower, few'.*did you mean"):
        ladder.case("full", "flower", "few")
    with pytest.raises(LookupError, match="unknown depth 'block 7'"):
        ladder.rung(DIGITS, "block 7", seed=0, rate=0.001)


def test_seed_0_of_every_case_comes_first():
    full = tl.editions.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
    rows = measure_ladder.wanted(full)
    assert len(rows) == len(set(rows)) == 6 * 6 * 3
    assert [row[-1] for row in rows] == [0] * 36 + [1] * 36 + [2] * 36
    assert tuple(inspect.signature(measure_ladder.run).parameters) == ("edition", *measure_ladder.KEYS)
    assert len(measure_ladder.wanted(POCKET)) == 6


def test_seed_0_tries_the_rates_and_the_others_take_the_better_one(monkeypatch):
    asked = []

    def rung(case, depth, *, seed, rate):
        asked.append((seed, rate))
        score = {0.001: 0.8, 0.01: 0.8}[rate]
        return {"validation_accuracy": score, "test_accuracy": rate, "right": "1x80"}

    monkeypatch.setattr(ladder, "rung", rung)
    row = measure_ladder.run(POCKET, "digits", "few", "head only", 0).iloc[0]
    # Of equals, the lower.
    assert (row.learning_rate, row.test_accuracy) == (0.001, 0.001)
    assert row.tried == "0.001: 0.8000; 0.01: 0.8000"
    monkeypatch.setattr(published, "measured", lambda name: pd.DataFrame([{**row, "learning_rate": 0.01}]))
    measure_ladder.run(POCKET, "digits", "few", "head only", 1)
    assert asked == [(0, 0.001), (0, 0.01), (1, 0.01)]
    with pytest.raises(LookupError, match="expected 'block 6' of digits, few labels"):
        measure_ladder.run(POCKET, "digits", "few", "block 6", 1)


def test_one_row_of_the_measured_ladder_is_measured_again():
    """Another row as the project moves on: the library's own source chooses it."""
    found = ladder.check_one(edition=POCKET).iloc[0]
    assert abs(found.now - found.then) <= found.allowed


def test_a_row_that_does_not_agree_stops(monkeypatch):
    table = published.measured("ladder").query("edition == 'pocket'").copy()
    table["test_accuracy"] -= 0.2
    monkeypatch.setattr(published, "measured", lambda name: table)
    monkeypatch.setattr(ladder, "rung", lambda *a, **k: {"test_accuracy": 0.93})
    with pytest.raises(published.Disagreement, match=r"as in the measured table, got 0\.9300"):
        ladder.check_one(edition=POCKET, which=1)
    none = table[:0]
    monkeypatch.setattr(published, "measured", lambda name: none)
    with pytest.raises(LookupError, match="expected rows with three seeds"):
        ladder.check_one(edition=POCKET)


def test_the_measured_ladder_is_whole_and_its_answers_fit():
    table = published.measured("ladder")
    for edition, depths in (("full", len(ladder.DEPTHS)), ("pocket", 2)):
        cases = table[table.edition == edition].groupby(["data", "labels"])
        assert (cases.depth.nunique() == depths).all()
        assert (cases.seed.nunique() == 3).all()
        # One depth, one rate: the seeds differ in nothing else.
        rates = table[table.edition == edition].groupby(["data", "labels", "depth"]).learning_rate
        assert (rates.nunique() == 1).all()
    shares = [strategies.right_answers(packed).mean() for packed in table.right]
    np.testing.assert_allclose(shares, table.test_accuracy, atol=1e-5)
    assert table[["commit", "date", "machine"]].notna().all(axis=None)
