"""Tuning few weights: what trains, that nothing else moves, small files, and what the table says."""

import keras
import numpy as np
import pandas as pd
import pytest

import tlhelpers as tl
from tlhelpers import page
from tlhelpers.studies import intervals, skeleton, tuning

pytest.importorskip("keras_hub", reason="needs the extra 'text'")

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
BLOCK = 4 * (32 * 32 + 32) + 32 * 64 + 64 + 64 * 32 + 32 + 4 * 32  # attention, dense layers, normalisations
BIASES = 4 * 32 + 64 + 32 + 2 * 32
HEAD = 33


def numbers(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def said(model, ids):
    return np.asarray(model(ids, training=False))


@pytest.fixture
def encoder():
    return tl.encoders.load_encoder("tiny")


@pytest.mark.parametrize(
    ("way", "trained"),
    [
        ("head", 0),
        ("bias terms", 2 * BIASES),
        # Keras factors the last axis of (width, heads, size): twice two heads of 16.
        ("LoRA, rank 4", 2 * 2 * 4 * (32 * 2 + 16)),
        ("adapters", 2 * 2 * 32 * 16),
        ("last two blocks", 2 * BLOCK),
    ],
)
def test_each_way_trains_its_own_weights_and_a_head(way, trained, encoder):
    assert numbers(tuning.prepare(encoder, way)) == trained + HEAD


def test_all_weights_are_all(encoder):
    model = tuning.prepare(encoder, "all weights")
    assert len(model.trainable_weights) == len(model.weights)


def test_adapters_begin_as_nothing_keep_padding_out_and_are_cut_points(encoder):
    ids = np.array([[2, 5, 6, 3], [2, 5, 3, 0]])
    before = said(encoder.model, ids)
    model = skeleton.add_adapters(encoder.model, encoder.blocks, 4)
    np.testing.assert_array_equal(said(model, ids), before)
    assert {f"{block}_adapter" for block in encoder.blocks} <= set(tl.cut_points(model))
    for layer in model.layers:
        if layer.name.endswith("adapter_wide"):
            layer.kernel.assign(np.ones(layer.kernel.shape))
    longer = np.pad(ids, ((0, 0), (0, 5)))
    changed = said(model, ids)
    assert np.abs(changed - before).max() > 0.01
    np.testing.assert_allclose(said(model, longer), changed, atol=1e-5)


@pytest.mark.parametrize("way", ["bias terms", "LoRA, rank 4", "adapters"])
def test_only_what_trains_moves_and_a_small_file_brings_it_back(way, encoder, tmp_path):
    model, ids = tuning.prepare(encoder, way), np.array([[2, 5, 6, 3], [2, 7, 3, 0]] * 4)
    skeleton.draw_added(model, 1)
    kernels = [w.numpy() for w in model.weights if w.name == "kernel" and not w.trainable]
    model.compile(keras.optimizers.Adam(0.03), "binary_crossentropy", run_eagerly=True)
    with tl.unchanged(model):
        model.fit(ids, np.array([0, 1] * 4), epochs=2, verbose=0)
    still = [w.numpy() for w in model.weights if w.name == "kernel" and not w.trainable]
    assert len(kernels) >= 12
    assert all(map(np.array_equal, kernels, still))
    assert all(np.any(w.numpy()) for w in model.trainable_weights)

    before = said(model, ids)
    np.savez(tmp_path / "task.npz", **{w.path: w.numpy() for w in model.trainable_weights})
    other = tuning.prepare(tl.encoders.load_encoder("tiny"), way)
    with np.load(tmp_path / "task.npz") as kept:
        for weight in other.trainable_weights:
            weight.assign(kept[weight.path])
    np.testing.assert_array_equal(said(other, ids), before)


def test_unchanged_finds_a_kernel_that_moves_under_low_rank(encoder):
    model = tuning.prepare(encoder, "LoRA, rank 4")
    (kernel, *_) = (w for w in model.weights if w.path.endswith("query/kernel"))
    with pytest.raises(tl.freezing.FrozenWeightsMoved, match="in 1: query"), tl.unchanged(model):
        kernel.assign(kernel + 1e-6)


def test_what_is_drawn_follows_the_seed(encoder):
    model = tuning.prepare(encoder, "LoRA, rank 1")
    firsts = [w for w in model.trainable_weights if w.name == "lora_kernel_a"]

    def drawn(seed):
        skeleton.draw_added(model, seed)
        return [w.numpy() for w in firsts]

    one, other, again = drawn(1), drawn(2), drawn(1)
    assert all(map(np.array_equal, one, again))
    assert not any(map(np.array_equal, one, other))
    assert not np.array_equal(one[0], one[1])


def test_a_row_is_the_same_again_and_follows_its_seed():
    one, again, other = (tuning._measured(POCKET, "head", seed, 0.1) for seed in (1, 1, 2))
    assert {**one, "cpu_seconds": 0} == {**again, "cpu_seconds": 0}
    assert one["weights"] == HEAD
    assert one["kilobytes"] == HEAD * 4 / 1000
    nets = tuning.network("head", POCKET)
    _, _, test = tuning.sentences("amazon", POCKET)
    right = (nets.praise(test) > 0.5) == test.labels
    assert intervals.pack(right) == other["right"]


def test_a_probe_reads_the_block_that_validation_chooses():
    row = tuning._row(POCKET, "probe").iloc[1]
    assert row.choice.startswith("block ")
    assert row.weights == HEAD
    assert tuning._again(POCKET, pd.Series({**row, "way": "probe"})) == (row.test_accuracy, 12)


def test_the_draws_share_the_rate_that_the_first_chose(monkeypatch):
    asked = []
    monkeypatch.setattr(tuning, "_validation", lambda way, edition, rate: -abs(np.log(rate / 0.1)))
    monkeypatch.setattr(tuning, "_measured", lambda *given: asked.append(given) or {"test_accuracy": 1.0})
    rows = tuning._row(POCKET, "head")
    assert asked == [(POCKET, "head", seed, 0.1) for seed in range(5)]
    assert rows.tried[0].split(";")[-1].strip().startswith("0.3: ")
    row = pd.Series({"way": "head", "seed": 3, "choice": "rate 0.0001"})
    assert tuning._again(POCKET, row) == (1.0, 12)
    assert asked[-1] == (POCKET, "head", 3, 0.0001)


def test_sentences_are_short_and_split(full_data):
    for domain in ("amazon", "yelp", "imdb"):
        parts = tuning.sentences(domain, FULL)
        texts = [text for part in parts for text in part.texts]
        assert len(texts) == len(set(texts))
        assert all(abs(part.labels.mean() - 0.5) < 0.1 for part in parts)
        assert 2 * min(np.bincount(parts[0].labels)) >= tuning.LABELS["full"]


def test_the_table_is_the_grid():
    table = page.measured("tuning")
    assert {*table.way} == {*tuning.WAYS} == {way for (way,) in tuning.STUDY.grid(FULL)}
    assert not [*tuning.STUDY.grid(POCKET)]
    assert (table.groupby("way").seed.apply(list).apply(sorted).apply(tuple) == tuple(tuning.SEEDS)).all()
    trained = table[table.way != "probe"]
    rates = trained.choice.str.removeprefix("rate ").astype(float)
    assert set(rates) < set(tuning.RATES[1:-1])  # none at the grid's edge
    penalties = table.choice[table.way == "probe"].str.extract(r"penalty (\S+)")[0].astype(float)
    assert set(penalties) <= set(tuning.PENALTIES[1:-1])
    for rate, tried in zip(rates, trained.tried, strict=True):
        scores = {float(key): float(score) for key, score in (each.split(": ") for each in tried.split("; "))}
        assert max(scores.values()) == scores[rate]
        assert min(scores) < rate < max(scores)
    for way in tuning.WAYS:
        found = tuning.answers(table, way)
        assert found.shape == (5, 311)
        np.testing.assert_allclose(
            found.mean(axis=1), table[table.way == way].sort_values("seed").test_accuracy, atol=1e-5
        )


def test_a_gain_is_in_points_with_its_interval():
    rows = [("a", seed, intervals.pack(np.array([True, True, seed > 0]))) for seed in range(3)]
    rows += [("b", seed, intervals.pack(np.array([True, False, False]))) for seed in range(3)]
    table = pd.DataFrame(rows[::-1], columns=["way", "seed", "right"])
    mean, low, high = tuning.gain(table, "a", "b")
    assert mean == pytest.approx(100 * 5 / 9)
    assert low < mean < high
    assert tuning.gain(table, "a", "a") == (0, 0, 0)
