"""The learning curve: where training from scratch catches up, and what a row is made of."""

import pandas as pd
import pytest

from tlhelpers import page
from tlhelpers.studies import curve

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


def rows(points):
    """A table: {labels: {method: accuracy}}, with three seeds that lie 0.001 apart on test."""
    table = pd.DataFrame(
        [
            (method, labels, seed, accuracy, accuracy + 0.001 * (seed - 1))
            for labels, accuracies in points.items()
            for method, accuracy in accuracies.items()
            for seed in range(3)
        ]
    )
    return table.set_axis(["method", "labels", "seed", "validation_accuracy", "test_accuracy"], axis=1)


def both(transfer, scratch):
    return {"frozen": transfer, "network from scratch": scratch}


@pytest.mark.parametrize(
    ("points", "level"),
    [
        ({10: both(0.6, 0.4), 100: both(0.9, 0.8)}, None),
        ({10: both(0.6, 0.4), 100: both(0.9, 0.95)}, 100),
        # Two that are alike for now: at 1,000 transfer is clearly better again.
        ({10: both(0.6, 0.6), 100: both(0.9, 0.95), 1000: both(0.97, 0.9)}, None),
        # Lower by less than a point, to within the interval of half a point; and by more.
        ({10: both(0.6, 0.4), 100: both(0.9, 0.899), 1000: both(0.95, 0.96)}, 100),
        ({10: both(0.6, 0.4), 100: both(0.9, 0.894), 1000: both(0.95, 0.96)}, 1000),
    ],
)
def test_where_scratch_catches_up_to_within_a_point(points, level):
    table = rows(points)
    table.loc[table.method == "frozen", "test_accuracy"] += 0.002 * (table.seed - 1)
    assert curve.catches_up(curve.gains(table)) == level


def test_a_wide_interval_is_not_taken_for_equal():
    table = rows({100: both(0.9, 0.9)})
    table.loc[table.method == "frozen", "test_accuracy"] += 0.02 * (table.seed - 1)
    gained = curve.gains(table)
    assert gained.low[0] < 0 < gained.high[0]
    assert curve.catches_up(gained) is None
    assert curve.catches_up(gained, margin=0.06) == 100


def test_the_best_of_a_kind_is_chosen_on_validation():
    table = rows({100: {"frozen": 0.9, "raw pixels": 0.7, "convnet from scratch": 0.8}})
    # The test set says otherwise; it must not be asked.
    table.loc[table.method == "raw pixels", "test_accuracy"] = 0.99
    assert curve.gains(table).scratch.tolist() == ["convnet from scratch"]
    assert curve.gains(table, transfer=["raw pixels"]).scratch.tolist() == ["frozen"]


def test_the_interval_is_students_over_paired_seeds():
    table = rows({100: both(0.9, 0.8)})
    found = curve.gains(table).iloc[0]
    assert found.gain == pytest.approx(0.1)
    assert found.high == pytest.approx(found.low)  # both methods move alike here, so the pairs do not differ
    table.loc[table.method == "frozen", "test_accuracy"] = [0.9, 0.91, 0.92]
    table.loc[table.method == "network from scratch", "test_accuracy"] = 0.8
    found = curve.gains(table).iloc[0]
    assert found.high - found.gain == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)


def test_the_interval_allows_for_other_test_examples():
    table = rows({100: both(0.9, 0.8)})  # no spread over seeds; mistakes on at most 30 of 100 examples
    found = curve.gains(table, examples=100).iloc[0]
    assert found.high - found.gain == pytest.approx(1.96 * 0.3**0.5 / 10)
    table.loc[table.method == "frozen", "test_accuracy"] += 0.02 * (table.seed - 1)
    seeds, both_of_them = (curve.gains(table, examples=number).iloc[0] for number in (None, 100))
    assert (both_of_them.high - both_of_them.gain) ** 2 == pytest.approx(
        (seeds.high - seeds.gain) ** 2 + (found.high - found.gain) ** 2
    )


def test_further_seeds_of_some_methods_count_for_these():
    table = rows({100: {"frozen": 0.9, "raw pixels": 0.8, "convnet from scratch": 0.7}})
    more = table[table.method != "convnet from scratch"].assign(seed=lambda each: each.seed + 3)
    # Which is best is asked of the seeds that all have: the others would prefer the pixels less.
    more.loc[more.method == "raw pixels", "validation_accuracy"] = 0.1
    more.loc[more.method == "raw pixels", "test_accuracy"] = 0.6
    found = curve.gains(pd.concat([table, more])).iloc[0]
    assert (found.scratch, found.seeds) == ("raw pixels", 6)
    assert found.gain == pytest.approx(0.2)


def test_a_method_takes_part_where_it_was_measured():
    table = rows({10: both(0.6, 0.7), 100: both(0.9, 0.8)})
    more = rows({10: {"raw pixels": 0.1}})
    assert curve.gains(pd.concat([table, more])).labels.tolist() == [10, 100]


def test_numbers_of_labels_without_both_kinds_and_two_seeds_are_left_out():
    table = rows({10: both(0.6, 0.7), 100: both(0.9, 0.8)})
    table = table.drop(table[(table.labels == 100) & (table.method == "frozen")].index[:2])
    assert curve.gains(table).labels.tolist() == [10]
    with pytest.raises(ValueError, match=r"expected a number of labels .* got none"):
        curve.gains(table[table.labels == 100])


@pytest.mark.parametrize(
    ("method", "rate", "error", "message"),
    [
        ("frozn", None, LookupError, "unknown method of the pocket edition 'frozn'"),
        ("fine-tuned", 0.001, LookupError, "unknown method of the pocket edition 'fine-tuned'"),
        ("convnet from scratch", None, ValueError, "expected one of .*, got None"),
        ("raw pixels", 0.1, ValueError, "rate of 'raw pixels': expected None.*, got 0.1"),
    ],
)
def test_unknown_words_say_so(method, rate, error, message):
    with pytest.raises(error, match=message):
        curve.point(POCKET, method, 100, rate=rate)


def test_a_measured_point_comes_out_again():
    """Those that train nothing, to the last digit of the table; none of them rests on chance."""
    table = page.measured("curve").query("edition == 'pocket' and labels == 100 and seed == 1")
    for row in table[table.method != "convnet from scratch"].itertuples():
        found = curve.point(POCKET, row.method, 100, seed=1)
        assert found["choice"] == row.choice
        scores = found["validation_accuracy"], found["test_accuracy"]
        assert scores == pytest.approx((row.validation_accuracy, row.test_accuracy), abs=1e-6)


def test_seed_0_tries_the_rates_where_they_are_tuned(monkeypatch):
    asked = []

    def point(edition, method, labels, *, seed, rate):
        asked.append((labels, seed, rate))
        return {"validation_accuracy": {None: 0.5}.get(rate, 0.9 if rate == 0.016 else 0.8), "seed": seed}

    monkeypatch.setattr(curve, "point", point)
    curve._tried.cache_clear()
    row = curve.STUDY.row(POCKET, "convnet from scratch", 30, 2)
    tuned = [(100, 0, rate) for rate in curve.RATES["convnet from scratch"]]
    assert asked == [*tuned, (30, 2, 0.016)]
    assert row["learning_rate"] == 0.016
    assert row["tried"] == "100 labels: 0.001: 0.8000; 0.004: 0.8000; 0.016: 0.9000; 0.064: 0.8000"
    # What was tried is not trained a second time, and many labels have rates of their own.
    assert curve.STUDY.row(POCKET, "convnet from scratch", 100, 0)["seed"] == 0
    assert len(asked) == 5
    curve.STUDY.row(POCKET, "convnet from scratch", 30, 0)
    assert asked[5:] == [(30, 0, 0.016)]
    assert curve.STUDY.row(POCKET, "convnet from scratch", 900, 1)["tried"].startswith("900 labels")
    row = curve.STUDY.row(POCKET, "raw pixels", 30, 2)
    assert row == {"learning_rate": None, "validation_accuracy": 0.5, "seed": 2, "tried": ""}
    assert len(set(curve.STUDY.grid(POCKET))) == 3 * 5 * 5
    curve._tried.cache_clear()


def test_every_trained_method_stops_by_the_same_rule_and_repeats_itself(monkeypatch):
    drawn, convnet = [], curve.small_convnet

    def watched(shape, *, seed):
        drawn.append(seed)
        return convnet(shape, seed=seed)

    monkeypatch.setattr(curve, "small_convnet", watched)
    monkeypatch.setattr(curve, "PATIENCE", 2)
    found = [curve.point(POCKET, "convnet from scratch", 10, seed=1, rate=0.004) for _ in range(2)]
    assert drawn[-2:] == [1, 1]
    best = int(found[0]["choice"].removeprefix("epoch "))
    assert found[0]["epochs"] == best + curve.PATIENCE
    # The second starts from a network that the first has trained; nothing of that may be left.
    assert found[0]["test_accuracy"] == found[1]["test_accuracy"]
