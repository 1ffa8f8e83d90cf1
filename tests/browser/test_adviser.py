"""The freezing adviser, used by keyboard in a real browser, says what the library says."""

import contextlib
import itertools
from typing import Any

import pytest

import tlhelpers as tl
from tlhelpers import studies

PAGE = "book/freezing/03-choose-what-to-freeze.html"
SIMILARITIES = ("similar", "different")
EXAMPLES = ("1", "9", "72", "73", "141", "142", "360", "361", "707", "708", "50000")
CLASSES = ("2", "5", "100")
NO_NUMBERS = [("0", "5"), ("60", "1"), ("3", "5"), ("50.5", "5"), ("", "5"), ("60", "1,000"), (" 60", "x")]


@pytest.fixture
def opened(page: Any) -> Any:
    """The page, with the keyboard in the adviser's first field."""
    page.goto(f"/{PAGE}")
    page.get_by_label("Labelled examples").focus()
    return page


def read(text: str) -> Any:
    """A field's text, as a caller of the library would write it."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def said(page: Any) -> dict[str, str]:
    """What the page shows: the titles and what stands under each."""
    return page.evaluate(
        """() => {
          const shown = {};
          let title = "";
          for (const e of document.querySelector(".freezing-adviser .advice").querySelectorAll("p, dt, dd")) {
            if (e.tagName === "P") shown[e.className] = e.textContent;
            else if (e.tagName === "DT") { title = e.textContent; shown[title] = []; }
            else shown[title].push(e.textContent);
          }
          return shown;
        }"""
    )


def ask(page: Any, examples: str, classes: str, similarity: str) -> None:
    """Set the three controls, from the first one on, with nothing but keys."""
    keys = page.keyboard
    for text in (examples, classes):
        keys.press("Control+A")
        keys.press("Delete")
        keys.type(text)
        keys.press("Tab")
    keys.type(similarity[0])
    assert page.evaluate("document.activeElement.value") == similarity
    keys.press("Shift+Tab")
    keys.press("Shift+Tab")


def as_on_the_page(refusal):
    """The library's message, with the field's own words for the argument at its start."""
    name, rest = str(refusal).split(":", 1)
    return {"n_examples": "Labelled examples", "n_classes": "Classes"}[name] + f":{rest}"


def test_the_page_says_what_the_library_says(opened):
    table = studies.strategies.advice_table()
    answers = set()
    for examples, classes, similarity in itertools.product(EXAMPLES, CLASSES, SIMILARITIES):
        ask(opened, examples, classes, similarity)
        question = {"n_examples": int(examples), "n_classes": int(classes), "similarity": similarity}
        shown = said(opened)
        if int(examples) < int(classes):
            with pytest.raises(ValueError, match="n_examples") as refused:
                tl.recommend_strategy(**question)
            assert shown == {"fault": as_on_the_page(refused.value)}, question
            continue
        advice = tl.recommend_strategy(**question)
        assert shown["strategy"] == advice.words, question
        assert shown["Why"] == [advice.why], question
        # At 0 nothing trains: no rate is spoken of.
        rate = shown.get("Learning rate", ["0,"])[0].split(",")[0]
        assert float(rate) == advice.learning_rate, question
        *cases, stamp = shown["Measured by following it"]
        rows = table[table.why == advice.why]
        assert cases == [studies.adviser.measured_words(row) for _, row in rows.iterrows()], question
        assert stamp.startswith("Measured 20")
        answers.add(advice.why)
    assert answers == {*table.why}
    assert len(answers) == 4


def test_a_question_without_an_answer_gets_the_librarys_message(opened):
    wrong = opened.locator(".freezing-adviser [aria-invalid]")
    for examples, classes in NO_NUMBERS:
        with pytest.raises((TypeError, ValueError)) as refused:
            tl.recommend_strategy(n_examples=read(examples), n_classes=read(classes), similarity="similar")
        ask(opened, examples, classes, "similar")
        message = as_on_the_page(refused.value)
        assert said(opened) == {"fault": message}
        assert wrong.get_attribute("name") == str(refused.value).split(":")[0]
        assert opened.locator(f"id={wrong.get_attribute('aria-describedby')}").inner_text() == message
        ask(opened, "60", "5", "similar")
        assert "strategy" in said(opened)
        assert wrong.count() == 0
        assert opened.locator(".freezing-adviser [aria-describedby]").count() == 0


def test_a_screen_reader_is_told_of_changes_and_of_nothing_else(opened):
    advice = opened.locator(".freezing-adviser .advice")
    assert advice.get_attribute("aria-live") == "polite"
    opened.evaluate(
        """() => {
          window.changes = 0;
          const advice = document.querySelector(".freezing-adviser .advice");
          new MutationObserver(() => window.changes++).observe(advice, { childList: true });
        }"""
    )
    opened.keyboard.press("End")
    opened.keyboard.type("0000")  # 60, 600: from few to many; then 6,000 and on: the same
    assert opened.evaluate("window.changes") == 1
    assert opened.get_by_role("group", name="Your data").get_by_role("textbox", name="Classes").count() == 1
    assert opened.get_by_role("combobox", name="Compared with the source").count() == 1


def test_without_script_the_table_says_it_all(new_page):
    plain = new_page(java_script_enabled=False)
    plain.goto(f"/{PAGE}")
    assert not plain.get_by_label("Labelled examples").is_visible()
    table = plain.locator("table", has_text="per_class").inner_text()
    for similarity, examples in itertools.product(SIMILARITIES, (50, 5000)):
        advice = tl.recommend_strategy(n_examples=examples, n_classes=5, similarity=similarity)
        assert f"{advice.cut}, {advice.depth}" in table
        assert f"{advice.learning_rate:g}" in table
    for row in studies.strategies.advice_table().itertuples():
        for value in (row.data, f"{row.accuracy:.1%}", f"{row.low:.1%}", f"{row.seconds:.1f}"):
            assert value in table


def test_its_script_is_fetched_on_its_page_only(site):
    found = [path for path in site.rglob("*.html") if "adviser.js" in path.read_text(encoding="utf-8")]
    assert found == [site / PAGE]
