"""Learning-rate multipliers: who moves, by how much, and that nothing else differs."""

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import page
from tlhelpers.studies import unfreezing

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")


def model_with(optimizer):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, name=f"block_{n}_dense") for n in (3, 4)]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2, name="head")])
    model.compile(optimizer, "mse")
    return model


def steps(model, n=5):
    rng = np.random.default_rng(0)
    before = model.get_weights()
    x, y = rng.normal(size=(8 * n, 3)), rng.normal(size=(8 * n, 2))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    return [new - old for new, old in zip(model.get_weights(), before, strict=True)]


def test_a_groups_step_is_adams_times_its_multiplier():
    adam = unfreezing.GroupAdam(0.01, ("block_3", "block_4", "head"))
    plain, grouped = model_with(keras.optimizers.Adam(0.01)), model_with(adam)
    for expected, step in zip(steps(plain), steps(grouped), strict=True):
        np.testing.assert_array_equal(step, expected)
    # Multipliers change without another compile; a kernel and a bias have one.
    adam.multipliers.assign([0.0, 0.25, 1.0])
    by = np.repeat([0.0, 0.25, 1.0], 2)
    for expected, step, multiplier in zip(steps(plain, n=1), steps(grouped, n=1), by, strict=True):
        np.testing.assert_allclose(step, multiplier * expected, rtol=1e-3, atol=1e-6)
    adam.multipliers.assign([1.0, 0.0, 0.0])
    assert [np.abs(change).max() > 0 for change in steps(grouped)] == [True] * 2 + [False] * 4


def test_every_layer_belongs_to_one_group():
    with pytest.raises(ValueError, match=r"block_4_dense/kernel: expected a layer of one of block_3, head"):
        steps(model_with(unfreezing.GroupAdam(0.01, ("block_3", "head"))))
    suffix = unfreezing._network(POCKET)[0].suffix
    layers = {variable.path.split("/")[-2] for variable in suffix.trainable_variables}
    of = [[g for g in unfreezing.GROUPS if layer == g or layer.startswith(f"{g}_")] for layer in layers]
    assert all(len(groups) == 1 for groups in of), of
    assert {groups[0] for groups in of} == set(unfreezing.GROUPS)


def test_what_the_ways_do():
    by_way = {way: [unfreezing.multipliers(way, epoch) for epoch in range(20)] for way in unfreezing.WAYS}
    head_only, at_once, discriminative, gradual, probe, late = by_way.values()
    assert all(each[-1] == 1 for each in (*head_only, *at_once, *discriminative, *gradual, *probe))
    assert all(each.sum() == 1 for each in head_only)
    assert all(each.sum() == 8 for each in at_once)
    np.testing.assert_allclose(discriminative[0][1:] / discriminative[0][:-1], 2.6, rtol=1e-5)
    assert [each.sum() for each in gradual[:9]] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert [each.sum() for each in probe] == [1] * 10 + [8] * 10
    assert [each.sum() for each in late] == [0] * 10 + [8] * 10
    with pytest.raises(LookupError, match="gradual"):
        unfreezing.multipliers("gradual unfreezin", 0)


@pytest.fixture
def quick(monkeypatch):
    """Two epochs, and nothing kept between tests."""
    monkeypatch.setattr(unfreezing, "EPOCHS", 2)
    unfreezing.train.cache_clear()
    yield
    unfreezing.train.cache_clear()


def names(network):
    return [variable.path.split("/")[-2] for variable in network.suffix.weights]


def moved(network, old, new):
    return {n for n, a, b in zip(names(network), old, new, strict=True) if not np.array_equal(a, b)}


def test_a_training_does_not_depend_on_what_was_trained_before(quick):
    network, _ = unfreezing._network(POCKET)
    first = unfreezing.train(POCKET, "all at once", seed=0, rate=0.001)
    other = unfreezing.train(POCKET, "head only", seed=1, rate=0.003)
    unfreezing.train(POCKET, "all at once", seed=0, rate=0.001, strength=1.0)
    assert moved(network, network.weights, other.weights) == {"head"}
    unfreezing.train.cache_clear()
    again = unfreezing.train(POCKET, "all at once", seed=0, rate=0.001)
    assert moved(network, first.weights, again.weights) == set()
    assert moved(network, first.halfway, first.weights) > {"head"}


def test_a_late_start_has_the_steps_of_a_probe_and_a_random_head(quick):
    network, _ = unfreezing._network(POCKET)
    late = unfreezing.train(POCKET, unfreezing.LATE, seed=0, rate=0.003)
    probed = unfreezing.train(POCKET, unfreezing.PROBE_FIRST, seed=0, rate=0.003)
    assert moved(network, late.halfway, network.weights) <= {"head"}  # drawn from the seed
    assert moved(network, late.halfway, probed.halfway) == {"head"}
    assert moved(network, late.halfway, late.weights) == moved(network, network.weights, probed.weights)


def test_runs_of_a_soup_begin_at_one_probed_head(quick):
    network, _ = unfreezing._network(POCKET)
    how = {"seed": 0, "rate": 0.003}
    probe = unfreezing.train(POCKET, unfreezing.PROBE_FIRST, **how)
    runs = [unfreezing.train(POCKET, unfreezing.PROBE_FIRST, **how, order=order) for order in (5, 6)]
    for run in runs:
        assert moved(network, probe.halfway, run.halfway) == set()
    assert moved(network, runs[0].weights, runs[1].weights) > {"head"}
    mean = unfreezing.average([run.weights for run in runs], [0.25, 0.75])
    for mixed, one, two in zip(mean, runs[0].weights, runs[1].weights, strict=True):
        np.testing.assert_allclose(mixed, 0.25 * one + 0.75 * two, rtol=1e-5, atol=1e-6)


def test_the_pull_keeps_the_blocks_near_their_start(quick):
    network, _ = unfreezing._network(POCKET)
    blocks = [i for i, name in enumerate(names(network)) if name != "head"]
    far = []
    for strength in (0.0, 100.0):
        run = unfreezing.train(POCKET, "all at once", seed=0, rate=0.003, strength=strength)
        far.append(sum(((run.weights[i] - network.weights[i]) ** 2).sum() for i in blocks))
    assert far[1] < 0.5 * far[0]


def test_refreshed_statistics_are_those_of_the_images(quick):
    network, _ = unfreezing._network(POCKET)
    run = unfreezing.train(POCKET, "head only", seed=0, rate=0.003, on_digits=True)
    changed = moved(network, network.weights, run.weights)
    assert all(name == "head" or name.endswith("_BN") for name in changed), changed
    assert "block_3_expand_BN" in changed
    kept = {"rate": 0.003, "setting": np.nan, "at": ""}
    ask, _ = unfreezing.fitted(POCKET, "all at once, refreshed", seed=0, **kept)
    plain, _ = unfreezing.fitted(POCKET, "all at once", seed=0, **kept)
    before = plain("test")
    assert not np.allclose(ask("test"), before, atol=1e-3)
    np.testing.assert_array_equal(plain("test"), before)  # the network itself keeps its statistics


def test_settings_are_tried_until_the_best_is_within():
    def peak(at):
        return lambda setting: -abs(np.log10(setting) - at)

    cases = (-5, 0.00001, (0.000003, 0.03)), (1, 10.0, (0.001, 30.0)), (-2, 0.01, (0.001, 0.03))
    for at, best, edges in cases:
        tried = unfreezing._widened(peak(at), range(-6, -2))
        assert (unfreezing._best(tried), (min(tried), max(tried))) == (best, edges)
    # Where nothing is better than the rest it stops at once, and takes none of the edges.
    tried = unfreezing._widened(lambda setting: 0.5, range(-6, -2))
    assert (len(tried), unfreezing._best(tried)) == (4, 0.003)


def test_two_seeds_choose(monkeypatch):
    asked = []

    def fitted(edition, way, *, seed, rate, setting, at):
        asked.append((way, seed, rate, setting, at))
        labels = unfreezing.held_out(edition)["validation"][1]
        sure = rate == 0.01 or (at == "block_9_add" and setting == 0.1)
        return lambda part: np.eye(10)[labels if sure else (labels + 1) % 10], 0.0

    def no_table(name):
        raise LookupError

    monkeypatch.setattr(unfreezing, "fitted", fitted)
    unfreezing._chosen.cache_clear()
    kept = page.measured("unfreezing").query("edition == 'pocket' and way == 'head only'").iloc[0]
    assert unfreezing._chosen(POCKET, "head only")["rate"] == kept.learning_rate
    assert asked == []  # a table that is measured on keeps its choice
    monkeypatch.setattr(page, "measured", no_table)
    unfreezing._chosen.cache_clear()
    tried = "0.001: 0.0000; 0.003: 0.0000; 0.01: 1.0000; 0.03: 0.0000"
    chosen = unfreezing._chosen(POCKET, "head only")
    assert (chosen["rate"], chosen["tried"]) == (0.01, tried)
    assert {seed for _, seed, *_ in asked} == {0, 1}
    assert len(asked) == 8
    assert unfreezing._chosen(POCKET, unfreezing.LATE)["rate"] == 0.01
    assert unfreezing._chosen(POCKET, unfreezing.HALF)["setting"] == 0.5
    assert unfreezing._chosen(POCKET, unfreezing.L2_SP)["setting"] == 0.01  # of equals the lower
    chosen = unfreezing._chosen(POCKET, unfreezing.EARLY)
    assert (chosen["at"], chosen["setting"]) == ("block_9_add", 0.1)
    unfreezing._chosen.cache_clear()


def test_no_rate_of_the_table_lies_at_an_edge():
    table = page.measured("unfreezing")
    single = table[~table.way.isin(unfreezing.BASE) & (table.way != unfreezing.EARLY)]
    for row in single.itertuples():
        rates = [float(pair.split(": ")[0]) for pair in row.tried.split("; ")]
        assert rates[0] < row.learning_rate < rates[-1], row.way


def test_a_temperature_mends_answers_that_are_too_sure():
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=2000)
    scores = rng.normal(size=(2000, 10)) + 2 * np.eye(10)[labels]
    scores -= scores.max(axis=1, keepdims=True)

    def chances(factor):
        p = np.exp(factor * scores)
        return p / p.sum(axis=1, keepdims=True)

    mended = [unfreezing.tempered(chances(factor), chances(factor), labels) for factor in (1, 3)]
    np.testing.assert_allclose(mended[0], mended[1], atol=0.01)
    np.testing.assert_array_equal(mended[1].argmax(axis=1), scores.argmax(axis=1))


def test_what_is_held_out_is_drawn_at_random_and_of_one_size(monkeypatch):
    assert {name: images.shape for name, (images, _) in unfreezing.held_out(POCKET).items()} == {
        "validation": (297, 8, 8),
        "test": (500, 8, 8),
        "shifted": (500, 8, 8),
        "foreign": (520, 8, 8),
    }
    monkeypatch.setattr(unfreezing, "_TEST", 100)
    drawn, labels = unfreezing.held_out.__wrapped__(POCKET)["test"]
    whole = tl.load_dataset("digits").test
    places = [int(np.flatnonzero((whole.images == image).all(axis=(1, 2)))[0]) for image in drawn]
    assert max(places) > 400
    np.testing.assert_array_equal(whole.labels[places], labels)


def test_foreign_digits_are_framed_like_mnist():
    images, labels = unfreezing.shifted(FULL)
    assert (images.shape, images.dtype, len(labels)) == ((1797, 28, 28), np.uint8, 1797)
    assert images[:, :4].max() == images[:, :, -4:].max() == 0
    assert images.max() > 200
