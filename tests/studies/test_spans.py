"""The words of an answer: ends inside the sentence, SQuAD's measures, labels that are short enough."""

import functools

import numpy as np
import pandas as pd
import pytest

from tlhelpers import encoders, page
from tlhelpers.studies import answers, spans

pytest.importorskip("keras_hub", reason="needs the extra 'text'")
FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """Nothing is remembered from another test."""
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    for name in ("_part", "_labelled", "_network", "_learned", "_kept_rate"):
        monkeypatch.setattr(spans, name, functools.lru_cache(getattr(spans, name).__wrapped__))


@pytest.fixture(scope="module")
def tiny():
    return encoders.load_encoder("tiny")


def test_question_and_sentence_are_read_at_once(tiny):
    (tokens,), (begin,), (places,) = spans.pair(tiny, ["our soup"], ["The film is bad."])
    assert tokens.tolist()[:11] == [
        *tiny.words.encode("our soup").ids,
        *tiny.words.encode("The film is bad.").ids[1:],
        0,
    ]
    assert (begin, len(places)) == (4, 5)
    assert ["The film is bad."[a:b] for a, b in places] == ["The", "film", "is", "bad", "."]
    cut, begins, places = spans.pair(tiny, ["soup", "soup " * 70], ["film " * 90] * 2)
    assert cut.shape == (2, 64)
    assert [begin + len(some) for begin, some in zip(begins, places, strict=True)] == [64, 72]
    assert spans.read_off(np.zeros((2, 64)), begins[1], places[1], "film") == ""


def test_the_best_two_ends_in_order_and_inside():
    text, places = "ab cd ef", [(0, 2), (3, 5), (6, 8)]
    first, last = np.zeros((2, 6))
    first[1] = last[5] = 9  # before the sentence, and behind it
    first[3], last[2], last[4] = 2, 2.5, 1
    assert spans.read_off(np.stack([first, last]), 2, places, text) == "cd ef"
    many = [(place, place + 1) for place in range(30)]
    ends = np.zeros((2, 30))
    ends[0, 0] = ends[1, 29] = 9
    assert len(spans.read_off(ends, 0, many, "x" * 30)) <= spans.LONGEST_ANSWER


@pytest.mark.parametrize(
    ("found", "answer", "exact", "f1"),
    [
        ("The bees, too.", "bees too", 1, 1),
        ("four brown bees", "four bees", 0, 0.8),
        ("bees bees", "bees", 0, 2 / 3),
        ("the", "bees", 0, 0),
        ("", "bees", 0, 0),
    ],
)
def test_squads_measures(found, answer, exact, f1):
    assert spans.judged(found, answer) == (exact, pytest.approx(f1))


def test_word_overlap_takes_new_words_near_known_ones():
    text = "In winter bees sleep, and they visit yellow flowers in spring"
    assert spans.overlap("What do they visit in spring?", text, 1) == "yellow"
    assert spans.overlap("What do they visit in spring?", text, 2) == "yellow flowers"
    assert spans.overlap("When do bees sleep?", text, 1) == "winter"


def test_what_is_learned_from_is_short_and_whole(monkeypatch):
    monkeypatch.setattr(spans, "LENGTH", 12)
    tokens, ends = spans._labelled(POCKET)
    asked, told, truth = spans._part(POCKET, 0)
    all_tokens, begins, places = spans.pair(answers.encoder(POCKET), asked, told)
    short = np.flatnonzero((all_tokens != 0).sum(axis=1) <= 12)
    assert 0 < len(short) < len(asked)
    assert np.array_equal(tokens, all_tokens[short, :12])
    for row, (first, last) in zip(short, ends, strict=True):
        begin, end = places[row][first - begins[row]][0], places[row][last - begins[row]][1]
        assert told[row][begin:end] == truth[row]


@pytest.mark.parametrize("way", ["head alone", "last two blocks", spans.RANDOM])
def test_each_way_trains_its_layers_alone(tiny, way):
    before = [np.array(weight) for weight in tiny.model.weights]
    prefix, suffix = spans.with_span_head(tiny, way)
    assert not prefix.trainable_weights
    trained = {weight.path.split("/")[0] for weight in suffix.trainable_weights}
    blocks = set() if way == "head alone" else {*tiny.blocks}
    assert trained == {"head", *blocks}
    assert suffix.output_shape[1:] == (2, None)
    same = [np.array_equal(a, b) for a, b in zip(before, tiny.model.weights, strict=True)]
    assert all(same)  # the random network is another one
    again, other = (spans.with_span_head(tiny, way, seed=seed)[0].get_weights()[0] for seed in (0, 1))
    assert np.array_equal(again, prefix.get_weights()[0])
    assert np.array_equal(again, other) == ("random" not in way)


def test_it_learns_what_is_in_the_questions(monkeypatch):
    monkeypatch.setattr(spans, "STEPS", 30)
    monkeypatch.setattr(spans, "BATCH_SIZE", 4)
    network = spans._fit("last two blocks", POCKET, 100, 0, 0.01)
    assert spans._tested(network, POCKET, 0)[:, 1].mean() > 0.8
    # What one way trained is no start for the next.
    kernel = encoders.load_encoder("tiny").model.weights[-4]
    held = spans._network("head alone", POCKET, 0).prefix.get_weights()
    assert any(np.array_equal(kernel, each) for each in held)
    assert not any(np.array_equal(kernel, each) for each in network.suffix.get_weights())
    first = spans._tested(network, POCKET, 2, 3)
    assert np.array_equal(first, spans._tested(network, POCKET, 2)[:3])


def test_the_rate_has_worse_neighbours(monkeypatch):
    good = spans.RATES[5]
    monkeypatch.setattr(spans, "_fit", lambda *given: given[-1])
    monkeypatch.setattr(spans, "_tested", lambda rate, *_: np.array([[0, 1 - abs(np.log(rate / good))]]))
    assert spans._kept_rate("head alone", POCKET) == good


def test_a_row_and_what_the_page_reads_of_it(monkeypatch):
    monkeypatch.setattr(spans, "STEPS", 2)
    monkeypatch.setattr(spans, "_kept_rate", lambda *_: 0.001)
    rows = []
    for way, seed in (("word overlap", 0), ("head alone", 0), ("head alone", 1)):
        key = {"way": way, "labels": 100, "seed": seed}
        rows.append({**key, **spans._row(POCKET, way, 100, seed)})
    table = pd.DataFrame(rows)
    found = spans.numbers(table, "head alone", 100)
    assert found.shape == (2, 4)  # as many questions on each article
    assert found.mean(axis=1) == pytest.approx(table.f1[1:].to_numpy(), abs=1e-4)
    assert spans.numbers(table, "word overlap", 100, "exact").mean() == pytest.approx(
        table.exact[0], abs=1e-4
    )
    value, examples = spans.STUDY.again(POCKET, table.iloc[1].replace({"choice": "rate 0.001"}))
    assert (value, examples) == (pytest.approx(table["first"][1], abs=1e-6), spans.FIRST)


def test_the_table_is_the_grid():
    table = page.measured("spans")
    rows = table[list(spans.STUDY.keys)].itertuples(index=False, name=None)
    assert {*rows} == {*spans.STUDY.grid(FULL)}
    assert not [*spans.STUDY.grid(POCKET)]
    rates = table[table.way != "word overlap"].choice.str.removeprefix("rate ").astype(float)
    assert set(rates) <= set(np.round(spans.RATES[1:-1], 6))
