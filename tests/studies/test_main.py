"""`python -m tlhelpers.studies`: which rows there should be, and what is done about those that lack."""

import sys

import numpy as np
import pandas as pd
import pytest

from tlhelpers import page
from tlhelpers.studies import __main__ as command
from tlhelpers.studies import intervals
from tlhelpers.studies.skeleton import Study

EDITIONS = {
    "full": page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test"),
    "pocket": page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test"),
}


STUDIES = command.studies()


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("name", dict.fromkeys(study.table for study in STUDIES))
def test_the_committed_table_has_the_rows_of_the_grid_and_no_other(name, edition, request):
    if (name, edition) == ("readouts", "full"):
        request.getfixturevalue("full_data")
    table = page.measured(name).query("edition == @edition")
    studies = [study for study in STUDIES if study.table == name]
    wanted = {row for study in studies for row in study.grid(EDITIONS[edition])}
    assert {*table[list(studies[0].keys)].itertuples(index=False, name=None)} == wanted


@pytest.mark.parametrize("name", ["freezing_map", "sources", "unfreezing"])
def test_the_answers_in_a_committed_table_are_its_accuracies(name):
    table = page.measured(name)
    for column in table.columns.intersection(["right", "right_shifted"]):
        shares = [intervals.right_answers(packed).mean() for packed in table[column]]
        accuracy = table["shifted_accuracy" if "shifted" in column else "test_accuracy"]
        np.testing.assert_allclose(shares, accuracy, atol=1e-5)


def small(table, value):
    return Study(
        table=table,
        keys=("seed",),
        grid=lambda edition: [(0,), (1,)],
        row=lambda edition, seed: {"found": value + seed},
    )


@pytest.fixture
def written(monkeypatch, tmp_path):
    """Two small studies, one of them of a table that is published from; gives what was published."""
    found = []
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    monkeypatch.setattr(command, "studies", lambda: [small("beyond", 10), small("other", 20)])
    monkeypatch.setattr(command.article, "write_published", found.append)
    (tmp_path / "measured").mkdir()
    return found


@pytest.mark.parametrize(("arguments", "published"), [((), True), (("--table", "other"), False)])
def test_what_is_asked_for_is_measured_and_then_published(
    arguments, published, written, monkeypatch, tmp_path
):
    monkeypatch.setattr(sys, "argv", ["studies", *arguments])
    command.main(tmp_path)
    command.main(tmp_path)  # nothing is left to do
    names = sorted(path.stem for path in (tmp_path / "measured").glob("*.csv"))
    assert names == (["beyond", "other"] if published else ["other"])
    table = pd.read_csv(tmp_path / "measured" / "other.csv")
    assert list(table) == ["edition", "seed", "found", *page.stamp()]
    assert table[["edition", "seed", "found"]].values.tolist() == [["pocket", 0, 20], ["pocket", 1, 21]]
    assert written == [tmp_path] * 2 * published


def test_outside_a_clone_it_says_so(written, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["studies"])
    with pytest.raises(SystemExit, match="expected a clone of the book's repository"):
        command.main(tmp_path / "elsewhere")
    assert not written
