"""Three figures to move in: by keyboard and by finger, and whole without scripts."""

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

# Each page with what its table calls the chosen share, and a control with the key that moves it.
PAGES = {
    "book/concepts/02-see-why-it-matters.html": ("misread", "labels", "ArrowRight"),
    "book/freezing/02-map-the-choices.html": ("test accuracy", "cut", "ArrowDown"),
    "book/mnist/09-measure-the-recipe.html": ("accuracy", "second", "ArrowRight"),
}
GUESS = "book/freezing/02-map-the-choices.html"


def table(page: Any) -> list[dict[str, str]]:
    """The rows of the page's table of points, by the names of its columns."""
    return page.locator(".figure-points table").evaluate("""table => {
        const [head, ...rows] = [...table.rows].map(row => [...row.cells].map(cell => cell.textContent));
        return rows.map(row => Object.fromEntries(row.map((text, i) => [head[i], text])));
    }""")


def opened(page: Any, name: str) -> Any:
    """The page, its figure in view; its question, where it has one, is answered."""
    page.goto(f"/{name}")
    if name == GUESS:
        page.get_by_role("button", name="Show the measurement").click()
    page.locator(".figure-frame img").scroll_into_view_if_needed()
    return page


@pytest.mark.parametrize("name", PAGES)
def test_by_keyboard_each_choice_says_and_frames_its_row(page: Any, name: str) -> None:
    share, moved, key = PAGES[name]
    opened(page, name)
    fields = page.get_by_role("group", name="Choose a point")
    rows = table(page)
    level = list(rows[0])
    split = level.index(share)
    who = level[0]
    here = {
        title: fields.get_by_role("slider", name=title, exact=True).or_(
            fields.get_by_role("combobox", name=title, exact=True)
        )
        for title in level[:split]
    }
    here[moved].focus()
    seen = set()
    frames = page.locator(".figure-frame > span")
    for _ in range(2):
        page.keyboard.press(key)
        chosen = {
            title: field.get_attribute("aria-valuetext") or field.input_value()
            for title, field in here.items()
        }
        others = fields.get_by_role("combobox", name="compared with").input_value()
        for i, name_of in enumerate((chosen[who], others)):
            (row,) = [row for row in rows if all(row[t] == v for t, v in {**chosen, who: name_of}.items())]
            said = fields.locator("[aria-live=polite] p").nth(i)
            place = ", ".join(f"{title} {chosen[title]}" for title in level[1:split])
            rest = ", ".join(f"{title} {row[title]}" for title in level[split + 1 :])
            expect(said).to_have_text(f"{name_of}, {place}: {share} {row[share]} ({rest})")
            expect(frames.nth(i)).to_have_js_property("hidden", False)
        seen.add(frames.first.get_attribute("style"))
    assert len(seen) == 2
    assert page.watched.faults == []


def test_where_nothing_was_measured_nothing_is_framed(page: Any) -> None:
    opened(page, "book/mnist/09-measure-the-recipe.html")
    page.get_by_role("slider", name="second").press("Home")
    said = page.locator(".figure-points [aria-live] p").first
    expect(said).to_have_text("ours, second 15: nothing measured")
    expect(page.locator(".figure-frame > span").first).to_have_js_property("hidden", True)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [375, 1280])
def test_a_finger_on_the_picture_takes_the_nearest_point(new_page: Any, name: str, width: int) -> None:
    view = {"viewport": {"width": width, "height": 900}, "reduced_motion": "reduce"}
    page = opened(new_page(**view, color_scheme="dark" if width == 375 else "light"), name)
    frame, mark = page.locator(".figure-frame"), page.locator(".figure-frame > span").first
    assert frame.locator("img").evaluate("image => getComputedStyle(image).padding") == "0px"
    share = PAGES[name][0]
    for row in (table(page)[0], table(page)[-1]):
        names = list(row.values())[: list(row).index(share)]
        for field, value in zip(page.locator(".figure-points :is(select, input)").all(), names, strict=False):
            if field.evaluate("field => field.tagName") == "SELECT":
                field.select_option(value)
        size, at = frame.bounding_box(), mark.bounding_box()
        assert size["x"] <= at["x"] <= at["x"] + at["width"] <= size["x"] + size["width"]
        assert size["y"] <= at["y"] <= at["y"] + at["height"] <= size["y"] + size["height"]
    x, y = (at[a] - size[a] + at[b] / 2 for a, b in (("x", "width"), ("y", "height")))
    said = page.locator(".figure-points p").first
    before = said.inner_text()
    frame.click(position={"x": size["width"] / 2, "y": size["height"] / 3})
    assert said.inner_text() != before
    frame.click(position={"x": x, "y": y})
    assert mark.bounding_box() == pytest.approx(at, abs=1)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert Axe().run(page, context=".figure-points").response["violations"] == []


def test_the_figure_opens_with_a_guess_and_says_how_far_off_it_was(page: Any) -> None:
    page.goto(f"/{GUESS}")
    figure, slide = page.locator("figure:has(.figure-frame)"), page.locator(".figure-guess input")
    assert not figure.is_visible()
    assert not page.get_by_role("group", name="Choose a point").is_visible()
    page.get_by_label("By how many points is everything ahead?").focus()
    page.keyboard.press("Home")
    guessed = int(slide.get_attribute("aria-valuetext"))
    page.keyboard.press("Enter")
    expect(figure).to_be_visible()
    answer = page.locator(".figure-guess p")
    expect(answer).to_be_focused()
    text = answer.inner_text()
    measured = float(text.partition("Measured: ")[2].split()[0])
    assert f"You said {guessed}. " in text
    assert f"Your guess was {measured - guessed:.1f} off." in text
    case = ("block 9", "few", "mnist")
    rows = [row for row in table(page) if (row["cut"], row["labels"], row["data"]) == case]
    share = {row["depth"]: float(row["test accuracy"].rstrip("%")) for row in rows}
    assert measured == pytest.approx(share["everything"] - share["frozen"], abs=0.11)  # of rounded shares


@pytest.mark.parametrize("name", PAGES)
def test_without_scripts_the_figure_and_its_table_are_there(new_page: Any, name: str) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(f"/{name}")
    cell = page.locator(".cell:has(+ .cell .figure-points, + figure + .cell .figure-points)")
    expect(cell.locator("figure img")).to_be_visible()
    assert len(cell.locator("figure img").get_attribute("alt")) > 100
    expect(page.locator(".figure-points fieldset")).to_have_count(0)
    page.get_by_text("All points as a table").click()
    expect(page.locator(".figure-points table")).to_be_visible()


def test_its_script_is_fetched_on_three_pages_only(site: Path) -> None:
    found = [path for path in site.rglob("*.html") if "points.js" in path.read_text(encoding="utf-8")]
    assert sorted(path.relative_to(site).as_posix() for path in found) == sorted(PAGES)
    assert (site / "_static/points.js").stat().st_size < 6000
