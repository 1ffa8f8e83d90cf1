"""A recipe gives the weights that its chapter's visible cells give, and need not run where these have run."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import page, studies
from tools.checks import notebooks

CHAPTERS = Path(__file__).parents[2] / "book" / "mnist"


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    """A tenth of the digits, no whole number of batches. Chapters write into a folder of the test's own."""
    whole = tl.load_dataset
    for module in (tl, tl.datasets):
        monkeypatch.setattr(module, "load_dataset", lambda name: whole(name, limit=100))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))


def run_cells(name, *, until, without):
    """Execute a chapter's code up to the cell that holds `until`; gives back its variables.

    Cells that hold a word of `without` are left out: numbers of so few digits would not agree.
    """
    names = {"display": lambda *shown: None}
    for number, cell in notebooks.code_cells(notebooks.load(CHAPTERS / name)):
        text = notebooks.source(cell)
        if not any(word in text for word in without):
            exec(compile(text, f"{name}, cell {number}", "exec"), names)
            if until in text:
                return names
    return pytest.fail(f"{name}: no cell that was run holds {until!r}")


def assert_same(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_recipes_and_visible_cells_agree_to_the_bit(monkeypatch, tmp_path):
    aside = ("page.check", "ten_epochs", "by_batch", "page.tolerance", "found", "is_monotonic", "like")
    # Fine-tuning begins in block 11; to end the backbone after block 12 spares the most of the tracing.
    whole = studies.recipes.load_backbone

    def first_blocks(name, **how):
        network = whole(name, **how)
        return keras.Model(network.inputs, network.get_layer("block_12_add").output, name="backbone")

    monkeypatch.setattr(studies.recipes, "load_backbone", first_blocks)
    aside += ("ax.figure", "dip", "lines.plot", "tuned", "bar 11")  # they only show
    for name, recipe in (
        ("03-train-the-head.ipynb", studies.recipes.article_head),
        ("04-fine-tune-the-top.ipynb", studies.recipes.article_fine_tuned),
    ):
        monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "chapters"))
        visible = run_cells(name, until="recipes.keep(", without=aside)["model"]
        with monkeypatch.context() as patch:
            patch.setattr(keras.Model, "fit", lambda *a, **k: pytest.fail("not handed over: trained again"))
            assert_same(recipe(page.current()).model, visible)
        monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "recipes"))
        assert_same(recipe(page.current()).model, visible)


def test_our_recipe_its_visible_cells_and_the_last_of_its_steps_agree_to_the_bit():
    # Only what the trained model comes from; the studies around it take most of the chapter's time.
    aside = ("today", "table", "by_cut")
    visible = run_cells("08-go-beyond-the-article.ipynb", until="suffix.fit(", without=aside)
    trained = studies.recipes.our_classifier(page.current())
    assert len(trained.history) == len(visible["history"].epoch) == 20
    assert_same(trained.model, visible["model"])
    digits = tl.load_dataset("digits").train
    setting = dataclasses.replace(studies.beyond.STEPS["three copies of each digit"], passes=20)
    assert_same(setting.train(page.current(), digits, 0), visible["model"])
    # Another seed draws other copies, and so many digits are learned from as are asked for.
    copies = [studies.recipes._Ours(page.current(), seed, 50).digits(digits)[0] for seed in (0, 1)]
    assert [len(each) for each in copies] == [200, 200]
    np.testing.assert_array_equal(*(each[:50] for each in copies))
    assert (copies[0][50:] != copies[1][50:]).any()
