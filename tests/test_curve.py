"""The learning curve: where training from scratch catches up, a point measured again."""

import numpy as np
import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import curve

POCKET = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
FULL = tl.editions.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")


def rows(points, spread=0.001, seeds=3):
    """A table: {labels: {method: accuracy}}; seeds differ by `spread`, every second method the other way."""
    return pd.DataFrame(
        [
            {
                "method": method,
                "labels": labels,
                "seed": seed,
                "validation_accuracy": accuracy,
                "test_accuracy": accuracy + spread * (seed - 1) * (-1) ** curve.METHODS["full"].index(method),
            }
            for labels, accuracies in points.items()
            for method, accuracy in accuracies.items()
            for seed in range(seeds)
        ]
    )


def both(transfer, scratch):
    return {"frozen": transfer, "network from scratch": scratch}


@pytest.mark.parametrize(
    ("points", "level", "ahead"),
    [
        ({10: both(0.6, 0.4), 100: both(0.9, 0.8)}, None, None),
        ({10: both(0.6, 0.4), 100: both(0.9, 0.95)}, 100, 100),
        # A tie that does not last is none: at 1,000 transfer is clearly better again.
        ({10: both(0.6, 0.6), 100: both(0.9, 0.95), 1000: both(0.97, 0.9)}, None, None),
        # Within the interval, but the mean is lower.
        ({10: both(0.6, 0.4), 100: both(0.9, 0.899), 1000: both(0.95, 0.96)}, 100, 1000),
    ],
)
def test_where_scratch_catches_up(points, level, ahead):
    table = rows(points)
    table.loc[table.method == "frozen", "test_accuracy"] += 0.002 * (table.seed - 1)
    found = curve.catches_up(curve.gains(table))
    assert (found.level, found.ahead) == (level, ahead)


def test_the_best_of_a_kind_is_chosen_on_validation():
    table = rows({100: {"frozen": 0.9, "raw pixels": 0.7, "convnet from scratch": 0.8}})
    # The test set says otherwise; it must not be asked.
    table.loc[table.method == "raw pixels", "test_accuracy"] = 0.99
    assert curve.gains(table).scratch.tolist() == ["convnet from scratch"]


def test_the_interval_is_students_over_paired_seeds():
    table = rows({100: both(0.9, 0.8)})
    found = curve.gains(table).iloc[0]
    assert found.gain == pytest.approx(0.1)
    assert found.high == pytest.approx(found.low)  # both methods move alike here, so the pairs do not differ
    table.loc[table.method == "frozen", "test_accuracy"] = [0.9, 0.91, 0.92]
    table.loc[table.method == "network from scratch", "test_accuracy"] = 0.8
    found = curve.gains(table).iloc[0]
    assert found.high - found.gain == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)


def test_numbers_of_labels_without_every_method_and_seed_are_left_out():
    table = rows({10: both(0.6, 0.7), 100: both(0.9, 0.8)})
    table = table.drop(table[(table.labels == 100) & (table.method == "frozen")].index[:1])
    assert curve.gains(table).labels.tolist() == [10]
    with pytest.raises(ValueError, match=r"expected a number of labels .* got none"):
        curve.gains(table[table.labels == 100])


def test_unknown_words_say_so():
    with pytest.raises(LookupError, match="unknown method of the pocket edition 'frozn'"):
        curve.measure(POCKET, "frozn", 100)
    with pytest.raises(LookupError, match="unknown method of the pocket edition 'fine-tuned'"):
        curve.measure(POCKET, "fine-tuned", 100, rate=0.001)
    with pytest.raises(ValueError, match=r"rate of 'convnet from scratch': expected one of .*, got None"):
        curve.measure(POCKET, "convnet from scratch", 100)
    with pytest.raises(ValueError, match=r"rate of 'raw pixels': expected None.*, got 0.1"):
        curve.measure(POCKET, "raw pixels", 100, rate=0.1)


@pytest.fixture
def table(monkeypatch):
    """A measured curve of one point with three seeds, and of one that is too dear for a page."""
    points = [
        {"edition": "pocket", "method": "raw pixels", "labels": 100, "seed": seed, "learning_rate": np.nan}
        | curve.measure(POCKET, "raw pixels", 100, seed=seed)
        for seed in range(3)
    ]
    dear = [{**point, "labels": 300, "cpu_seconds": 100.0} for point in points]
    table = pd.DataFrame(points + dear)
    monkeypatch.setattr(tl.published, "measured", lambda name: table)
    return table


def test_a_point_measured_again_is_the_same_and_another_is_refused(table):
    again = curve.check_one(edition=POCKET, which=0)
    assert again.labels.tolist() == [100]
    assert again.then.tolist() == again.now.tolist()
    table["test_accuracy"] -= 0.2
    with pytest.raises(
        tl.published.Disagreement, match=r"method raw pixels, labels 100, .* expected .* within .* got"
    ):
        curve.check_one(edition=POCKET, which=0)
    with pytest.raises(LookupError, match="rows with three seeds"):
        curve.check_one(edition=FULL)


def test_the_point_moves_on_with_the_library(table, monkeypatch):
    seeds = set()
    for digest in range(3):
        monkeypatch.setattr(tl.cache, "library_digest", lambda digest=digest: f"{digest:x}")
        seeds.add(curve.check_one(edition=POCKET).seed[0])
    assert seeds == {0, 1, 2}


def test_every_trained_method_stops_by_the_same_rule_and_repeats_itself():
    found = [curve.measure(POCKET, "convnet from scratch", 10, seed=0, rate=0.004) for _ in range(2)]
    best = int(found[0]["choice"].removeprefix("epoch "))
    assert found[0]["epochs"] == min(best + curve.PATIENCE, curve.MOST_EPOCHS)
    # The second starts from a network that the first has trained; nothing of that may be left.
    assert found[0]["test_accuracy"] == found[1]["test_accuracy"]
