"""The scripts that copy, build and check the book."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import build_book
import check_notebooks
import check_pages
import pytest
import repository
import setup_cell

ADDRESS = "https://github.com/someone/a-book"


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://github.com/someone/a-book.git", ADDRESS),
        ("https://token@github.com/someone/a-book", ADDRESS),
        ("git@github.com:someone/a-book.git", ADDRESS),
        ("ssh://git@github.com:22/someone/a-book.git\n", ADDRESS),
        ("https://gitlab.com/group/sub/a-book", "https://gitlab.com/group/sub/a-book"),
        ("https://git.example.org/someone/a-book.git", None),
        ("../a-book.git", None),
        ("", None),
    ],
)
def test_public_address(remote: str, expected: str | None) -> None:
    assert repository.public_address(remote) == expected


def test_address_of_the_project(tmp_path: Path) -> None:
    text = '[project]\nname = "x"\n[project.urls]\n'
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    assert repository.address(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text(f'{text}Repository = "{ADDRESS}/"\n', encoding="utf-8")
    assert repository.address(tmp_path) == ADDRESS


def test_data_is_what_is_named_or_lies_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "ROOT", tmp_path / "main")
    monkeypatch.delenv("TLHELPERS_DATA", raising=False)
    assert repository.data() is None
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert repository.data() == tmp_path / "shared" / "data"
    # A name that is wrong is not passed over: what reads it says so.
    monkeypatch.setenv("TLHELPERS_DATA", str(tmp_path / "nowhere"))
    assert repository.data() == tmp_path / "nowhere"


def test_buttons_follow_from_the_address() -> None:
    config: dict[str, Any] = {"html": {"favicon": "f"}}
    same, notes = build_book.final_config(config, None, {None})
    assert same == config
    assert notes == [repository.UNSET]

    full, _ = build_book.final_config(config, ADDRESS, {ADDRESS})
    assert full["repository"] == {"url": ADDRESS, "branch": "main", "path_to_book": ""}
    assert full["html"]["use_edit_page_button"]
    assert full["html"]["favicon"] == "f"
    assert full["launch_buttons"]["colab_url"]

    some, notes = build_book.final_config(config, ADDRESS, {None})
    assert "launch_buttons" not in some
    assert "setup_cell.py" in notes[-1]


def _notebook(**changes: Any) -> dict[str, Any]:
    cell = {"cell_type": "code", "metadata": {}, "source": "1", "outputs": [], "execution_count": 1}
    return {"cells": [{**cell, **changes}]}


def test_only_an_executed_chapter_is_built() -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    assert build_book.executed_faults(_notebook()) == []
    assert "were not executed" in build_book.executed_faults(_notebook(execution_count=None))[0]
    assert "ValueError: no" in build_book.executed_faults(_notebook(outputs=[error]))[0]
    meant = _notebook(outputs=[error], metadata={"tags": ["raises-exception"]})
    assert build_book.executed_faults(meant) == []


def test_the_front_page_shows_the_tagged_figure() -> None:
    drawn = [{"output_type": "stream", "text": "x"}, {"data": {"image/svg+xml": ["<svg>", "</svg>"]}}]
    assert build_book.front_figure(_notebook(outputs=drawn)) is None
    tagged = _notebook(outputs=drawn, metadata={"tags": [build_book.FRONT]})
    assert build_book.front_figure(tagged) == "<svg></svg>"


def test_the_front_page_names_a_figure_that_a_chapter_draws() -> None:
    assert build_book.FRONT_FILE in (repository.ROOT / "book" / "index.md").read_text(encoding="utf-8")
    chapters = [check_notebooks.load(path) for path in setup_cell.chapters()]
    tagged = [
        cell
        for chapter in chapters
        for _, cell in check_notebooks.code_cells(chapter)
        if build_book.FRONT in cell["metadata"].get("tags", [])
    ]
    assert len(tagged) == 1
    assert check_notebooks.draws(tagged[0])


def test_a_run_nbmake_would_skip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(build_book.BuildError, match="_build"):
        build_book.copy(tmp_path / "_build")


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', "<script> fetches"),
        ('<script src="//cdn.example.org/x.js"></script>', "<script> fetches"),
        ('<link rel="stylesheet" href="https://fonts.example.org/css">', "<link> fetches"),
        ('<img alt="A photo." src="http://example.org/p.png">', "<img> fetches"),
        ('<p style="background: url(https://example.org/p.png)"></p>', "a style fetches"),
        ('<img src="../_images/1a.png">', "has no text"),
        ('<img src="../_images/1a.png" alt="../_images/1a.png">', "has no text"),
        ('<a href="https://example.org">a link waits for the reader</a>', None),
        ('<link rel="canonical" href="https://example.org/">', None),
        ('<img src="_static/logo.svg" alt="Home">', None),
    ],
)
def test_pages_are_checked(html: str, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    found = check_pages.check(tmp_path)
    assert bool(found) == (expected is not None), found
    assert expected is None or expected in found[0]


def test_styles_are_checked(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("@import 'https://fonts.example.org/css';", encoding="utf-8")
    assert "fonts.example.org" in check_pages.check(tmp_path)[0]
