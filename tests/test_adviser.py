"""The adviser's HTML: what the page's script is given is what the library says."""

import json
import math
import re
from html.parser import HTMLParser

import pytest

import tlhelpers as tl
from tlhelpers import strategies


def given(page: str) -> dict:
    """What a browser hands to the script."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL).group(1))


@pytest.fixture
def table():
    return strategies.advice_table()


def test_the_json_holds_every_answer_with_its_cases(table):
    answers = given(tl.adviser.controls(table, n_examples=60, n_classes=5))["answers"]
    assert len(answers) == 4
    for answer in answers:
        rows = table[table.why == answer["why"]]
        for name in ("similarity", "from", "strategy", "learning_rate"):
            assert (rows[name] == answer[name]).all()
        assert (rows["to"] == (answer["to"] or math.inf)).all()
        assert answer["measured"] == [tl.adviser.measured_words(row) for _, row in rows.iterrows()]


def test_a_rate_that_the_case_did_not_have_is_said(table):
    row = table.iloc[0].copy()
    row["learning_rate"], row["measured_rate"] = 0.0001, 0.0001
    assert "rate" not in tl.adviser.measured_words(row)
    row["measured_rate"] = 0.0003
    assert tl.adviser.measured_words(row).endswith("seconds, at a learning rate of 0.0003")


def test_the_script_is_given_what_the_library_checks_and_says(table):
    page = given(tl.adviser.controls(table, n_examples=60, n_classes=5))
    with pytest.raises(TypeError) as whole:
        tl.recommend_strategy(n_examples=1.5, n_classes=5, similarity="similar")
    assert page["whole"].format(name="n_examples", got="1.5") == str(whole.value)
    asked = (
        {"n_examples": 0, "n_classes": 5},
        {"n_examples": 9, "n_classes": 1},
        {"n_examples": 3, "n_classes": 5},
    )
    for question, (name, least, message) in zip(asked, page["least"], strict=True):
        with pytest.raises(ValueError, match=name) as error:
            tl.recommend_strategy(**question, similarity="similar")
        assert message.format(**question) == str(error.value)
        assert question[name] < question.get(least, least)


def test_nothing_that_is_said_can_end_the_script(table):
    table["why"] = "a </script><b> & \u2028 " + table.why
    page = tl.adviser.controls(table, n_examples=60, n_classes=5)
    seen = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            seen.append(tag)

    Tags().feed(page)
    assert "b" not in seen
    assert [answer["why"] for answer in given(page)["answers"]] == table.why.drop_duplicates().tolist()
