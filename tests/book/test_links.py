"""The check of the built pages' links."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import check_links
import pytest


def _faults(pages: Path) -> list[str]:
    return check_links.inside(pages.resolve(), check_links.read(pages.resolve()))


def test_inside_the_book(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a picture.png").touch()
    (tmp_path / "index.html").write_text('<p id="here"></p><a href="sub/">x</a><a href="#here">x</a>')
    (tmp_path / "sub" / "index.html").write_text(
        '<a href="../index.html#here">x</a><img src="../a%20picture.png"><a href="https://example.org/x">x</a>'
    )
    assert _faults(tmp_path) == []
    (tmp_path / "sub" / "index.html").write_text(
        '<a href="../index.html#there">x</a><a href="gone.html">x</a><a href="../../out">x</a>'
    )
    faults = _faults(tmp_path)
    assert len(faults) == 3
    assert "no anchor there" in faults[0]
    assert "no such file" in faults[1]
    assert "no such file" in faults[2]


@pytest.fixture
def host() -> Iterator[str]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:]))
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_outside_the_book(host: str) -> None:
    answers = check_links.ask_all([f"{host}/{status}" for status in (200, 403, 404, 410)])
    assert list(answers.values()) == ["ok", "turned away: 403", "gone: 404", "gone: 410"]
    assert check_links.ask("http://example.org/").startswith("not reachable")
