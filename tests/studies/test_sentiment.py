"""Sentiment: splits, files of one's own, and that validation alone chooses."""

import numpy as np
import pytest

from tlhelpers import page
from tlhelpers.studies import sentiment

pytest.importorskip("keras_hub", reason="needs the extra 'text'")

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")


@pytest.fixture
def data():
    return sentiment.load("amazon", edition=POCKET)


@pytest.fixture
def short(monkeypatch):
    """Let fine-tuning take three steps."""
    monkeypatch.setattr(sentiment, "STEPS", 3)


def check_splits(data, sizes):
    splits = (data.train, data.validation, data.test)
    assert tuple(map(len, splits)) == sizes
    texts = [text.lower() for text in data.texts]
    assert len(texts) == len(set(texts)) == sum(sizes)  # none is in two splits
    assert all(abs(split.labels.mean() - 0.5) < 0.02 for split in splits)


def test_stand_ins_are_split_like_the_real_ones():
    for name in ("amazon", "yelp", "imdb"):
        check_splits(sentiment.load(name, edition=POCKET), (12, 6, 6))
    assert sentiment.load("yelp", edition=POCKET).about == "restaurants"
    with pytest.raises(LookupError, match="unknown domain of the pocket edition 'rt-polarity'"):
        sentiment.load("rt-polarity", edition=POCKET)


@pytest.mark.usefixtures("full_data")
def test_real_sentences():
    for name, train in (("amazon", 607), ("yelp", 616), ("imdb", 617)):
        check_splits(sentiment.load(name, edition=FULL), (train, 100, 280))
    check_splits(sentiment.load("rt-polarity", edition=FULL), (3010, 200, 600))


@pytest.mark.usefixtures("short")
def test_another_fit_in_between_does_not_change_what_predicts(data):
    kept = [sentiment.fit(m, data.train, data.validation, edition=POCKET) for m in sentiment.METHODS]
    for method in sentiment.METHODS:
        sentiment.fit(method, data.validation, data.train, seed=1, edition=POCKET)
    for found in kept:
        assert found.accuracy(data.validation) == pytest.approx(found.validation)


@pytest.mark.parametrize(
    ("method", "choice"),
    # The first of the best settings, the strongest penalty first, as the measured table has them.
    [("frozen", "block 2, penalty 0.1"), ("word vectors", "C 10"), ("TF-IDF", "words, C 100")],
)
def test_validation_chooses_and_the_labels_teach(data, method, choice):
    right = sentiment.fit(method, data.train, data.validation, edition=POCKET)
    assert (right.choice, right.validation, right.accuracy(data.test)) == (choice, 1, 1)
    # Where praise and blame have changed places, what is learnt tells them apart the other way round.
    train, validation, test = (
        sentiment.Reviews(split.texts, 1 - split.labels) for split in (data.train, data.validation, data.test)
    )
    assert sentiment.fit(method, train, validation, edition=POCKET).accuracy(test) == 1
    # Labels that contradict those learnt from: no setting is good, and the test labels are not asked.
    assert sentiment.fit(method, data.train, validation, edition=POCKET).validation < 1


def test_fine_tuning_learns_the_labels(data, monkeypatch):
    monkeypatch.setattr(sentiment, "RATES", (0.00001, 0.03))
    found = sentiment.fit("fine-tuned", data.train, data.train, edition=POCKET)
    assert found.choice == "rate 0.03"
    assert found.accuracy(data.train) > 0.8


@pytest.mark.usefixtures("short")
def test_a_row_is_the_same_again():
    once, again = (sentiment.measure("fine-tuned", 8, seed=1, edition=POCKET) for _ in range(2))
    assert {**once, "cpu_seconds": 0} == {**again, "cpu_seconds": 0}
    assert list(once) == ["value", "validation", "choice", "cpu_seconds"]
    assert once["choice"] in ("rate 0.0001", "rate 0.0004")


def test_what_is_wrong_says_so(data):
    with pytest.raises(LookupError, match="unknown method 'frozn'"):
        sentiment.fit("frozn", data.train, data.validation, edition=POCKET)
    praise = data.train.take(np.flatnonzero(data.train.labels))
    with pytest.raises(ValueError, match="expected praise and blame, got one of them only"):
        sentiment.fit("TF-IDF", praise, data.validation, edition=POCKET)
    for labels, said in (
        ([1, 2], "0 to 1, got 1 to 2"),
        ([1, 0, 1], r"2 whole numbers, .*\(3,\)"),
    ):
        with pytest.raises(ValueError, match=f"labels: expected {said}"):
            sentiment.Reviews(("good", "bad"), np.array(labels))


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "own.txt"
    # The first sentence holds a tab and a character that Python takes for the end of a line.
    path.write_bytes("A\ttab and \x85 more.\t1\r\n\r\nbad\t0\nBad\t0\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"own.txt: expected utf-8, got byte 0x85 at 10.*encoding='latin-1'"):
        sentiment.read_labelled(path)
    own = sentiment.read_labelled(path, encoding="latin-1")
    assert own.texts == ("A\ttab and \x85 more.", "bad")  # one sentence in two spellings counts once
    assert own.labels.tolist() == [1, 0]


@pytest.mark.parametrize("line", ["good", "good\t2", "\t1", "good 1", "good\t1.0"])
def test_a_line_that_is_not_labelled(tmp_path, line):
    path = tmp_path / "own.txt"
    path.write_text(f"bad\t0\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected a sentence, a tab, and 0 or 1 .* as number 2"):
        sentiment.read_labelled(path)


def test_word_vectors_are_averaged_over_the_words_that_have_one(monkeypatch):
    words = ("do", "n't", "like", "film", "'s", ".")
    known = ({word: row for row, word in enumerate(words)}, np.eye(len(words), dtype=np.float32))
    monkeypatch.setattr(sentiment, "_vectors", lambda edition: known)
    found = sentiment._word_means("full", ["Don't LIKE", "Zzz!", "film's zzz film."])
    np.testing.assert_allclose(found, [np.array([1, 1, 1, 0, 0, 0]) / 3, [0] * 6, [0, 0, 0, 0.5, 0.25, 0.25]])
