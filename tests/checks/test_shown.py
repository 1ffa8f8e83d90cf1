"""What an edition shows is read whole, a changed digit is found, and a clock's is not."""

import base64
import io
import json
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
AGAIN = "<table><tr><th>then</th><th>now</th><th>allowed</th></tr><tr><td>0.5</td></tr></table>"
PRINTED = "accuracy 0.612, 11.9 s\n\r  1/9\r9/9 \x08\n"
STAMP = "tensorflow 2.21.0, keras 3\nmeasured: 2026-11-24 2 cores, AMD EPYC 37ed6bb47f\nid 8601934281\n"
KINDS = {"svg": "image/svg+xml", "png": "image/png", "html": "text/html", "plain": "text/plain"}


def figure(height: float, label: str) -> str:
    return (
        "<svg><metadata><dc:date>today</dc:date></metadata><clipPath id='x'/><clipPath id=\"p1f\"/>"
        f'<path d="M 0 {height}" clip-path="url(#p1f)"/><!-- {label} --><!-- 0.5 --></svg>'
    )


def png(colour: int, note: str = "") -> str:
    file = io.BytesIO()
    info = PngImagePlugin.PngInfo()
    info.add_text("Date", note)
    Image.new("L", (2, 2), colour).save(file, "PNG", pnginfo=info)
    return base64.b64encode(file.getvalue()).decode()


def glue(name: str, value: str) -> dict[str, Any]:
    data = {"application/papermill.record/text/plain": value}
    return {"output_type": "display_data", "metadata": {"scrapbook": {"name": name}}, "data": data}


def displayed(**data: str) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": {KINDS[k]: v for k, v in data.items()}}


def chapter(change: Any = lambda outputs: None) -> dict[str, Any]:
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": [PRINTED, STAMP]},
        {"output_type": "stream", "name": "stderr", "text": "a warning"},
        glue("accuracy", "0.6741"),
        glue("longer", "'2.5'"),
        glue("head_ms", "'81'"),
        displayed(html=TABLE, plain="<Styler at 0x7f>"),
        displayed(plain="{'rate': 0.001} <object at 0x7f12>"),
        displayed(svg=figure(1.5, "accuracy"), plain="<Figure>"),
        displayed(svg=figure(2.5, "seconds")),
        displayed(png=png(3)),
        glue("measured again: accuracy, seed 0", "'now 0.5'"),
        displayed(html=AGAIN),
    ]
    change(outputs)
    code = {"cell_type": "code", "metadata": {}, "source": "1", "execution_count": 1, "outputs": outputs}
    prose = "It is {glue:text}`accuracy:.2f`, and took {glue:text}`longer` times as long."
    return {"cells": [{"cell_type": "markdown", "source": [prose]}, code]}


def swap(*changes: tuple[str, str]) -> Any:
    """A change of all outputs' text."""

    def change(outputs: list[dict[str, Any]]) -> None:
        text = json.dumps(outputs)
        for old, new in changes:
            assert json.dumps(old)[1:-1] in text
            text = text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
        outputs[:] = json.loads(text)

    return change


def differ(change: Any) -> tuple[list[str], list[str]]:
    return shown.compare({"a": shown.shown(chapter())}, {"a": shown.shown(chapter(change))})


def test_all_is_read() -> None:
    found = shown.shown(chapter())
    assert found["glued"]["accuracy"] == {"value": "0.6741", "then": ", and took "}
    assert found["printed"][:2] == ["accuracy 0.612, 11.9 s", "9/9"]
    assert found["printed"][-2:] == ["id 8601934281", "{'rate': 0.001} <object at 0x7f12>"]
    (table,) = found["tables"]
    assert table["head"] == [["", "accuracy", "accuracy", "seconds"], ["method", "few", "many", ""]]
    assert table["body"] == [["frozen", "0.612", "0.855", "11.9"], ["frozen", "0.614", "0.859", "12.9"]]
    assert [each["texts"] for each in found["figures"]] == [["accuracy", "0.5"], ["seconds", "0.5"], []]
    assert len(found["again"]["glued"]) == len(found["again"]["tables"]) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (swap(("0.6741", "0.6742")), "glued accuracy: 0.6741 -> 0.6742"),
        (swap(("0.859", "0.858")), "table: frozen | 0.614 | 0.859 | ~ -> frozen | 0.614 | 0.858 | ~"),
        (swap(("y 0.612", "y 0.613")), "printed: accuracy 0.612, ~ s -> accuracy 0.613, ~ s"),
        (swap(("0.001", "0.003")), "printed: {'rate': 0.001} <object at ~> -> {'rate': 0.003"),
        (swap(("id 8601934281", "id 8601934282")), "printed: id 8601934281 -> id 8601934282"),
        (swap(("M 0 1.5", "M 0 1.6")), "figure: "),
        (swap((png(3), png(4))), "figure: "),
        (swap(("measured:", "an inserted line\nmeasured:")), "printed: (not there) -> an inserted line"),
        (lambda outputs: outputs.pop(4), "glued head_ms: '81' -> (not there)"),
        (lambda outputs: outputs.append(glue("new", "1")), "glued new: (not there) -> 1"),
        (swap(("now 0.5", "now 0.4")), "glued measured again: accuracy, seed 0"),
    ],
)
def test_a_change_is_one_difference(change: Any, expected: str) -> None:
    (found,), notes = differ(change)
    assert found.startswith(f"a: {expected}")
    assert notes == []


@pytest.mark.parametrize(
    "change",
    [
        swap(("11.9", "12.3"), ("'81'", "'79'"), ("'2.5'", "'2.7'"), ("M 0 2.5", "M 0 2.6")),
        swap(("2026-11-24 2 cores, AMD EPYC 37ed6bb47f", "2026-11-25 8 cores, Xeon 37ed6bb47e-dirty")),
        swap(("tensorflow 2.21.0", "tensorflow 2.22.0"), ("0x7f12", "0x7f13"), ("p1f", "p2e")),
        swap((png(3), png(3, "another date"))),
        lambda outputs: outputs.append(outputs.pop(5)),  # cells in another order
    ],
)
def test_what_a_clock_says_is_none_nor_an_id(change: Any) -> None:
    assert differ(change) == ([], [])


def test_another_row_that_was_measured_again_is_a_note() -> None:
    found, notes = differ(swap(("seed 0", "seed 1"), ("<td>0.5", "<td>0.7")))
    assert found == []
    assert notes == ["a: measured again: accuracy, seed 0 -> measured again: accuracy, seed 1"]


def test_a_page_that_went_and_one_that_came_are_two_differences() -> None:
    found, _ = shown.compare({"a": shown.shown(chapter())}, {"b": shown.shown(chapter())})
    assert found == ["a: chapter: there -> (not there)", "b: chapter: (not there) -> there"]


def test_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*words: object) -> Any:
        monkeypatch.setattr(sys, "argv", ["shown", *map(str, words)])
        try:
            return shown.main()
        except SystemExit as end:
            return end.code

    one, two = tmp_path / "one", tmp_path / "two"
    for folder, value in ((one, "0.6741"), (two, "0.6742")):
        path = folder / "book" / "mnist" / "01-try.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(chapter(swap(("0.6741", value)))), encoding="utf-8")
        call("write", f"{folder}.json", "--from", folder)
    assert call("compare", f"{one}.json", f"{one}.json") == 0
    assert call("compare", f"{one}.json", f"{two}.json") == 1
    assert "mnist/01-try: glued accuracy: 0.6741 -> 0.6742" in capsys.readouterr().out

    path.write_text(path.read_text().replace('"execution_count": 1', '"execution_count": null'))
    assert "expected an executed chapter" in call("write", tmp_path / "x.json", "--from", two)
    assert "got none" in call("write", tmp_path / "x.json", "--from", tmp_path)
