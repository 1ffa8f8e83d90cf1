"""Each step's gain: settings reach the network, rows have the table's columns. And the read-outs."""

import functools

import keras
import numpy as np
import pytest
import sklearn.linear_model

import tlhelpers as tl
from tlhelpers import page
from tlhelpers.studies import beyond, readouts, recipes

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path))
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")


def test_a_setting_reaches_the_network(monkeypatch):
    seen = {}

    def look(model, at, images, labels, rate, **how):
        norm = model.get_layer("backbone").get_layer("block_5_expand_BN")
        seen.update(how, at=at, rate=rate, copies=len(images), trains=norm.trainable, momentum=norm.momentum)
        seen["dropout"] = model.get_layer("dropout").rate

    monkeypatch.setattr(beyond, "_fit", look)
    few = tl.load_dataset("digits").train.take(np.arange(128))
    beyond.Setting("frozen", 0.9, 0.005, False, 0.2, 1, 8).train(POCKET, few, 3)
    expected = {"epochs": 8, "seed": 3, "batch_size": 128, "at": "block_2_add", "rate": 0.005, "copies": 256}
    assert seen == {**expected, "trains": False, "momentum": 0.9, "dropout": 0.2}
    beyond.OURS.train(POCKET, few, 3)
    assert isinstance(seen["rate"], keras.optimizers.schedules.CosineDecay)


def test_cut_and_read_out_change_one_after_the_other(monkeypatch):
    monkeypatch.setattr(beyond, "DIGITS", 200)
    seen = []

    def look(model, at, x, y, rate, **how):
        seen.append((model.get_layer(at).output.shape, rate, how["epochs"]))

    monkeypatch.setattr(beyond, "_fit", look)
    rows = [beyond.STUDY.row(POCKET, "steps", name, 0) for name in list(beyond.STEPS)[:3]]
    (last, *_), (pooled, *one), (kept, *other) = seen
    assert one == other
    assert last != pooled
    assert kept == (None, 16 * pooled[1])  # 4 by 4 places
    assert ["edition", *beyond.STUDY.keys, *rows[0], *page.stamp()] == list(page.measured("beyond"))


def test_linear_read_outs_learn_from_the_digits_that_they_say(monkeypatch):
    # Read alone, so one is enough.
    monkeypatch.setattr(recipes, "article_model", functools.cache(recipes.article_model))
    monkeypatch.setitem(beyond.UNTRAINED, "random filters, least squares", 300)
    fitted = []
    for name in ("LogisticRegression", "RidgeClassifier"):
        where = beyond if name == "LogisticRegression" else sklearn.linear_model
        kind = getattr(where, name)
        monkeypatch.setattr(kind, "fit", _noting(kind.fit, fitted))
    rows = [beyond.STUDY.row(POCKET, "untrained", name, 1) for name in list(beyond.UNTRAINED)[:2]]
    rows += [beyond.STUDY.row(POCKET, "few", name, 1) for name in beyond.FEW]
    every = len(tl.load_dataset("digits").train)
    assert [len(y) for _, y in fitted] == [min(1000, every), 300, 160, 160, 160]
    assert all((np.bincount(y) == 16).all() for _, y in fitted[2:])
    assert [x.shape[1] for x, _ in fitted[2:]] == [1280, 256, 1024]  # the last layer, a cut, pixels
    assert all(row["test_accuracy"] > 0.7 for row in rows)
    filters = beyond.STUDY.row(POCKET, "untrained", "random filters, least squares", 2)
    assert filters["test_accuracy"] != rows[1]["test_accuracy"]  # other filters, other digits


def _noting(fit, fitted):
    def note(self, x, y, **how):
        fitted.append((x, y))
        return fit(self, x, y, **how)

    return note


def test_a_read_out_gives_the_tables_row():
    row = readouts.STUDY.row(POCKET, "block_5_add")
    table = page.measured("readouts").query("edition == 'pocket' and at == 'block_5_add'")
    assert ["edition", "at", *row, *page.stamp()] == list(table)
    for name, allowed in {"depth": 0, "numbers": 0, "pooled": 0.011, "all numbers": 0.011}.items():
        assert row[name] == pytest.approx(table.iloc[0][name], abs=allowed)
