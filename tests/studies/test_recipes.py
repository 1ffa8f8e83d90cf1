"""Recipes: the article's two phases, kept by content, and handed over only when they are the recipe."""

import resource
import signal
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import log_loss

import tlhelpers as tl
from tlhelpers import page
from tlhelpers.backbones import feature_extractor
from tlhelpers.studies import recipes

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


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


def handed_over(model, *, epochs=recipes.HEAD_EPOCHS, learning_rate=0.001, steps=30):
    """Hand over what `fit` would leave in a chapter's model, without the training; whether it was kept."""
    _, suffix = tl.split(model, at="pool")
    suffix.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy")
    suffix.optimizer.iterations.assign(steps)
    history = keras.callbacks.History()
    history.set_params({"epochs": epochs})
    names = ("accuracy", "loss", "val_accuracy", "val_loss")
    history.epoch, history.history = [*range(epochs)], {name: [1.0] * epochs for name in names}
    return recipes.keep(model, suffix, history, edition=POCKET)


@pytest.fixture
def no_training(monkeypatch):
    """Call it, and whoever trains after that fails."""
    return lambda: monkeypatch.setattr(keras.Model, "fit", lambda *a, **k: pytest.fail("trained again"))


@pytest.fixture(scope="module")
def first_blocks():
    whole = tl.load_backbone(POCKET.backbone)
    return keras.Model(whole.inputs, whole.get_layer("block_2_add").output, name="backbone")


@pytest.fixture
def small(first_blocks, monkeypatch):
    """The backbone's first blocks in its place: the recipes are the same, and quicker made and traced."""

    def copy(name, **how):
        blocks = keras.models.clone_model(first_blocks)
        blocks.set_weights(first_blocks.get_weights())
        return blocks

    monkeypatch.setattr(recipes, "load_backbone", copy)


@pytest.fixture(scope="module")
def trained_head(tmp_path_factory):
    """A cache where the head of two tests lies."""
    return tmp_path_factory.mktemp("head")


@pytest.mark.usefixtures("small")
def test_the_head_trains_once_and_the_backbone_does_not(trained_head, no_training, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(trained_head))
    start = recipes.article_model(POCKET)
    trained = recipes.article_head(POCKET)
    assert list(trained.history.epoch) == list(range(1, 11))
    assert trained.history.loss.iloc[-1] < trained.history.loss.iloc[0]
    assert same(start.get_layer("backbone"), trained.model.get_layer("backbone"))
    assert not same(start.get_layer("head"), trained.model.get_layer("head"))
    # The second call reads; another seed is another run, of another head.
    no_training()
    again = recipes.article_head(POCKET)
    assert same(trained.model, again.model)
    np.testing.assert_allclose(trained.history.loss, again.history.loss, rtol=1e-9)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        recipes.article_head(POCKET, seed=1)
    assert not same(start.get_layer("head"), recipes.article_model(POCKET, seed=1).get_layer("head"))


def test_a_damaged_result_is_said_and_computed_again(tmp_path):
    path, model = tmp_path / "a.npz", keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    recipes._store(path, model, pd.DataFrame({"epoch": [1], "loss": [1 / 3]}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored, history = recipes._read(path)
    assert all(np.array_equal(a, b) for a, b in zip(stored, weights(model), strict=True))
    assert history.loss[0] == pytest.approx(1 / 3)
    whole = path.read_bytes()
    places = [whole.index(each.tobytes()) for each in stored] + [whole.index(b"l\0\0\0o\0\0\0s\0\0\0s")]
    changed = [whole[:place] + b"x" + whole[place + 1 :] for place in places]
    for damaged in (b"", whole[:-9], whole[: len(whole) // 2], *changed):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match="is damaged .* it is computed again"):
            assert recipes._read(path) is None
    recipes._store(path, model, history)
    assert recipes._read(path)
    path.rename(tmp_path / "b.npz")
    with pytest.warns(UserWarning, match="is damaged"):
        assert recipes._read(tmp_path / "b.npz") is None  # another recipe's


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path):
    model = keras.Sequential([keras.Input((400,)), keras.layers.Dense(400)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(tl.cache.CacheError, match="got File too large"):
            recipes._store(tmp_path / "a.npz", model, pd.DataFrame({"epoch": [1]}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_fine_tuning_changes_the_top_and_leaves_the_rest(trained_head, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(trained_head))
    head = recipes.article_head(POCKET).model.get_layer("backbone")
    last = len(head.layers) - 3
    tuned = recipes.article_fine_tuned(POCKET, train_from=last)
    backbone = tuned.model.get_layer("backbone")
    assert list(tuned.history.epoch) == list(range(11, 16))
    changed = [
        position
        for position, (old, new) in enumerate(zip(head.layers, backbone.layers, strict=True))
        if not all(np.array_equal(a, b) for a, b in zip(weights(old), weights(new), strict=True))
    ]
    # Convolution and BatchNorm; the last layer, a sum, has no weights.
    assert changed == [last, last + 1]
    assert [layer.trainable for layer in backbone.layers[-5:]] == [False, False, True, True, True]


def test_the_cut_lies_before_what_trains():
    model = recipes.article_model(POCKET)
    layers = model.get_layer("backbone").layers
    cuts = {100: "block_10_project_BN", 151: "block_16_project_BN", 0: "three_channels"}
    assert {place: recipes.last_cut_before(model, layers[place].name) for place in cuts} == cuts


@pytest.mark.usefixtures("small")
def test_what_was_run_otherwise_is_not_kept(capsys, tmp_path, no_training):
    no_training()
    model = recipes.article_model(POCKET)
    average = model.get_layer("backbone").layers[2].moving_mean
    for how, message in (
        ({"epochs": 2}, "epochs (recipe 10, here 2)"),
        ({"learning_rate": 0.01}, "optimizer"),
        ({"steps": 60}, "steps (recipe 30, here 60)"),
    ):
        assert not handed_over(model, **how)
        assert message in capsys.readouterr().out
    before = average.numpy()
    average.assign(before + 1e-3)
    assert not handed_over(model)
    assert "frozen weights" in capsys.readouterr().out
    average.assign(before)
    scale = model.get_layer("prepare").get_layer("scale")
    kept, scale.scale = scale.scale, 1 / 127.5
    assert not handed_over(model)
    assert "layers" in capsys.readouterr().out
    assert not list(tmp_path.glob("cache/recipes/*"))
    scale.scale = kept
    assert handed_over(model)
    assert recipes.article_head(POCKET).history.loss.tolist() == [1.0] * 10


def test_our_model_trains_its_middle_and_ends_early():
    backbone = recipes.our_model(POCKET).get_layer("backbone")
    trains = [layer.name for layer in backbone.layers if layer.trainable]
    assert (trains[0], trains[-1]) == ("block_3_expand", "block_9_add")
    momenta = {layer.momentum for layer in backbone.layers if hasattr(layer, "momentum")}
    assert momenta == {0.95}


def test_copies_are_new_small_changes_and_a_seed_repeats_them():
    data = recipes.datasets.load_dataset("digits").train
    images, labels = recipes.augmented(data.images, data.labels, copies=2, seed=3)
    originals, first, second = np.split(images.astype("float32"), 3)
    np.testing.assert_array_equal(originals, data.images)
    np.testing.assert_array_equal(labels, np.tile(data.labels, 3))
    untouched, _ = recipes.augmented(data.images / 255, data.labels, copies=0)
    np.testing.assert_array_equal(untouched, data.images / 255)
    # Each copy is closer to its own original than to the next digit, differs from it and from the other.
    for copy in (first, second):
        own = np.abs(copy - originals).mean(axis=(1, 2))
        other = np.abs(copy - np.roll(originals, 1, axis=0)).mean(axis=(1, 2))
        assert (own > 0).all()
        assert (own < other).mean() > 0.9
    assert (first != second).any(axis=(1, 2)).all()
    again, _ = recipes.augmented(data.images, data.labels, copies=2, seed=3)
    np.testing.assert_array_equal(again, images)
    other_seed, _ = recipes.augmented(data.images, data.labels, copies=2, seed=4)
    assert (other_seed != images).any()


SOME = np.zeros((3, 8, 8)), np.zeros(3, int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: recipes.augmented(SOME[0][..., None], SOME[1]),
            r"images: expected grey images \(n, height, width\)",
        ),
        (lambda: recipes.augmented(SOME[0][:0], SOME[1][:0]), r"one at least, got float64 \(0, 8, 8\)"),
        (lambda: recipes.augmented(SOME[0], SOME[1][:2]), "labels: expected 3 whole numbers, one for each"),
        (lambda: recipes.augmented(*SOME, copies=-1), "copies: expected 0 or more, got -1"),
        (lambda: recipes.compile_as_ours(keras.Sequential(), steps=9), "steps: expected 10 or more, got 9"),
        (lambda: recipes.our_classifier(POCKET, limit=100), "limit: expected 128 or more, got 100"),
        (lambda: recipes.our_classifier(POCKET, limit=0), "limit: expected 128 or more, got 0"),
        (
            lambda: recipes.article_fine_tuned(POCKET, train_from=154),
            "train_from: expected 0 to 153, got 154",
        ),
        (lambda: recipes.article_fine_tuned(POCKET, train_from=-1), "train_from: expected 0 to 153, got -1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_trains(call, message, no_training):
    no_training()
    with pytest.raises(ValueError, match=message):
        call()


def test_the_learning_rate_warms_up_and_then_goes_down():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(10, activation="softmax")])
    recipes.compile_as_ours(model, steps=100)
    for step, rate in ((0, 0), (5, 0.001), (10, 0.002), (55, 0.001), (100, 0)):
        model.optimizer.iterations.assign(step)
        assert float(model.optimizer.learning_rate) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize(
    "compile_as", [recipes.compile_as_article, lambda model: recipes.compile_as_ours(model, steps=20)]
)
def test_the_training_step_is_traced_once(compile_as, monkeypatch):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(10, activation="softmax")])
    compile_as(model)
    traced = []
    step = model.train_step
    monkeypatch.setattr(model, "train_step", lambda data: traced.append(1) or step(data))
    model.fit(np.ones((8, 4)), np.zeros(8), verbose=0)
    assert traced == [1]


def test_a_classic_network_starts_anew_at_each_training():
    data = recipes.datasets.load_dataset("digits")
    network = recipes.classic_network("mobilenet_v2_glyphs", (8, 8), 32, 10, "block_16_project")
    few, penalty = data.train, 0.05
    how = {"penalty": penalty, "epochs": 2, "batch_size": 32}
    first, other, again, start = (
        recipes.train_classic(network, few, data.validation, data.test, seed=seed, rate=rate, **how)
        for seed, rate in ((0, 0.001), (1, 0.001), (0, 0.001), (0, 0.0))
    )
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()
    np.testing.assert_allclose(first[1].sum(axis=1), 1, rtol=1e-5)
    trains = {weight.path.split("/")[0] for weight in network.suffix.trainable_weights}
    assert trains == {"block_16_project", "Conv_1", "head"}  # BatchNorm is frozen
    # It starts as a linear probe on the frozen features, its scale the best one for validation's loss.
    see = feature_extractor("mobilenet_v2_glyphs", (8, 8), cuts=["out_relu"], image_size=32, pool=True)
    x, seen = (see.predict(part.images, verbose=0) for part in (few, data.test))
    probe = RidgeClassifier(penalty * ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()).fit(x, few.labels)
    assert (start[1].argmax(axis=1) != probe.predict(seen)).sum() <= 1  # one may lie on a border
    powers = [start[0] ** power for power in (0.8, 1, 1.25)]
    losses = [log_loss(data.validation.labels, each / each.sum(axis=1, keepdims=True)) for each in powers]
    assert np.argmin(losses) == 1
