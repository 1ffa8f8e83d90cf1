"""What an edition shows is read whole, a changed digit is found, and a clock's is not."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from tools.checks import shown

TABLE = """<style>td {color: red}</style><table><thead>
<tr><th></th><th colspan="2">accuracy</th><th>seconds</th></tr>
<tr><th>method</th><th>few</th><th>many</th><th></th></tr></thead><tbody>
<tr><th rowspan="2">frozen</th><td>0.612</td><td>0.855</td><td>11.9</td></tr>
<tr><td>0.614</td><td>0.859</td><td>12.9</td></tr></tbody></table>"""
AGAIN = "<table><tr><th>seed</th><th>then</th><th>now</th><th>allowed</th></tr><tr>{}</tr></table>"
PRINTED = "accuracy 0.612, 11.9 s\n\r  1/9\r9/9 \x08\n way  seconds\nhead     4.25\n"
STAMP = "tensorflow 2.21.0, keras 3\nmeasured: 2026-11-24 2 cores, AMD EPYC 37ed6bb47f\nid 8601934281\n"


def figure(height: float, label: str = "accuracy", ids: str = "p1f") -> str:
    return (
        f"<svg><metadata><dc:date>{ids}</dc:date></metadata><clipPath id='x'/><clipPath id=\"{ids}\"/>"
        f'<path d="M 0 {height}" clip-path="url(#{ids})"/><!-- {label} --><!-- 0.5 --></svg>'
    )


def png(colour: int, note: str = "") -> str:
    file = io.BytesIO()
    info = PngImagePlugin.PngInfo()
    info.add_text("Date", note)
    Image.new("L", (2, 2), colour).save(file, "PNG", pnginfo=info)
    return base64.b64encode(file.getvalue()).decode()


def glue(name: str, value: str) -> dict[str, Any]:
    return {
        "output_type": "display_data",
        "metadata": {"scrapbook": {"name": name}},
        "data": {"application/papermill.record/text/plain": value},
    }


def displayed(**data: str) -> dict[str, Any]:
    kinds = {"svg": "image/svg+xml", "png": "image/png", "html": "text/html", "plain": "text/plain"}
    return {"output_type": "display_data", "metadata": {}, "data": {kinds[k]: v for k, v in data.items()}}


def chapter() -> dict[str, Any]:
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": [PRINTED, STAMP]},
        {"output_type": "stream", "name": "stderr", "text": "a warning"},
        glue("accuracy", "0.6741"),
        glue("longer", "'2.5'"),
        glue("head_ms", "'81'"),
        displayed(html=TABLE, plain="<Styler at 0x7f>"),
        displayed(plain="{'rate': 0.001} <object at 0x7f12>"),
        displayed(svg=figure(1.5), plain="<Figure>"),
        displayed(svg=figure(2.5, "seconds")),
        displayed(png=png(3)),
        glue("measured again: accuracy, seed 0", '\'{"then": 0.5, "now": 0.5}\''),
        displayed(html=AGAIN.format("<td>0</td><td>0.5</td><td>0.5</td><td>0.1</td>")),
    ]
    code = {"cell_type": "code", "metadata": {}, "source": "1", "execution_count": 1, "outputs": outputs}
    prose = "It is {glue:text}`accuracy:.2f`, and took {glue:text}`longer` times as long."
    return {"cells": [{"cell_type": "markdown", "source": [prose]}, code]}


def differ(change: Any) -> tuple[list[str], list[str]]:
    after = copy.deepcopy(chapter())
    change(after["cells"][1]["outputs"])
    return shown.compare({"a": shown.shown(chapter())}, {"a": shown.shown(after)})


def swap(old: str, new: str) -> Any:
    """A change of all outputs' text."""

    def change(outputs: list[dict[str, Any]]) -> None:
        text = json.dumps(outputs)
        assert json.dumps(old)[1:-1] in text
        outputs[:] = json.loads(text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1]))

    return change


def test_all_is_read() -> None:
    found = shown.shown(chapter())
    assert found["glued"]["accuracy"] == {"value": "0.6741", "then": ", and took "}
    assert found["printed"][:2] == ["accuracy 0.612, 11.9 s", "9/9"]
    assert found["printed"][-2:] == ["id 8601934281", "{'rate': 0.001} <object at 0x7f12>"]
    assert found["tables"] == [
        {
            "head": [["", "accuracy", "accuracy", "seconds"], ["method", "few", "many", ""]],
            "body": [["frozen", "0.612", "0.855", "11.9"], ["frozen", "0.614", "0.859", "12.9"]],
        }
    ]
    assert [each["texts"] for each in found["figures"]] == [["accuracy", "0.5"], ["seconds", "0.5"], []]
    assert len(found["again"]["glued"]) == len(found["again"]["tables"]) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (swap("0.6741", "0.6742"), ["a: glued accuracy: 0.6741 -> 0.6742"]),
        (swap("0.859", "0.858"), ["a: table: frozen | 0.614 | 0.859 | ~ -> frozen | 0.614 | 0.858 | ~"]),
        (swap("y 0.612", "y 0.613"), ["a: printed: accuracy 0.612, ~ s -> accuracy 0.613, ~ s"]),
        (swap("'rate': 0.001", "'rate': 0.003"), ["a: printed: {'rate': 0.001} <object at ~> -> {'rate'"]),
        (swap("id 8601934281", "id 8601934282"), ["a: printed: id 8601934281 -> id 8601934282"]),
        (swap("M 0 1.5", "M 0 1.6"), ["a: figure: "]),
        (swap(png(3), png(4)), ["a: figure: "]),
        (swap("measured:", "an inserted line\nmeasured:"), ["a: printed: (not there) -> an inserted line"]),
        (lambda outputs: outputs.pop(2), ["a: glued accuracy: 0.6741 -> (not there)"]),
        (lambda outputs: outputs.pop(4), ["a: glued head_ms: '81' -> (not there)"]),
        (lambda outputs: outputs.append(glue("new", "1")), ["a: glued new: (not there) -> 1"]),
        (swap('"now": 0.5', '"now": 0.4'), ["a: glued measured again: accuracy, seed 0"]),
    ],
)  # fmt: skip
def test_a_change_is_one_difference(change: Any, expected: list[str]) -> None:
    found, notes = differ(change)
    assert len(found) == len(expected), found
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found
    assert notes == []


@pytest.mark.parametrize(
    "change",
    [
        swap("11.9", "12.3"),
        swap("4.25", "4.75"),
        swap("'81'", "'79'"),
        swap("'2.5'", "'2.7'"),
        swap("2026-11-24 2 cores, AMD EPYC 37ed6bb47f", "2026-11-25 8 cores, Xeon 37ed6bb47e-dirty"),
        swap("tensorflow 2.21.0", "tensorflow 2.22.0"),
        swap("0x7f12", "0x7f13"),
        swap("M 0 2.5", "M 0 2.6"),
        swap("p1f", "p2e"),
        swap(png(3), png(3, "another date")),
        lambda outputs: outputs.insert(0, outputs.pop(3)),  # a glued value is found by its name
    ],
)
def test_what_a_clock_says_is_none_nor_an_id(change: Any) -> None:
    assert differ(change) == ([], [])


def test_cells_in_another_order_show_the_same() -> None:
    def change(outputs: list[dict[str, Any]]) -> None:
        outputs.append(outputs.pop(5))
        outputs[0]["text"].reverse()

    assert differ(change) == ([], [])


def test_another_row_that_was_measured_again_is_a_note() -> None:
    def change(outputs: list[dict[str, Any]]) -> None:
        swap("seed 0", "seed 1")(outputs)
        swap("<td>0</td><td>0.5</td>", "<td>1</td><td>0.7</td>")(outputs)

    found, notes = differ(change)
    assert found == []
    assert notes == ["a: measured again: accuracy, seed 0 -> measured again: accuracy, seed 1"]


def test_renamed_things_are_the_same() -> None:
    before, after = shown.shown(chapter()), chapter()
    swap("head_ms", "top_ms")(after["cells"][1]["outputs"])
    swap("many", "all")(after["cells"][1]["outputs"])
    swap("<!-- accuracy -->", "<!-- share -->")(after["cells"][1]["outputs"])
    new = shown.shown(after)
    assert len(shown.compare({"a": before}, {"b": new})[0]) == 2  # a page that went, one that came
    found, _ = shown.compare({"a": before}, {"b": new}, {"a": "b", "head_ms": "top_ms", "many": "all"})
    assert [re.sub("[0-9a-f]{16}", "", line) for line in found] == [
        "b: figure: : accuracy | 0.5 -> : share | 0.5"
    ]


def test_the_commands(tmp_path: Path) -> None:
    for name, value in (("one", "0.6741"), ("two", "0.6742")):
        notebook = chapter()
        swap("0.6741", value)(notebook["cells"][1]["outputs"])
        path = tmp_path / name / "book" / "mnist" / "01-try.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(notebook), encoding="utf-8")

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.checks.shown", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
        )

    files = [str(tmp_path / f"{name}.json") for name in ("one", "two")]
    for name, file in zip(("one", "two"), files, strict=True):
        assert call("write", file, "--from", str(tmp_path / name)).returncode == 0
    assert call("compare", files[0], files[0]).returncode == 0
    done = call("compare", *files)
    assert done.returncode == 1
    assert "mnist/01-try: glued accuracy: 0.6741 -> 0.6742" in done.stdout

    notebook["cells"][1]["execution_count"] = None
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert "expected an executed chapter" in call("write", files[0], "--from", str(tmp_path / "two")).stderr
    assert "got none" in call("write", files[0], "--from", str(tmp_path)).stderr
