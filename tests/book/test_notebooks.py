"""Every chapter looks as it should, and the checks find what they are for."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import check_notebooks as rules
import pytest
import repository
import setup_cell
import yaml

CHAPTERS = setup_cell.chapters()
ALT = "A line that rises from left to right."
CAPTION = "From left to right labels become more."
FIGURE = {"image": {"alt": ALT}, "figure": {"caption": CAPTION}}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter(path: Path) -> None:
    assert rules.check(path) == []


def test_chapters_and_contents_agree() -> None:
    if not CHAPTERS:
        pytest.skip("no chapter is written yet")
    contents = yaml.safe_load((repository.ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    missing = [name for name in listed if not list(repository.ROOT.glob(f"{name}.*"))]
    assert missing == [], "listed in _toc.yml, but not there"
    written = {path.relative_to(repository.ROOT).with_suffix("").as_posix() for path in CHAPTERS}
    assert written <= set(listed), "there, but not listed in _toc.yml"


def test_chapters_install_from_one_address() -> None:
    addresses = {setup_cell.cell_address(rules.source(rules.load(path)["cells"][1])) for path in CHAPTERS}
    assert len(addresses) <= 1
    # Once the project names its home, every chapter must install from there.
    if addresses and (home := repository.from_project()):
        assert addresses == {home}


# The checks themselves: a sound chapter passes, and each fault is found.


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text: str, **metadata: Any) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": metadata, "source": text, "outputs": [], "execution_count": None}


def _sound() -> dict[str, Any]:
    cells = [
        _markdown("# Try a thing\n\n## What you'll do\n\n## What you'll learn\n\n## What you'll need"),
        _code(setup_cell.cell_source(None), tags=[setup_cell.TAG]),
        _code("tl.published.check('mnist.head', 0.67)\nfor n in (1, 2):\n    tl.published.glue(f'e-{n}', n)"),
        _code("tl.plots.curves(history)", mystnb=FIGURE),
        _markdown(
            "It ends at {glue:text}`mnist.head:.4f`, after {glue}`e-1`, with a rate of 0.001 and `0.25`."
        ),
        _markdown(
            "The article gives 0.6732 (67.3 %).\n\n```python\nx = 0.999\n```\n[1](https://x.org/0.123)"
        ),
        _markdown("## Summary\n\n## On your own\n\n:::{dropdown} Solution\nYes.\n:::\n\n## Further reading"),
    ]
    return {
        "cells": cells,
        "metadata": {"kernelspec": {"name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _found(notebook: dict[str, Any], folder: Path) -> list[str]:
    path = folder / "01-try.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return rules.check(path)


def test_a_sound_chapter_passes(tmp_path: Path) -> None:
    assert _found(_sound(), tmp_path) == []


Spoil = Callable[[dict[str, Any]], Any]
FAULTS: dict[str, tuple[Spoil, str]] = {
    "output": (lambda n: n["cells"][2].update(outputs=[{}]), "cell 3 holds outputs"),
    "count": (lambda n: n["cells"][2].update(execution_count=1), "cell 3 holds outputs"),
    "set-up missing": (lambda n: n["cells"].pop(1), "second cell is not the set-up cell"),
    "set-up changed": (lambda n: n["cells"][1].update(source="tl.start_chapter()"), "not the template's"),
    "set-up shown": (lambda n: n["cells"][1].update(metadata={}), "lacks the tag"),
    "kernel": (lambda n: n.update(metadata={"kernelspec": {"name": "mine"}}), "the kernel is 'mine'"),
    "no title": (lambda n: n["cells"].insert(0, _markdown("Hello")), "does not begin with the title"),
    "two titles": (lambda n: n["cells"].insert(4, _markdown("# Again")), "expected one title"),
    "section missing": (lambda n: n["cells"].pop(), "expected to close with"),
    "section order": (
        lambda n: n["cells"][0].update(source="# T\n\n## What you'll learn\n\n## What you'll do"),
        "expected to open with",
    ),
    "no solution": (
        lambda n: n["cells"][-1].update(source="## Summary\n\n## On your own\n\n## Further reading"),
        "no solution",
    ),
    "long cell": (lambda n: n["cells"].insert(3, _code("x = 1\n" * 15)), "cell 4 has 15 lines"),
    "no alt text": (lambda n: n["cells"][3].update(metadata={}), "cell 4 draws without a text"),
    "no alt, pandas": (lambda n: n["cells"].insert(3, _code("frame.plot(x='n')")), "cell 4 draws"),
    "no alt, pyplot": (lambda n: n["cells"].insert(3, _code("fig, ax = plt.subplots()")), "cell 4 draws"),
    "no caption": (
        lambda n: n["cells"][3].update(metadata={"mystnb": {"image": {"alt": ALT}}}),
        "cell 4 draws without a caption",
    ),
    "result in a caption": (
        lambda n: n["cells"][3]["metadata"]["mystnb"].update(
            figure={"caption": "It ends at 0.974, see there."}
        ),
        "cell 4 types a result in its caption",
    ),
    "picture not marked": (
        lambda n: n["cells"][3].update(source="tl.plots.images(some)"),
        "cell 4 shows pictures",
    ),
    "typed percentage": (lambda n: n["cells"].insert(4, _markdown("It reaches 99.1 %.")), "types a result"),
    "typed fraction": (lambda n: n["cells"].insert(4, _markdown("It reaches 0.67.")), "types a result"),
    "typed in a note": (
        lambda n: n["cells"].insert(4, _markdown("```{note}\nAh: 0.974\n```")),
        "types a result",
    ),
    "unknown glue": (lambda n: n["cells"].insert(4, _markdown("{glue:text}`other:.2f`")), "shows 'other'"),
    "unknown file": (
        lambda n: n["cells"].insert(4, _markdown("{glue:text}`no.ipynb::k:.2f`")),
        "does not exist",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    spoil, expected = FAULTS[name]
    notebook = copy.deepcopy(_sound())
    spoil(notebook)
    found = _found(notebook, tmp_path)
    assert any(expected in fault for fault in found), found


def test_glue_of_another_chapter_is_looked_up_there(tmp_path: Path) -> None:
    (tmp_path / "00-other.ipynb").write_text(json.dumps(_sound()), encoding="utf-8")
    notebook = _sound()
    notebook["cells"].insert(4, _markdown("{glue:text}`00-other.ipynb::mnist.head:.4f`"))
    assert _found(notebook, tmp_path) == []


@pytest.mark.parametrize("address", [None, "https://github.com/someone/a-book"])
def test_set_up_cell_is_written_once(address: str | None, tmp_path: Path) -> None:
    notebook = _sound()
    del notebook["cells"][1]
    path = tmp_path / "01-try.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert setup_cell.write(path, address=address)
    assert not setup_cell.write(path, address=address)
    assert len(rules.load(path)["cells"]) == len(notebook["cells"]) + 1
    assert rules.check(path) == []
    assert setup_cell.cell_address(rules.source(rules.load(path)["cells"][1])) == address


@pytest.mark.parametrize("address", [None, "https://github.com/someone/a-book"])
def test_set_up_cell_without_the_library(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata
    import importlib.util
    import subprocess

    calls: list[list[str]] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: calls.append(command))
    head = setup_cell.cell_source(address).partition("import tlhelpers as tl")[0]
    if address is None:
        with pytest.raises(ModuleNotFoundError, match="pip install -e"):
            exec(head, {})
    else:
        exec(head, {})
        assert calls[0][-1] == f"tlhelpers[text] @ git+{address}"
        # A newer tensorflow-text must not draw a newer TensorFlow than the one that is there.
        assert f"tensorflow=={importlib.metadata.version('tensorflow')}" in calls[0]
