"""The benchmark of browser runtimes: its own arithmetic, and that it says what it lacks."""

import gzip
import urllib.request

import numpy as np
import pytest

from benchmarks.runtimes import __main__ as runtimes


def test_every_digit_is_asked_once_and_each_contestant_begins_in_turn():
    found = list(runtimes.turns(["a", "b", "c"], range(20), 6))
    assert "".join(name for name, _ in found) == "abcbcacababcbcacab"
    for asked in "abc":
        assert [i for name, share in found for i in share if name == asked] == list(range(20))


def test_what_a_page_fetches_is_weighed_without_the_page_and_the_digits(tmp_path):
    (tmp_path / "index.html").write_text("page")
    (tmp_path / "main.js").write_text("x" * 1000)
    (tmp_path / "wasm").mkdir()
    (tmp_path / "wasm" / "not-fetched.wasm").write_bytes(bytes(9000))
    (tmp_path / "model.json").write_text("y" * 500)
    sizes = runtimes.weigh(["", "main.js", "model.json", "main.js"], tmp_path)
    assert (sizes["bytes"], sizes["model_bytes"]) == (1500, 500)
    assert sizes["model_gzip_bytes"] == len(gzip.compress(b"y" * 500, 9)) < sizes["gzip_bytes"] < 100


def test_agreement_is_counted_on_probabilities_and_on_classes():
    expected = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    found = np.array([[0.8, 0.2], [0.45, 0.55], [0.2, 0.8]])
    judged = runtimes.judge(found, expected, np.array([1.0, 2.0, 30.0]))
    expected = {"digits": 3, "largest_difference": 0.15, "other_classes": 1, "median_ms": 2, "p95_ms": 27.2}
    assert judged == pytest.approx(expected)


def test_a_folder_is_served_with_the_type_that_browsers_ask_of_webassembly(tmp_path):
    (tmp_path / "a.wasm").write_bytes(b"0")
    with runtimes.served(tmp_path) as address, urllib.request.urlopen(f"{address}/a.wasm") as answer:
        assert answer.headers["Content-Type"] == "application/wasm"
