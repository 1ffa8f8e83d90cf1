"""The adviser's HTML: what the page's script is given is what the library says."""

import json
import math
import re
from html.parser import HTMLParser

import pytest

import tlhelpers as tl
from tlhelpers.studies import adviser, strategies


@pytest.fixture
def table():
    return strategies.advice_table()


def shown(table):
    return adviser.controls(table, n_examples=60, n_classes=5)


def given(page):
    """What a browser hands to the script."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL).group(1))


def test_the_json_holds_every_answer_with_its_cases(table):
    answers = given(shown(table))["answers"]
    assert len(answers) == 4
    for answer in answers:
        rows = table[table.why == answer["why"]]
        for name in ("similarity", "from", "strategy", "learning_rate"):
            assert (rows[name] == answer[name]).all()
        assert (rows["to"] == (math.inf if answer["to"] is None else answer["to"])).all()
        assert answer["measured"] == [adviser.measured_words(row) for _, row in rows.iterrows()]


def test_what_was_measured_is_said_and_a_rate_that_the_case_did_not_have(table):
    row = table.iloc[0].copy()
    row[["data", "labels", "classes", "seconds"]] = "mnist", 100, 10, 36.4
    row[["accuracy", "low", "high", "learning_rate", "measured_rate"]] = 0.887, 0.873, 0.9, 0.0001, 0.0001
    words = (
        "mnist, 100 labels, 10 classes: 88.7 % of the test images right (95 % interval 87.3 to 90.0), "
        "36.4 processor seconds for one fit"
    )
    assert adviser.measured_words(row) == words
    row["measured_rate"] = 0.0003
    assert adviser.measured_words(row) == f"{words}, at a learning rate of 0.0003"
    row[["learning_rate", "measured_rate", "seconds"]] = 0.0, 0.0, 0.14  # nothing trains
    assert adviser.measured_words(row) == words.replace("36.4", "0.1")


def test_the_script_is_given_what_the_library_checks_and_says(table):
    page = given(shown(table))
    with pytest.raises(TypeError) as whole:
        tl.recommend_strategy(n_examples=1.5, n_classes=5, similarity="similar")
    assert page["whole"].format(name="n_examples", got="1.5") == str(whole.value)
    asked = [{"n_examples": n, "n_classes": k} for n, k in ((0, 5), (9, 1), (3, 5))]
    for question, (name, least, message) in zip(asked, page["least"], strict=True):
        with pytest.raises(ValueError, match=name) as error:
            tl.recommend_strategy(**question, similarity="similar")
        assert message.format(**question) == str(error.value)
        assert question[name] < question.get(least, least)


def test_nothing_that_is_said_can_end_the_script(table):
    table["why"] = "a </script><b> & \u2028 " + table.why
    page, seen = shown(table), []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: seen.append(tag)
    parser.feed(page)
    assert "div" in seen
    assert "b" not in seen
    assert [answer["why"] for answer in given(page)["answers"]] == table.why.drop_duplicates().tolist()
