"""Translation: no sentence in two parts, masks that hold, texts that come back, and what the table says."""

import functools
import re

import keras
import numpy as np
import pytest

from tlhelpers import page
from tlhelpers.studies import intervals, translation

FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
CHAIN = [
    ("I ran.", "Jag sprang.", "a & b"),
    ("i ran!", "Jag löpte.", "c & d"),
    ("I fled.", "Jag sprang!", "e & f"),
    ("I fled.", "Jag flydde.", "g & h"),
]
OTHERS = [(f"Number {i}.", f"Nummer {i}.", "x & y") for i in range(6)]


@pytest.fixture(autouse=True)
def _own(tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    for name in ("load", "_rate"):
        monkeypatch.setattr(translation, name, functools.cache(getattr(translation, name).__wrapped__))


def check_apart(parts):
    for side in ("english", "swedish"):
        plain = [{" ".join(re.findall(r"\w+", text.lower())) for text in part[side]} for part in parts]
        assert sum(map(len, plain)) == len(set.union(*plain))


def test_translations_of_translations_stay_together():
    for place in range(6):  # whichever part the chain gets into
        parts = translation.split([*OTHERS[:place], *CHAIN, *OTHERS[place:]], 2, 3)
        assert [part.group.nunique() for part in parts] == [2, 2, 3]
        check_apart(parts)
        assert {"I ran.", "i ran!", "I fled."} <= {*parts[0].english} or "I fled." not in {*parts[0].english}
        for english, references in map(translation.asked, parts[1:]):
            assert "I fled." not in english
            of = dict(zip(english, references, strict=True))
            assert of.get("I ran.") in (None, ["Jag sprang.", "Jag löpte."])


def test_the_official_pairs(full_data):
    parts = translation.load(FULL)
    assert [part.group.nunique() for part in parts[1:]] == [200, 400]
    assert len(parts[0]) == 15_057
    check_apart(parts)
    assert parts[0].english.str.len().max() == translation.LETTERS


def test_fewer_pairs_are_the_first_of_more():
    few, more = (translation.draw(POCKET, number, seed=1) for number in (3, 9))
    assert few == (more[0][:3], more[1][:3])
    known = translation.load(POCKET)[0][["english", "swedish"]].itertuples(index=False, name=None)
    assert {*zip(*more, strict=True)} <= {*known}


def test_chrf_is_that_of_sacrebleu():
    said = ["Jag ser dig.", "Jag sprang.", "ab", "", "å", "Tom är inte  här nu."]
    references = [
        ["Jag såg dig.", "Ser jag dig?"],
        ["Nej.", "Jag sprang."],
        ["xyz"],
        ["Jag."],
        ["å"],
        ["Tom är här."],
    ]
    # By sacrebleu 2.6.0: CHRF().sentence_score(text, references).score.
    expected = [37.53968253968254, 100, 0, 0, 100, 41.07957000571199]
    assert translation.chrf(said, references) == pytest.approx(expected, abs=1e-9)


def test_pieces_give_the_text_back():
    texts = ["Jag är här.", "Är du här?", "Jag är där!"]
    pieces = translation.word_pieces(texts)
    said = translation.numbered(pieces, [*texts, "här " * 30])
    assert said.dtype == np.int32
    assert said.shape == (4, translation.LENGTH + 1)
    assert (said[:, 0] == translation.BEGIN).all()
    assert (said == translation.END).sum(axis=1).tolist() == [1, 1, 1, 0]  # the last one is cut
    assert pieces.decode_batch(said[:3].tolist()) == texts


def test_states_are_zero_where_there_is_no_token():
    pytest.importorskip("keras_hub", reason="needs the extra 'text'")
    texts = ["the soup is good", "good"]
    found, one, other = (translation.states(texts, POCKET, random=seed) for seed in (None, 1, 2))
    assert found.shape == (2, translation.LENGTH, 32)
    for each in (found, one, other):
        assert each.any(axis=2).sum(axis=1).tolist() == [6, 3]
    assert not np.allclose(found, one)
    assert not np.allclose(one, other)


def test_what_is_no_token_is_not_looked_at():
    rng = np.random.default_rng(0)
    said = np.full((2, translation.LENGTH), 5, np.int32)
    states = np.zeros((2, 9, 6), np.float32)
    states[:, :5] = rng.normal(size=(2, 5, 6))
    long, short = translation.translator(states), translation.translator(states[:, :5])
    weights = [rng.normal(scale=0.2, size=weight.shape) for weight in long.get_weights()]  # biases, too
    weights[3] = np.abs(weights[3])  # a variance
    for model in (long, short):
        model.set_weights(weights)
    expected = short.predict_on_batch([states[:, :5], said])
    np.testing.assert_allclose(long.predict_on_batch([states, said]), expected, atol=1e-4)


def test_nothing_is_written_after_the_end():
    pieces = translation.word_pieces(["ja", "ja"])
    said = np.full(translation.LENGTH, pieces.encode("ja").ids[0])
    said[1] = translation.END

    class Model:
        def predict_on_batch(self, _):
            return np.eye(pieces.get_vocab_size())[said][None]

    assert translation.translate(Model(), np.zeros((1, 4, 6)), pieces) == ["ja"]


def test_a_decoder_learns_the_stand_in(monkeypatch):
    pytest.importorskip("keras_hub", reason="needs the extra 'text'")
    monkeypatch.setattr(translation, "WIDTH", 48)
    monkeypatch.setattr(translation, "SIZES", (28, 28))
    monkeypatch.setattr(translation, "TRAINING", {28: (40, 4)})
    monkeypatch.setattr(translation, "climb", lambda rates, start, score: (start, {start: 0.0}))
    row = translation.measure(POCKET, "MiniLM", 28, 0)
    each = np.array([float(value) for value in row["by_sentence"].split()])
    assert each.mean() == pytest.approx(row["chrf"], abs=0.1)
    assert row["chrf"] > 40
    assert row["choice"] == "rate 0.005"


def test_the_nearest_pair_is_copied_as_validation_says():
    pytest.importorskip("keras_hub", reason="needs the extra 'text'")
    row = translation.measure(POCKET, "nearest pair", 28, 0)
    assert row["choice"] in translation.WAYS
    assert row["chrf"] > 40
    english, swedish = translation.draw(POCKET, 28, seed=0)
    for by in translation.WAYS:
        assert translation._copied(english[:4], by, 28, 0, POCKET) == swedish[:4]


def test_what_attention_looks_for_is_scaled():
    model = translation.translator(np.zeros((1, 4, 6), np.float32))
    (scaled,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling))
    assert scaled.scale == translation.WIDTH**-0.5


def test_the_table_is_the_grid():
    table = page.measured("translation")
    rows = table[list(translation.STUDY.keys)].itertuples(index=False, name=None)
    assert [*rows] == [*translation.STUDY.grid(FULL)]
    assert not [*translation.STUDY.grid(POCKET)]
    rates = {*table.choice.str.extract(r"rate (\S+)")[0].dropna().astype(float)}
    assert rates <= {*translation.RATES[1:-1]}  # none is at the end of what there is to choose from
    for (method, pairs), rows in table.groupby(["method", "pairs"]):
        each = translation.by_sentence(table, method, pairs)
        assert each.shape == (3, 400)
        np.testing.assert_allclose(each.mean(axis=1), rows.sort_values("seed").chrf, atol=0.02)


def test_the_table_bears_the_claims():
    table = page.measured("translation")
    for rival in ("random weights", "nearest pair"):
        gap = translation.by_sentence(table, "MiniLM", 5_000) - translation.by_sentence(table, rival, 5_000)
        assert intervals.interval(gap)[0] > 0
