"""A cell of the table of families says what happened, and a change of the table is found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers.page import web
from tools.book.families import as_page
from tools.checks import families

TABLE = families.read()


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path))


def refuse(*_: Any, **__: Any) -> None:
    raise ValueError("model: expected this, got that: no. Do something.")


@pytest.mark.parametrize(
    ("module", "name", "broken", "column", "says"),
    [
        (None, "", None, "once", "works"),
        (tl, "precompute", lambda plain: lambda *_: plain(*_) * 1.01, "once", "FAILS: features are not"),
        (tl, "split", lambda plain: lambda model, at: plain(model, at)[::-1], "split", "FAILS: "),
        (tl, "freeze", lambda plain: lambda model, **_: plain(model), "freeze", "FAILS: "),
        (tl, "cut_points", lambda _: lambda _model: 1 / 0, "cuts", "FAILS: ZeroDivisionError"),
        (web, "export", lambda _: refuse, "export", "refuses: expected this, got that: no"),
        (tl.explain, "grad_cam", lambda _: lambda *_, **__: np.ones(3), "explain", "FAILS: expected shares"),
    ],
)
def test_a_cell_says_what_happened(
    module: Any,
    name: str,
    broken: Callable[..., Any],
    column: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if module is not None:
        monkeypatch.setattr(module, name, broken(getattr(module, name)))
    assert families.row("keras-hub", "VGGBackbone")[column].startswith(says)


@pytest.mark.parametrize(
    ("column", "end"), [("cuts", "3"), ("split", "refuses"), ("once", "not tried"), ("freeze", "FAILS")]
)
def test_a_change_is_found(column: str, end: str) -> None:
    before = TABLE[TABLE.family == "VGG16"]
    was = before[column].item()
    now = before.assign(**{column: f"{end}: x"})
    assert families.differences(before, before) == []
    assert families.differences(now, before) == [f"('VGG16', '{column}'): {end}; in the table: {was}"]
    assert families.differences(before, now) == [f"('VGG16', '{column}'): {was}; in the table: {end}"]
    assert len(families.differences(now, now)) == (end == "FAILS")
    other = TABLE[TABLE.family == "MobileNet"]
    assert len(families.differences(before, other)) == 12, "one went and one came"


@pytest.mark.usefixtures("as_pinned")
def test_the_table_has_every_family_and_no_failure() -> None:
    assert set(TABLE.family) == {name for _, name in families.families()}
    assert not TABLE.apply(lambda column: column.str.startswith("FAILS")).any(axis=None)
    assert (TABLE.cuts == "not tried").sum() <= 12


def test_the_page_shows_each_family() -> None:
    text = as_page(TABLE)
    assert text.count("\n| ") == len(TABLE) - (TABLE.cuts == "not tried").sum() + 2
    assert "refuses" not in text
