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


def run_cells(name: str, *, without: tuple[str, ...] = ()) -> dict:
    """Execute a chapter's code cells in plain Python and give back its variables.

    Cells that hold one of the words in `without` are left out.
    """
    cells = json.loads((CHAPTERS / name).read_text(encoding="utf-8"))["cells"]
    names: dict = {"display": lambda *shown: None}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code" and not any(word in "".join(cell["source"]) for word in without):
            exec(compile("".join(cell["source"]), f"{name}, cell {number}", "exec"), names)
    return names


def weights(model: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]


def run_chapters(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[np.ndarray]]:
    """Chapters 3 and 4; the weights are taken where the chapters hand them over."""
    taken: dict[str, list[np.ndarray]] = {}
    keep = studies.recipes.keep

    def take(model, suffix, history, *, edition, seed=0):
        taken["tuned" if taken else "head"] = weights(model)
        assert keep(model, suffix, history, edition=edition, seed=seed)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(studies.recipes, "keep", take)
        run_cells("03-train-the-head.ipynb")
        run_cells("04-fine-tune-the-top.ipynb")
    return taken


def run_recipes() -> dict[str, list[np.ndarray]]:
    edition = page.current()
    return {
        "head": weights(studies.recipes.article_head(edition).model),
        "tuned": weights(studies.recipes.article_fine_tuned(edition).model),
    }


def assert_same(one: dict[str, list[np.ndarray]], other: dict[str, list[np.ndarray]]) -> None:
    for phase in ("head", "tuned"):
        for a, b in zip(one[phase], other[phase], strict=True):
            np.testing.assert_array_equal(a, b, err_msg=phase)


def test_recipes_and_visible_cells_agree_to_the_bit(monkeypatch, tmp_path):
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "recipes first"))
    cold_recipes = run_recipes()
    chapters_after = run_chapters(monkeypatch)
    assert_same(cold_recipes, chapters_after)
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "chapters first"))
    cold_chapters = run_chapters(monkeypatch)
    assert_same(cold_recipes, cold_chapters)
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **k: pytest.fail("not handed over: trained again"))
    assert_same(cold_recipes, run_recipes())


def test_our_recipe_and_its_visible_cells_agree_to_the_bit(monkeypatch, tmp_path):
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path))
    # Only what the trained model comes from; the studies around it take most of the chapter's time.
    aside = ("read_out", "today", "table", "moved(", "beyond", "way[", "mean", "race", "fit_probe", "web/")
    visible = run_cells("08-go-beyond-the-article.ipynb", without=aside)
    trained = studies.recipes.our_classifier(page.current())
    assert len(trained.history) == len(visible["history"].epoch) == 20
    for a, b in zip(weights(trained.model), weights(visible["model"]), strict=True):
        np.testing.assert_array_equal(a, b)
