"""The built book on one's own machine: compressed, and nothing but the book."""

import gzip
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tools import serve


def test_pages_come_compressed_and_nothing_from_beside_them(tmp_path: Path) -> None:
    pages, page = tmp_path / "html", "<p>a page</p>" * 500
    pages.mkdir()
    (pages / "index.html").write_text(page, encoding="utf-8")
    (tmp_path / "secret.html").write_text("not for you", encoding="utf-8")
    # Port 0: the system chooses a free one, and the first line says which.
    command = [sys.executable, serve.__file__, str(pages), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        try:
            asked = urllib.request.Request(f"{address}/", headers={"Accept-Encoding": "gzip"})
            with urllib.request.urlopen(asked, timeout=30) as answer:
                assert answer.headers["Content-Encoding"] == "gzip"
                assert answer.headers["Content-Security-Policy"] == serve.POLICY
                assert gzip.decompress(answer.read()).decode() == page
            for beside in ("../secret.html", "%2e%2e/secret.html"):
                with pytest.raises(urllib.error.HTTPError, match=r"40[34]"):
                    urllib.request.urlopen(f"{address}/{beside}", timeout=30)
        finally:
            server.terminate()
