"""Finding paragraphs and sentences: texts are cut, articles are in one part, and ties count as lost."""

import functools
import math

import numpy as np
import pytest

from tlhelpers import page
from tlhelpers.studies import answers, intervals

FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """Nothing is remembered from another test."""
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(answers, "scores", functools.cache(answers.scores.__wrapped__))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("It rains. 7 bees stay in! Why?", ["It rains. ", "7 bees stay in! ", "Why?"]),
        ('He said: "It rains." Then he left.', ['He said: "It rains." ', "Then he left."]),
        ("Dr. A. Lee of the U.S. Army met St. John, vs. Jones et al. 1998. He left.", None),
        ("Half of 3.5 is 1.75, e.g. here", ["Half of 3.5 is 1.75, e.g. here"]),
    ],
)
def test_sentences_joined_are_the_text(text, pieces):
    found = answers.sentences(text)
    assert "".join(found) == text
    assert found == (pieces or [text[:-8], text[-8:]])


def test_what_is_no_text_has_no_sentences():
    with pytest.raises(ValueError, match="expected at least one word in each, got an empty one"):
        answers.sentences(" \n")
    with pytest.raises(TypeError, match="expected text, got list"):
        answers.sentences(["a text"])


def test_each_answer_lies_in_its_sentence():
    texts = answers.load(POCKET)
    assert "".join(texts.sentences) == "".join(texts.paragraphs)
    assert [texts.answer(row) for row in range(4)] == ["good", "lovely", "bad", "lovely"]
    assert np.array_equal(texts.of[texts.sentence], texts.paragraph)
    assert np.array_equal(texts.of[texts.first], np.arange(len(texts.paragraphs)))


def test_an_answer_over_two_sentences_ends_with_the_first():
    texts = answers._texts([("Bees", "Bees dance. They fly.", [("What?", 5, "dance. They")])])
    assert texts.answer(0) == "dance. "


def test_no_article_is_in_two_parts():
    texts = answers.load(POCKET)
    parts = answers.parts(texts)
    of = [set(texts.article[texts.paragraph[rows]]) for rows in parts]
    assert [len(each) for each in of] == [3, 1, 4]
    assert len(set.union(*of)) == 8
    assert sorted(np.concatenate(parts)) == [*range(len(texts.questions))]


def test_bm25_is_okapis_formula():
    passages = ["bees dance", "bees bees and bees fly far", "we sleep"]
    (found,) = answers.bm25(["bees, bees fly?"], passages)
    rare = [math.log(1 + (3 - n + 0.5) / (n + 0.5)) for n in (2, 1)]  # bees, fly
    spread = [1.2 * (0.25 + 0.75 * length / (10 / 3)) for length in (2, 6)]
    first = 2 * rare[0] * 2.2 / (1 + spread[0])
    second = 2 * rare[0] * 3 * 2.2 / (3 + spread[1]) + rare[1] * 2.2 / (1 + spread[1])
    assert found == pytest.approx([first, second, 0])
    cut = answers.bm25(["defended"], ["a defense", "a bee"], words=answers.WORDS["first six letters"])
    assert (cut[0] > 0).tolist() == [False, False]
    assert answers.bm25(["dancing"], ["dancin", "a bee"], words=r"\b\w{1,6}")[0, 0] > 0


def test_a_tie_is_lost():
    right = answers._right(np.array([[2.0, 1, 1], [1, 3, 3]]), np.array([0, 1]), 1)
    assert right.tolist() == [True, False]
    assert answers._right(np.array([[1.0, 3, 3]]), np.array([1]), 2).all()


def test_articles_that_choose_are_not_tested(monkeypatch):
    texts = answers.load(POCKET)
    test = answers.parts(texts)[2]
    choose = np.setdiff1d(np.arange(len(texts.questions)), test)

    def likes(*rows):
        """Knows the right paragraph of these questions alone."""

        def alike(questions, passages):
            found = np.zeros((len(questions), len(passages)))
            if len(passages) == len(texts.paragraphs):
                found[rows, texts.paragraph[list(rows)]] = 1
            return found

        return alike

    monkeypatch.setattr(answers, "_ways", lambda *_: {"a": likes(*test), "b": likes(*choose)})
    row = answers.search(POCKET, "BM25")
    assert row["choice"] == "b, whole"
    assert (row["validation"], row["paragraph"]) == (1, 0)


def test_a_row_and_its_intervals():
    pytest.importorskip("keras_hub", reason="needs the extra 'text'")
    rows = {method: answers.search(POCKET, method) for method in answers.METHODS}
    texts = answers.load(POCKET)
    for row in rows.values():
        right = intervals.right_answers(row["right: sentence"])
        assert right.mean() == pytest.approx(row["sentence"])
        assert len(right) == len(answers.parts(texts)[2]) == len(answers.tested(POCKET))
        assert row["among five"] >= row["paragraph"]
    assert rows["BM25"]["paragraph"] > 0.4


def test_groups_are_drawn_whole():
    values = np.array([1.0, 1, 1, 1, 0, 0])
    alone = answers.resampled(values, np.arange(6))
    assert answers.resampled(values, [0, 0, 0, 0, 1, 1]) == (0, 1)
    assert 0 < alone[0] < values.mean() < alone[1] <= 1


def test_the_table_is_the_grid():
    table = page.measured("answers")
    assert [*table.method] == [method for (method,) in answers.STUDY.grid(FULL)] == [*answers.METHODS]
    assert not [*answers.STUDY.grid(POCKET)]
    weight = table.set_index("method").choice["MiniLM and BM25"].removeprefix("weight ")
    assert float(weight) in answers.WEIGHTS[1:-1]  # not at the end of what there is to choose from


def test_the_official_questions(full_data):
    texts = answers.load(FULL)
    assert [len(rows) for rows in answers.parts(texts)] == [449, 147, 594]
    assert (len(texts.paragraphs), len(texts.sentences)) == (240, 1_174)
    row = answers.search(FULL, "BM25")
    assert row["paragraph"] == pytest.approx(0.936, abs=0.001)
