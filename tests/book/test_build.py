"""The scripts that copy, build and check the book."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tools import repository
from tools.book import build, scripts
from tools.checks import pages

ADDRESS = "https://github.com/someone/a-book"


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://github.com/someone/a-book.git", ADDRESS),
        ("ssh://git@github.com:22/someone/a-book.git\n", ADDRESS),
        ("https://gitlab.com/group/sub/a-book", "https://gitlab.com/group/sub/a-book"),
        ("git@github.com:someone/a-book.git", ADDRESS),
        ("https://git.example.org/someone/a-book.git", None),
        ("../a-book.git", None),
    ],
)
def test_public_address(remote: str, expected: str | None) -> None:
    assert repository.public_address(remote) == expected


def test_address_of_the_project(tmp_path: Path) -> None:
    for line, expected in (("", None), (f'Repository = "{ADDRESS}/"', ADDRESS)):
        text = f'[project]\nname = "x"\n[project.urls]\n{line}\n'
        (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
        assert repository.address(tmp_path) == expected


def test_data_is_what_is_named_or_lies_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "ROOT", tmp_path / "main")
    monkeypatch.delenv("TLHELPERS_DATA", raising=False)
    assert repository.data() is None
    (tmp_path / "shared" / "mirror").mkdir(parents=True)
    assert repository.data() == tmp_path / "shared" / "mirror"
    # A name that is wrong is not passed over: what reads it says so.
    monkeypatch.setenv("TLHELPERS_DATA", str(tmp_path / "nowhere"))
    assert repository.data() == tmp_path / "nowhere"


def test_buttons_follow_from_the_address() -> None:
    config: dict[str, Any] = {"html": {"favicon": "f"}}
    same, notes = build.final_config(config, None, {None}, released=True)
    assert same == config
    assert notes == [repository.UNSET]

    full, _ = build.final_config(config, ADDRESS, {ADDRESS}, released=True)
    assert full["repository"] == {"url": ADDRESS, "branch": "main", "path_to_book": ""}
    assert full["html"]["use_edit_page_button"]
    assert full["html"]["favicon"] == "f"
    assert full["launch_buttons"]["colab_url"]

    for cell, released in ((None, True), (ADDRESS, False)):
        some, (why,) = build.final_config(config, ADDRESS, {cell}, released=released)
        assert "launch_buttons" not in some
        assert "so no Colab buttons" in why


def test_a_release_is_the_tagged_commit_as_it_is(tmp_path: Path) -> None:
    def git(*command: str) -> None:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *command], check=True, capture_output=True)

    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nversion = "1.2"\n', encoding="utf-8")
    assert repository.release(tmp_path) == "v1.2"
    found = [repository.is_release(tmp_path)]
    git("init")
    git("add", ".")
    git("commit", "-m", "x")
    for tag in ("v1", "v1.2"):
        git("tag", tag)
        found.append(repository.is_release(tmp_path))
    project.write_text(project.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    found.append(repository.is_release(tmp_path))
    git("commit", "-am", "y")
    found.append(repository.is_release(tmp_path))
    assert found == [False, False, True, False, False]


def _notebook(**changes: Any) -> dict[str, Any]:
    cell = {"cell_type": "code", "metadata": {}, "source": "1", "outputs": [], "execution_count": 1}
    return {"cells": [{**cell, **changes}]}


def test_only_an_executed_chapter_is_built() -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    assert build.executed_faults(_notebook()) == []
    assert "were not executed" in build.executed_faults(_notebook(execution_count=None))[0]
    assert "ValueError: no" in build.executed_faults(_notebook(outputs=[error]))[0]


def test_scripts_of_a_page_become_files_in_their_order(tmp_path: Path) -> None:
    stays = '<script defer src="x.js"></script><script type="application/json">{}</script>'
    (tmp_path / "part").mkdir()
    for name in ("a.html", "part/b.html"):
        html = f"<script>let a;</script>\n <script data-x>let b;\n</script>{stays}<p><script>let c;</script>"
        (tmp_path / name).write_text(f'{html}<button onclick="window.print()">', encoding="utf-8")
    scripts.move(tmp_path)
    texts = {path.name: path.read_text("utf-8") for path in (tmp_path / scripts.FOLDER).iterdir()}
    first, second = sorted(texts, key=texts.__getitem__)
    assert [texts[first], texts[second]] == ["let a;\nlet b;\n", "let c;\n"]
    for name, top in (("a.html", ""), ("part/b.html", "../")):
        one, two = (f'<script src="{top}_static/inline/{file}"></script>\n' for file in (first, second))
        after = (tmp_path / name).read_text("utf-8")
        assert after == f'{one}{stays}<p>{two}<button data-calls="print">'


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<script src="//cdn.example.org/x.js"></script>', "<script> fetches"),
        ('<link rel="stylesheet" href="https://fonts.example.org/css">', "<link> fetches"),
        ('<p style="background: url(https://example.org/p.png)"></p>', "a style fetches"),
        ('<img src="../_images/1a.png">', "has no text"),
        ('<img src="../_images/1a.png" alt="../_images/1a.png">', "has no text"),
        ('<a href="https://example.org">a link waits for the reader</a>', None),
        ('<link rel="canonical" href="https://example.org/">', None),
        ('<img src="_static/logo.svg" alt="Home">', None),
        ("<script>let a = 1;</script>", "a script stands in the page"),
        ('<script type="module">let a = 1;</script>', "a script stands in the page"),
        ('<script type="application/json">{"a": 1}</script>', None),
        ('<button onclick="print()">Print</button>', "has a script in its attribute onclick"),
        ('<a href="javascript:print()">Print</a>', "leads to a script"),
        ("@import 'https://fonts.example.org/css';", "a style fetches"),
    ],
)
def test_pages_are_checked(html: str, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / f"x.{'css' if html[0] == '@' else 'html'}").write_text(html, encoding="utf-8")
    found = pages.check(tmp_path)
    assert bool(found) == (expected is not None), found
    assert expected is None or expected in found[0]
