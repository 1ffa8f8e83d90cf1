"""Each step's gain: the last step is our recipe, and each row has the table's columns. And the read-outs."""

import dataclasses

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import page
from tlhelpers.studies import beyond, readouts, recipes

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path))
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")


def test_the_last_step_is_our_recipe_to_the_bit(monkeypatch):
    monkeypatch.setattr(recipes, "our_passes", lambda edition: 3)
    few = tl.load_dataset("digits").train.take(np.arange(128))
    setting = dataclasses.replace(beyond.STEPS["three copies of each digit"], passes=3)
    ours = recipes.our_classifier(POCKET, limit=128, seed=1).model
    for one, other in zip(setting.train(POCKET, few, 1).get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_setting_reaches_the_network(monkeypatch):
    seen = {}

    def look(model, at, images, labels, **how):
        norm = model.get_layer("backbone").get_layer("block_5_expand_BN")
        seen.update(how, at=at, copies=len(images), trains=norm.trainable, momentum=norm.momentum)
        seen["dropout"] = model.get_layer("dropout").rate

    monkeypatch.setattr(beyond, "_fit", look)
    few = tl.load_dataset("digits").train.take(np.arange(128))
    beyond.Setting("frozen", 0.9, 0.005, False, 0.2, 1, 8).train(POCKET, few, 3)
    expected = {"epochs": 8, "seed": 3, "batch_size": 128, "at": "block_2_add", "rate": 0.005, "copies": 256}
    assert seen == {**expected, "trains": False, "momentum": 0.9, "dropout": 0.2}
    beyond.OURS.train(POCKET, few, 3)
    assert isinstance(seen["rate"], keras.optimizers.schedules.CosineDecay)


def test_an_early_cut_with_all_numbers_beats_the_last_one(monkeypatch):
    monkeypatch.setattr(beyond, "DIGITS", 200)
    last, early = (beyond.STUDY.row(POCKET, "steps", name, 0) for name in list(beyond.STEPS)[:2])
    assert early["validation_accuracy"] > last["validation_accuracy"] > 0.2
    assert ["edition", *beyond.STUDY.keys, *early, *page.stamp()] == list(page.measured("beyond"))


def test_a_read_out_gives_the_tables_row():
    row = readouts.STUDY.row(POCKET, "block_5_add")
    table = page.measured("readouts").query("edition == 'pocket' and at == 'block_5_add'")
    assert ["edition", "at", *row, *page.stamp()] == list(table)
    for name, allowed in {"depth": 0, "numbers": 0, "pooled": 0.011, "all numbers": 0.011}.items():
        assert row[name] == pytest.approx(table.iloc[0][name], abs=allowed)
