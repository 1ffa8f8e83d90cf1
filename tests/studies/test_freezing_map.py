"""The map: cells of a case differ in cut and depth alone, start as a linear probe, and come out again."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeClassifier

from tlhelpers import page
from tlhelpers.backbones import feature_extractor
from tlhelpers.studies import freezing_map, recipes
from tlhelpers.studies.freezing_map import CUTS, DEPTHS, PENALTIES, RATES
from tlhelpers.studies.intervals import right_answers

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
DIGITS = freezing_map.case("pocket", "digits", "few")
QUICK = dataclasses.replace(DIGITS, epochs=1)
CELL = (QUICK, "block 5", "half")


def answers(found):
    return right_answers(found["right"])


def test_a_trained_cell_is_the_same_whatever_ran_before_it():
    """The network is kept between runs, so nothing of one may be left in the next."""
    recipes.classic_network.cache_clear()
    run, setting = freezing_map.cell(*CELL), ("all places", 0.1, 0.001)
    first, other = run(setting, 0), run(("all places", 0.01, 0.003), 1)
    again = freezing_map.cell(*CELL)(setting, 0)  # computed anew, not kept
    assert first["right"] == again["right"] != other["right"]
    assert first["validation_accuracy"] == again["validation_accuracy"]
    assert recipes.classic_network.cache_info().misses == 1
    assert len(answers(first)) == 500
    assert answers(first).mean() == first["test_accuracy"] > 0.5
    assert np.isnan(first["test_auc"])
    # Training began at the depth, moved no BatchNorm, and ended at the cut.
    network = recipes.classic_network(
        DIGITS.backbone, (8, 8), 32, 10, "block_3_expand", cut="block_5_add", pooled=False
    )
    start = dict(zip([w.path for w in network.suffix.weights], network.weights, strict=True))
    moved = {
        w.path.split("/")[-2]
        for w in network.suffix.weights
        if not np.array_equal(start[w.path], w.numpy()) and "seed" not in w.path
    }
    parts = ("expand", "depthwise", "project")
    assert moved == {"head", *(f"block_{block}_{part}" for block in (3, 4, 5) for part in parts)}
    blocks = {layer.name.split("_")[1] for layer in network.suffix.layers if layer.name.startswith("block")}
    assert blocks <= {"2", "3", "4", "5"}


def test_training_starts_from_the_frozen_cell():
    """At a rate of zero a trained cell names what the frozen one does: the head is its probe."""
    cells = (freezing_map.cell(QUICK, "block 5", depth) for depth in ("half", "frozen"))
    trained, frozen = (run(("all places", 0.1, 0.0), 1) for run in cells)
    assert frozen["test_accuracy"] > 0.6
    # One may lie on a border, where rounding decides.
    assert (answers(trained) != answers(frozen)).sum() <= 1
    assert trained["validation_accuracy"] == pytest.approx(frozen["validation_accuracy"], abs=0.005)


@pytest.mark.parametrize("readout", freezing_map.READOUTS)
def test_a_frozen_cell_is_scikit_learns_ridge(readout):
    found = freezing_map.cell(DIGITS, "block 9", "frozen")((readout, 0.01, 0.0), 3)
    _, validation, test = freezing_map.parts("digits")
    few = freezing_map._draw(DIGITS, 3)
    assert len(few) == 100
    see = feature_extractor(
        DIGITS.backbone, (8, 8), cuts=["block_9_add"], image_size=32, pool=readout == "pooled"
    )
    x, held, seen = (
        np.reshape(see.predict(part.images, verbose=0), (len(part), -1)) for part in (few, validation, test)
    )
    penalty = 0.01 * ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    model = RidgeClassifier(penalty).fit(x, few.labels)
    np.testing.assert_array_equal(answers(found), model.predict(seen) == test.labels)
    assert found["validation_accuracy"] == model.score(held, validation.labels)
    assert {"LogME", "H-score", "cpu_seconds"} <= {*found}


def chosen(best, tried, n=7):
    """Which of n settings are tried where one of them is best."""
    asked = []

    def run(setting, seed):
        asked.append((setting[2], seed))
        # One seed's best lies elsewhere; the mean over both decides.
        return {"validation_accuracy": (1 - abs(setting[2] - best) / 10) - 0.01 * (seed and setting[2] == 0)}

    found = freezing_map.choose(run, [("pooled", 0.1, float(rate)) for rate in range(n)], slice(*tried))
    assert len(asked) == len(set(asked)) == 2 * len({rate for rate, _ in asked})
    return [rate for _, _, rate in found]


def test_the_search_goes_on_until_the_best_lies_inside():
    assert chosen(3, (2, 5)) == [2, 3, 4]
    assert chosen(1, (2, 5)) == [0, 1, 2, 3, 4]
    assert chosen(5, (2, 5)) == [2, 3, 4, 5, 6]
    # Where the grid ends, it stops, and what was best stays.
    assert chosen(0, (2, 5)) == [0, 1, 2, 3, 4]
    assert chosen(9, (2, 5)) == [2, 3, 4, 5, 6]
    assert chosen(0, (None,)) == [*range(7)]


def test_of_equal_settings_the_first_is_kept():
    settings = [("pooled", 0.1, rate) for rate in RATES]
    found = freezing_map.choose(lambda *_: {"validation_accuracy": 0.5}, settings, slice(0, 4))
    assert freezing_map.best(found) == settings[0]
    assert len(found) == 4


def test_depth_is_counted_from_the_cut():
    found = [[freezing_map.train_from(cut, depth) for depth in DEPTHS] for cut in CUTS]
    assert found == [
        [None, f"block_{last}_expand", f"block_{half}_expand", "Conv1"]
        for last, half in ((5, 3), (9, 5), (12, 7), (16, 9))
    ]


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(LookupError, match=r"unknown case of the map 'full, flower, few'.*did you mean"):
        freezing_map.case("full", "flower", "few")
    with pytest.raises(LookupError, match=r"unknown cut 'block 7'.*block 5"):
        freezing_map.train_from("block 7", "half")
    with pytest.raises(LookupError, match=r"unknown depth 'all'.*everything"):
        freezing_map.cell(DIGITS, "end", "all")


@pytest.fixture
def forgetful():
    """What a frozen cell kept is remembered for the trained ones; not from one test to the next."""
    freezing_map._frozen_kept.cache_clear()
    yield
    freezing_map._frozen_kept.cache_clear()


def test_a_row_has_five_seeds_frozen_and_three_trained(forgetful, monkeypatch):
    asked = []

    def cell(case, cut, depth):
        def run(setting, seed):
            asked.append((depth, setting, seed))
            readout, penalty, rate = setting
            good = (readout == "all places") + (penalty == 0.01) - abs(rate - 0.03)
            return {"validation_accuracy": 0.5 + good / 10, "test_accuracy": 0.3, "right": "2x80"}

        return run

    monkeypatch.setattr(freezing_map, "cell", cell)
    frozen = freezing_map.STUDY.row(POCKET, "digits", "few", "block 5", "frozen")
    assert frozen.seed.tolist() == [0, 1, 2, 3, 4]
    assert {*frozen.readout, *frozen.penalty, *frozen.learning_rate} == {"all places", 0.01, 0.0}
    assert frozen.tried[0].startswith("100: 0.5970; 10: 0.5970;")
    assert len(frozen.tried[0].split(";")) == len(PENALTIES)
    before = len(asked)
    trained = freezing_map.STUDY.row(POCKET, "digits", "few", "block 5", "half")
    assert trained.seed.tolist() == [0, 1, 2]
    # Training takes the probe that the frozen cell kept, which is not searched for again.
    assert {depth for depth, *_ in asked[before:]} == {"half"}
    assert {setting[:2] for _, setting, _ in asked[before:]} == {("all places", 0.01)}
    assert (trained.learning_rate == 0.03).all()
    assert trained.tried[0].endswith("0.03: 0.7000; 0.1: 0.6930")
    assert trained.train_from[0] == "block_3_expand"
    # At the end all places would be another network than the classic one.
    asked.clear()
    freezing_map.STUDY.row(POCKET, "digits", "few", "end", "frozen")
    assert {setting[0] for _, setting, _ in asked} == {"pooled"}


def test_a_row_is_measured_again_at_its_own_setting_and_seed(tmp_path, monkeypatch):
    def cell(case, cut, depth):
        assert (case, cut, depth) == (DIGITS, "block 9", "half")
        return lambda *asked: {"test_accuracy": {(("all places", 1e-05, 3e-06), 2): 0.75}[asked]}

    monkeypatch.setattr(freezing_map, "cell", cell)
    row = {"data": "digits", "labels": "few", "cut": "block 9", "depth": "half", "seed": 2}
    row |= {"readout": "all places", "penalty": 1e-05, "learning_rate": 3e-06}
    pd.DataFrame([row]).to_csv(tmp_path / "map.csv", float_format="%.6g")
    assert freezing_map.STUDY.again(POCKET, pd.read_csv(tmp_path / "map.csv").iloc[0]) == (0.75, 500)


def test_the_measured_map_has_one_setting_a_cell_and_none_at_an_edge():
    for name, rows in page.measured("freezing_map").groupby(["edition", "data", "labels", "cut", "depth"]):
        frozen = name[-1] == "frozen"
        assert sorted(rows.seed) == [0, 1, 2, 3, 4][: 5 if frozen else 3], name
        # The seeds differ in nothing else.
        ((*_, rate, tried),) = rows[["readout", "penalty", "learning_rate", "tried"]].drop_duplicates().values
        rates = [float(each.split(":")[0]) for each in tried.split(";")]
        # No rate is the last that was tried on its side, but where the grid ends.
        assert frozen or (len(rates) >= 4 and rate not in {rates[0], rates[-1]} - {RATES[0], RATES[-1]}), name
