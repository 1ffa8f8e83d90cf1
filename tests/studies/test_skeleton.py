"""What all studies share: exact draws, choices by validation, networks that begin again."""

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import tlhelpers as tl
from tlhelpers.evaluation import linear_probe
from tlhelpers.studies import skeleton

LABELS = np.array([1, 0, 2, 0, 1, 2, 2, 0, 1, 0, 2, 1, 0, 1, 2, 0, 2, 1])


def test_a_draw_is_the_one_that_the_tables_were_measured_with():
    """Every table rests on these positions: another rule, as good as this one, would be another table."""
    assert skeleton.balanced(LABELS, 9, seed=0).tolist() == [9, 7, 15, 13, 17, 4, 10, 6, 2]
    assert skeleton.balanced(LABELS, 6, seed=1).tolist() == [12, 1, 8, 11, 5, 16]
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    drawn = skeleton.in_proportion(labels, 10, seed=0)
    assert drawn.tolist() == [2, 97, 76, 10, 11, 89, 75, 73, 28, 41]
    assert np.bincount(labels[drawn]).tolist() == [5, 3, 2]
    assert skeleton.in_proportion(labels, 10, seed=1).tolist() == [27, 60, 35, 38, 95, 40, 85, 69, 2, 70]
    assert skeleton.in_proportion(labels, 100, seed=0).tolist() == list(range(100))
    with pytest.raises(ValueError, match=r"enough for every class, got 10: none of \[1\]"):
        skeleton.in_proportion(np.repeat([0, 1], [97, 3]), 10, seed=0)


@pytest.mark.parametrize("rule", [skeleton.balanced, skeleton.in_proportion])
def test_a_draw_gives_positions_whatever_index_a_column_has(rule):
    column = pd.Series(LABELS, index=np.arange(len(LABELS))[::-1] + 100)
    np.testing.assert_array_equal(rule(column, 9, seed=0), rule(LABELS, 9, seed=0))


@pytest.mark.parametrize("number", [0, 4, -3, 21])
def test_a_balanced_draw_that_cannot_be_is_refused(number):
    with pytest.raises(ValueError, match=rf"multiple of 3 classes, from 3 to 18 .* got {number}"):
        skeleton.balanced(LABELS, number, seed=0)


@pytest.mark.parametrize("how", [{}, {"rule": skeleton.in_proportion}])
def test_examples_are_drawn_by_the_rule_and_the_seed(how):
    train = tl.load_dataset("digits").train
    few = skeleton.draw(train, 50, seed=3, **how)
    kept = how.get("rule", skeleton.balanced)(train.labels, 50, seed=3)
    np.testing.assert_array_equal(few.images, train.images[kept])
    np.testing.assert_array_equal(few.labels, train.labels[kept])


def test_the_first_of_the_best_is_chosen():
    tried = {0.001: 0.8, 0.01: 0.9, 0.1: 0.9}
    assert skeleton.best(tried) == 0.01
    assert skeleton.in_words(tried) == "0.001: 0.8000; 0.01: 0.9000; 0.1: 0.9000"


def noisy(seed, n, *, gain):
    """Features (n, 2, 3) and two classes that they part the better, the larger the gain."""
    labels = np.arange(n) % 2
    return np.random.default_rng(seed).normal(size=(n, 2, 3)) + gain * labels[:, None, None], labels


def regression(width):
    return LogisticRegression()


@pytest.mark.parametrize("start", [1, 8, 32, 64])
def test_a_climb_ends_between_neighbours_that_are_no_better(start):
    rates, asked = [1, 2, 4, 8, 16, 32, 64], []
    rate, tried = skeleton.climb(rates, start, lambda rate: asked.append(rate) or -abs(rate - 9))
    assert rate == 8
    assert {4, 8, 16} <= set(tried) == set(asked)
    assert len(asked) == len(set(asked))


def test_a_search_is_fitted_to_train_and_chooses_by_validation():
    asked = []

    def grid(width):
        asked.append(width)
        return {"C": [1e-6, 1.0]}

    clear, labels = noisy(0, 30, gain=2)
    noise, _ = noisy(1, 30, gain=0)
    held, held_labels = noisy(2, 20, gain=2)
    other, _ = noisy(3, 20, gain=0)
    train, validation = {"noise": noise, "clear": clear}, {"noise": other, "clear": held}
    found = skeleton.search(regression, grid, train, labels, validation, held_labels)
    assert asked == [6, 6]
    assert found.features == "clear"
    alone = LogisticRegression(C=found.settings["C"]).fit(clear.reshape(30, 6), labels)
    np.testing.assert_array_equal(found.classifier.coef_, alone.coef_)
    assert found.score == alone.score(held.reshape(20, 6), held_labels)
    # Turned round, validation is got wrong. What was fitted to it would know better.
    on_clear = (regression, grid, {"x": clear}, labels, {"x": held})
    assert skeleton.search(*on_clear, 1 - held_labels).score <= 0.5
    by_loss = skeleton.search(*on_clear, held_labels, scoring="neg_log_loss")
    assert by_loss.settings == {"C": 1.0}
    assert by_loss.score < 0


def test_a_search_keeps_the_first_of_equals_and_takes_texts():
    texts, labels = np.array(["good film", "bad film"] * 5, object), np.array([1, 0] * 5)

    def classifier(width):
        assert width == 1
        return make_pipeline(CountVectorizer(), LogisticRegression())

    grid = {"logisticregression__C": [0.5, 0.1, 1.0]}
    twice = {"a": texts, "b": texts}
    found = skeleton.search(classifier, lambda width: grid, twice, labels, twice, labels)
    assert (found.features, found.settings, found.score) == ("a", {"logisticregression__C": 0.5}, 1.0)


def test_probes_are_searched_by_the_penalty_for_each_feature():
    x, labels = noisy(0, 30, gain=2)
    held, held_labels = noisy(2, 20, gain=2)
    found, choice = skeleton.search_probes([10.0, 0.5], {"x": x}, labels, {"x": held}, held_labels)
    alone = {penalty: linear_probe(x, labels, held, held_labels, penalty=penalty) for penalty in (10.0, 0.5)}
    assert found.score == max(alone.values())
    assert choice == f"x, penalty {skeleton.best(alone):g}"


@pytest.mark.parametrize("scaled", [False, True])
def test_logistic_regressions_are_searched_by_their_penalty(scaled):
    (x, labels), (held, held_labels) = noisy(0, 30, gain=0.3), noisy(2, 20, gain=0.3)
    x, held = ((part * [1, 50, 1]).reshape(len(part), -1) for part in (x, held))
    how = {"steps": 300, "scaled": scaled, "scoring": "roc_auc"}
    found, choice = skeleton.search_logistic([1e-4, 1.0], {"x": x}, labels, {"x": held}, held_labels, **how)
    areas = {}
    for c in (1e-4, 1.0):
        scale = StandardScaler().fit(x) if scaled else FunctionTransformer()
        alone = LogisticRegression(C=c, max_iter=300).fit(scale.transform(x), labels)
        scores = alone.decision_function(scale.transform(held))
        areas[f"C {c:g}"] = roc_auc_score(held_labels, scores)
        if choice == f"C {c:g}":
            np.testing.assert_allclose(found.classifier.decision_function(held), scores)
    assert found.score == areas[choice] == max(areas.values()) > min(areas.values())


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(4, name="first"),
        keras.layers.Activation("relu", name="pool"),
        keras.layers.Dropout(0.5, seed=0, name="dropout"),
        keras.layers.Dense(2, activation="softmax", name="head"),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    return model


def data(n=8):
    return np.random.default_rng(0).normal(size=(n, 3)).astype("float32"), np.arange(n) % 2


def test_a_network_that_is_set_back_has_seen_nothing(model):
    model.optimizer.build(model.trainable_variables)
    network = skeleton.Network(keras.Sequential([keras.Input((3,))]), model, model.get_weights())
    runs = []
    for seed, rate in ((0, 0.1), (1, 0.1), (0, 0.05), (0, 0.1)):
        network.reset(rate, seed)
        head = model.get_layer("head").get_weights()
        assert (head[1] == 0).all()
        np.testing.assert_array_equal(model.get_layer("first").get_weights()[0], network.weights[0])
        skeleton.fit_with_cosine(model, *data(), rate=rate, epochs=2, batch_size=4, seed=seed)
        runs.append([head[0], *model.get_weights()])
    first, other_seed, other_rate, again = runs
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other_seed[0]).any()
    assert (first[0] == other_rate[0]).all()
    assert (first[1] != other_rate[1]).any()


def test_what_the_head_reads_follows_the_network(model):
    """From the suffix's own input, with the weights that it has now, and nothing dropped."""
    prefix, suffix = tl.split(model, at="first")
    network = skeleton.Network(prefix, suffix, suffix.get_weights())
    x, _ = data()
    for factor in (1, 2):
        model.get_layer("first").set_weights(
            [factor * each for each in model.get_layer("first").get_weights()]
        )
        between = prefix.predict(x, verbose=0)
        np.testing.assert_allclose(network.read.predict(between, verbose=0), np.maximum(between, 0))
    assert network.read is network.read


def test_forgetting_gives_weights_dropout_optimiser_and_rate(model):
    weights = model.get_weights()
    model.fit(*data(), verbose=0)
    skeleton.forget(model, weights, rate=0.25, seed=7)
    state = model.get_layer("dropout").seed_generator.state
    assert state.numpy().tolist() == [7, 0]
    kept = [w.numpy() for w in model.weights if w is not state]
    before = [w for w in weights if w.dtype != np.uint32]
    assert all((a == b).all() for a, b in zip(kept, before, strict=True))
    assert float(model.optimizer.learning_rate) == 0.25
    others = [v for v in model.optimizer.variables if v is not model.optimizer._learning_rate]
    assert all((v.numpy() == 0).all() for v in others)


def test_the_rate_follows_a_cosine_to_zero(model):
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(float(model.optimizer.learning_rate))
    )
    skeleton.fit_with_cosine(model, *data(), rate=0.2, epochs=4, batch_size=4, seed=0, callbacks=[watch])
    assert seen == pytest.approx([0.2, 0.1 * (1 + 0.5**0.5), 0.1, 0.1 * (1 - 0.5**0.5)])


def test_the_seed_orders_the_batches(model):
    found, weights = [], model.get_weights()
    for seed in (0, 1, 0):
        skeleton.forget(model, weights, rate=0.1, seed=0)
        skeleton.fit_with_cosine(model, *data(), rate=0.1, epochs=1, batch_size=2, seed=seed)
        found.append(model.get_layer("head").get_weights()[0])
    assert (found[0] == found[2]).all()
    assert (found[0] != found[1]).any()


def test_few_examples_are_shown_several_times_and_the_best_epoch_stays(model):
    model.optimizer.learning_rate = 1.0  # so high that it goes up and down
    x, labels = noisy(5, 40, gain=1)
    held = x[:, 0].astype("float32"), labels
    stopping = {"monitor": "val_loss", "batch_size": 4, "steps": 10, "patience": 3, "epochs": 30}
    keras.utils.set_random_seed(0)
    history = skeleton.fit_few(model, *data(), held, **stopping)
    # Eight examples are two steps, so they come five times.
    assert int(model.optimizer.iterations) == 10 * len(history)
    assert len(history) == np.argmin(history) + 1 + 3
    assert model.evaluate(*held, verbose=0) == pytest.approx(min(history), rel=1e-5)
