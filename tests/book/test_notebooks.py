"""Every chapter looks as it should, and the checks find what they are for."""

import importlib.metadata
import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import repository, setup_cell
from tools.checks import notebooks as rules

CHAPTERS = setup_cell.chapters()
ALT = "A line that rises from left to right."
CAPTION = "From left to right labels become more."
FIGURE = {"image": {"alt": ALT}, "figure": {"caption": CAPTION}}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter(path: Path) -> None:
    assert rules.check(path) == []


def test_chapters_and_contents_agree() -> None:
    contents = yaml.safe_load((repository.ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    missing = [name for name in listed if not list(repository.ROOT.glob(f"{name}.*"))]
    assert missing == [], "listed in _toc.yml, but not there"
    written = {path.relative_to(repository.ROOT).with_suffix("").as_posix() for path in CHAPTERS}
    assert written <= set(listed), "there, but not listed in _toc.yml"


def test_chapters_install_from_one_address() -> None:
    (address,) = {setup_cell.cell_address(rules.source(rules.load(path)["cells"][1])) for path in CHAPTERS}
    assert address == (repository.from_project() or address), "the project names another home"


# The checks themselves: a sound chapter passes, and each fault is found.


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text: str, **metadata: Any) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": metadata, "source": text, "outputs": [], "execution_count": None}


def _sound() -> dict[str, Any]:
    shown = "It ends at {glue:text}`mnist.head:.4f`, after {glue}`e-1`, with a rate of 0.001 and `0.25`."
    quoted = "The article gives 0.6732 (67.3 %).\n\n```python\nx = 0.999\n```\n[1](https://x.org/0.123)"
    apart = (
        "In full edition {glue:text}`full.e-1`.\n\n:::{only} pocket\nPocket edition: {glue:text}`e-1`\n:::"
    )
    cells = [
        _markdown("# Try a thing\n\n## What you'll do\n\n## What you'll learn\n\n## What you'll need"),
        _code(setup_cell.cell_source(None), tags=setup_cell.TAGS),
        _code(
            "page.check('mnist.head', 0.67)\nfor n in (1, 2):\n    page.glue(f'e-{n}', n)",
            tags=["hide-input"],
        ),
        _code("tl.plots.curves(history)", mystnb=FIGURE),
        _markdown(f"{shown}\n\n{quoted}\n\n{apart}"),
        _markdown("## Summary\n\n## On your own\n\n:::{dropdown} Solution\nYes.\n:::\n\n## Further reading"),
    ]
    return {"cells": cells, "metadata": {}, "nbformat": 4}


def _found(notebook: dict[str, Any], folder: Path) -> list[str]:
    path = folder / "01-try.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return rules.check(path)


def _set(cell: int, **changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda notebook: notebook["cells"][cell].update(changes)


def _put(place: int, cell: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda notebook: notebook["cells"].insert(place, cell)


BAD_CAPTION = {**FIGURE, "figure": {"caption": "It ends at 0.974, see there."}}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_set(2, execution_count=1), "cell 3 holds outputs"),
        (lambda n: n["cells"].pop(1), "second cell is not the set-up cell"),
        (_set(1, source="page.start_chapter()"), "not the template's"),
        (_set(1, metadata={}), "lacks the tags"),
        (_put(0, _markdown("Hello")), "does not begin with the title"),
        (_put(4, _markdown("# Again")), "expected one title"),
        (lambda n: n["cells"].pop(), "expected to close with"),
        (_set(0, source="# T\n\n## What you'll learn\n\n## What you'll do"), "expected to open with"),
        (_set(-1, source="## Summary\n\n## On your own\n\n## Further reading"), "no solution"),
        (_put(3, _code("x = 1\n" * 15)), "cell 4 has 15 lines"),
        (_set(3, metadata={}), "cell 4 draws without a text"),
        (_put(3, _code("frame.plot(x='n')")), "cell 4 draws"),
        (_set(3, metadata={"mystnb": {"image": {"alt": ALT}}}), "cell 4 draws without a caption"),
        (_set(3, metadata={"mystnb": BAD_CAPTION}), "cell 4 types a result in its caption"),
        (_set(2, metadata={}), "cell 3 keeps the books"),
        (_put(3, _code("found = 3\nassert found == 3")), "cell 4 keeps the books"),
        (_set(3, source="a = 1\nb = 2\nc = 3\ntl.plots.curves(a)"), "cell 4 keeps the books or draws"),
        (_set(3, source="tl.plots.images(some)"), "cell 4 shows pictures"),
        (_put(4, _markdown("It reaches 99.1 %.")), "types a result"),
        (_put(4, _markdown("```{note}\nAh: 0.974\n```")), "types a result"),
        (_put(4, _markdown("As [](02-go.ipynb) says.")), "has no words"),
        (_put(4, _markdown("The full edition has {glue:text}`head:.2f`.")), "cell 5 speaks of one edition"),
    ],
)
def test_a_fault_is_found(spoil: Callable[[dict[str, Any]], Any], expected: str, tmp_path: Path) -> None:
    notebook = _sound()
    spoil(notebook)
    found = _found(notebook, tmp_path)
    assert any(expected in fault for fault in found), found


def test_a_sound_chapter_passes(tmp_path: Path) -> None:
    assert _found(_sound(), tmp_path) == []


BOTH = pytest.mark.parametrize("address", [None, "https://github.com/someone/a-book"])


@BOTH
def test_set_up_cell_is_written_once(address: str | None, tmp_path: Path) -> None:
    notebook = _sound()
    number = len(notebook["cells"])
    del notebook["cells"][1]
    assert _found(notebook, tmp_path)
    path = tmp_path / "01-try.ipynb"
    assert [setup_cell.write(path, address=address) for _ in range(2)] == [True, False]
    assert rules.check(path) == []
    written = rules.load(path)["cells"]
    assert len(written) == number
    assert setup_cell.cell_address(rules.source(written[1])) == address


@BOTH
def test_set_up_cell_without_the_library(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: calls.append(command))
    head = setup_cell.cell_source(address).partition("import tlhelpers as tl")[0]
    if address is None:
        with pytest.raises(ModuleNotFoundError, match="pip install -e"):
            exec(head, {})
    else:
        exec(head, {})
        assert calls[0][-1] == f"tlhelpers[tensorflow,text] @ git+{address}@{repository.release()}"
        # A newer tensorflow-text must not draw a newer TensorFlow than the one that is there.
        main = ("tensorflow", "keras", "numpy")
        assert {f"{name}=={importlib.metadata.version(name)}" for name in main} <= set(calls[0])
