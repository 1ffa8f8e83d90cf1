"""Recipes: the article's two phases, kept by content, and handed over only when they are the recipe."""

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import recipes

POCKET = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")


@pytest.fixture(autouse=True)
def _few_digits(monkeypatch):
    """A tenth of the digits: the code is the same, the time is not."""
    whole = tl.datasets.load_dataset
    monkeypatch.setattr(recipes.datasets, "load_dataset", lambda name: whole(name, limit=96))


def weights(model: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]


def same(one: keras.Model, other: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def by_hand(model, *, at="pool", epochs=recipes.HEAD_EPOCHS, learning_rate=0.001, times=1):
    """Train as a chapter does, in a chapter's lines."""
    data = recipes.datasets.load_dataset("digits")
    prefix, suffix = tl.split(model, at=at)
    train, validation = (tl.precompute(prefix, part.images) for part in (data.train, data.validation))
    suffix.compile(
        keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    keras.utils.set_random_seed(0)
    for _ in range(times):
        history = suffix.fit(
            *(train, data.train.labels),
            validation_data=(validation, data.validation.labels),
            epochs=epochs,
            verbose=0,
        )
    return suffix, history


def test_the_head_trains_and_the_backbone_does_not():
    start = tl.recipes.article_model(POCKET)
    trained = tl.recipes.article_head(POCKET)
    assert list(trained.history.epoch) == list(range(1, 11))
    assert trained.history.loss.iloc[-1] < trained.history.loss.iloc[0]
    assert same(start.get_layer("backbone"), trained.model.get_layer("backbone"))
    assert not same(start.get_layer("head"), trained.model.get_layer("head"))


def test_the_second_call_reads_and_a_seed_is_another_run(monkeypatch):
    first = tl.recipes.article_head(POCKET)
    other_seed = tl.recipes.article_head(POCKET, seed=1)
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **k: pytest.fail("trained again"))
    again = tl.recipes.article_head(POCKET)
    assert same(first.model, again.model)
    np.testing.assert_allclose(first.history.loss, again.history.loss, rtol=1e-9)
    assert not same(first.model, other_seed.model)


def test_fine_tuning_changes_the_top_and_leaves_the_rest():
    head = tl.recipes.article_head(POCKET).model.get_layer("backbone")
    tuned = tl.recipes.article_fine_tuned(POCKET, train_from=151)
    backbone = tuned.model.get_layer("backbone")
    assert list(tuned.history.epoch) == list(range(11, 16))
    changed = [
        position
        for position, (old, new) in enumerate(zip(head.layers, backbone.layers, strict=True))
        if not all(np.array_equal(a, b) for a, b in zip(weights(old), weights(new), strict=True))
    ]
    # Convolution and BatchNorm; the last layer, an activation, has no weights.
    assert changed == [151, 152]
    assert [layer.trainable for layer in backbone.layers[149:]] == [False, False, True, True, True]


def test_the_cut_lies_before_what_trains():
    model = tl.recipes.article_model(POCKET)
    assert recipes.last_cut_before(model, 100) == "block_10_project_BN"
    assert recipes.last_cut_before(model, 151) == "block_16_project_BN"
    assert recipes.last_cut_before(model, 0) == "three_channels"


def test_what_was_run_as_the_recipe_says_is_kept(monkeypatch):
    model = tl.recipes.article_model(POCKET)
    suffix, history = by_hand(model)
    assert tl.recipes.keep(model, suffix, history, edition=POCKET)
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **k: pytest.fail("trained again"))
    assert same(tl.recipes.article_head(POCKET).model, model)


def test_fine_tuning_by_hand_is_kept_for_the_chapters_after_it(monkeypatch):
    model = tl.recipes.article_head(POCKET).model
    tl.freeze(model.get_layer("backbone"), train_from=100, batch_norm="train")
    suffix, history = by_hand(model, at="block_10_project_BN", epochs=recipes.FINE_TUNE_EPOCHS)
    assert tl.recipes.keep(model, suffix, history, edition=POCKET)
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **k: pytest.fail("trained again"))
    assert same(tl.recipes.article_fine_tuned(POCKET).model, model)


def test_other_preparation_is_not_kept(capsys):
    model = tl.recipes.article_model(POCKET)
    model.get_layer("prepare").get_layer("scale").scale = 1 / 127.5
    suffix, history = by_hand(model)
    assert not tl.recipes.keep(model, suffix, history, edition=POCKET)
    assert "layers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 2}, "epochs (recipe 10, here 2)"),
        ({"learning_rate": 0.01}, "optimizer"),
        ({"times": 2}, "steps (recipe 30, here 60)"),
    ],
)
def test_what_was_run_otherwise_is_not_kept(change, message, capsys, tmp_path):
    model = tl.recipes.article_model(POCKET)
    suffix, history = by_hand(model, **change)
    assert not tl.recipes.keep(model, suffix, history, edition=POCKET)
    assert message in capsys.readouterr().out
    assert not list((tmp_path / "cache").glob("recipes/*"))


def test_moved_frozen_weights_are_not_kept(capsys):
    model = tl.recipes.article_model(POCKET)
    suffix, history = by_hand(model)
    average = model.get_layer("backbone").layers[2].moving_mean
    average.assign(average + 1e-3)
    assert not tl.recipes.keep(model, suffix, history, edition=POCKET)
    assert "frozen weights" in capsys.readouterr().out


def test_an_index_beyond_the_backbone_is_refused_before_anything_trains(monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **k: pytest.fail("trained"))
    for beyond in (154, -1):
        with pytest.raises(ValueError, match="train_from: expected an index into 154 backbone layers"):
            tl.recipes.article_fine_tuned(POCKET, train_from=beyond)


def test_an_unknown_data_set_says_which_there_are():
    edition = tl.editions.Edition("pocket", "digit", "mobilenet_v2_glyphs", "a test")
    with pytest.raises(LookupError, match="did you mean 'digits'"):
        tl.recipes.article_model(edition)
