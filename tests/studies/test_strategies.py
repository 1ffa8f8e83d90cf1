"""Strategies: the advice follows the ladder, says so, and its cost is counted fairly."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import page
from tlhelpers.studies import intervals, ladder, strategies

BEST = {("flowers", "few"): "block 16", ("flowers", "many"): "block 13"}
CASES = (
    ("flowers", "few", 50, 5, "similar"),
    ("flowers", "many", 650, 5, "similar"),
    ("mnist", "few", 100, 10, "different"),
    ("mnist", "many", 2000, 10, "different"),
    ("pneumonia", "few", 50, 2, "different"),
    ("pneumonia", "many", 2000, 2, "different"),
)
COLUMNS = """data labels examples classes similarity depth train_from seed learning_rate
validation_accuracy test_accuracy right seconds"""


def made_up(best=BEST):
    """A ladder in which each rung away from the best one costs four test examples in a hundred."""
    depths = list(ladder.DEPTHS)
    rows = []
    for case, depth, seed in itertools.product(CASES, depths, range(3)):
        away = abs(depths.index(depth) - depths.index(best.get(case[:2], "block 6")))
        right = np.arange(200) % 100 >= 5 + 4 * away + seed
        rate, share = 0.001 if case[0] == "mnist" else 0.0003, right.mean()
        how = (depth, ladder.DEPTHS[depth], seed, rate)
        rows.append((*case, *how, share, share, intervals.pack(right), 10.0 * (seed + 1)))
    return pd.DataFrame(rows, columns=COLUMNS.split()).assign(edition="full")


@pytest.fixture
def climb(monkeypatch):
    """Puts a made-up ladder in the place of the measured one, and gives it back."""

    def put(table):
        monkeypatch.setattr(page, "measured", lambda name: table)
        return table

    return put


@pytest.fixture
def climbed(climb):
    return climb(made_up())


def rung(table, data, labels, depth):
    """The rows of one rung, over the seeds."""
    return (table.data == data) & (table.labels == labels) & (table.depth == depth)


def advise(n_examples, n_classes, similarity, **by):
    return tl.recommend_strategy(n_examples=n_examples, n_classes=n_classes, similarity=similarity, **by)


def by_case(*how, **against):
    return strategies.regret(*how, **against).set_index(["data", "labels"])


def test_the_advice_follows_the_ladder_and_says_where_it_contradicts(climbed):
    advice = advise(60, 5, "similar")
    assert advice.depth == "block 16"
    assert "The measurement agrees." in advice.why
    advice = advise(600, 5, "similar")
    assert advice.freeze == {"train_from": "block_13_expand", "batch_norm": "frozen"}
    assert "training from block 10 on. The measurement contradicts it" in advice.why
    assert "it lost 4.0 points on test (95% interval" in advice.why
    assert "cheaper" not in advice.why
    # Where the cases' rates differ, the lower one is advised.
    assert advise(50, 5, "different").learning_rate == 0.0003


def test_a_difference_of_chance_is_not_called_a_contradiction(climb):
    table = climb(made_up({("flowers", "many"): "block 10"}))
    better = []
    for packed in table[rung(table, "flowers", "many", "block 10")].right:
        right = intervals.right_answers(packed)
        # Three examples more, two others less: half a point ahead on test, and best on validation.
        more, less = np.flatnonzero(~right)[:3], np.flatnonzero(right)[:2]
        right[more], right[less] = True, False
        better.append(intervals.pack(right))
    block_13 = rung(table, "flowers", "many", "block 13")
    table.loc[block_13, "validation_accuracy"] = 0.99
    table.loc[block_13, "right"] = better
    advice = advise(600, 5, "similar")
    assert advice.depth == "block 13"
    assert "The measurement can't tell the two apart" in advice.why
    assert "it lost 0.5 points on test (95% interval -" in advice.why
    # Block 13 to the end is less than block 10 to the end.
    assert "Training from block 13 on trains fewer layers, so it is the cheaper of the two." in advice.why


def test_validation_chooses_and_test_does_not(climbed):
    at = rung(climbed, "flowers", "few", "everything")
    climbed.loc[at, ["test_accuracy", "right"]] = 1.0, intervals.pack(np.ones(200, bool))
    assert advise(60, 5, "similar").depth == "block 16"


@pytest.mark.parametrize(("behind", "advised"), [(0.009, "head only"), (0.011, "block 16")])
def test_within_a_point_of_the_best_fewer_layers_are_advised(behind, advised, climbed):
    climbed.loc[rung(climbed, "flowers", "few", "head only"), "validation_accuracy"] = 0.94 - behind
    advice = advise(60, 5, "similar")
    assert advice.depth == advised
    assert (advice.train_from is None) == (advised == "head only")
    assert ("Training the head alone was within a point of it" in advice.why) == (behind < 0.01)
    # Regret counts against the very best.
    assert strategies.regret("measured").against[0] == "block 16"


def test_the_cases_of_a_kind_count_alike(climb):
    climb(made_up({("mnist", "few"): "block 16", ("pneumonia", "few"): "block 10"}))
    # Block 13 lies one rung from both, so it loses as much as either best one does.
    advice = advise(100, 10, "different")
    behind = strategies._behind(advice.evidence)
    assert behind[["block 16", "block 13", "block 10"]].tolist() == pytest.approx([0.04] * 3)
    assert advice.depth == "block 16"


def test_classic_advice_is_the_classic_table(climbed):
    questions = itertools.product(("similar", "different"), (50, 5000))
    depths = [advise(n, 5, kind, by="classic").depth for kind, n in questions]
    assert depths == ["block 16", "block 10", "block 6", "everything"]


def test_few_and_many_part_half_way_between_what_was_measured(climbed):
    # Similar data: 10 and 130 a class, so the border is the root of 1,300, which is 36.06.
    few, many = advise(36 * 5, 5, "similar"), advise(37 * 5, 5, "similar")
    assert (few.depth, many.depth) == ("block 16", "block 13")
    assert "the border, 36.1" in few.why
    # Different data: 25 (X-rays) and 200 (digits).
    assert "the border, 70.7" in advise(9, 3, "different").why


def test_the_table_holds_every_answer_and_where_it_changes():
    table = strategies.advice_table()
    assert table.why.nunique() == 4
    for kind, of_kind in table.groupby("similarity"):
        border = of_kind["from"].max()
        # The least, on both sides of the border, and far beyond it, whatever the number of classes.
        for k in (2, 100):
            for n in (k, int(border * k), int(border * k) + 1, 10**6):
                advice = advise(n, k, kind)
                rows = of_kind[(of_kind["from"] <= n / k) & (n / k < of_kind["to"])]
                (found,) = rows[["depth", "strategy", "learning_rate", "why"]].drop_duplicates().values
                assert [*found] == [advice.depth, advice.words, advice.learning_rate, advice.why]


def test_the_table_has_what_was_measured_by_following_the_advice(climbed):
    table = strategies.advice_table().set_index(["data", "labels"])
    assert sorted(table.index) == sorted((data, examples) for data, _, examples, *_ in CASES)
    few = table.loc[("mnist", 100)]
    # Cases differ in their rates: the lower is advised, each was measured with its own.
    assert (few.learning_rate, few.measured_rate, few.classes) == (0.0003, 0.001, 10)
    assert few.accuracy == pytest.approx(0.94)
    # 200 images leave more open than three seeds a point apart: 4.303 * 0.01 / 3**0.5 is 0.025.
    assert 0.94 - few.low == pytest.approx(1.96 * (0.94 * 0.06 / 200) ** 0.5, rel=0.1)
    assert few.seconds == 20
    assert strategies.advice_table(by="classic").depth.tolist()[-1] == "everything"
    with pytest.raises(ValueError, match='by: expected "measured" or "classic", got \'guess\''):
        strategies.advice_table(by="guess")


def test_an_interval_is_the_wider_of_the_seeds_and_the_images(climbed):
    climbed.loc[rung(climbed, "flowers", "few", "block 16"), "test_accuracy"] = [0.94, 0.84, 1.0]
    row = strategies.advice_table().iloc[0]
    evidence = advise(60, 5, "similar").evidence.set_index("depth")
    assert row.low == evidence.test_low["block 16"] < 0.85
    # More than all is not to be had.
    assert evidence.test_high["block 16"] > 1
    assert row.high == 1


def test_a_strategy_says_which_layers_train_and_freeze_takes_it():
    backbone, words = tl.load_backbone("mobilenet_v2_glyphs", weights="random"), {}
    for depth, layer in ladder.DEPTHS.items():
        strategy = strategies.Strategy(depth, layer, "frozen", 0.1, "", pd.DataFrame())
        words[depth] = strategy.words
        tl.freeze(backbone, **strategy.freeze)
        trains = [each for each in backbone.layers if each.trainable]
        assert [each.name for each in trains[:1]] == ([layer] if layer else [])
        assert not any(isinstance(each, keras.layers.BatchNormalization) for each in trains)
    assert words["head only"] == "Train the head alone; freeze the whole backbone."
    assert words["everything"] == "Train everything; freeze every BatchNorm layer."
    assert words["block 6"].startswith("Train from block 6 on, and the head; freeze all before it")


def test_the_evidence_has_means_and_intervals_over_seeds(climbed):
    evidence = advise(60, 5, "similar").evidence
    assert evidence.depth.tolist() == list(ladder.DEPTHS)
    row = evidence.set_index("depth").loc["block 16"]
    assert row.seeds == 3
    assert row.test_accuracy == pytest.approx(0.94)
    # Three values 0.01 apart: t(0.975, 2) = 4.303, times 0.01 over the root of 3.
    assert row.test_high - row.test_accuracy == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    assert row.test_accuracy - row.test_low == pytest.approx(row.test_high - row.test_accuracy)


def test_a_similarity_may_be_an_estimate_or_its_number(climbed):
    found = strategies.Similarity("similar", 0.6, 0.8, 0.5, 100)
    depths = [advise(60, 5, given).depth for given in (found, 0.6, np.float64(0.34), 0.33, -2.0)]
    assert depths == ["block 16", "block 16", "block 16", "block 6", "block 6"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_examples": 0}, ValueError, "n_examples: expected at least 1, got 0"),
        ({"n_examples": 9}, ValueError, "expected at least one for each of 10 classes, got 9"),
        ({"n_examples": 50.5}, TypeError, "n_examples: expected a whole number, got 50.5"),
        ({"n_examples": True}, TypeError, "n_examples: expected a whole number, got True"),
        ({"n_classes": 1}, ValueError, "n_classes: expected at least 2, got 1"),
        ({"similarity": "alike"}, ValueError, "similarity: expected 'similar', 'different', .* got 'alike'"),
        ({"similarity": True}, ValueError, "got True"),
        ({"similarity": float("nan")}, ValueError, "got nan"),
        ({"similarity": 1.5}, ValueError, r"at most 1\), got 1.5"),
        ({"by": "guess"}, ValueError, 'by: expected "measured" or "classic", got \'guess\''),
        ({}, LookupError, "expected similar data with few and with many labels in the measured ladder"),
    ],
)
def test_a_question_without_an_answer_gets_one_clear_error(change, error, message, climb):
    climb(made_up().query("data != 'flowers'"))
    with pytest.raises(error, match=message):
        tl.recommend_strategy(**{"n_examples": 100, "n_classes": 10, "similarity": "similar", **change})


def test_two_advices_are_compared_on_the_same_examples(climbed):
    found = by_case("classic", against="measured")
    np.testing.assert_allclose(found.regret, by_case("classic").regret - by_case("measured").regret)
    np.testing.assert_allclose(by_case("measured", against="classic").low, -found.high)
    # Where both say the same, nothing is lost, whatever the examples.
    same = found.advised == found.against
    assert same.any()
    assert (found[same].iloc[:-1][["regret", "low", "high"]] == 0).all(axis=None)
    # Only cases that both have an advice for.
    assert "flowers" not in strategies.regret("classic", against="measured elsewhere").data.to_list()


def test_regret_counts_points_against_the_best_depth(climbed):
    found = by_case("classic")
    # Block 10 lies one rung from block 13, the whole network one from block 6.
    assert found.loc[("flowers", "few"), "regret"] == 0
    assert found.loc[("flowers", "many"), "regret"] == pytest.approx(4.0)
    assert found.loc[("mnist", "many"), ["advised", "against"]].tolist() == ["everything", "block 6"]
    assert found.loc[("all", ""), "regret"] == pytest.approx((4 + 0 + 4 + 0 + 4) / 6)
    assert (strategies.regret("measured").regret == 0).all()
    # Four in a hundred differ, all in one direction: 200 examples, so one standard error is 1.39 points.
    # Unpaired it would be wider: the sum of both variances, 0.07 * 0.93 and 0.11 * 0.89.
    one = found.loc[("flowers", "many")]
    assert one.low <= one.regret <= one.high
    assert one.high - one.low == pytest.approx(2 * 1.96 * 1.39, rel=0.15)
    assert one.high - one.low < 2 * 1.96 * 100 * np.sqrt((0.07 * 0.93 + 0.11 * 0.89) / 200)


def test_advice_from_elsewhere_does_not_look_at_the_case(climb):
    climb(made_up({("mnist", "few"): "head only", ("pneumonia", "few"): "block 13"}))
    found = by_case("measured elsewhere")
    # Flowers are the only similar data, so nothing is said of them.
    assert "flowers" not in found.index.get_level_values(0)
    assert found.loc[("mnist", "few"), ["advised", "against"]].tolist() == ["block 13", "head only"]
    assert found.loc[("mnist", "few"), "regret"] == pytest.approx(8.0)


def test_an_unknown_advice_has_no_regret(climbed):
    with pytest.raises(ValueError, match=r"by: expected .* got 'guess'"):
        strategies.regret("guess")
    with pytest.raises(ValueError, match='against: expected "best"'):
        strategies.regret("classic", against="bst")
    with pytest.raises(LookupError, match="expected 'block 6' of mnist, few labels, in the measured ladder"):
        strategies.regret("classic", table=climbed[(climbed.data != "mnist") | (climbed.depth != "block 6")])
    with pytest.raises(LookupError, match="at least one case"):
        strategies.regret("measured elsewhere", table=climbed[climbed.data == "flowers"])


def features(gain, *, n=120, classes=3, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return random.normal(size=(n, 20)) + gain * np.eye(classes, 20)[labels], labels


@pytest.mark.parametrize(
    ("gain", "saved", "kind"), [(1.5, 0.488, "similar"), (0.9, 0.3, "different"), (0.5, 0.125, "different")]
)
def test_data_is_similar_where_pretraining_saves_a_third_of_the_mistakes(gain, saved, kind):
    seen, labels = features(gain)
    noise, _ = features(0.0, seed=2)
    found = tl.estimate_similarity(seen, noise, labels)
    assert (found.kind, found.examples) == (kind, 120)
    assert found.saved == pytest.approx(saved, abs=1e-3)
    assert found.saved == pytest.approx(1 - (1 - found.accuracy) / (1 - found.reference))
    # Noise is worse than chance here: the commonest class is the reference.
    assert found.reference == 1 / 3


def test_nothing_is_saved_where_the_random_network_does_as_well():
    weak, labels = features(1.0, seed=1)
    clear, _ = features(50.0)
    assert tl.estimate_similarity(weak, weak, labels).saved == 0
    assert tl.estimate_similarity(weak, clear, labels).kind == "different"
    # No mistake is left to save.
    assert tl.estimate_similarity(clear, clear, labels).saved == 0


GOOD = np.ones((120, 20))


@pytest.mark.parametrize(
    ("seen", "random", "labels", "message"),
    [
        (GOOD[:60], GOOD[:60], np.arange(60) % 3, "at least 100 examples .*, 10 or more of each of 3"),
        (GOOD, GOOD, np.arange(120) % 20, "at least 200 examples .* got 120, 6 of class 0"),
        (GOOD, GOOD, np.arange(120) < 4, "got 120, 4 of class 1"),
        (GOOD, GOOD, np.zeros(120, int), "expected two classes or more, got 1"),
        (
            GOOD,
            GOOD[:50],
            np.arange(120) % 3,
            r"random_features: expected .* shape \(120, ...\), .* got float64 \(50, 20\)",
        ),
        (GOOD * np.nan, GOOD, np.arange(120) % 3, "features: expected finite numbers"),
    ],
)
def test_what_gives_no_estimate_is_refused(seen, random, labels, message):
    with pytest.raises(ValueError, match=message):
        tl.estimate_similarity(seen, random, labels)
