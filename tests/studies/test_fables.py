"""Fables: splits by fable, each token guessed once, counts that sum to one, rates with worse neighbours."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

import tlhelpers as tl
from tlhelpers import page
from tlhelpers.studies import fables

FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
TEXTS = [[1, 5, 6, 5, 6], [1, 7], [1, *range(10, 10 + 130)]]


@pytest.fixture(autouse=True)
def _pocket(tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(fables, "MOST_EPOCHS", 2)


def test_the_table_is_the_grid():
    table = page.measured("fables")
    rows = table[list(fables.STUDY.keys)].itertuples(index=False, name=None)
    assert {*rows} == {*fables.STUDY.grid(FULL)}
    assert not [*fables.STUDY.grid(POCKET)]
    trained = table[table.method.isin(fables.TRAINED)]
    # No rate is at the end of what there is to choose from.
    assert set(trained.choice.str.extract(r"rate (\S+),")[0].astype(float)) < set(fables.RATES[1:-1])
    for _, rows in table[table.tokens > 0].groupby(["method", "tokens"]):
        logs = fables.logarithms(rows)
        assert logs.shape == (3, 40)
        np.testing.assert_allclose(np.exp(logs.mean(axis=1)), rows.perplexity, rtol=1e-4)


def test_the_table_bears_the_claims():
    table = page.measured("fables").query("tokens == 3000")
    of = table.pivot(index="seed", columns="method", values="perplexity")
    assert (of["all weights"] < of["counts of three tokens"]).all()
    assert (of["all weights"] < of["from scratch"]).all()


def test_one_way_is_lower_than_another_by_so_much():
    rows = [("a", 9, seed, f"{np.log(2):.9f} {np.log(2) + seed / 100:.9f}") for seed in range(3)]
    rows += [("b", 5, seed, f"{np.log(4):.9f} {np.log(4) + seed / 100:.9f}") for seed in range(3)]
    table = pd.DataFrame(rows[::-1], columns=["method", "tokens", "seed", "by_fable"])
    assert fables.lower(table, "a", "b", 9, than=5) == pytest.approx((50, 50, 50))
    # With the seeds the other way round the draws differ, and the interval goes to both sides.
    other = table.assign(seed=table.seed.where(table.method == "a", 2 - table.seed))
    share, low, high = fables.lower(other, "a", "b", 9, than=5)
    assert low < share < high


@pytest.mark.parametrize("edition", [POCKET, FULL])
def test_fables_are_split_whole(edition, request):
    if edition is FULL:
        request.getfixturevalue("full_data")
    data = fables.load(edition)
    parts = [{tuple(text) for text in part} for part in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(data.texts)
    assert data.decoder.text(data.train[0]) in data.texts


def test_the_first_tokens_are_so_many_in_the_order_of_the_seed():
    for number in (1, 3, 6, 135):
        found = fables.first_tokens(TEXTS, number, seed=0)
        assert sum(len(text) - 1 for text in found) == number
        assert all(text in [other[: len(text)] for other in TEXTS] for text in found)
    orders = {str(fables.first_tokens(TEXTS, 135, seed=seed)) for seed in range(5)}
    assert 1 < len(orders) <= 5
    for number in (0, 136):
        with pytest.raises(ValueError, match=f"number: expected 1 to 135 tokens, got {number}"):
            fables.first_tokens(TEXTS, number, seed=0)


def test_each_token_is_guessed_once_after_the_one_before_it():
    read, guessed = fables.windows(TEXTS, 50)
    assert read.shape == guessed.shape == (5, 50)
    pairs = [(int(a), int(b)) for a, b in zip(read[guessed > 0], guessed[guessed > 0], strict=True)]
    assert pairs == [pair for text in TEXTS for pair in itertools.pairwise(text)]
    assert not read[guessed == 0].any()
    with pytest.raises(ValueError, match="texts: expected some of two tokens or more, got none"):
        fables.windows([[1]], 50)


def test_perplexity_is_that_of_the_chances(tmp_path):
    decoder = fables.load(POCKET).decoder
    lost = fables.nats(decoder.model, TEXTS)
    logits = np.asarray(decoder.model(np.array([TEXTS[0][:-1]]), training=False))[0]
    chances = logits - logsumexp(logits, axis=1, keepdims=True)
    assert lost[0] == pytest.approx(-sum(chances[range(4), TEXTS[0][1:]]), rel=1e-4)
    assert len(lost) == 3
    # As the loss says that trains, where all rows are full.
    whole = [text[:3] for text in (TEXTS[0], TEXTS[2])]
    read, guessed = fables.windows(whole, 2)
    expected = float(fables.loss()(guessed, decoder.model(read, training=False)))
    assert np.log(fables.perplexity(fables.nats(decoder.model, whole), whole)) == pytest.approx(
        expected, rel=1e-4
    )
    assert fables._by_text(lost, TEXTS).mean() == pytest.approx(np.log(fables.perplexity(lost, TEXTS)))
    assert np.abs(fables.nats(decoder.model, TEXTS, context=[1, 60, 61]) - lost).max() > 1e-3
    blank = tl.decoders.load_decoder("tiny")
    blank.model.set_weights([np.zeros(weight.shape) for weight in blank.model.weights])
    assert fables.perplexity(fables.nats(blank.model, TEXTS), TEXTS) == pytest.approx(259, rel=1e-4)


def test_counts_are_chances():
    seen = fables._count([[1, 5, 6, 5, 6], [1, 5, 7]])
    for context in ([1], [1, 5], [5, 6], [8, 9], [8, 5]):
        each = [np.exp(-fables._by_counts(seen, 0.5, [[*context, n]], 10)[0]) for n in range(10)]
        before = np.exp(-fables._by_counts(seen, 0.5, [context], 10)[0]) if len(context) > 1 else 1
        assert sum(each) / before == pytest.approx(1)
    # After 1 came 5, twice; one half is taken off, and goes to how many tokens each came after: 5 of 1 and 6,
    # 6 and 7 of 5; four pairs in all, of which three halves go to ten tokens alike.
    after = 1.5 / 2 + 0.5 / 2 * (1.5 / 4 + 1.5 / 4 / 10)
    assert np.exp(-fables._by_counts(seen, 0.5, [[1, 5]], 10)[0]) == pytest.approx(after)


@pytest.mark.parametrize(
    ("method", "trained"),
    [
        ("all weights", 259 * 16 + 3 * (2 * 16 + 2 * 16**2 + 2 * 16 * 8 + 3 * 16 * 32) + 16),
        ("last two blocks", 2 * (2 * 16 + 2 * 16**2 + 2 * 16 * 8 + 3 * 16 * 32) + 16),
        ("LoRA, rank 4", 3 * 4 * (32 + 24)),
        ("LoRA, rank 1", 3 * (32 + 24)),
        ("adapters", 3 * 2 * 16 * 16),
        ("norms", 7 * 16),
    ],
)
def test_each_way_trains_its_own_weights(method, trained):
    model = fables.prepare(tl.decoders.load_decoder("tiny"), method)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == trained


def test_the_rate_has_worse_neighbours_on_both_sides(monkeypatch):
    asked = []

    def fit(method, data, few, seed, rate):
        asked.append((rate, seed))
        return None, [9.0, abs(np.log(rate / 0.01))]

    monkeypatch.setattr(fables, "_fit", fit)
    assert fables.kept_rate.__wrapped__("all weights", 200, POCKET) == 0.01
    assert asked == [(rate, 0) for rate in (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)]


@pytest.mark.usefixtures("short")
def test_a_row_is_the_same_again_and_follows_its_seed():
    way = "last two blocks"
    one, other, again = (fables.measure(way, 100, seed=seed, edition=POCKET, rate=0.03) for seed in (0, 1, 0))
    assert {**one, "cpu_seconds": 0} == {**again, "cpu_seconds": 0}
    assert one["by_fable"] != other["by_fable"]
    assert one["validation"] < 245  # as loaded 250
    assert one["kilobytes"] == one["weights"] * 4 / 1000


def test_a_row_is_measured_again_with_its_own_rate(monkeypatch):
    asked = []
    monkeypatch.setattr(fables, "measure", lambda *a, **how: asked.append((a, how)) or {"perplexity": 3.0})
    for choice, rate in (("rate 0.003, epoch 2 of 3", 0.003), ("discount 0.8", None), (np.nan, None)):
        row = pd.Series({"method": "norms", "tokens": 9, "seed": 1, "choice": choice})
        assert fables.STUDY.again(POCKET, row) == (3.0, None)
        assert asked[-1] == (("norms", 9), {"seed": 1, "edition": POCKET, "rate": rate})


def test_a_row_of_the_table_comes_out_again(full_data, monkeypatch):
    monkeypatch.setenv("TLHELPERS_EDITION", "full")
    rows = page.measured("fables").query("method == 'counts of three tokens' and tokens == 3000")
    value, _ = fables.STUDY.again(page.current(), rows.iloc[1])
    assert value == pytest.approx(rows.perplexity.iloc[1], rel=1e-5)


def test_generators_are_forgotten_only_where_there_are_some():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    fables.forget(model, [np.ones((2, 1)), np.ones(1)], rate=0.5, seed=1)
    assert (float(model.optimizer.learning_rate), model.get_weights()[1][0]) == (0.5, 1)
