"""Sentiment: splits, files of one's own, and that validation alone chooses."""

import numpy as np
import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import sentiment

pytest.importorskip("keras_hub", reason="needs the extra 'text'")

POCKET = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
FULL = tl.editions.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")


@pytest.fixture
def data():
    return sentiment.load("amazon", edition=POCKET)


def check_splits(data, sizes):
    splits = (data.train, data.validation, data.test)
    assert tuple(map(len, splits)) == sizes
    texts = [text.lower() for split in splits for text in split.texts]
    assert len(texts) == len(set(texts))  # none is in two splits
    assert all(abs(split.labels.mean() - 0.5) < 0.02 for split in splits)


def test_stand_ins_are_split_like_the_real_ones():
    for name in ("amazon", "yelp", "imdb"):
        check_splits(sentiment.load(name, edition=POCKET), (12, 6, 6))
    with pytest.raises(LookupError, match="unknown domain of the pocket edition 'rt-polarity'"):
        sentiment.load("rt-polarity", edition=POCKET)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("amazon", (607, 100, 280)),
        ("yelp", (616, 100, 280)),
        ("imdb", (617, 100, 280)),
        ("rt-polarity", (3010, 200, 600)),
    ],
)
def test_real_sentences(full_data, name, sizes):
    check_splits(sentiment.load(name, edition=FULL), sizes)


def test_the_settings_are_those_of_the_validation_sentences(data, monkeypatch):
    """What predicts is what scored best, and another fit in between does not change it."""
    monkeypatch.setattr(sentiment, "STEPS", 3)
    kept = []
    for method in sentiment.METHODS:
        found = sentiment.fit(method, data.train, data.validation, edition=POCKET)
        assert found.choice
        kept.append(found)
    for method in sentiment.METHODS:
        sentiment.fit(method, data.validation, data.train, seed=1, edition=POCKET)
    for found in kept:
        assert found.accuracy(data.validation) == pytest.approx(found.validation)


def test_validation_chooses_and_the_labels_teach(data):
    for method in ("frozen", "word vectors", "TF-IDF"):
        right = sentiment.fit(method, data.train, data.validation, edition=POCKET)
        assert (right.validation, right.accuracy(data.test)) == (1, 1)
        # Where praise and blame have changed places, what is learnt tells them apart the other way round.
        train, validation, test = (
            sentiment.Reviews(split.texts, 1 - split.labels)
            for split in (data.train, data.validation, data.test)
        )
        assert sentiment.fit(method, train, validation, edition=POCKET).accuracy(test) == 1
    # Labels that contradict those learnt from: no setting is good, and the test labels are not asked.
    assert sentiment.fit("TF-IDF", data.train, validation, edition=POCKET).validation < 1


def test_a_row_is_the_same_again(monkeypatch):
    monkeypatch.setattr(sentiment, "STEPS", 3)
    once, again = (sentiment.measure("fine-tuned", 8, seed=1, edition=POCKET) for _ in range(2))
    assert {**once, "cpu_seconds": 0} == {**again, "cpu_seconds": 0}


def test_draws_are_even_and_follow_the_seed(data):
    first, second = (sentiment.draw(data.train, 8, seed=seed) for seed in (0, 1))
    assert first.labels.sum() == second.labels.sum() == 4
    assert set(first.texts) != set(second.texts)
    for labels in (7, 0, 14):
        with pytest.raises(ValueError, match=f"expected a multiple of 2 classes, .* got {labels}"):
            sentiment.draw(data.train, labels, seed=0)


def test_unknown_words_say_so(data):
    with pytest.raises(LookupError, match="unknown method 'frozn'"):
        sentiment.fit("frozn", data.train, data.validation, edition=POCKET)
    with pytest.raises(LookupError, match="unknown method 'frozn'"):
        sentiment.measure("frozn", 8, edition=POCKET)
    praise = data.train.take(np.flatnonzero(data.train.labels))
    with pytest.raises(ValueError, match="expected praise and blame, got one of them only"):
        sentiment.fit("TF-IDF", praise, data.validation, edition=POCKET)
    with pytest.raises(ValueError, match=r"labels: expected 0 or 1 for each of 2 texts, got .* \[1, 2\]"):
        sentiment.Reviews(("good", "bad"), np.array([1, 2]))
    with pytest.raises(ValueError, match=r"labels: expected 0 or 1 for each of 1 texts, got shape \(2,\)"):
        sentiment.Reviews(("good",), np.array([1, 0]))


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
    with pytest.raises(
        ValueError, match=r"expected a sentence, a tab, and 0 or 1 in each line, .* as number 2"
    ):
        sentiment.read_labelled(path)


def test_word_means(monkeypatch):
    words = ("do", "n't", "like", "film", "'s", ".")
    vectors = np.eye(len(words), dtype=np.float32)
    known = ({word: row for row, word in enumerate(words)}, vectors)
    monkeypatch.setattr(sentiment, "_vectors", lambda edition: known)
    found = sentiment.word_means(["Don't LIKE", "Zzz!", "film's zzz film."], edition=POCKET)
    np.testing.assert_allclose(found[0], np.array([1, 1, 1, 0, 0, 0]) / 3)
    assert not found[1].any()
    np.testing.assert_allclose(found[2], np.array([0, 0, 0, 2, 1, 1]) / 4)
    with pytest.raises(ValueError, match="got an empty one at 0"):
        sentiment.word_means([""], edition=POCKET)


def test_a_row_measured_again_is_the_same_and_another_is_refused(monkeypatch):
    monkeypatch.setattr(tl.editions, "current", lambda: POCKET)
    points = [
        {"domain": "sentiment", "method": "TF-IDF", "labels": 8, "seed": seed}
        | sentiment.measure("TF-IDF", 8, seed=seed)
        for seed in range(3)
    ]
    dear = [{**point, "labels": 12, "cpu_seconds": 100.0} for point in points]
    other = [{**point, "domain": "flowers"} for point in points]
    table = pd.DataFrame(other + dear + points)
    monkeypatch.setattr(tl.published, "measured", lambda name: table)
    again = sentiment.check_one(which=1)
    assert again[["method", "labels", "seed"]].values.tolist() == [["TF-IDF", 8, 1]]
    assert again.then.tolist() == again.now.tolist()
    # Halfway between two answers, and all seeds alike, so that nothing but the error of counting is allowed.
    table["value"] = 0.5
    with pytest.raises(tl.published.Disagreement, match="method TF-IDF, labels 8"):
        sentiment.check_one(which=1)


def test_the_measured_tables_bear_the_claim():
    table = tl.published.measured("applications").query("domain == 'sentiment'")
    of = table.pivot(index=["labels", "seed"], columns="method", values="value")
    assert of.index.tolist() == [(labels, seed) for labels in sentiment.SIZES for seed in range(3)]
    assert of[["frozen", "word vectors", "TF-IDF"]].notna().all(axis=None)
    # With a hundred labels the encoder is ahead of word counts by ten points, with each seed.
    assert (of["frozen"] - of["TF-IDF"]).loc[100].min() > 0.1
    films = tl.published.measured("sentences").pivot(
        index=["labels", "seed"], columns="method", values="value"
    )
    assert len(films) == 12
    assert films.notna().all(axis=None)
