"""What the full edition found, on the pages of both editions.

``make stamp`` keeps what an executed full edition glued in ``book/measured/full.json``, and the figures of
cells that are tagged "full-figure" in a folder beside it. The build gives each chapter these values under
``full.KEY``: in the full edition those of the run itself, in the pocket edition the kept ones, with the
kept figures below the pocket edition's own.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

from tools import repository
from tools.book import runs

Notebook = dict[str, Any]

FOLDER = "book/measured"
FILE = "full.json"
FIGURE = "full-figure"  # the tag of a cell whose figure the pocket edition shows, too
PREFIX = "full."
_MIME = "application/papermill.record/"  # what myst-nb puts before the kind of what is glued
_TEXT = f"{_MIME}text/plain"


def edition(notebook: Notebook) -> str:
    """The edition that a chapter was executed in."""
    name: str = json.loads(dict(runs.glued(notebook))[runs.RUN])["edition"]
    return name


def values(notebook: Notebook) -> dict[str, str]:
    """What a chapter glued, as text that Python can read; without what serves the page's card."""
    found = dict(runs.glued(notebook))
    return {
        name: repr(value)
        for name, value in found.items()
        if name != runs.RUN and not name.startswith(runs.MEASURED_AGAIN)
    }


def _name(page: str, cell: dict[str, Any]) -> str:
    return f"{page.removeprefix('book/').replace('/', '-')}-{cell.get('id')}"


def figures(page: str, notebook: Notebook) -> dict[str, bytes]:
    """The figures of the tagged cells: file name and content."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell["outputs"] if FIGURE in cell["metadata"].get("tags", []) else ():
            data = output.get("data", {})
            if svg := data.get("image/svg+xml"):
                found[f"{_name(page, cell)}.svg"] = "".join(svg).encode()
            elif png := data.get("image/png"):
                found[f"{_name(page, cell)}.png"] = base64.b64decode("".join(png))
    return found


def write(source: Path, folder: Path) -> int:
    """Keep values and figures of the executed full edition in `source`; gives the number of values."""
    machine, published = runs.records(source)
    chapters: dict[str, dict[str, str]] = {}
    files: dict[str, bytes] = {}
    date = ""
    for page, notebook in runs.chapters(source).items():
        run = runs.read(notebook, published)
        if run.facts["edition"] != "full":
            raise runs.RunError(f"{page}: expected a run of the full edition, got {run.facts['edition']}")
        chapters[page] = values(notebook)
        files |= figures(page, notebook)
        date = max(date, f"{run.began:%Y-%m-%d}")
    stamp = {"commit": machine["commit"], "date": date, "machine": machine["machine"]}
    text = json.dumps({"stamp": stamp, "chapters": chapters}, indent=1, ensure_ascii=False)
    (folder / FILE).write_text(f"{text}\n", encoding="utf-8")
    (folder / "full").mkdir(exist_ok=True)
    for old in (folder / "full").iterdir():
        old.unlink()
    for name, data in files.items():
        (folder / "full" / name).write_bytes(data)
    return sum(map(len, chapters.values()))


def add(notebook: Notebook, page: str, folder: Path) -> None:
    """Give a chapter's text the full edition's values, and in the pocket edition its figures, in place.

    `folder` is where `write` kept them.
    """
    pocket = edition(notebook) == "pocket"
    kept = json.loads((folder / FILE).read_text(encoding="utf-8")) if pocket else {}
    found = kept["chapters"].get(page, {}) if pocket else values(notebook)
    outputs = [
        {
            "output_type": "display_data",
            "data": {_TEXT: text},
            "metadata": {"scrapbook": {"mime_prefix": _MIME, "name": PREFIX + name}},
        }
        for name, text in found.items()
    ]
    cells = []
    for cell in notebook["cells"]:
        cells.append(cell)
        if pocket and FIGURE in cell["metadata"].get("tags", []):
            files = sorted((folder / "full").glob(f"{_name(page, cell)}.*"))
            cells += [_shown(cell, file.name, kept["stamp"]) for file in files]
    hidden = {
        "cell_type": "code",
        "execution_count": 1,
        "id": "full-edition",
        "metadata": {"tags": ["remove-cell"]},
    }
    notebook["cells"] = [*cells, {**hidden, "source": "", "outputs": outputs}]


def _shown(cell: dict[str, Any], file: str, stamp: dict[str, str]) -> dict[str, Any]:
    """A kept figure, as a cell of Markdown."""
    about, where = cell["metadata"]["mystnb"], f"commit {stamp['commit']}, {stamp['machine']}"
    chart = [] if "picture" in about["image"].get("classes", "") else [":figclass: front"]
    lines = [
        f"```{{figure}} /{FOLDER}/full/{file}",
        f":alt: {about['image']['alt']}",
        *chart,
        "",
        f"**The same in the full edition**, run on {stamp['date']} ({where}).",
        "```",
    ]
    return {"cell_type": "markdown", "id": f"{cell['id']}-full", "metadata": {}, "source": "\n".join(lines)}


def _tell_edition(app: Sphinx, _config: Config) -> None:
    """Let ``:::{only} full`` and ``:::{only} pocket`` know what is built."""
    for notebook in runs.chapters(Path(app.srcdir)).values():
        app.tags.add(edition(notebook))


def _on_source_read(app: Sphinx, page: str, text: list[str]) -> None:
    if app.env.doc2path(page).endswith(".ipynb"):
        notebook = json.loads(text[0])
        add(notebook, page, Path(app.srcdir) / FOLDER)
        text[0] = json.dumps(notebook)


def setup(app: Sphinx) -> None:
    """Called by pages."""
    app.connect("config-inited", _tell_edition)
    app.connect("source-read", _on_source_read)


def main() -> None:
    """Keep what an executed full edition found; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder of an executed full edition")
    try:
        number = write(parser.parse_args().out / "src", repository.ROOT / FOLDER)
    except (runs.RunError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{number} values kept in {FOLDER}/{FILE}")


if __name__ == "__main__":
    main()
