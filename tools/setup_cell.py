"""The set-up cell: the second cell of every chapter, the same everywhere.

It installs the tag of the project's version, so that a notebook keeps the library that it was written for.
``python -m tools.setup_cell`` puts it into the chapters: run it after the repository's address or the version
changes, and for a new chapter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools import repository

TAGS = ["hide-input", "set-up"]
CELL_ID = "set-up"

# No bare name here, ever: tlhelpers is not published on an index, so whatever is there is not ours.
# What Colab brings is pinned as it is: a newer tensorflow-text would draw a newer TensorFlow.
_INSTALL = """\
    import subprocess
    import sys
    from importlib.metadata import distributions

    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    main = {{"tensorflow", "keras", "numpy"}}
    kept = [f"{{d.name}}=={{d.version}}" for d in distributions() if d.name in main]
    source = "tlhelpers[tensorflow,text] @ git+{address}@{tag}"
    subprocess.run([*pip, *kept, source], check=True)
    importlib.invalidate_caches()
"""
_NO_ADDRESS = """\
    raise ModuleNotFoundError(
        "This chapter needs tlhelpers, which is not installed here. "
        "In your clone of the book's repository, run: "
        "pip install -e '.[tensorflow]'"
    )
"""
_CELL = """\
# Set-up, the same in every chapter.
import importlib.util

if importlib.util.find_spec("tlhelpers") is None:
{install}
import tlhelpers as tl
from tlhelpers import page, studies

edition = page.start_chapter()"""


def cell_source(address: str | None, *, tag: str | None = None) -> str:
    """The cell's source for a repository at ``address``, or for one that has none yet."""
    tag = tag or repository.release()
    install = _NO_ADDRESS if address is None else _INSTALL.format(address=address, tag=tag)
    return _CELL.format(install=install)


def cell_address(source: str) -> str | None:
    """The address in a cell's install line, or None."""
    _, found, rest = source.partition("tlhelpers[tensorflow,text] @ git+")
    return rest.split('"', 1)[0].rpartition("@")[0] if found else None


def is_setup_cell(cell: dict[str, Any]) -> bool:
    """Whether a notebook's cell is meant to be the set-up cell, up to date or not."""
    return cell["cell_type"] == "code" and (
        cell.get("id") == CELL_ID or "start_chapter(" in "".join(cell["source"])
    )


def faults(notebook: dict[str, Any]) -> list[str]:
    """What is wrong with a notebook's set-up cell, whatever address it installs from; empty if nothing is."""
    cells = notebook["cells"]
    if len(cells) < 2 or not is_setup_cell(cells[1]):
        return ["the second cell is not the set-up cell: run python -m tools.setup_cell"]
    wrong = []
    source = "".join(cells[1]["source"])
    if source != cell_source(cell_address(source)):
        wrong.append("the set-up cell is not the template's: run python -m tools.setup_cell")
    if cells[1].get("metadata", {}).get("tags") != TAGS:
        wrong.append(f"the set-up cell lacks the tags {', '.join(TAGS)}: run python -m tools.setup_cell")
    return wrong


def write(path: Path, *, address: str | None, tag: str | None = None) -> bool:
    """Put the set-up cell into the notebook at ``path``; True if that changed the file."""
    before = path.read_text(encoding="utf-8")
    notebook = json.loads(before)
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "id": CELL_ID,
        "metadata": {"tags": TAGS},
        "outputs": [],
        "source": cell_source(address, tag=tag).splitlines(keepends=True),
    }
    cells = notebook["cells"]
    if len(cells) > 1 and is_setup_cell(cells[1]):
        cells[1] = cell
    else:
        cells.insert(1, cell)
    after = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    path.write_text(after, encoding="utf-8")
    return after != before


def chapters(root: Path = repository.ROOT) -> list[Path]:
    """Every chapter that is a notebook."""
    found = (root / "book").rglob("*.ipynb")
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


def main() -> None:
    """Write; see the module's docstring."""
    address = repository.address()
    for path in chapters():
        changed = write(path, address=address)
        print(f"{path.relative_to(repository.ROOT)}: {'written' if changed else 'unchanged'}")


if __name__ == "__main__":
    main()
