"""The full edition's values and figures on the pages of both."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tools import repository, setup_cell
from tools.book import build, full, runs
from tools.checks import notebooks

PAGE = "book/part/01-train"
LOOKS = {"image": {"alt": "A line that rises."}, "figure": {"caption": "See it rise."}}
FULL = r"\"edition\": \"full\""  # in the record of a run
SVG = {"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": "<svg></svg>"}}

Chapter = Callable[..., dict[str, Any]]


def _executed(folder: Path, notebook: dict[str, Any]) -> Path:
    """An executed book of one chapter, and where its values are kept."""
    (folder / "book/part").mkdir(parents=True)
    (folder / f"{PAGE}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    toc = {"parts": [{"chapters": [{"file": PAGE}]}]}
    (folder / "_toc.yml").write_text(json.dumps(toc), encoding="utf-8")
    machine = {"machine": "2 cores", "system": "x", "gpus": 0, "commit": "0123456789"}
    (folder / runs.MACHINE).write_text(json.dumps(machine), encoding="utf-8")
    (folder / "book/published.toml").write_text("", encoding="utf-8")
    (folder / "kept").mkdir()
    return folder / "kept"


def _in_pocket(notebook: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(notebook)
    assert FULL in text
    found: dict[str, Any] = json.loads(text.replace(FULL, FULL.replace("full", "pocket")))
    return found


def test_pocket_shows_what_full_found(chapter: Chapter, tmp_path: Path) -> None:
    tagged = {"mystnb": LOOKS, "tags": [full.OUTPUT]}
    kept = _executed(tmp_path, chapter({"share": 0.55, "said": "block 9"}, SVG, **tagged))
    assert full.write(tmp_path, kept) == 2
    pocket = _in_pocket(chapter({"share": 0.11}, SVG, **tagged))
    assert full.edition(pocket) == "pocket"
    full.add(pocket, PAGE, kept)
    found = dict(runs.glued(pocket))
    assert (found["share"], found["full.share"], found["full.said"]) == (0.11, 0.55, "block 9")
    (shown,) = [
        c["source"] for c in pocket["cells"] if c["cell_type"] == "markdown" and "{figure}" in c["source"]
    ]
    assert "/book/measured/full/part-01-train-c2.svg" in shown
    assert ":alt: A line that rises." in shown
    assert "2026-01-01" in shown
    assert "0123456789" in shown
    assert (kept / "full/part-01-train-c2.svg").read_text() == "<svg></svg>"


def test_pocket_shows_a_kept_table_as_a_table(chapter: Chapter, tmp_path: Path) -> None:
    table = {"output_type": "execute_result", "metadata": {}, "data": {"text/html": ["<table>", "</table>"]}}
    kept = _executed(tmp_path, chapter({"share": 0.55}, table, tags=[full.OUTPUT]))
    full.write(tmp_path, kept)
    pocket = _in_pocket(chapter({"share": 0.11}, tags=[full.OUTPUT]))
    before = len(pocket["cells"])
    full.add(pocket, PAGE, kept)
    said, shown = pocket["cells"][before : before + 2]
    assert said["source"].startswith("**In the full edition**, run on 2026-01-01 (commit 0123456789")
    assert shown["outputs"][0]["data"]["text/html"] == "<table></table>"
    assert shown["metadata"]["tags"] == ["remove-input"]
    assert shown["source"], "MyST-NB leaves out a cell without source"


def test_kept_photographs_are_small(chapter: Chapter, tmp_path: Path) -> None:
    def link(kind: str, image: Image.Image) -> str:
        file = io.BytesIO()
        image.save(file, kind)
        return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"

    photo = Image.effect_noise((64, 64), 50).convert("RGBA")
    drawn = photo.copy()
    drawn.putpixel((0, 0), (0, 0, 0, 0))
    svg = f'<svg><image href="{link("png", photo)}"/><image href="{link("png", drawn)}"/></svg>'
    output = {**SVG, "data": {"image/svg+xml": svg}}
    kept = _executed(tmp_path, chapter({}, output, mystnb=LOOKS, tags=[full.OUTPUT]))
    full.write(tmp_path, kept)
    text = (kept / "full/part-01-train-c2.svg").read_text()
    assert link("png", drawn) in text, "JPEG has no transparency"
    assert "data:image/jpeg" in text
    assert len(text) < 0.8 * len(svg)


def test_full_shows_its_own_and_no_kept_figure(chapter: Chapter, tmp_path: Path) -> None:
    notebook = chapter({"share": 0.66}, SVG, mystnb=LOOKS, tags=[full.OUTPUT])
    full.add(notebook, PAGE, tmp_path / "nowhere")
    assert dict(runs.glued(notebook))["full.share"] == 0.66
    assert "{figure}" not in json.dumps(notebook)


def test_a_pocket_run_is_not_kept_as_the_full_one(chapter: Chapter, tmp_path: Path) -> None:
    kept = _executed(tmp_path, _in_pocket(chapter({"share": 0.11})))
    with pytest.raises(runs.RunError, match="expected a run of the full edition, got pocket"):
        full.write(tmp_path, kept)
    assert list(kept.iterdir()) == []


def test_blocks_of_one_edition(small_book: Path) -> None:
    text = (small_book / f"{PAGE}.html").read_text(encoding="utf-8")
    assert "In the full edition 0.5500." in re.sub(r"<[^>]+>", "", text)
    assert "Seen in full." in text
    assert "Seen in pocket." not in text


@pytest.mark.parametrize("path", setup_cell.chapters(), ids=lambda path: path.stem)
def test_what_a_chapter_shows_of_the_full_edition_is_kept(path: Path) -> None:
    kept = json.loads((repository.ROOT / full.FOLDER / full.FILE).read_text(encoding="utf-8"))
    page = path.relative_to(repository.ROOT).with_suffix("").as_posix()
    notebook = notebooks.load(path)
    text = "\n".join(notebooks.source(c) for c in notebook["cells"] if c["cell_type"] == "markdown")
    shown = {
        key.removeprefix(full.PREFIX) for _, key in notebooks.shown_keys(text) if key.startswith(full.PREFIX)
    }
    assert shown <= set(kept["chapters"].get(page, {})), "run make stamp"
    tagged = [c["id"] for c in notebook["cells"] if full.OUTPUT in c["metadata"].get("tags", [])]
    files = {file.stem for file in (repository.ROOT / full.FOLDER / "full").glob("*")}
    name = page.removeprefix("book/").replace("/", "-")
    assert {f"{name}-{cell}" for cell in tagged} <= files, "run make stamp"


def test_what_is_kept_is_small() -> None:
    files = [*(repository.ROOT / full.FOLDER / "full").glob("*"), repository.ROOT / full.FOLDER / full.FILE]
    assert sum(file.stat().st_size for file in files) < 2_000_000


def test_solutions_run_after_the_chapter_and_do_not_count(chapter: Chapter) -> None:
    notebook = chapter({"share": 0.55})
    solution = "````{dropdown} Solution\n```python\nx = 1\n```\n````"
    exercise = f"## On your own\n\n1. Try.\n\n{solution}\n\n## Further reading"
    notebook["cells"].append({"cell_type": "markdown", "metadata": {}, "source": exercise})
    before = runs.read(notebook, {}).seconds
    build.add_solutions(notebook)
    added = notebook["cells"][-1]
    assert added["source"] == "x = 1\n"
    assert "remove-cell" in added["metadata"]["tags"]
    time = {"iopub.execute_input": "2026-01-01T00:09:00.0Z", "shell.execute_reply": "2026-01-01T00:09:59.0Z"}
    added["metadata"]["execution"] = time
    assert runs.read(notebook, {}).seconds == before
