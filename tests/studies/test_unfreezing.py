"""Learning-rate multipliers: who moves, by how much, and that nothing else differs."""

import keras
import numpy as np
import pytest

from tlhelpers import page, studies
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
    suffix = unfreezing._network(POCKET).suffix
    layers = {variable.path.split("/")[-2] for variable in suffix.trainable_variables}
    of = [[g for g in unfreezing.GROUPS if layer == g or layer.startswith(f"{g}_")] for layer in layers]
    assert all(len(groups) == 1 for groups in of), of
    assert {groups[0] for groups in of} == set(unfreezing.GROUPS)


def test_what_the_ways_do():
    by_way = {way: [unfreezing.multipliers(way, epoch) for epoch in range(20)] for way in unfreezing.WAYS}
    assert all(each[-1] == 1 for epochs in by_way.values() for each in epochs)  # the head's
    head_only, at_once, discriminative, gradual, probe = by_way.values()
    assert all(each.sum() == 1 for each in head_only)
    assert all(each.sum() == 8 for each in at_once)
    np.testing.assert_allclose(discriminative[0][1:] / discriminative[0][:-1], 2.6, rtol=1e-5)
    assert [each.sum() for each in gradual[:9]] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert [each.sum() for each in probe] == [1] * 10 + [8] * 10
    with pytest.raises(LookupError, match="gradual"):
        unfreezing.multipliers("gradual unfreezin", 0)


def test_a_training_does_not_depend_on_what_was_trained_before(monkeypatch):
    monkeypatch.setattr(unfreezing, "EPOCHS", 2)
    network = unfreezing._network(POCKET)
    first = unfreezing.train(POCKET, "all at once", seed=0, rate=0.001)
    other = unfreezing.train(POCKET, "head only", seed=1, rate=0.003)
    moved = {
        variable.path.split("/")[-2]
        for variable, old in zip(network.suffix.weights, network.weights, strict=True)
        if not np.array_equal(variable.numpy(), old) and "seed" not in variable.path
    }
    assert moved == {"head"}
    again = unfreezing.train(POCKET, "all at once", seed=0, rate=0.001)
    for found in (first, other, again):
        del found["cpu_seconds"]
    assert first == again != other


def test_seed_0_tries_the_rates_and_a_row_comes_out_again(monkeypatch):
    found = studies.check_one(unfreezing.STUDY, edition=POCKET, which=1).iloc[0]
    assert abs(found.now - found.then) <= found.allowed
    asked = []

    def train(edition, way, *, seed, rate):
        asked.append((seed, rate))
        return {"validation_accuracy": 0.9 if rate in (0.01, 0.03) else 0.5, "cpu_seconds": 1.0}

    monkeypatch.setattr(unfreezing, "train", train)
    unfreezing._tried.cache_clear()
    tried = "0.001: 0.5000; 0.003: 0.5000; 0.01: 0.9000; 0.03: 0.9000; 0.1: 0.5000"
    for seed in (0, 4):
        row = unfreezing.STUDY.row(POCKET, "head only", seed)
        assert (row["learning_rate"], row["tried"]) == (0.01, tried)
    assert asked == [*((0, rate) for rate in unfreezing.RATES), (4, 0.01)]
    unfreezing._tried.cache_clear()
    assert len(unfreezing.STUDY.grid(POCKET)) == 5 * 10


def test_foreign_digits_are_framed_like_mnist_or_changed_copies():
    assert unfreezing.shifted(POCKET)[0].shape == (1500, 8, 8)
    images, labels = unfreezing.shifted(FULL)
    assert (images.shape, images.dtype, len(labels)) == ((1797, 28, 28), np.uint8, 1797)
    assert images[:, :4].max() == images[:, :, -4:].max() == 0
    assert images.max() > 200
