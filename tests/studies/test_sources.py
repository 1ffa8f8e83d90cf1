"""The matrix of sources and targets: what is learned from, what chooses, and what the table to read says."""

import dataclasses
import functools
import types

import keras
import numpy as np
import pandas as pd
import pytest

from tlhelpers import datasets, page
from tlhelpers.studies import intervals, sources

FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The digits of the pocket edition in place of MNIST's; nothing is remembered."""
    monkeypatch.setitem(sources.TARGETS, "digits", "digits")
    monkeypatch.setitem(sources.TRAINED, "unlabelled digits", "digits")
    for name in ("_reader", "_trained"):
        fresh = functools.lru_cache(getattr(sources, name).__wrapped__)
        monkeypatch.setattr(sources, name, fresh)


def test_what_trains_without_labels_sees_turned_digits_and_learns_the_turns(monkeypatch):
    monkeypatch.setattr(sources, "STEPS", 10)
    seen = types.SimpleNamespace()
    monkeypatch.setattr(keras.Model, "fit", lambda model, x, y, **how: vars(seen).update(x=x, y=y, how=how))
    _, about = sources._trained("unlabelled digits")
    assert len(seen.x) == 10 * seen.how["batch_size"]
    assert 0 <= about["source_accuracy"] <= 1
    turns, again = seen.y
    assert turns is again
    assert {*turns} == {0, 1, 2, 3}
    digits = {image.tobytes() for image in datasets.load_dataset("digits").train.images}
    back = [np.ascontiguousarray(np.rot90(x, -k)).tobytes() for x, k in zip(seen.x, turns, strict=True)]
    assert {*back} <= digits


def test_what_trains_with_labels_is_shown_them(monkeypatch):
    monkeypatch.setitem(sources.TRAINED, "X-rays", "digits")
    monkeypatch.setattr(sources, "STEPS", 10)
    seen = types.SimpleNamespace()
    monkeypatch.setattr(keras.Model, "fit", lambda model, x, y, **how: vars(seen).update(x=x, y=y))
    sources._trained("X-rays")
    train = datasets.load_dataset("digits").train
    labels = {image.tobytes(): label for image, label in zip(train.images, train.labels, strict=True)}
    assert seen.y[0].tolist() == [labels[x.tobytes()] for x in seen.x]


def test_a_row_is_chosen_on_validation_and_has_the_tables_columns(monkeypatch):
    train, validation, test = sources.parts("digits")
    first = sources._measured("glyphs", "digits", 1)
    assert first["test_accuracy"] > 0.85
    right = intervals.right_answers(first["right"])
    assert right.mean() == pytest.approx(first["test_accuracy"])
    assert len(right) == len(test)
    others = dataclasses.replace(test, labels=np.roll(test.labels, 1))
    monkeypatch.setattr(sources, "parts", lambda data: (train, validation, others))
    second = sources._measured("glyphs", "digits", 1)
    chosen = ["readout", "penalty", "validation_accuracy"]
    assert [first[name] for name in chosen] == [second[name] for name in chosen]
    assert second["test_accuracy"] < 0.3
    columns = {"edition", *sources.STUDY.keys, "seed", *first, *page.stamp()}
    assert {*page.measured("sources")} - {"source_accuracy", "source_cpu_seconds"} == columns


def test_each_draw_has_random_weights_of_its_own(monkeypatch):
    asked = []
    monkeypatch.setattr(sources, "_reader", lambda *which: asked.append(which) or 1 / 0)
    for source in ("glyphs", sources.RANDOM):
        for seed in (3, 4):
            with pytest.raises(ZeroDivisionError):
                sources._measured(source, "digits", seed)
    assert [seed for *_, seed in asked] == [0, 0, 3, 4]


def test_the_table_to_read_and_the_lead_are_means_over_draws_and_images():
    rng = np.random.default_rng(0)
    better, worse = rng.random((2, 5, 400)) < np.array([0.9, 0.7])[:, None, None]
    rows = pd.DataFrame(
        (source, target, seed, intervals.pack((better if source == "glyphs" else worse)[seed]))
        for source in sources.SOURCES
        for target in sources.TARGETS
        for seed in (3, 4, 0, 1, 2)
    ).set_axis(["source", "target", "seed", "right"], axis=1)
    table = sources.matrix(rows)
    assert table.shape == (len(sources.SOURCES), len(sources.TARGETS))
    low, high = intervals.interval(better)
    assert table.loc["glyphs", "digits"] == f"{better.mean():.3f} [{low:.3f}, {high:.3f}]"
    expected = intervals.interval(better.astype(float) - worse)
    assert sources.lead(rows, "digits", "glyphs", "ImageNet") == pytest.approx(expected)
    assert expected[0] > 0
    assert sources.lead(rows, "X-rays", "ImageNet", "X-rays") == (0, 0)


def test_the_table_has_all_draws_and_a_page_measures_what_needs_no_training():
    table = page.measured("sources")
    assert (table.groupby(["source", "target"]).size() == len(sources.DRAWS)).all()
    assert {*table.query(sources.STUDY.where).source} == {*sources.PACKAGED, sources.RANDOM}
