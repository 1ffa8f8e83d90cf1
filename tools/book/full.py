"""What the full edition found, on the pages of both editions.

``make stamp`` keeps what an executed full edition glued in ``book/measured/full.json``, and the figure or
table of cells that are tagged "full-output" in a folder beside it. The build gives each chapter these values
under ``full.KEY``: in the full edition those of the run itself, in the pocket edition the kept ones, with
the kept figure or table below the pocket edition's own.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from sphinx.application import Sphinx
from sphinx.config import Config

from tools import repository
from tools.book import runs

Notebook = dict[str, Any]

FOLDER = "book/measured"
FILE = "full.json"
OUTPUT = "full-output"  # the tag of a cell whose figure or table the pocket edition shows, too
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


def outputs(page: str, notebook: Notebook) -> dict[str, bytes]:
    """The figures and tables of the tagged cells: file name and content."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell["outputs"] if OUTPUT in cell["metadata"].get("tags", []) else ():
            data = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
            if svg := data.get("image/svg+xml"):
                found[f"{_name(page, cell)}.svg"] = _lighter(svg).encode()
            elif png := data.get("image/png"):
                found[f"{_name(page, cell)}.png"] = base64.b64decode(png)
            elif table := data.get("text/html"):
                found[f"{_name(page, cell)}.html"] = table.encode()
    return found


def _lighter(svg: str) -> str:
    """An SVG whose photographs are JPEG: a seventh of the bytes."""

    def smaller(match: re.Match[str]) -> str:
        image, photo = Image.open(io.BytesIO(base64.b64decode(match[2]))).convert("RGBA"), io.BytesIO()
        image.convert("RGB").save(photo, "JPEG", quality=85)
        jpeg = base64.b64encode(photo.getvalue()).decode()
        opaque = image.getchannel("A").getextrema() == (255, 255)
        return f"{match[1]}jpeg;base64,{jpeg}" if opaque and len(jpeg) < len(match[2]) else match[0]

    return re.sub(r"(data:image/)png;base64,([\w+/=\s]+)", smaller, svg)


def write(source: Path, folder: Path) -> int:
    """Keep what the executed full edition in `source` found; gives the number of values."""
    machine, published = runs.records(source)
    chapters: dict[str, dict[str, str]] = {}
    files: dict[str, bytes] = {}
    date = ""
    for page, notebook in runs.chapters(source).items():
        run = runs.read(notebook, published)
        if run.facts["edition"] != "full":
            raise runs.RunError(f"{page}: expected a run of the full edition, got {run.facts['edition']}")
        chapters[page] = values(notebook)
        files |= outputs(page, notebook)
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
    """Give a chapter's text the full edition's values, and in the pocket edition its outputs, in place.

    `folder` is where `write` kept them.
    """
    pocket = edition(notebook) == "pocket"
    kept = json.loads((folder / FILE).read_text(encoding="utf-8")) if pocket else {}
    found = kept["chapters"].get(page, {}) if pocket else values(notebook)
    glued = [
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
        if pocket and OUTPUT in cell["metadata"].get("tags", []):
            for file in sorted((folder / "full").glob(f"{_name(page, cell)}.*")):
                cells += _shown(cell, file, kept["stamp"])
    hidden = {
        "cell_type": "code",
        "execution_count": 1,
        "id": "full-edition",
        "metadata": {"tags": ["remove-cell"]},
    }
    notebook["cells"] = [*cells, {**hidden, "source": "", "outputs": glued}]


def _shown(cell: dict[str, Any], file: Path, stamp: dict[str, str]) -> list[dict[str, Any]]:
    """A kept figure or table, as cells."""
    where = f"commit {stamp['commit']}, {stamp['machine']}"
    said = f"**In the full edition**, run on {stamp['date']} ({where})."
    text = {"cell_type": "markdown", "id": f"{cell['id']}-full", "metadata": {}, "source": said}
    if file.suffix == ".html":
        output = {"output_type": "display_data", "metadata": {}}
        output["data"] = {"text/html": file.read_text(encoding="utf-8")}
        # MyST-NB leaves out a cell without source.
        table = {
            "cell_type": "code",
            "id": f"{cell['id']}-full-table",
            "execution_count": 1,
            "source": "table",
        }
        return [text, {**table, "metadata": {"tags": ["remove-input"]}, "outputs": [output]}]
    image = cell["metadata"]["mystnb"]["image"]
    chart = [] if "picture" in image.get("classes", "") else [":figclass: front"]
    figure = [f"```{{figure}} /{FOLDER}/full/{file.name}", f":alt: {image['alt']}", *chart, "", said, "```"]
    return [{**text, "source": "\n".join(figure)}]


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
