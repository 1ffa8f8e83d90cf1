"""What writes and checks the measured tables: resumable, nothing lost, and a disagreement is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tlhelpers import cache, page
from tlhelpers.page import published
from tlhelpers.page.editions import Edition
from tlhelpers.studies.skeleton import Study, check_one, measure

BOOK = Path(__file__).resolve().parents[2] / "book"
POCKET = Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
FULL = Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
STAMP = {"commit": "0123456789", "date": "2026-11-26", "machine": "2 cores, a processor"}


@pytest.fixture(autouse=True)
def _stamped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "stamp", lambda: STAMP)


def study(
    row: Any, grid: Any = (("frozen", 10, 0), ("frozen", 10, 1), ("raw", 10, 0)), **options: Any
) -> Study:
    keys = ("method", "labels", "seed")
    return Study(table="some", keys=keys, grid=lambda edition: grid, row=row, like=keys[:2], **options)


def accuracy(edition: Edition, method: str, labels: int, seed: int) -> dict[str, Any]:
    """A row with what tables hold: a share, a text, a count that some rows lack."""
    rate = {} if method == "raw" else {"rate": 0.003, "parameters": 2257984}
    return {"test_accuracy": 2 / 3 + seed / 1000, "chosen": "1: 0.5; 2: 0.25", **rate}


# -- measure --------------------------------------------------------------------------------------


def test_a_table_holds_keys_then_what_was_measured_then_the_stamp(tmp_path: Path) -> None:
    measure(study(accuracy), POCKET, tmp_path)
    lines = (tmp_path / "some.csv").read_text().splitlines()
    stamp = '0123456789,2026-11-26,"2 cores, a processor"'
    assert lines == [
        "edition,method,labels,seed,test_accuracy,chosen,rate,parameters,commit,date,machine",
        f"pocket,frozen,10,0,0.666667,1: 0.5; 2: 0.25,0.003,2257984,{stamp}",
        f"pocket,frozen,10,1,0.667667,1: 0.5; 2: 0.25,0.003,2257984,{stamp}",
        f"pocket,raw,10,0,0.666667,1: 0.5; 2: 0.25,,,{stamp}",
    ]


def test_an_interrupted_table_goes_on_where_it_stopped(tmp_path: Path, capsys: Any) -> None:
    asked: list[tuple[Any, ...]] = []

    def row(edition: Edition, *keys: Any) -> dict[str, Any]:
        asked.append(keys)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return accuracy(edition, *keys)

    with pytest.raises(KeyboardInterrupt):
        measure(study(row), POCKET, tmp_path)
    before = (tmp_path / "some.csv").read_text()
    assert before.count("\n") == 3
    for _ in range(2):  # the second time, all is there
        measure(study(row), POCKET, tmp_path)
    after = (tmp_path / "some.csv").read_text()
    assert asked == [("frozen", 10, 0), ("frozen", 10, 1), ("raw", 10, 0), ("raw", 10, 0)]
    assert after.startswith(before)
    assert after.count("\n") == 4
    assert [path.name for path in tmp_path.iterdir()] == ["some.csv"]  # nothing half-written is left
    assert "some: raw, 10, 0 ..." in capsys.readouterr().out


def test_another_edition_and_deleted_rows_are_measured(tmp_path: Path) -> None:
    for edition in (POCKET, FULL):
        measure(study(accuracy), edition, tmp_path)
    table = pd.read_csv(tmp_path / "some.csv", dtype={"commit": str})
    assert table.edition.tolist() == ["pocket"] * 3 + ["full"] * 3
    table.drop(index=1).to_csv(tmp_path / "some.csv", index=False)
    measure(study(accuracy), POCKET, tmp_path)
    again = pd.read_csv(tmp_path / "some.csv", dtype={"commit": str})
    assert len(again) == 6
    assert again.iloc[-1].equals(table.iloc[1].rename(5))


def test_one_key_may_give_several_rows(tmp_path: Path) -> None:
    def epochs(edition: Edition, *keys: Any) -> pd.DataFrame:
        return pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25]}, index=[7, 7])

    for _ in range(2):
        measure(study(epochs, [("frozen", 10, 0)]), POCKET, tmp_path)
    table = pd.read_csv(tmp_path / "some.csv")
    assert table[["seed", "epoch", "loss"]].to_numpy().tolist() == [[0, 1, 0.5], [0, 2, 0.25]]


TABLES = sorted(path.stem for path in (BOOK / "measured").glob("*.csv") if "edition," in path.read_text())


@pytest.mark.parametrize("name", TABLES)
def test_a_new_row_leaves_the_committed_ones_as_they_are(name: str, tmp_path: Path) -> None:
    before = (BOOK / "measured" / f"{name}.csv").read_text()
    (tmp_path / f"{name}.csv").write_text(before)
    last = pd.read_csv(BOOK / "measured" / f"{name}.csv").iloc[-1].drop(["edition", *STAMP]).to_dict()
    one = Study(table=name, keys=(), grid=lambda edition: [()], row=lambda edition: last)
    measure(one, Edition("another", "", "", ""), tmp_path)  # type: ignore[arg-type]
    after = (tmp_path / f"{name}.csv").read_text()
    assert after.startswith(before)
    assert after.removeprefix(before).startswith("another,")


# -- check_one ------------------------------------------------------------------------------------

ROWS = pd.DataFrame(
    {
        "edition": "pocket",
        "method": ["cheap"] * 3 + ["dear"] * 3 + ["lonely"] * 2,
        "labels": 10,
        "seed": [0, 1, 2, 0, 1, 2, 0, 1],
        "test_accuracy": [0.90, 0.91, 0.92, 0.80, 0.81, 0.82, 0.70, 0.71],
        "cpu_seconds": [1.0] * 5 + [99.0] + [1.0] * 2,
    }
)
ALLOWED = 0.03  # three standard deviations over the seeds of a point


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The rows above, as a table of the book, which asks for the current edition, pocket."""
    (tmp_path / "measured").mkdir()
    stamped = ROWS.assign(**dict.fromkeys(STAMP, "x"))
    stamped.to_csv(tmp_path / "measured" / "some.csv", index=False)
    monkeypatch.setattr(published, "_book", lambda: tmp_path)
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    return stamped


@pytest.fixture
def glued(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is handed to the prose of the page."""
    said: dict[str, str] = {}
    monkeypatch.setattr(page, "glue", said.__setitem__)
    return said


def checked(off: float = 0.0, examples: int | None = None, **options: Any) -> Study:
    return study(accuracy, again=lambda edition, row: (row.test_accuracy + off, examples), **options)


@pytest.mark.parametrize("off", [0.0, 0.999 * ALLOWED, -0.999 * ALLOWED])
def test_a_row_that_agrees_is_shown_and_glued(off: float, table: Any, glued: dict[str, str]) -> None:
    (found,) = check_one(checked(off), which=1).to_dict("records")
    assert found == {
        **{"method": "cheap", "labels": 10, "seed": 1, "then": 0.91},
        **{"now": pytest.approx(0.91 + off), "allowed": pytest.approx(ALLOWED)},
    }
    ((name, text),) = glued.items()
    assert name == "measured again: test accuracy, method cheap, labels 10, seed 1"
    assert json.loads(text) == {name: found[name] for name in ("then", "now", "allowed")}


@pytest.mark.parametrize("off", [1.001 * ALLOWED, -1.001 * ALLOWED, float("nan")])
def test_a_row_just_beyond_the_tolerance_stops_the_page(off: float, table: Any) -> None:
    said = "method cheap, labels 10, seed 0: expected test_accuracy 0.9000"
    with pytest.raises(page.Disagreement, match=said):
        check_one(checked(off), which=0)


def test_a_share_of_few_examples_may_differ_by_two_standard_errors(table: Any) -> None:
    allowed = check_one(checked(0.05, examples=100), which=0).allowed[0]
    assert allowed == pytest.approx(page.tolerance([0.90, 0.91, 0.92], examples=100))
    assert allowed > 0.05 > ALLOWED


def test_only_points_with_three_seeds_that_a_page_has_time_for(table: Any) -> None:
    def methods(**options: Any) -> set[str]:
        return {str(check_one(checked(**options), which=which).method[0]) for which in range(12)}

    assert methods() == {"cheap", "dear"}  # the lonely one has two seeds
    assert methods(most_seconds=10) == {"cheap"}  # one seed of the other took longer
    assert methods(where="method != 'cheap'") == {"dear"}
    none = r"with three seeds, .* got none. Run `make measure TABLE=some`"
    for nothing in ({"where": "method == 'lonely'"}, {"most_seconds": 0.5}):
        with pytest.raises(LookupError, match=none):
            check_one(checked(**nothing))
    with pytest.raises(LookupError, match="rows of the full edition"):
        check_one(checked(), edition=FULL)


def test_the_code_that_computes_chooses_the_row(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def key(*modules: str) -> str:
        asked.append(modules)
        return "a4"  # 164, so the third of six rows and then, without it, another

    monkeypatch.setattr(cache, "code_key", key)
    assert check_one(checked()).seed[0] == ROWS.seed[164 % 6]
    (modules,) = asked
    assert {"backbones", "freezing", "studies/recipes", "studies/skeleton", accuracy.__module__} == {*modules}
    assert [check_one(checked(), which=which).seed[0] for which in (0, 1, 2, 7)] == [0, 1, 2, 1]


def test_a_metric_in_a_column_names_itself(table: Any, tmp_path: Path, glued: dict[str, str]) -> None:
    table.assign(metric="AUC").to_csv(tmp_path / "measured" / "some.csv", index=False)
    check_one(checked(), which=0)
    assert list(glued) == ["measured again: AUC, method cheap, labels 10, seed 0"]
