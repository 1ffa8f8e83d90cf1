"""Every page of the built book in a browser: sound, light, readable on a phone and for everybody."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
VIEWS = {
    "light-1280": {"color_scheme": "light"},
    "dark-1280": {"color_scheme": "dark"},
    "light-390": {"color_scheme": "light", **PHONE},
    "dark-390": {"color_scheme": "dark", **PHONE},
}
# Bytes of a page without its pictures; a megabyte has 1,000,000 here.
WEIGHT = 1_500_000
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".ico"}
# What a page may fetch by itself. A model and its runtime wait until the reader asks for them.
BY_ITSELF = PICTURES | {"", ".html", ".css", ".js", ".json", ".woff2"}
# Path and bytes of everything the page has fetched, itself included.
FETCHED = """['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))
    .map(entry => [new URL(entry.name).pathname, entry.decodedBodySize])"""
# Rules that axe leaves off by default, and that a reader meets all the same.
MORE_RULES = ("label-content-name-mismatch", "target-size", "td-has-header", "table-fake-caption")
AXE = {
    "resultTypes": ["violations"],
    "rules": {rule: {"enabled": True} for rule in MORE_RULES},
    # Without this axe fetches every style sheet again, one of them from a wrong address.
    "preload": False,
}

# The page's width, and some of what goes beyond a phone's.
WIDTH = """[
    document.scrollingElement.scrollWidth,
    [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > 391)
        .slice(0, 5).map(e => e.tagName + "." + e.className),
]"""
# Leaves one of the parts of code that are seen and look the same: axe asks each for its contrast, and code is
# most of a long page.
EACH_LOOK_ONCE = """() => {
    const parts = [...document.querySelectorAll("pre span, dt.sig span, dt.sig em")].map(part => {
        const look = [];
        for (let e = part; e; e = e.parentElement) look.push(e.tagName, e.className, e.getAttribute("style"));
        return [part, look.join(), part.checkVisibility()];
    });
    const known = new Set();
    for (const [part, look, seen] of parts) {
        if (!seen || known.has(look)) part.replaceWith(...part.childNodes);
        else known.add(look);
    }
}"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that takes ``name`` runs once for each page, and one that takes ``view`` in each view."""
    config = metafunc.config
    if "name" in metafunc.fixturenames:
        folder = Path(config.getoption("--site") or os.environ.get("BOOK_SITE") or "out/_build/html")
        found = sorted(
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*.html")
            # A page that only leads to another is left before anything can be seen of it.
            if "_static" not in path.parts and "http-equiv" not in path.read_text(encoding="utf-8")[:300]
        )
        # Without a built book one test remains, and says so.
        metafunc.parametrize("name", found or ["nothing"])
    if "view" in metafunc.fixturenames:
        metafunc.parametrize("view", VIEWS if config.getoption("--every-view") else ["light-1280"])


def test_accessible_light_and_fits_a_phone(new_page: Callable[..., Page], name: str, view: str) -> None:
    page = new_page(**VIEWS[view])
    page.goto(f"/{name}")
    assert page.locator("html").get_attribute("data-theme") == view.split("-")[0]
    shown = page.viewport_size
    page.set_viewport_size(PHONE["viewport"])  # a phone's own size in two of the views
    width, wide = page.evaluate(WIDTH)
    assert width <= 390, f"the page scrolls sideways; too wide, or inside a box that scrolls: {wide}"
    page.set_viewport_size(shown)

    page.evaluate(EACH_LOOK_ONCE)
    answer = Axe().run(page, options=AXE).response
    found = [
        f"{violation['impact']}: {violation['id']}: {node['target']}: {node['html'][:200]}"
        for violation in answer["violations"]
        for node in violation["nodes"]
        if violation["impact"] != "minor"
    ]
    assert found == []

    page.wait_for_load_state("networkidle")  # while axe looked, what comes late came
    fetched = page.evaluate(FETCHED)
    assert page.watched.faults == []
    by_itself = [path for path, _ in fetched if Path(path).suffix not in BY_ITSELF]
    assert by_itself == [], "fetched before the reader asks for it"
    weights = {path: size for path, size in fetched if Path(path).suffix not in PICTURES}
    assert 0 < sum(weights.values()) < WEIGHT, weights
