"""The built book on one's own machine, as a public host sends it."""

import gzip
import subprocess
import sys
import urllib.request
from pathlib import Path

from tools import serve


def test_pages_come_compressed_and_with_the_policy(tmp_path: Path) -> None:
    page = "<p>a page</p>" * 500
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    # Port 0: the system chooses a free one, and the first line says which.
    command = [sys.executable, serve.__file__, str(tmp_path), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        try:
            asked = urllib.request.Request(f"{address}/", headers={"Accept-Encoding": "gzip"})
            with urllib.request.urlopen(asked, timeout=30) as answer:
                assert answer.headers["Content-Encoding"] == "gzip"
                assert answer.headers["Content-Security-Policy"] == serve.POLICY
                assert gzip.decompress(answer.read()).decode() == page
        finally:
            server.terminate()
