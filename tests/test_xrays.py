"""Chest X-rays: thresholds, intervals and shares against numbers worked out by hand; rows on the stand-in."""

import numpy as np
import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import xrays

POCKET = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


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
    above = xrays.threshold(labels, scores, specificity=share)
    assert above == expected
    assert xrays.passes(labels, scores, above=above)["specificity"] >= share
    lower = scores[(scores < above) & (labels == 0)]
    if len(lower):
        assert xrays.passes(labels, scores, above=lower.max())["specificity"] < share


def test_equal_scores_are_no_way_around_the_threshold():
    labels, scores = [0, 0, 0, 0, 1], [0.1, 0.7, 0.7, 0.7, 0.7]
    above = xrays.threshold(labels, scores, specificity=0.5)
    assert xrays.passes(labels, scores, above=above) == {"sensitivity": 0.0, "specificity": 1.0}


def test_chances_move_to_another_share_of_the_sick():
    # By Bayes' rule: a finding three times as frequent among the sick, at shares of 1/2 and of 1/4.
    assert xrays.new_share([0.75], old=0.5, new=0.25) == pytest.approx([0.5])
    chances = np.array([0.0, 0.2, 0.6, 1.0])
    there = xrays.new_share(chances, old=0.7, new=0.4)
    assert there[[0, 3]].tolist() == [0, 1]
    assert (there[1:3] < chances[1:3]).all()
    assert xrays.new_share(there, old=0.4, new=0.7) == pytest.approx(chances)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: xrays.threshold([0, 1], [0.5]), r"expected labels .* as many finite scores, got \(2,\)"),
        (lambda: xrays.threshold([0, 1], [0.5, np.nan]), "finite scores"),
        (lambda: xrays.threshold([1, 1], [0.5, 0.6]), r"expected both 0 .* and 1 .*, got \[1\]"),
        (lambda: xrays.threshold([0, 1], [0.5, 0.6], specificity=90), "share between 0 and 1, got 90"),
        (lambda: xrays.passes([0, 2], [0.5, 0.6], above=0.5), r"got \[0, 2\]"),
        (lambda: xrays.new_share([1.5], old=0.5, new=0.5), "chances: expected numbers from 0 to 1"),
        (lambda: xrays.new_share([0.5], old=0.5, new=1), "new: expected a share between 0 and 1, got 1"),
        (lambda: xrays.measure("raw pixels", 1, seed=0), "labels: expected 2 to .*, got 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_unknown_words_say_so():
    with pytest.raises(LookupError, match="unknown method 'frozn'"):
        xrays.measure("frozn", 50, seed=0)
    with pytest.raises(LookupError, match="unknown layer of the backbone 'block_99_add'"):
        xrays.reader("mobilenet_v2_glyphs", (8, 8), cuts=["block_99_add"], image_size=32)


def test_the_stand_in_is_two_digits():
    data, digits = xrays.load(POCKET), tl.load_dataset("digits")
    whole = np.concatenate([digits.train.labels, digits.validation.labels, digits.test.labels])
    place = {index: label for part in (digits.train, digits.validation, digits.test)
             for index, label in zip(part.indices, part.labels, strict=True)}  # fmt: skip
    parts = (data.train, data.validation, data.test)
    assert sum(len(part) for part in parts) == np.isin(whole, (3, 8)).sum()
    for part in parts:
        assert [place[index] for index in part.indices] == [(3, 8)[label] for label in part.labels]


def test_the_reader_sees_what_the_backbone_sees():
    images = xrays.load(POCKET).test.images[:3]
    see = xrays.reader("mobilenet_v2_glyphs", (8, 8), cuts=["block_5_add", "out_relu"], image_size=32)
    end = tl.load_backbone("mobilenet_v2_glyphs")(tl.preparation((8, 8))(images))
    np.testing.assert_allclose(see.predict(images, verbose=0)[1], end, atol=1e-5)


def test_what_validation_likes_best_is_taken_and_test_is_not_asked(monkeypatch):
    data = xrays.load(POCKET)
    right = [part.labels.astype(float) for part in (data.validation, data.test)]
    tried = {"good on test": (-right[0], right[1]), "good on validation": (right[0], -right[1])}
    monkeypatch.setattr(xrays, "_raw_pixels", lambda *_: xrays._best(tried, data))
    found = xrays.measure("raw pixels", 20, seed=0)
    assert found["choice"] == "good on validation"
    assert (found["validation"], found["value"]) == (1.0, 0.0)


@pytest.mark.parametrize("method", ["frozen", "raw pixels"])
def test_a_row_learns_and_follows_its_seed(method):
    first, other, again = (xrays.measure(method, 20, seed=seed) for seed in (0, 1, 0))
    first.pop("cpu_seconds"), again.pop("cpu_seconds")
    assert first == again
    assert first["value"] > 0.9
    parts = ("value", "validation", "sensitivity", "specificity")
    assert [first[part] for part in parts] != [other[part] for part in parts]


def test_both_ways_to_train_learn(monkeypatch):
    monkeypatch.setattr(xrays, "schedule", lambda labels: {"batch_size": 16, "epochs": 8})
    monkeypatch.setattr(xrays, "RATES", (0.001,))
    for method in ("fine-tuned", "from scratch"):
        assert xrays.measure(method, 60, seed=0)["value"] > 0.8, method


def test_a_row_measured_again_is_the_same_and_another_is_refused(monkeypatch):
    rows = [
        {"edition": "pocket", "domain": "xrays", "method": "raw pixels", "labels": 20, "seed": seed}
        | xrays.measure("raw pixels", 20, seed=seed)
        for seed in range(3)
    ]
    table = pd.DataFrame([*rows, *({**row, "method": "frozen", "cpu_seconds": 99.0} for row in rows)])
    monkeypatch.setattr(tl.published, "measured", lambda name: table)
    again = xrays.check_one(which=4)
    assert again.method.tolist() == ["raw pixels"]
    assert again.then.tolist() == again.now.tolist()
    table["value"] -= 0.3
    with pytest.raises(tl.published.Disagreement, match=r"method raw pixels, labels 20, .* expected value"):
        xrays.check_one(which=4)
    table["edition"] = "full"
    with pytest.raises(LookupError, match="rows with three seeds"):
        xrays.check_one()
