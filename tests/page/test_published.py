"""Published results: found by edition, compared within tolerance, never on the wrong side of a claim."""

import datetime
import math
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tlhelpers import page
from tlhelpers.page import published
from tlhelpers.page.editions import Edition

FULL = Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
POCKET = Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
EDITIONS = {"full": FULL, "pocket": POCKET}
BOOK = Path(__file__).resolve().parents[2] / "book"
NAMES = list(tomllib.loads((BOOK / "published.toml").read_text()))


@pytest.mark.parametrize("edition", EDITIONS.values(), ids=EDITIONS)
@pytest.mark.parametrize("name", NAMES)
def test_the_published_value_agrees_and_one_beyond_the_tolerance_does_not(
    name: str, edition: Edition, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    glued: dict[str, Any] = {}
    monkeypatch.setattr(published, "glue", glued.__setitem__)
    entry = page.result(name, edition=edition)
    assert len(entry.seeds) >= 3
    assert entry.tolerance > 0
    near = entry.value + 0.99 * entry.tolerance
    assert page.check(name, near, edition=edition) == near
    assert re.search("; this book recorded .*: agrees", capsys.readouterr().out)
    for beyond in (entry.value + 1.01 * entry.tolerance, entry.value - 1.01 * entry.tolerance, math.nan):
        with pytest.raises(page.Disagreement, match=f"{name} .*expected .* within .* got"):
            page.check(name, beyond, edition=edition)
    assert glued == {name: near}


ENTRY = 'what = "w"\nunit = "u"\nfull = { value = 0.9, tolerance = 0.01, seeds = [0, 1, 2] }\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "expected results, got"),
        ("a = 1", "expected what, unit, value"),
        ("[a]\n" + ENTRY.replace("0.9,", '"high",'), "expected what, unit, value"),
        ("[a]\n" + ENTRY.replace('unit = "u"\n', ""), "got KeyError..unit"),
        ("[a]\n" + ENTRY.replace("0.01", "inf"), "a finite tolerance above 0"),
        ("[a]\n" + ENTRY.replace("0.01", "0"), "a finite tolerance above 0"),
        ("[a]\n" + ENTRY.replace("0.9,", "nan,"), "a finite value"),
        ("[a]\n" + ENTRY.replace(", 2]", "]"), "three seeds or more"),
    ],
)
def test_broken_results_are_one_error(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "_book", lambda: tmp_path)
    (tmp_path / "published.toml").write_text(f"[a]\n{ENTRY}")
    assert page.result("a", edition=FULL).tolerance == 0.01
    (tmp_path / "published.toml").write_text(text)
    with pytest.raises((ValueError, LookupError), match=rf"published.toml.*{message}"):
        page.result("a", edition=FULL)


ROWS = "accuracy,commit,date,machine\n0.5,1,2026-11-26,m\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a table"),
        (ROWS + "0.6,1\n", "got some without"),
        (ROWS.replace(",machine", ",computer"), "got some without"),
        (ROWS.replace("0.5", "1.5"), "expected accuracy from 0 to 1"),
        (ROWS.replace("0.5", "half"), "expected accuracy from 0 to 1"),
    ],
)
def test_a_broken_table_is_one_error(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "_book", lambda: tmp_path)
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "a.csv").write_text(ROWS)
    assert page.measured("a").accuracy.tolist() == [0.5]
    (tmp_path / "measured" / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"a.csv: .*{message}.*make measure"):
        page.measured("a")
    with pytest.raises(LookupError, match="unknown measured table"):
        page.measured(str(tmp_path / "measured" / "a"))


@pytest.mark.parametrize("name", ["refreshed_test_accuracy", "our_test_accuracy"])
def test_the_article_does_not_pass_for_ours(name: str) -> None:
    # The claim of the full edition: it ends above the article.
    with pytest.raises(page.Disagreement):
        page.check(name, page.ARTICLE_TEST["accuracy"], edition=FULL)


@pytest.mark.parametrize("edition", EDITIONS.values(), ids=EDITIONS)
@pytest.mark.parametrize("name", NAMES)
def test_no_tolerance_is_wider_than_a_fifth_of_what_it_guards(name: str, edition: Edition) -> None:
    entry = page.result(name, edition=edition)
    guarded = [entry.value]
    if edition.name == "full" and name in ("refreshed_test_accuracy", "our_test_accuracy"):
        guarded.append(abs(entry.value - page.ARTICLE_TEST["accuracy"]))
    if edition.name == "full" and name in ("head_validation_accuracy", "refreshed_validation_accuracy"):
        head, tuned = (page.result(f"{at}_validation_accuracy", edition=FULL) for at in ("head", "refreshed"))
        guarded.append(tuned.value - head.value)
    # Where seeds need more, nothing is published: the page shows the number and claims nothing of it.
    assert entry.tolerance <= min(guarded) / 5


def test_the_frozen_head_does_not_pass_for_the_fine_tuned() -> None:
    head, tuned = (page.result(f"{name}_validation_accuracy", edition=FULL) for name in ("head", "refreshed"))
    assert head.value + head.tolerance <= tuned.value - tuned.tolerance


def test_the_article_and_how_near_our_frozen_phase_lands() -> None:
    article = page.article_history()
    assert list(article.epoch) == list(range(1, 16))
    assert article.set_index("epoch").val_accuracy[[10, 11, 15]].tolist() == [0.6732, 0.1437, 0.8488]
    assert article.set_index("epoch").accuracy[[1, 10, 11, 15]].tolist() == [0.4394, 0.6671, 0.2328, 0.8246]
    assert abs(page.result("head_validation_accuracy", edition=FULL).value - 0.6732) < 0.005


def test_unknown_names_and_missing_editions_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LookupError, match="did you mean 'refreshed_test_accuracy'"):
        page.result("refreshed_test_acuracy", edition=FULL)
    with pytest.raises(LookupError, match="unknown measured table 'fine_tunin'"):
        page.measured("fine_tunin")
    (tmp_path / "published.toml").write_text("[one]\nfull = {}\n")
    monkeypatch.setattr(published, "_book", lambda: tmp_path)
    with pytest.raises(LookupError, match="expected a value for the pocket edition, got none"):
        page.result("one", edition=POCKET)


def test_the_tolerance_rule() -> None:
    assert page.tolerance([0.5, 0.5, 0.5], examples=100) == pytest.approx(2 * 0.05)
    assert page.tolerance([0.4, 0.5, 0.6]) == pytest.approx(0.3)
    assert page.tolerance([0.4, 0.5, 0.6], examples=100) == pytest.approx(0.3)
    assert page.tolerance([0.4, 0.5, 0.6], gap=0.1) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="at least three seeds, got 2"):
        page.tolerance([0.4, 0.5])


# -- where rows come from -------------------------------------------------------------------------


def _stamped(*commits: str) -> pd.DataFrame:
    return pd.DataFrame({"commit": commits, "date": "2026-01-02", "machine": "2 cores, A"})


def test_few_stamps_take_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    page.origin(_stamped("aaa", "bbb", "aaa"), _stamped("ccc"))
    assert sorted(capsys.readouterr().out.splitlines()) == [
        f"measured: 2026-01-02 2 cores, A {commit}" for commit in ("aaa", "bbb", "ccc")
    ]


def test_many_stamps_fold_into_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.publish_display_data", shown.append)
    rows = [_stamped("aaa", "bbb", "ccc"), _stamped("ddd").assign(date="2026-01-05", machine="4 cores, B")]
    page.origin(pd.concat(rows))
    (html,) = shown
    assert html["text/html"] == (
        "<details><summary>measured: 2026-01-02 to 2026-01-05, 4 commits, on 2 cores, A; 4 cores, B</summary>"
        "aaa, bbb, ccc, ddd</details>"
    )
    page.origin(_stamped("aaa", "bbb", "ccc", "ddd"))
    assert "measured: 2026-01-02, 4 commits, on" in shown[1]["text/html"]


# -- the stamp ------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository in place of this one."""
    for name in ("code.py", "chapter.ipynb", "measured.csv"):
        path = tmp_path / "book" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a start", "--no-verify")
    monkeypatch.setattr(published, "_book", lambda: tmp_path / "book")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "mark"),
    [([], ""), (["measured.csv"], ""), (["code.py"], "-dirty"), (["chapter.ipynb"], "-dirty")],
)
def test_the_stamp_says_which_code_ran(changed: list[str], mark: str, clone: Path) -> None:
    for name in changed:
        (clone / "book" / name).write_text("two\n")
    stamp = page.stamp()
    assert list(stamp) == ["commit", "date", "machine"]
    assert stamp["commit"] == git(clone, "rev-parse", "HEAD")[:10] + mark
    assert datetime.date.fromisoformat(stamp["date"]) <= datetime.datetime.now(datetime.UTC).date()
    assert stamp["machine"].startswith(f"{os.cpu_count()} cores, ")


def test_outside_a_clone_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_book", lambda: tmp_path / "book")
    assert page.stamp()["commit"] == "none"
