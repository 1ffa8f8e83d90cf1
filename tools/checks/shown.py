"""What an executed edition shows, in one file; and what differs between two such files.

    python -m tools.checks.shown write SHOWN.json --from out/src
    python -m tools.checks.shown compare BEFORE.json AFTER.json

`write` reads each chapter's outputs: values glued to the prose (checked results are among them), printed
lines, cells of tables, figures. `compare` prints each difference, and fails if there is one. Both editions
have to come from one machine: figures are compared to the last digit of their coordinates.

What a clock says is no difference: see `TIMED`, `TIMES` and `STAMPS`. Where another row of a stamped table
was measured again, that is a note.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag
from PIL import Image

from tools.book import build, runs
from tools.checks import notebooks

Shown = dict[str, Any]
"""Of a chapter: `glued`, `printed`, `tables`, `figures`, and `again`: the same of what was measured again."""

TIMED = re.compile(
    r"(?<![a-z])(seconds?|ms|milliseconds?|minutes?|speed-?up|date|commit|machine|peak)(?![a-z])|_s$", re.I
)
"""A glued name, the label of a column or row, a text in a figure: a clock fills what stands under it."""

TIMES = re.compile(
    r"\d[\d.,]*(?=\s?(?:(?:milli)?seconds?|minutes?|m?s(?:/step)?)(?!\w)"
    r"|\stimes(?:\.|\s(?:as|less|sooner|faster|quicker|the)\b))"
)
"""Numbers in a line, by what follows them; a glued value is one where the prose goes on so."""

STAMPS = re.compile(
    r"\b\d+ cores, .* [0-9a-f]{10}(?:-dirty)?\b|\b(?=\d*[a-f])[0-9a-f]{10}(?:-dirty)?\b"
    r"|\d{4}-\d\d-\d\d(?:T[\d:.]+)?|\b0x[0-9a-f]+\b"
)
"""Dates, machines, commits, and where an object lay in memory."""

_VERSIONS = re.compile(r"tensorflow \d")  # how the line of versions begins
_NUMBER = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?")
_ABSENT = "(not there)"


def edition(source: Path) -> dict[str, Shown]:
    """What each chapter of an executed edition shows, by its page."""
    found = {}
    for path in sorted(source.glob("book/**/*.ipynb")):
        notebook = notebooks.load(path)
        for fault in build.executed_faults(notebook):
            raise SystemExit(f"{path}: expected an executed chapter; {fault}.")
        found[path.relative_to(source / "book").with_suffix("").as_posix()] = shown(notebook)
    if not found:
        raise SystemExit(f"{source}: expected executed chapters under book/, got none. Run `make execute`.")
    return found


def shown(notebook: runs.Notebook) -> Shown:
    """What a chapter shows, in its order."""
    found, again = (Shown(glued={}, printed=[], tables=[], figures=[]) for _ in range(2))
    prose = "\n".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown")
    for cell in notebook["cells"]:
        outputs = cell.get("outputs", [])
        lines = _lines("".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout"))
        # The table of a row that was measured again; everything after it in this cell is its.
        at = next((n for n, line in enumerate(lines) if _compares(line.split())), len(lines))
        found["printed"] += lines[:at]
        again["printed"] += lines[at:]
        for output in outputs:
            data = {kind: "".join(content) for kind, content in output.get("data", {}).items()}
            if name := output.get("metadata", {}).get("scrapbook", {}).get("name"):
                (value,) = data.values()
                goes_on = re.search(rf"`{re.escape(name)}(?::[^`]*)?`([^{{\n]{{0,30}})", prose)
                into = again if name.startswith(runs.MEASURED_AGAIN) else found
                into["glued"][name] = {"value": value, "then": goes_on[1] if goes_on else ""}
            elif "image/svg+xml" in data:
                found["figures"].append(_drawing(data["image/svg+xml"]))
            elif "image/png" in data:
                with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as image:
                    pixels = f"{image.mode} {image.size}".encode() + image.tobytes()
                found["figures"].append({"digest": _digest(pixels), "texts": []})
            elif "text/html" in data:
                page = BeautifulSoup(data["text/html"], "html.parser")
                for table in page.find_all("table"):
                    read = _table(table.extract())
                    (again if any(map(_compares, read["head"])) else found)["tables"].append(read)
                for style in page.find_all("style"):
                    style.decompose()
                found["printed"] += _lines("\n".join(page.find_all(string=True)))
            else:
                found["printed"] += _lines(data.get("text/markdown", data.get("text/plain", "")))
    return {**found, "again": again}


def _compares(labels: Sequence[str]) -> bool:
    return {"then", "now", "allowed"} <= {*labels}


def _lines(text: str) -> list[str]:
    """Lines as a page shows them; of a progress bar, its last state."""
    last = [line.replace("\x08", "").rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
    return [line.rstrip() for line in last if line.strip()]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _drawing(svg: str) -> dict[str, Any]:
    """A figure's digest without its date and random ids, and what is written in it."""
    drawn = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for number, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', drawn))):
        drawn = re.sub(rf'(["#]){re.escape(name)}(?=[")])', rf"\g<1>{number}", drawn)
    # Matplotlib draws letters as outlines, and says in a comment what they spell.
    texts = re.findall(r"<!--\s*(.*?)\s*-->|<text\b[^>]*>(.*?)</text>", drawn, flags=re.DOTALL)
    return {
        "digest": _digest(drawn.encode()),
        "texts": [re.sub("<.*?>", "", comment or text) for comment, text in texts],
    }


def _table(table: Tag) -> dict[str, Any]:
    """Rows of cells; what spans several columns or rows is written in each."""
    rows: list[dict[int, str]] = [{} for _ in table.find_all("tr")]
    head = 0
    for at, row in enumerate(table.find_all("tr")):
        head += not row.find("td")
        for cell in row.find_all(["td", "th"]):
            first = next(column for column in range(len(rows[at]) + 1) if column not in rows[at])
            down, across = (int(str(cell.get(kind) or 1)) for kind in ("rowspan", "colspan"))
            for below in rows[at : at + down]:
                below.update(dict.fromkeys(range(first, first + across), " ".join(cell.get_text().split())))
    cells = [[row[column] for column in sorted(row)] for row in rows]
    return {"head": cells[:head], "body": cells[head:]}


def compare(before: dict[str, Shown], after: dict[str, Shown]) -> tuple[list[str], list[str]]:
    """Differences, and notes on rows that were measured again, each as a line."""
    found, notes = [], []
    for page in {**before, **after}:
        if page not in before or page not in after:
            ends = ["there" if page in each else _ABSENT for each in (before, after)]
            found.append(f"{page}: chapter: {ends[0]} -> {ends[1]}")
            continue
        was, now = before[page], after[page]
        lines = _differences(was, now)
        ends = [", ".join(each["again"]["glued"]) or _ABSENT for each in (was, now)]
        if ends[0] == ends[1]:
            lines += _differences(was["again"], now["again"])
        else:
            notes.append(f"{page}: {ends[0]} -> {ends[1]}")
        found += [f"{page}: {line}" for line in lines]
    return found, notes


def _differences(before: Shown, after: Shown) -> list[str]:
    found = []
    was, now = before["glued"], after["glued"]
    for name in (each for each in {**was, **now} if each != runs.RUN):
        there = [each[name] for each in (was, now) if name in each]
        clock = TIMED.search(name) or any(TIMES.match(f"0{each['then']}") for each in there)
        values = [each[name]["value"] if name in each else _ABSENT for each in (was, now)]
        if values[0] != values[1] and not (clock and len(there) == 2):
            found.append(f"glued {name}: {values[0]} -> {values[1]}")
    others = _entries(after)
    for what, a in _entries(before).items():
        b = others[what]
        went, came = list((a - b).elements()), list((b - a).elements())  # what only moved is in neither
        for old in went:
            new = next(iter(get_close_matches(old, came, 1, cutoff=0)), _ABSENT)
            if came:
                came.remove(new)
            found.append(f"{what}: {old} -> {new}")
        found += [f"{what}: {_ABSENT} -> {new}" for new in came]
    return found


def _entries(shown: Shown) -> dict[str, Counter[str]]:
    """All but what is glued, as lines without what a clock says, and how often each is there."""
    lines = (" ".join(line.split()) for line in shown["printed"] if not _VERSIONS.match(line))
    printed = Counter(STAMPS.sub("~", TIMES.sub("~", line)) for line in lines)
    tables, figures = Counter[str](), Counter[str]()
    for table in shown["tables"]:
        tables.update(" | ".join(row) for row in table["head"])
        clocks = {at for row in table["head"] for at, name in enumerate(row) if TIMED.search(name)}
        for row in table["body"]:
            timed = range(len(row)) if any(map(TIMED.search, row)) else clocks
            cells = [(_NUMBER if at in timed else STAMPS).sub("~", cell) for at, cell in enumerate(row)]
            tables[" | ".join(cells)] += 1
    for figure in shown["figures"]:
        texts, digest = figure["texts"], figure["digest"]
        if any(map(TIMED.search, texts)):
            texts, digest = [text for text in texts if not _NUMBER.search(text)], "of times"
        figures[f"{digest}: {' | '.join(texts)}"] += 1
    return {"printed": printed, "table": tables, "figure": figures}


def main() -> None:
    """Write what an edition shows, or compare two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    write, compares = (commands.add_parser(name) for name in ("write", "compare"))
    write.add_argument("file", type=Path)
    write.add_argument("--from", dest="source", type=Path, default=Path("out/src"), help="executed chapters")
    compares.add_argument("files", type=Path, nargs=2, help="before, after")
    asked = parser.parse_args()
    if asked.command == "write":
        text = json.dumps(edition(asked.source), indent=1, ensure_ascii=False)
        asked.file.write_text(f"{text}\n", encoding="utf-8")
        return
    before, after = (json.loads(path.read_text("utf-8")) for path in asked.files)
    found, notes = compare(before, after)
    print("\n".join([f"note: {note}" for note in notes] + found))
    print(f"{len(found)} differences in {len(after)} chapters, {len(notes)} notes")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
