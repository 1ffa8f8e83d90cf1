"""The built book in a real browser: a server for its pages, Chromium, a page that reaches no other host.

The folder comes from ``--site`` or ``BOOK_SITE``; ``make pages`` sets it. Chromium is the system's own:
nothing is downloaded. Plain ``pytest`` passes this folder by, because it needs a built book.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What Chromium's console says of everything that the policy forbids.
POLICY = "Content Security Policy"
WIDE = {"width": 1280, "height": 900}


def pytest_addoption(parser: pytest.Parser) -> None:
    """What the tests of the pages can be told."""
    parser.addoption("--site", help="the built pages (default: $BOOK_SITE, else out/_build/html)")
    parser.addoption("--every-view", action="store_true", help="axe-core in two themes and at two widths")
    parser.addoption("--all-digits", action="store_true", help="draw-a-digit: all 10,000 test digits")


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> Path:
    """The folder of the built pages."""
    named = request.config.getoption("--site") or os.environ.get("BOOK_SITE")
    folder = Path(named) if named else ROOT / "out" / "_build" / "html"
    if not (folder / "index.html").is_file():
        pytest.fail(f"{folder} holds no built book; run make book, or name the pages with --site")
    return folder.resolve()


@pytest.fixture(scope="session")
def server(site: Path) -> Iterator[str]:
    """The address of `tools.serve`, which shows ``site`` on a free port, without a slash at its end."""
    command = [sys.executable, "-m", "tools.serve", str(site), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as running:
        assert running.stdout is not None
        yield running.stdout.readline().split()[0]
        running.terminate()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium; a test is skipped where there is none, and fails where that is in CI."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        fail = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        fail(f"no Chromium is installed (looked for {', '.join(NAMES)}); on Debian: apt-get install chromium")
    # Inside a container the system administrator has no sandbox to offer.
    with sync_playwright() as playwright:
        # No name is looked up but the server's, so a foreign request fails, and `Watched` names it.
        alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", alone])
        yield running
        running.close()


class Watched:
    """What happened on a page that should not have."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.base = base
        self.requests: list[str] = []
        self.faults: list[str] = []
        context.on("request", self._request)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.faults.append(f"uncaught: {error.error}"))
        context.on("response", self._response)
        context.on("requestfailed", lambda request: self.faults.append(f"{request.url}: {request.failure}"))

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.faults.append(f"foreign request: {request.url}")

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.faults.append(f"{response.url}: {response.status}")


@pytest.fixture
def new_page(browser: Browser, server: str) -> Iterator[Callable[..., Page]]:
    """Make pages that reach no other host; ``page.watched`` tells what they asked for."""
    contexts, watches = [], []

    def make(**options: Any) -> Page:
        context = browser.new_context(**{"viewport": WIDE, "base_url": server, **options})
        contexts.append(context)
        watched = Watched(context, server)
        watches.append(watched)
        page = context.new_page()
        page.watched = watched
        return page

    yield make
    for context in contexts:
        context.close()
    refused = [fault for watched in watches for fault in watched.faults if POLICY in fault]
    assert refused == [], "the policy of tools.serve does not allow what the page does"


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A fresh page of 1280 by 900 pixels in a fresh context, cut off from every other host."""
    return new_page()
