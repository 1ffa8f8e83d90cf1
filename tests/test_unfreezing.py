"""Shares of the learning rate: who moves, by how much, and that nothing else differs."""

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import unfreezing

POCKET = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")
FULL = tl.editions.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")


def _model(optimizer):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, name=f"block_{n}_dense") for n in (3, 4)]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2, name="head")])
    model.compile(optimizer, "mse")
    return model


def _steps(model, n=5):
    rng = np.random.default_rng(0)
    before = model.get_weights()
    model.fit(
        rng.normal(size=(8 * n, 3)), rng.normal(size=(8 * n, 2)), batch_size=8, shuffle=False, verbose=0
    )
    return [new - old for new, old in zip(model.get_weights(), before, strict=True)]


GROUPS = ("block_3", "block_4", "head")


def test_shares_of_one_are_adam_itself():
    plain = _steps(_model(keras.optimizers.Adam(0.01)))
    shared = _steps(_model(unfreezing.GroupAdam(0.01, GROUPS)))
    for a, b in zip(plain, shared, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_share_scales_the_step_and_zero_stops_it():
    plain = _steps(_model(keras.optimizers.Adam(0.01)), n=1)
    adam = unfreezing.GroupAdam(0.01, GROUPS)
    model = _model(adam)
    adam.shares.assign([0.0, 0.25, 1.0])
    shared = _steps(model, n=1)
    for place, share in enumerate((0.0, 0.25, 1.0)):
        for variable in (2 * place, 2 * place + 1):
            np.testing.assert_allclose(shared[variable], share * plain[variable], rtol=1e-3, atol=1e-8)


def test_shares_change_without_another_compile():
    adam = unfreezing.GroupAdam(0.01, GROUPS)
    model = _model(adam)
    adam.shares.assign([0.0, 0.0, 1.0])
    first = _steps(model)
    adam.shares.assign([1.0, 0.0, 0.0])
    second = _steps(model)
    assert [np.abs(change).max() > 0 for change in first] == [False] * 4 + [True] * 2
    assert [np.abs(change).max() > 0 for change in second] == [True] * 2 + [False] * 4


def test_a_layer_of_no_group_is_refused():
    with pytest.raises(ValueError, match=r"block_4_dense/kernel: expected a layer of one of block_3, head"):
        _steps(_model(unfreezing.GroupAdam(0.01, ("block_3", "head"))))


def test_every_variable_that_trains_belongs_to_a_group_and_no_block_to_two():
    suffix = unfreezing._network(POCKET).suffix
    layers = {variable.path.split("/")[-2] for variable in suffix.trainable_variables}
    of = {
        layer: [g for g in unfreezing.GROUPS if layer == g or layer.startswith(f"{g}_")] for layer in layers
    }
    assert all(len(groups) == 1 for groups in of.values()), of
    assert {groups[0] for groups in of.values()} == set(unfreezing.GROUPS)


def test_what_the_ways_do():
    by_way = {way: [unfreezing.shares(way, epoch) for epoch in range(20)] for way in unfreezing.WAYS}
    assert all((share[-1] == 1).all() for shares in by_way.values() for share in shares)  # the head's
    head_only, at_once, discriminative, gradual, probe = by_way.values()
    assert all(share.sum() == 1 for share in head_only)
    assert all(share.sum() == 8 for share in at_once)
    np.testing.assert_allclose(discriminative[0][1:] / discriminative[0][:-1], 2.6, rtol=1e-5)
    assert [share.sum() for share in gradual[:9]] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert [share.sum() for share in probe] == [1] * 10 + [8] * 10


def test_an_unknown_way_is_refused():
    with pytest.raises(LookupError, match="gradual"):
        unfreezing.shares("gradual unfreezin", 0)
    with pytest.raises(LookupError, match="all at once"):
        unfreezing.measure(POCKET, "all at onc", seed=0, rate=0.001)


def test_a_training_does_not_depend_on_what_was_trained_before(monkeypatch):
    monkeypatch.setattr(unfreezing, "EPOCHS", 2)
    first = unfreezing.measure(POCKET, "all at once", seed=0, rate=0.001)
    other = unfreezing.measure(POCKET, "all at once", seed=1, rate=0.003)
    again = unfreezing.measure(POCKET, "all at once", seed=0, rate=0.001)
    names = [name for name in first if name.endswith("accuracy")]
    assert [first[name] for name in names] == [again[name] for name in names]
    assert [first[name] for name in names] != [other[name] for name in names]


def test_head_only_leaves_the_blocks_alone(monkeypatch):
    monkeypatch.setattr(unfreezing, "EPOCHS", 1)
    network = unfreezing._network(POCKET)
    unfreezing.measure(POCKET, "head only", seed=0, rate=0.001)
    moved = {
        variable.path.split("/")[-2]
        for variable, old in zip(network.suffix.weights, network.weights, strict=True)
        if not np.array_equal(variable.numpy(), old)
    }
    assert moved == {"head"}


@pytest.mark.parametrize("labels", [0, 25, -10, 10_000])
def test_a_draw_that_cannot_be_is_refused(labels):
    with pytest.raises(ValueError, match=f"expected a multiple of 10 classes, from 10 to .* got {labels}"):
        unfreezing.draw(tl.load_dataset("digits").train, labels, seed=0)


def test_foreign_digits_are_framed_like_mnist():
    images, labels = unfreezing.shifted(FULL)
    assert images.shape == (1797, 28, 28)
    assert images.dtype == np.uint8
    assert len(labels) == 1797
    assert images[:, :4].max() == images[:, :, -4:].max() == 0
    assert images.max() > 200
