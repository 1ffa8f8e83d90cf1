"""Show a built book on this machine, compressed as public hosts do: ``python -m tools.serve FOLDER PORT``.

Each answer carries a policy that a public host may send, too: scripts come from the book's own files alone.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, StaticFileHandler

# Styles may stand in pages, as those of tables that pandas styles do, and pictures in style sheets.
POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'"


class Page(StaticFileHandler):
    """A file of the book."""

    def set_extra_headers(self, path: str) -> None:
        """Send the policy."""
        self.set_header("Content-Security-Policy", POLICY)


async def serve(pages: Path, port: int) -> None:
    """Serve a folder to this machine alone, until interrupted."""
    handler = (r"/(.*)", Page, {"path": str(pages), "default_filename": "index.html"})
    sockets = bind_sockets(port, address="127.0.0.1")
    HTTPServer(Application([handler], compress_response=True)).add_sockets(sockets)
    print(f"http://127.0.0.1:{sockets[0].getsockname()[1]} shows {pages}; stop with Ctrl+C", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=Path, help="the built pages, out/_build/html")
    parser.add_argument("port", type=int, help="0: any free one")
    arguments = parser.parse_args()
    pages = arguments.pages.resolve()
    if not (pages / "index.html").is_file():
        parser.error(f"{pages} holds no built book; run: make book")
    try:
        asyncio.run(serve(pages, arguments.port))
    except OSError as error:
        parser.error(f"port {arguments.port}: {error}; choose another with PORT=")
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
