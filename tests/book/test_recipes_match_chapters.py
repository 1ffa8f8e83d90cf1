"""A recipe gives the weights that its chapter's visible cells give: cold and warm, in either order."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tlhelpers import page, studies

CHAPTERS = Path(__file__).parents[2] / "book" / "mnist"


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Chapters write beside themselves; here that is a folder of the test's own, not the working tree."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))


def run_cells(name, *, without=()):
    """Execute a chapter's code, but for cells that hold a word of `without`; gives back its variables."""
    names = {"display": lambda *shown: None}
    for number, cell in enumerate(json.loads((CHAPTERS / name).read_text(encoding="utf-8"))["cells"]):
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and not any(word in text for word in without):
            exec(compile(text, f"{name}, cell {number}", "exec"), names)
    return names


def weights(model):
    return [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]


def run_chapters(monkeypatch):
    """The head, then the fine-tuned network: weights, taken where chapters 3 and 4 hand them over."""
    taken, keep = [], studies.recipes.keep

    def take(model, *rest, **options):
        taken.append(weights(model))
        assert keep(model, *rest, **options)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(studies.recipes, "keep", take)
        run_cells("03-train-the-head.ipynb")
        run_cells("04-fine-tune-the-top.ipynb")
    return taken


def run_recipes():
    recipes = (studies.recipes.article_head, studies.recipes.article_fine_tuned)
    return [weights(recipe(page.current()).model) for recipe in recipes]


def assert_same(one, other):
    for phase, a, b in zip(("head", "tuned"), one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=phase)


def test_recipes_and_visible_cells_agree_to_the_bit(monkeypatch, tmp_path):
    cold_recipes = run_recipes()
    assert_same(cold_recipes, run_chapters(monkeypatch))
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "chapters first"))
    assert_same(cold_recipes, run_chapters(monkeypatch))
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **k: pytest.fail("not handed over: trained again"))
    assert_same(cold_recipes, run_recipes())


def test_our_recipe_and_its_visible_cells_agree_to_the_bit():
    # Only what the trained model comes from; the studies around it take most of the chapter's time.
    aside = ("read_out", "today", "table", "moved(", "beyond", "way[", "mean", "race", "fit_probe", "web/")
    visible = run_cells("08-go-beyond-the-article.ipynb", without=aside)
    trained = studies.recipes.our_classifier(page.current())
    assert len(trained.history) == len(visible["history"].epoch) == 20
    for a, b in zip(weights(trained.model), weights(visible["model"]), strict=True):
        np.testing.assert_array_equal(a, b)
