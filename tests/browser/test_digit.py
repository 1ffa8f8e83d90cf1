"""Draw a digit: the page's program against Keras, and the box that a reader meets."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page

import tlhelpers as tl

CHAPTER = "book/mnist/08-go-beyond-the-article.html"
STROKES = json.loads(Path(__file__).with_name("strokes.json").read_text())
# Runs images (given as bytes) and answers with probabilities, one image after the other.
RUN = """async ([folder, bytes, side]) => {
    const { load } = await import("/_static/digit-model.js");
    const model = await load(folder);
    const images = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
    const answers = [];
    for (let at = 0; at < images.length; at += side * side)
        answers.push(Array.from(model.run(images.subarray(at, at + side * side))));
    return answers;
}"""
TO_IMAGES = """async ([strokes, shape]) => {
    const { toImage } = await import("/_static/digit-model.js");
    return strokes.map((each) => Array.from(toImage(each, shape)));
}"""
# As text: a million numbers, each by itself, take ten seconds from the page to a test.
PIXELS = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return btoa(Array.from(data, (value) => String.fromCharCode(value)).join(""));
}"""


@pytest.fixture(scope="module")
def made(site: Path) -> Path:
    """What the chapter's own run wrote: its models for Keras lie beside those for the page."""
    folder = site.parents[1] / "src" / Path(CHAPTER).parent / "web"
    if not (folder / "ours.keras").is_file():
        pytest.fail(f"{folder}: expected the chapter's own models; run make execute, and build from that")
    return folder


@pytest.fixture(scope="module")
def side(site: Path) -> int:
    """Height and width of the digits that these models take."""
    header = json.loads((site / Path(CHAPTER).parent / "web" / "ours" / "model.json").read_text())
    return int(header["input"][0])


@pytest.fixture
def chapter(page: Page) -> Page:
    page.goto(f"/{CHAPTER}")
    return page


def keras_says(made: Path, name: str, images: Any) -> Any:
    import keras

    return keras.models.load_model(made / f"{name}.keras").predict(images, batch_size=250, verbose=0)


def page_says(page: Page, name: str, images: Any) -> Any:
    """The probabilities of the page's own program."""
    answers = []
    for start in range(0, len(images), 1000):
        some = base64.b64encode(images[start : start + 1000].tobytes()).decode()
        answers += page.evaluate(RUN, [f"/book/mnist/web/{name}", some, images.shape[1]])
    return np.array(answers)


@pytest.mark.parametrize("name", ["ours", "article"])
def test_test_digits_get_keras_classes(
    name: str, chapter: Page, made: Path, side: int, request: pytest.FixtureRequest
) -> None:
    if side == 28:
        request.getfixturevalue("full_data")
    images = tl.load_dataset({28: "mnist", 8: "digits"}[side]).test.images
    images = images if request.config.getoption("--all-digits") else images[:500]
    answers, expected = page_says(chapter, name, images), keras_says(made, name, images)
    assert np.median(np.abs(answers - expected).max(axis=1)) < 0.002
    if name == "ours":  # the article's is held to nothing but its own figures, which the page states
        differ = (answers.argmax(axis=1) != expected.argmax(axis=1)).sum()
        assert differ <= max(1, len(images) // 1000)


def test_strokes_get_keras_classes_and_are_read(chapter: Page, made: Path, side: int) -> None:
    images = np.array(chapter.evaluate(TO_IMAGES, [[each["strokes"] for each in STROKES], [side, side]]))
    images = images.reshape(-1, side, side).astype("uint8")
    expected = keras_says(made, "ours", images).argmax(axis=1)
    assert (page_says(chapter, "ours", images).argmax(axis=1) == expected).all()
    read = (expected == [each["digit"] for each in STROKES]).mean()
    # Glyphs of 8 by 8 say less, and the pocket edition has few digits to learn from.
    assert read >= (0.9 if side == 28 else 0.5)


def test_where_and_how_large_one_draws_makes_no_difference(chapter: Page) -> None:
    strokes = STROKES[6]["strokes"]
    larger, moved = (
        [[[x * 40 + right, y * 40 + down] for x, y in stroke] for stroke in strokes]
        for right, down in ((0, 0), (3, -40))
    )
    images = chapter.evaluate(TO_IMAGES, [[strokes, larger, moved], [28, 28]])
    here, *there = np.array(images).reshape(3, 28, 28)
    assert np.abs(here - there).max() <= 1
    rows, columns = np.nonzero(here > 127)
    assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21
    total = here.sum()
    for axis in (0, 1):
        centre = (here.sum(axis=1 - axis) * (np.arange(28) + 0.5)).sum() / total
        assert abs(centre - 14) < 0.1


def box(page: Page) -> Any:
    """Where the box to draw in lies, in view."""
    paper = page.locator(".digit-pad__paper")
    paper.scroll_into_view_if_needed()
    return paper.bounding_box()


def draw(page: Page, strokes: list[list[list[float]]]) -> None:
    """Draw with the mouse."""
    frame = box(page)
    for stroke in strokes:
        places = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()


def pixels(canvas: Locator) -> Any:
    """What a canvas shows: red, green, blue and opacity, (height, width, 4)."""
    height, width = canvas.evaluate("(canvas) => [canvas.height, canvas.width]")
    found = np.frombuffer(base64.b64decode(canvas.evaluate(PIXELS)), np.uint8)
    return found.reshape(height, width, 4).astype(int)


def first(page: Page, column: int) -> str:
    """The digit whose row is marked as a model's answer."""
    row = page.locator(f".digit-pad tbody tr:has(td:nth-child({column}).digit-pad__first) th")
    return row.inner_text()


def test_a_drawn_digit_is_read_and_both_models_answer(chapter: Page, side: int, made: Path) -> None:
    asked = chapter.watched.requests
    assert not [url for url in asked if "/web/" in url], "models are fetched before anybody draws"
    bars = "[...document.querySelectorAll('.digit-pad td span')].map(bar => bar.offsetWidth)"
    assert set(chapter.evaluate(bars)) == {0}, "bars stand there before there is an answer"
    assert not chapter.locator(".digit-pad__inside").is_visible()
    draw(chapter, STROKES[6]["strokes"])
    says = chapter.locator(".digit-pad__says")
    says.filter(has_text="Ours reads").wait_for()
    assert not [url for url in asked if "article/weights" in url]
    if side == 28:
        assert first(chapter, 2) == "2"
    assert f"Ours reads {first(chapter, 2)}" in says.inner_text()

    ask = chapter.locator(".digit-pad__article")
    megabytes = sum(path.stat().st_size for path in (made / "article").iterdir()) / 1e6
    assert f"{megabytes:.1f} MB" in ask.inner_text()
    ask.click()
    says.filter(has_text="The article's reads").wait_for()
    assert f"The article's reads {first(chapter, 3)}" in says.inner_text()
    assert chapter.evaluate("document.activeElement.className") == "digit-pad__paper"
    maps = chapter.locator(".digit-pad__maps")
    assert "maps of" in (maps.get_attribute("aria-label") or "")
    assert len(np.unique(pixels(maps))) > 100

    # The page's own test sees the box before it is used.
    answer = Axe().run(chapter, context=".digit-pad", options={"preload": False}).response
    assert [violation["id"] for violation in answer["violations"]] == []

    chapter.get_by_role("button", name="Clear").click()
    assert "Draw a digit" in says.inner_text()
    assert chapter.locator(".digit-pad__first").count() == 0
    assert set(chapter.evaluate(bars)) == {0}
    assert not chapter.locator(".digit-pad__inside").is_visible()
    assert chapter.watched.faults == []


def test_the_front_page_reads_a_drawn_digit(page: Page) -> None:
    page.goto("/book/index.html")
    draw(page, STROKES[6]["strokes"])
    says = page.locator(".digit-pad__says")
    says.filter(has_text="Ours reads").wait_for()
    assert f"Ours reads {first(page, 2)}" in says.inner_text()
    assert not page.locator(".digit-pad__article").is_visible(), "no other model is named there"
    assert page.watched.faults == []


def test_undo_takes_back_one_stroke(chapter: Page) -> None:
    four, paper = STROKES[12]["strokes"], chapter.locator(".digit-pad__paper")
    draw(chapter, four[:1])
    one = pixels(paper)
    assert one.any(), "nothing is drawn"
    draw(chapter, four[1:])
    chapter.get_by_role("button", name="Undo").click()
    assert (pixels(paper) == one).all()


def test_by_keyboard_alone(chapter: Page, side: int) -> None:
    chapter.locator(".digit-pad__paper").focus()
    for key in (" ", *["ArrowDown"] * 14, " "):
        chapter.keyboard.press(key)
    says = chapter.locator(".digit-pad__says")
    says.filter(has_text="Ours reads").wait_for()
    if side == 28:
        assert first(chapter, 2) == "1"
    for button in ("Clear", "Undo", "Take a test digit"):
        chapter.keyboard.press("Tab")
        assert chapter.evaluate("document.activeElement.innerText") == button
    chapter.keyboard.press("Enter")
    says.filter(has_text="A test digit, labelled").wait_for()


def box_for_fingers(new_page: Any) -> tuple[Page, Callable[..., None]]:
    """A phone's page, and what moves fingers on its box: kind of event, then a place for each of them."""
    page = new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto(f"/{CHAPTER}")
    frame = box(page)
    hand = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float], first: int = 0) -> None:
        places = [
            {"x": frame["x"] + x * frame["width"], "y": frame["y"] + y * frame["height"], "id": finger}
            for finger, (x, y) in enumerate(points, first)
        ]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    return page, touch


def inked(page: Page) -> tuple[Any, Any]:
    """Rows and columns of the box, 560 of each, in which something is drawn, once the stroke has ended."""
    page.locator(".digit-pad__heard").filter(has_text="Ours reads").wait_for()
    opaque = pixels(page.locator(".digit-pad__paper"))[..., 3] > 0
    assert opaque.shape == (560, 560)
    return np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))


def test_a_finger_draws_and_does_not_scroll(new_page: Any) -> None:
    page, touch = box_for_fingers(new_page)
    paper = page.locator(".digit-pad__paper")
    # On the screen: what loads above may still grow, and the browser then scrolls to keep the box in place.
    top = "paper => paper.getBoundingClientRect().top"
    began, size = paper.evaluate(top), paper.evaluate("paper => paper.clientHeight")
    touch("touchStart", (0.5, 0.8))
    for step in range(1, 13):  # upwards, as one scrolls
        touch("touchMove", (0.5, 0.8 - 0.05 * step))
    touch("touchEnd")
    rows, _ = inked(page)
    assert min(rows) < 150, "the line ends where the finger began to scroll"
    assert max(rows) > 400
    # The finger moves by 0.6 of the box; a browser that keeps the box in its place may round by a pixel.
    assert abs(paper.evaluate(top) - began) < 0.1 * size
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390


def test_a_second_finger_does_not_draw(new_page: Any) -> None:
    page, touch = box_for_fingers(new_page)
    touch("touchStart", (0.3, 0.2))
    touch("touchStart", (0.3, 0.2), (0.8, 0.2))
    for step in range(1, 6):
        touch("touchMove", (0.3, 0.2 + 0.07 * step), (0.8, 0.2 + 0.07 * step))
    touch("touchEnd", (0.8, 0.55), first=1)  # the second is lifted, the first draws on
    touch("touchMove", (0.3, 0.9))
    touch("touchEnd")
    rows, columns = inked(page)
    assert max(columns) < 0.5 * 560, "the second finger drew"
    assert max(rows) > 0.85 * 560, "the first finger's stroke ended with the second finger"


def test_what_is_read_is_what_is_seen(chapter: Page) -> None:
    def given(*places: list[float]) -> Any:
        chapter.get_by_role("button", name="Clear").click()
        draw(chapter, [list(places)])
        chapter.locator(".digit-pad__heard").filter(has_text="Ours reads").wait_for()
        return pixels(chapter.locator(".digit-pad__given"))

    given([0.5, 0.5])
    _, columns = inked(chapter)
    assert 270 <= min(columns) + (max(columns) - min(columns)) / 2 <= 290, "a tap is read and not seen"
    # Out of the box below and far to the right: as if along its edge.
    outside = given([0.4, 0.2], [0.4, 0.99], [0.4, 1.3], [1.5, 1.3])
    inside = given([0.4, 0.2], [0.4, 0.99], [0.4, 0.999], [0.999, 0.999])
    assert np.abs(outside - inside).max() < 30


def test_what_is_heard_waits_for_the_end_of_a_stroke(chapter: Page) -> None:
    says, heard = chapter.locator(".digit-pad__says"), chapter.locator(".digit-pad__heard")
    chapter.get_by_role("button", name="Take a test digit").click()
    says.filter(has_text="A test digit").wait_for()
    before = heard.inner_text()
    assert before == says.inner_text()
    chapter.locator(".digit-pad__paper").focus()
    for key in (" ", *["ArrowDown"] * 9):
        chapter.keyboard.press(key)
    says.filter(has_text="Ours reads").filter(has_not_text="A test digit").wait_for()
    assert heard.inner_text() == before
    chapter.keyboard.press(" ")
    heard.filter(has_not_text="A test digit").wait_for()
    assert heard.inner_text() == says.inner_text()


def test_what_cannot_be_fetched_is_said_and_tried_again(chapter: Page) -> None:
    says = chapter.locator(".digit-pad__says")
    for answer, said in (
        (
            lambda route: route.fulfill(status=404),
            "That did not work: web/ours/weights.bin: expected the file, got HTTP 404. Draw on",
        ),
        (lambda route: route.fulfill(body=b"short"), "got 5"),
        (
            lambda route: route.fulfill(body=b"\0" * len(route.fetch().body())),
            "expected the weights of this model.json, got others",
        ),
        (lambda route: route.abort(), "web/ours/weights.bin: could not be fetched"),
        (lambda route: route.continue_(), "Ours reads"),
    ):
        chapter.route("**/ours/weights.bin", answer)
        draw(chapter, STROKES[3]["strokes"])
        says.filter(has_text=said).wait_for()
        chapter.unroute("**/ours/weights.bin")
