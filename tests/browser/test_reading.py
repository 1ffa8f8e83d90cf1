"""What a reader does with the book: search, choose a theme, go by keyboard, read without scripts."""

from collections.abc import Callable
from urllib.parse import urljoin

import pytest
import yaml
from playwright.sync_api import Page, Route, expect

from tools import repository

CHAPTER = "/book/freezing/03-choose-what-to-freeze.html"
USABLE = "a[href], button, summary, input, select, textarea"
# Tab stops before the text: skip link, sidebar with every chapter, buttons. More than that is a trap.
TAB_STOPS = 400
# Heights of 900 pixels from the front page to the last chapter, code that is closed left closed.
SCREENS = 335


def _focused(page: Page) -> dict[str, str | bool]:
    """What has the focus, and whether a reader can see that it has."""
    return page.evaluate("""() => {
        const element = document.activeElement, style = getComputedStyle(element);
        const box = (element.closest('.sd-card') ?? element).getBoundingClientRect();
        const marked = ({outlineStyle, outlineWidth, boxShadow}) =>
            (outlineStyle !== 'none' && parseFloat(outlineWidth) > 0) || boxShadow !== 'none';
        // A card is marked as a whole, by what its link draws over it.
        const over = getComputedStyle(element, '::after');
        const name = element.getAttribute('aria-label') || element.title || element.textContent;
        return {
            tag: element.tagName,
            classes: element.className,
            href: element.getAttribute('href') || '',
            name: name.trim().slice(0, 60),
            shown: box.width > 0 && box.height > 0 && box.right > 0 && box.bottom > 0
                && box.left < innerWidth && box.top < innerHeight,
            marked: marked(style) || (over.content !== 'none' && marked(over)),
        };
    }""")


def test_the_address_alone_leads_to_the_front_page(page: Page) -> None:
    page.goto("/")
    page.wait_for_url("**/book/index.html")
    expect(page.locator("article h1")).to_be_visible()


def test_search_finds_a_term(page: Page) -> None:
    page.goto("/book/index.html")
    page.keyboard.press("Control+k")
    field = page.locator("#pst-search-dialog input[type=search]")
    expect(field).to_be_focused()
    field.fill("frozen")
    field.press("Enter")
    page.wait_for_url("**/search.html?q=frozen*")
    links = page.locator("#search-results li a")
    links.first.wait_for()
    # Results come one by one; the sentence above them says when the last has come.
    expect(page.locator("#search-results .search-summary")).to_contain_text("found")
    for href in {link.get_attribute("href") for link in links.all()}:
        assert page.request.get(urljoin(page.url, href)).ok, href
    links.first.click()
    expect(page.locator("article")).to_contain_text("frozen", ignore_case=True)
    assert page.watched.faults == []


def test_search_finds_chapters_before_the_library(page: Page) -> None:
    page.goto("/search.html?q=freeze")
    expect(page.locator("#search-results .search-summary")).to_contain_text("found")
    links = [link.get_attribute("href") for link in page.locator("#search-results li > a").all()]
    inside = [i for i, href in enumerate(links) if "reference/library" in href]
    assert inside
    assert min(inside) > 5, links[:10]


@pytest.mark.parametrize("system", ["light", "dark"])
def test_theme_changes_and_survives_a_reload(new_page: Callable[..., Page], system: str) -> None:
    page = new_page(color_scheme=system)
    page.goto(CHAPTER)
    html, button = page.locator("html"), page.locator(".theme-switch-button").first
    expect(html).to_have_attribute("data-mode", "auto")
    expect(html).to_have_attribute("data-theme", system)
    grounds = {}
    for _ in range(3):
        button.click()
        mode = html.get_attribute("data-mode")
        page.reload()
        expect(html).to_have_attribute("data-mode", mode)
        expect(html).to_have_attribute("data-theme", system if mode == "auto" else mode)
        grounds[mode] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds["light"] != grounds["dark"]
    assert grounds["auto"] == grounds[system]


def test_skip_link_comes_first_and_works(page: Page) -> None:
    page.goto(CHAPTER)
    page.keyboard.press("Tab")
    link = page.get_by_role("link", name="Skip to main content")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.parametrize("name", ["/book/index.html", CHAPTER])
def test_keyboard_reaches_everything(page: Page, name: str) -> None:
    page.goto(name)
    page.wait_for_load_state("networkidle")
    # What moves into view does so at once.
    page.add_style_tag(content="* { transition: none !important; scroll-behavior: auto !important; }")
    stops = []
    for _ in range(TAB_STOPS):
        page.keyboard.press("Tab")
        focused = _focused(page)
        if focused["tag"] == "BODY":
            break
        stops.append(focused)
    else:
        pytest.fail(f"Tab has not come round after {TAB_STOPS} stops")
    assert [stop for stop in stops if not stop["shown"]] == [], "focus goes where nobody sees it"
    assert [stop for stop in stops if not stop["marked"]] == [], "nothing shows where the focus is"
    usable = page.evaluate(f"""() => [...document.querySelectorAll({USABLE!r})]
        .filter(element => element.checkVisibility({{visibilityProperty: true}}))
        .map(element => element.className + ' ' + element.textContent.trim().slice(0, 60))""")
    assert len(usable) > 20
    assert len(stops) >= len(usable), "Tab passes by what a mouse can use"
    classes = " ".join(str(stop["classes"]) for stop in stops)
    for wanted in ("primary-toggle", "search-button", "theme-switch-button", "right-next"):
        assert wanted in classes, f"Tab does not reach {wanted}"


@pytest.mark.parametrize("opener", ["search-button", "primary-toggle", "secondary-toggle"])
def test_escape_closes_a_dialog(new_page: Callable[..., Page], opener: str) -> None:
    page = new_page(viewport={"width": 390, "height": 844})
    page.goto(CHAPTER)
    button = page.locator(f"main .{opener}").first
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    expect(dialog).to_have_count(1)
    assert page.evaluate("document.querySelector('dialog[open]').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()


def test_wide_output_scrolls_by_keyboard(new_page: Callable[..., Page]) -> None:
    page = new_page(viewport={"width": 390, "height": 844})
    page.goto(CHAPTER)
    page.wait_for_load_state("networkidle")
    boxes = page.evaluate("""() => [...document.querySelectorAll('main *')].filter(e =>
            ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1
            && e.checkVisibility())
        .map(e => ({what: e.className, stop: e.tabIndex, name: e.getAttribute('aria-label')}))""")
    assert boxes, "no box scrolls: choose another chapter for this test"
    assert [box for box in boxes if box["stop"] != 0 or not box["name"]] == []


@pytest.mark.parametrize(
    "name", ["freezing/03-choose-what-to-freeze", "limits/02-count-the-costs", "reference/execution-times"]
)
def test_on_paper_tables_are_whole(new_page: Callable[..., Page], name: str) -> None:
    page = new_page(viewport={"width": 718, "height": 1000})  # A4, less the margins
    page.goto(f"book/{name}.html")
    page.wait_for_load_state("networkidle")
    page.emulate_media(media="print")
    edges = page.evaluate("""() => [...document.querySelectorAll('article table')]
        .filter(e => e.checkVisibility())
        .map(e => [e.innerText.slice(0, 40), Math.round(e.getBoundingClientRect().right)])""")
    assert edges, "no table: choose another page for this test"
    assert [edge for edge in edges if edge[1] > 718] == []
    boxes = page.locator("article .output.text_html")
    assert set(boxes.evaluate_all("all => all.map(e => getComputedStyle(e).overflowX)")) <= {"visible"}


def test_on_paper_the_page_is_light_and_open(new_page: Callable[..., Page]) -> None:
    page = new_page(color_scheme="dark")
    page.goto(CHAPTER)
    count = "document.querySelectorAll('.sd-dropdown{}').length"
    look = f"[document.documentElement.dataset.theme, {count.format('')}, {count.format('[open]')}]"
    theme, solutions, opened = page.evaluate(look)
    assert (theme, opened) == ("dark", 0)
    assert solutions
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.sent = {look} }})")
    page.pdf()
    assert page.evaluate("window.sent") == ["light", solutions, solutions]
    assert page.evaluate(look) == ["dark", solutions, 0]
    page.emulate_media(media="print")
    assert not page.locator("#jb-print-toc, details.above-input").filter(visible=True).count()


@pytest.mark.parametrize(
    "put_back",
    ["<script>window.ran = 1</script>", '<img src="/_static/favicon.svg" alt="" onload="window.ran = 1">'],
)
def test_a_script_in_the_page_itself_is_refused_and_seen(page: Page, put_back: str) -> None:
    # What the other tests rely on: each fails at its end where the policy of `tools.serve` is violated.
    def change(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("</main>", f"{put_back}</main>"))

    page.route(f"**{CHAPTER}", change)
    page.goto(CHAPTER)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.ran") is None
    (fault,) = page.watched.faults
    assert "violates the following Content Security Policy directive" in fault
    page.watched.faults.clear()


def test_the_header_s_buttons_work(page: Page) -> None:
    page.goto(CHAPTER)
    page.evaluate("() => { window.print = () => { window.printed = true } }")
    page.get_by_role("button", name="Download this page").click()
    page.locator(".btn-download-pdf-button").click()
    assert page.evaluate("window.printed")
    page.locator(".btn-fullscreen-button").click()
    expect(page.locator(":fullscreen")).to_have_count(1)
    assert page.watched.faults == []


def test_readable_without_scripts(new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(CHAPTER)
    expect(page.locator("article h1")).to_be_visible()
    expect(page.locator("nav.bd-docs-nav a").first).to_be_visible()


def test_the_book_is_no_longer_than_it_may_be(page: Page) -> None:
    contents = yaml.safe_load((repository.ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    screens = {}
    for name in [contents["root"], *(name for name in listed if "/reference/" not in name)]:
        page.goto(f"/{name}.html")
        page.evaluate("""() => {
            for (const picture of document.images) picture.loading = 'eager';
            return Promise.all([...document.images].map(picture => picture.decode().catch(() => {})));
        }""")
        screens[name] = page.evaluate("document.documentElement.scrollHeight") / 900
    assert sum(screens.values()) <= SCREENS, screens
