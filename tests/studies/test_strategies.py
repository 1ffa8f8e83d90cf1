"""Strategies: the advice follows the map by one rule, says so, and its cost is counted fairly."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import page
from tlhelpers.studies import freezing_map, intervals, strategies
from tlhelpers.studies.freezing_map import CUTS, DEPTHS

CASES = (
    ("flowers", "few", 50, 5, "similar"),
    ("flowers", "many", 650, 5, "similar"),
    ("mnist", "few", 100, 10, "different"),
    ("mnist", "many", 2000, 10, "different"),
    ("pneumonia", "few", 50, 2, "different"),
    ("pneumonia", "many", 2000, 2, "different"),
)
BEST = {
    ("flowers", "few"): ("end", "last block"),
    ("flowers", "many"): ("block 12", "half"),
    ("mnist", "few"): ("block 9", "frozen"),
    ("mnist", "many"): ("block 9", "everything"),
    ("pneumonia", "few"): ("block 9", "frozen"),
    ("pneumonia", "many"): ("block 9", "half"),
}


def steps(cell, other):
    """How far two cells of the map lie apart: cuts and depths between them."""
    return sum(
        abs(list(names).index(a) - list(names).index(b))
        for names, a, b in zip((CUTS, DEPTHS), cell, other, strict=True)
    )


def made_up(best=BEST):
    """A map in which each step away from the best cell costs four test images in a hundred.

    Five seeds where nothing trains, else three; each finds one in a hundred fewer than the one before.
    """
    rows = []
    for case, cell in itertools.product(CASES, itertools.product(CUTS, DEPTHS)):
        cut, depth = cell
        for seed in range(5 if depth == "frozen" else 3):
            right = np.arange(200) % 100 >= 5 + 4 * steps(cell, best[case[:2]]) + seed
            about = dict(zip(("data", "labels", "examples", "classes", "similarity"), case, strict=True))
            about |= {"edition": "full", "cut": cut, "depth": depth, "seed": seed}
            about |= {"train_from": freezing_map.train_from(cut, depth), "readout": "pooled", "penalty": 0.1}
            rate = 0.0 if depth == "frozen" else 0.001 if case[0] == "mnist" else 0.0003
            about |= {"learning_rate": rate, "cpu_seconds": 1.0 + 10 * DEPTHS.index(depth) + seed}
            found = {"validation_accuracy": right.mean(), "test_accuracy": right.mean(), "test_auc": 0.9}
            rows.append({**about, **found, "right": intervals.pack(right)})
    return pd.DataFrame(rows)


@pytest.fixture
def put(monkeypatch):
    """Puts a made-up map in the place of the measured one, and gives it back."""

    def put(table):
        monkeypatch.setattr(page, "measured", lambda name: table)
        return table

    return put


@pytest.fixture
def mapped(put):
    return put(made_up())


def rows_of(table, data, labels, *cell):
    """The rows of a case, or of one of its cells, over the seeds."""
    found = (table.data == data) & (table.labels == labels)
    return found & (table[["cut", "depth"]] == [*cell]).all(axis=1) if cell else found


def answers(rows):
    return np.stack([intervals.right_answers(packed) for packed in rows.right])


def advise(n_examples, n_classes, similarity, **by):
    return tl.recommend_strategy(n_examples=n_examples, n_classes=n_classes, similarity=similarity, **by)


def cell(advice):
    return advice.cut, advice.depth


def by_case(*how, **options):
    return strategies.cost(*how, **options).set_index(["data", "labels"])


def test_the_advice_is_a_cell_of_the_map_and_says_what_the_classic_one_lost(mapped):
    advice = advise(60, 5, "similar")
    assert (cell(advice), advice.layer, advice.batch_norm) == (("end", "last block"), "out_relu", "frozen")
    assert (advice.readout, advice.penalty, advice.learning_rate) == ("pooled", 0.1, 0.0003)
    assert advice.cpu_seconds == pytest.approx(12)  # 11, 12 and 13
    assert "Best on validation was training the last block of the network up to its end." in advice.why
    assert advice.why.endswith("The measurement agrees.")
    advice = advise(600, 5, "similar")
    assert advice.freeze == {"train_from": "block_7_expand", "batch_norm": "frozen"}
    assert 'The classic advice here is "unfreeze more layers", read as training the later' in advice.why
    assert "The measurement contradicts it: against the advice here it lost 4.0 points on test" in advice.why
    assert "Within a point" not in advice.why
    # Cutting early and training nothing is an answer, too. Frozen and half: one cut, two depths apart.
    advice = advise(50, 5, "different")
    assert (cell(advice), advice.learning_rate, advice.train_from) == (("block 9", "frozen"), 0, None)
    assert "linear classifier on the frozen network, read out at block 9" in advice.why
    assert "it lost 16.0 points on test (95% interval" in advice.why


@pytest.mark.parametrize(
    ("finds", "verdict"),
    [
        # One fewer than the advised cell, among other images; and all of them.
        (
            lambda right: np.roll(right, 50) & (np.arange(200) > 0),
            "does not decide between the two: against the advice here it lost 0.5",
        ),
        (np.ones_like, "speaks for it: against the advice here it lost -6.0 points on test (95% interval"),
    ],
)
def test_what_the_classic_advice_lost_is_judged_by_its_interval(finds, verdict, put):
    table = put(made_up(BEST | {("flowers", "few"): ("block 9", "frozen")}))
    best = table[rows_of(table, "flowers", "few", "block 9", "frozen")].right[:3]
    classic = rows_of(table, "flowers", "few", "end", "last block")
    found = [intervals.pack(finds(intervals.right_answers(packed))) for packed in best]
    table.loc[classic, "right"] = found
    advice = advise(60, 5, "similar")
    assert cell(advice) == ("block 9", "frozen")
    assert f"The measurement {verdict}" in advice.why


def test_validation_chooses_and_test_does_not(mapped):
    at = rows_of(mapped, "flowers", "few", "block 5", "everything")
    mapped.loc[at, ["test_accuracy", "right"]] = 1.0, intervals.pack(np.ones(200, bool))
    assert cell(advise(60, 5, "similar")) == ("end", "last block")


@pytest.mark.parametrize(("behind", "advised"), [(0.009, "frozen"), (0.011, "last block")])
def test_of_cells_within_a_point_of_the_best_the_quickest_is_advised(behind, advised, mapped):
    # Over the seeds that both have: 0, 1 and 2. Two more seeds of the frozen cell did worse.
    frozen = rows_of(mapped, "flowers", "few", "end", "frozen") & (mapped.seed < 3)
    mapped.loc[frozen, "validation_accuracy"] = 0.94 - behind
    advice = advise(60, 5, "similar")
    assert cell(advice) == ("end", advised)
    assert ("Within a point of it, and of these the quickest, was" in advice.why) == (behind < 0.01)
    # What following it costs counts against the very best.
    assert strategies.cost("measured").against[0] == "end, last block"


def test_seconds_decide_and_of_equals_the_earlier_cut(mapped):
    case = rows_of(mapped, "flowers", "few")
    mapped.loc[case, "validation_accuracy"] = 0.9
    assert cell(advise(60, 5, "similar")) == ("block 5", "frozen")
    quick = rows_of(mapped, "flowers", "few", "block 12", "everything")
    mapped.loc[quick, "cpu_seconds"] = 0.5
    assert cell(advise(60, 5, "similar")) == ("block 12", "everything")


def test_the_cases_of_a_kind_count_alike(put):
    others = {("mnist", "few"): ("block 5", "frozen"), ("pneumonia", "few"): ("block 12", "frozen")}
    put(made_up(BEST | others))
    # Cuts between the two best ones lose as much as either does.
    advice = advise(100, 10, "different")
    behind = strategies._behind(advice.evidence)
    cuts = ["block 5", "block 9", "block 12"]
    assert [behind[cut, "frozen"] for cut in cuts] == pytest.approx([0.04] * 3)
    assert behind["end", "frozen"] == pytest.approx(0.08)
    assert cell(advice) == ("block 5", "frozen")


def test_a_cell_that_is_missing_in_one_case_is_not_advised(put):
    whole = made_up()
    advised = rows_of(whole, "mnist", "few", "block 9", "frozen")
    put(whole[~advised])
    assert cell(advise(100, 10, "different")) != ("block 9", "frozen")
    put(whole[~rows_of(whole, "mnist", "few", "end", "half")])
    for by in ("measured", "classic"):
        with pytest.raises(LookupError, match="expected end, half of mnist, few labels, in the measured map"):
            advise(100, 10, "different", by=by)


def test_classic_advice_is_the_classic_table(mapped):
    questions = itertools.product(("similar", "different"), (50, 5000))
    cells = [cell(advise(n, 5, kind, by="classic")) for kind, n in questions]
    assert cells == [("end", depth) for depth in ("last block", "half", "half", "everything")]
    assert advise(50, 5, "similar", by="classic").why.endswith("up to its end.")


def test_few_and_many_part_half_way_between_what_was_measured(mapped):
    # Similar data: 10 and 130 a class, so the border is the root of 1,300, which is 36.06.
    few, many = advise(36 * 5, 5, "similar"), advise(37 * 5, 5, "similar")
    assert (few.depth, many.depth) == ("last block", "half")
    assert "fewer than the border, 36.1. The map was measured with up to 10 and with 130 or more" in few.why
    # Different data: 25 (X-rays) and 200 (digits).
    assert "at least the border, 70.7" in advise(300, 3, "different").why


def test_where_cases_differ_in_their_settings_the_careful_one_is_advised(mapped):
    case = rows_of(mapped, "mnist", "many")
    mapped.loc[case, ["readout", "penalty"]] = "all places", 10.0
    advice = advise(5000, 5, "different")
    assert (advice.readout, advice.penalty, advice.learning_rate) == ("all places", 10.0, 0.0003)


def test_the_table_holds_every_answer_and_where_it_changes(mapped):
    table = strategies.advice_table()
    assert table.why.nunique() == 4
    for kind, of_kind in table.groupby("similarity"):
        border = of_kind["from"].max()
        # The least, on both sides of the border, and far beyond it, whatever the number of classes.
        for k in (2, 100):
            for n in (k, int(border * k), int(border * k) + 1, 10**6):
                advice = advise(n, k, kind)
                rows = of_kind[(of_kind["from"] <= n / k) & (n / k < of_kind["to"])]
                names = ["cut", "depth", "strategy", "learning_rate", "why"]
                (found,) = rows[names].drop_duplicates().values
                expected = [advice.cut, advice.depth, advice.words, advice.learning_rate, advice.why]
                assert [*found] == expected


def test_the_table_has_what_was_measured_by_following_the_advice(mapped):
    table = strategies.advice_table().set_index(["data", "labels"])
    assert sorted(table.index) == sorted((data, examples) for data, _, examples, *_ in CASES)
    # Both cases lie one depth from the other's best, and half is the quicker one of the two.
    many = table.loc[("mnist", 2000)]
    assert (many.cut, many.depth) == ("block 9", "half")
    # Cases differ in their rates: the lower is advised, each was measured with its own.
    assert (many.learning_rate, many.measured_rate, many.classes) == (0.0003, 0.001, 10)
    assert many.accuracy == pytest.approx(0.9)
    assert many.seconds == pytest.approx(22)
    right = answers(mapped[rows_of(mapped, "mnist", "many", "block 9", "half")])
    assert (many.low, many.high) == pytest.approx(intervals.interval(right))
    assert strategies.advice_table(by="classic").depth.tolist()[-1] == "everything"
    with pytest.raises(ValueError, match='by: expected "measured" or "classic", got \'guess\''):
        strategies.advice_table(by="guess")


def test_means_are_over_the_seeds_that_all_cells_have(mapped):
    case = mapped[rows_of(mapped, "flowers", "few")]
    means = strategies.map_means(case).set_index(["cut", "depth"])
    assert (means.seeds == 3).all()
    assert means.test_accuracy["end", "last block"] == pytest.approx(0.94)
    assert means.test_accuracy["end", "frozen"] == pytest.approx(0.90)
    frozen = strategies.map_means(case[case.depth == "frozen"]).set_index("cut")
    assert (frozen.seeds == 5).all()
    assert frozen.test_accuracy["end"] == pytest.approx(0.89)
    assert [*frozen.index] == [*CUTS]
    # More than all is not to be had.
    case.loc[rows_of(case, "flowers", "few", "end", "half"), "right"] = [
        intervals.pack(np.arange(200) >= lost) for lost in (0, 0, 4)
    ]
    row = strategies.map_means(case).set_index(["cut", "depth"]).loc["end", "half"]
    assert row.high == 1
    assert 0.9 < row.low < 0.98


def test_a_strategy_says_what_trains_and_freeze_takes_it(mapped):
    whole = tl.load_backbone("mobilenet_v2_glyphs", weights="random")
    words = {}
    for cut, depth in itertools.product(CUTS, DEPTHS):
        layer = freezing_map.train_from(cut, depth)
        how = ("frozen", "pooled", 0.1, 0.001, 1.0, "", pd.DataFrame())
        strategy = strategies.Strategy(cut, depth, CUTS[cut], layer, *how)
        words[cut, depth] = strategy.words
        backbone = keras.Model(whole.inputs, whole.get_layer(strategy.layer).output)
        tl.freeze(backbone, **strategy.freeze)
        trains = [each for each in backbone.layers if each.trainable]
        assert [each.name for each in trains[:1]] == ([layer] if layer else [])
        assert not any(isinstance(each, keras.layers.BatchNormalization) for each in trains)
    assert words["block 5", "frozen"] == (
        "Cut after block 5. Freeze all of it, and fit a linear classifier to its pooled output."
    )
    assert words["end", "half"] == (
        "Keep the whole network. Fit a linear classifier to its pooled output, then train the later half of "
        "the network with it; freeze BatchNorm."
    )
    assert advise(50, 5, "different").words == words["block 9", "frozen"]
    mapped["readout"] = "all places"
    assert advise(50, 5, "different").words.endswith("fit a linear classifier to all of its output.")


def test_a_similarity_may_be_an_estimate_or_its_number(mapped):
    found = strategies.Similarity("similar", 0.6, 0.8, 0.5, 100)
    cuts = [advise(60, 5, given).cut for given in (found, 0.6, np.float64(0.34), 0.33, -2.0)]
    assert cuts == ["end", "end", "end", "block 9", "block 9"]


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
        ({}, LookupError, "expected similar data with few and with many labels in the measured map"),
    ],
)
def test_a_question_without_an_answer_gets_one_clear_error(change, error, message, put):
    put(made_up().query("data != 'flowers'"))
    with pytest.raises(error, match=message):
        tl.recommend_strategy(**{"n_examples": 100, "n_classes": 10, "similarity": "similar", **change})


WAYS = ("measured", "classic", "measured elsewhere", "frozen", "validation")


@pytest.mark.parametrize(("by", "against"), [*itertools.combinations_with_replacement(WAYS, 2)])
def test_two_ways_to_choose_are_compared_with_the_same_seeds(by, against, mapped):
    found = by_case(by, against)
    elsewhere = "measured elsewhere" in (by, against)
    assert ("flowers" in found.index.get_level_values(0)) != elsewhere
    for case, row in found.iloc[:-1].iterrows():
        cells = [each.split(", ") for each in (row.advised, row.against)]
        right = [answers(mapped[rows_of(mapped, *case, *cell)]).astype(float) for cell in cells]
        seeds = min(map(len, right))
        assert seeds == (5 if row.advised.endswith("frozen") and row.against.endswith("frozen") else 3)
        lost = right[1][:seeds] - right[0][:seeds]
        assert row.cost == pytest.approx(100 * lost.mean(), abs=1e-9)
        assert (row.low, row.high) == pytest.approx(tuple(100 * np.array(intervals.interval(lost))))
    # All: the mean over data sets of the mean over their cases.
    by_data = found.iloc[:-1].groupby("data").cost.mean()
    assert found.cost.iloc[-1] == pytest.approx(by_data.mean(), abs=1e-9)
    assert found.low.iloc[-1] <= found.cost.iloc[-1] <= found.high.iloc[-1]
    # The other way round, and against itself.
    turned = by_case(against, by)
    np.testing.assert_allclose(turned.cost, -found.cost, atol=1e-9)
    np.testing.assert_allclose(turned.low, -found.high, atol=1e-9)
    if by == against:
        assert (found[["cost", "low", "high"]] == 0).all(axis=None)


def test_the_cost_counts_points(mapped):
    found = by_case("classic")
    assert found.loc[("flowers", "few"), "cost"] == 0
    assert found.loc[("flowers", "many"), "cost"] == pytest.approx(4)
    assert found.loc[("mnist", "few"), ["advised", "against"]].tolist() == ["end, half", "block 9, frozen"]
    assert found.loc[("mnist", "few"), "cost"] == pytest.approx(16)
    # "frozen" takes the best of the frozen cells: one depth away here, and none.
    found = by_case("frozen")
    assert found.loc[("flowers", "few"), ["advised", "cost"]].tolist() == ["end, frozen", pytest.approx(4)]
    assert found.loc[("mnist", "few"), "cost"] == 0


def test_the_cases_of_a_data_set_share_its_test_images(mapped, put):
    """A data set's images are counted once, not once for each of its cases."""
    many = mapped[mapped.data == "flowers"].query("labels == 'many'")
    put(pd.concat([many, many.assign(labels="few")]))
    found = strategies.cost("frozen")
    width = found.high - found.low
    # The seeds all differ alike here, so that nothing is averaged out.
    np.testing.assert_allclose(width, width[0])
    assert width[0] > 1


def test_advice_from_elsewhere_does_not_look_at_the_case(put):
    other = {("mnist", "few"): ("block 5", "frozen"), ("pneumonia", "few"): ("block 12", "last block")}
    put(made_up(BEST | other))
    found = by_case("measured elsewhere")
    # Flowers are the only similar data, so nothing is said of them.
    assert "flowers" not in found.index.get_level_values(0)
    expected = ["block 12, last block", "block 5, frozen"]
    assert found.loc[("mnist", "few"), ["advised", "against"]].tolist() == expected
    assert found.loc[("mnist", "few"), "cost"] == pytest.approx(12)


def test_a_way_that_there_is_not_has_no_cost(mapped, put):
    with pytest.raises(ValueError, match=r"by: expected .* got 'guess'"):
        strategies.cost("guess")
    with pytest.raises(ValueError, match=r"against: expected .* got 'best'"):
        strategies.cost("classic", against="best")
    put(mapped[~rows_of(mapped, "mnist", "few", "end", "half")])
    with pytest.raises(LookupError, match="expected end, half of mnist, few labels, in the measured map"):
        strategies.cost("classic")
    put(mapped[mapped.data == "flowers"])
    with pytest.raises(LookupError, match="at least one case"):
        strategies.cost("measured elsewhere")


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
