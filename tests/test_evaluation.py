"""Numbers against values worked out by hand or by a second, plain formula."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tlhelpers import evaluation

NAMES = ["cat", "dog", "owl"]
LABELS = np.array([0, 1, 1, 2])
CHANCES = np.array([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
HISTORY = {"accuracy": [0.4, 0.6], "loss": [1.6, 1.2], "val_accuracy": [0.5, 0.7], "val_loss": [1.3, 1.0]}
TEN = [str(i) for i in range(10)]


@pytest.fixture
def many() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Five hundred labels of ten classes and softmax outputs that are often right."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 10, 500)
    chances = np.exp(rng.normal(size=(500, 10)) + 2 * np.eye(10)[labels])
    return labels, (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)


def test_worked_by_hand() -> None:
    result = evaluation.evaluate(LABELS, CHANCES, NAMES)
    assert (result.n, result.accuracy) == (4, 0.5)
    assert result.loss == pytest.approx(-np.log([0.8, 0.6, 0.2, 0.2]).mean())
    assert result.confusion.to_numpy().tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 0]]  # rows: true classes
    assert (result.confusion.index.name, result.confusion.columns.name) == ("true", "predicted")
    cat, dog, owl = result.per_class.to_dict("records")
    assert (cat["precision"], cat["recall"], cat["f1"], cat["support"]) == pytest.approx((1 / 3, 1, 0.5, 1))
    assert (dog["precision"], dog["recall"], dog["support"]) == pytest.approx((1, 0.5, 2))
    assert np.isnan(owl["precision"])  # never predicted
    assert owl["recall"] == 0


def test_interval_and_calibration_against_plain_formulas(many: Any) -> None:
    labels, chances = many
    result = evaluation.evaluate(labels, chances, TEN)
    n, p, z = 500, result.accuracy, 1.959964  # Wilson's interval
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert result.interval == pytest.approx((middle - half, middle + half), abs=1e-6)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected > 0.01
    assert result.calibration_error == pytest.approx(expected, abs=1e-6)
    assert (len(result.reliability), result.reliability["count"].sum()) == (15, 500)


def test_bins_include_their_upper_edge_and_may_be_empty() -> None:
    result = evaluation.evaluate([0, 1], [[0.6, 0.4], [0.0, 1.0]], ["a", "b"])
    assert result.reliability["count"].tolist() == [0] * 8 + [1] + [0] * 5 + [1]
    assert result.reliability["confidence"].dropna().tolist() == [0.6, 1.0]
    assert result.calibration_error == pytest.approx(0.2)


def test_a_class_without_images_keeps_its_place_and_certain_and_wrong_costs_a_finite_loss() -> None:
    result = evaluation.evaluate([0, 1], [[1.0, 0.0, 0.0]] * 2, NAMES)
    assert result.confusion.shape == (3, 3)
    assert result.per_class["support"].tolist() == [1, 1, 0]
    assert result.loss == pytest.approx(36.04 / 2, abs=0.01)


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning", "error::FutureWarning")
def test_rows_that_miss_one_by_a_thousandth_are_scaled_to_one(many: Any) -> None:
    labels, chances = many
    exact = evaluation.evaluate(labels, chances, TEN)
    for near in (chances.astype(np.float16), chances * np.float32(1.0009)):
        assert evaluation.evaluate(labels, near, TEN).loss == pytest.approx(exact.loss, rel=2e-4)


@pytest.mark.parametrize(
    ("labels", "chances", "names", "words"),
    [
        (LABELS, CHANCES[:, 0], NAMES, r"probabilities: .* shape \(n, classes\), .* got float64 \(4,\)"),
        (LABELS[:0], CHANCES[:0], NAMES, "n of 1 or more, .* got float64"),
        (LABELS, CHANCES[:, :1], NAMES[:1], r"classes of 2 or more, got \(4, 1\)\. .* of a sigmoid's p, "),
        (LABELS, CHANCES.round().astype(int), NAMES, "probabilities: expected floating-point .* got int64"),
        (np.eye(3)[LABELS], CHANCES, NAMES, "labels: .*one-hot"),
        (LABELS.astype(float), CHANCES, NAMES, "got float64"),
        (np.ma.masked_equal(LABELS, 1), CHANCES, NAMES, r"labels: .* got int64 \(4,\) with masked values"),
        (LABELS + 1, CHANCES, NAMES, "labels: expected 0 to 2, got 1 to 3"),
        (LABELS - 1, CHANCES, NAMES, "got -1 to 1"),
        (LABELS, CHANCES * [np.nan, 1, 1], NAMES, "a sum of nan in row 0.*diverged"),
        (LABELS, CHANCES * 1.01, NAMES, r"probabilities: .*a sum of 1\.01 in row 0"),
        (LABELS, CHANCES + np.array([0.5, 0, -0.5]), NAMES, "lowest value of -0.4"),
        (LABELS, CHANCES, ["cat", "cat", "owl"], "class_names: expected 3 different.*2 of them different"),
        (LABELS, CHANCES, "abc", "class_names: expected a list of texts, got str"),
        (LABELS, CHANCES, set(NAMES), "class_names: expected a list of texts, got set"),
    ],
)
def test_bad_input_gets_one_clear_error(labels: Any, chances: Any, names: Any, words: str) -> None:
    for call in (evaluation.evaluate, evaluation.confident_mistakes):
        with pytest.raises((TypeError, ValueError), match=words):
            call(labels, chances, class_names=names)


def test_mistakes_most_confident_first_and_equal_ones_in_the_order_of_the_images() -> None:
    table = evaluation.confident_mistakes(LABELS, CHANCES)
    assert table[["index", "true", "predicted"]].to_numpy().tolist() == [[2, 1, 0], [3, 2, 0]]
    none = evaluation.confident_mistakes([0], [[0.9, 0.1]], class_names=["a", "b"])
    assert none.empty
    assert "confidence" in none
    chances = np.tile([[0.9, 0.1], [0.8, 0.2]], (100, 1))
    equal = evaluation.confident_mistakes(np.ones(200, dtype=int), chances, k=200)
    assert equal["index"].tolist() == [*range(0, 200, 2), *range(1, 200, 2)]
    with pytest.raises(ValueError, match="k: expected 1 or more, got 0"):
        evaluation.confident_mistakes(LABELS, CHANCES, k=0)


def test_history_of_two_phases() -> None:
    fitted = SimpleNamespace(history=HISTORY)
    first = evaluation.history_table(fitted, phase="frozen")
    second = evaluation.history_table(fitted, phase="fine-tuned", first_epoch=3)
    assert first.columns.tolist() == ["epoch", "phase", *HISTORY]
    table = pd.concat([first, second], ignore_index=True)
    assert table["epoch"].tolist() == [1, 2, 3, 4]
    assert table["val_loss"].tolist() == [1.3, 1.0] * 2


def test_history_refuses_what_fit_did_not_return() -> None:
    with pytest.raises(TypeError, match=r"history: expected what model\.fit returned .* got dict"):
        evaluation.history_table({"loss": [1.0]}, phase="frozen")
    lacking, empty = {"accuracy": [1], "loss": [0]}, {name: [] for name in HISTORY}
    for recorded, message in (
        (lacking, "val_accuracy: expected a number for each of 1 epochs, got .*validation_data"),
        (empty, r"accuracy: expected .* of one or more epochs, got float64 \(0,\). Compile"),
        (HISTORY | {"loss": [1.0]}, r"loss: expected a number for each of 2 epochs, got float64 \(1,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation.history_table(SimpleNamespace(history=recorded), phase="frozen")


def clusters(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, 3, n)
    features = rng.normal(0, 1, (n, 2, 3))
    features[np.arange(n), 0, labels] += 6
    return features, labels


def test_linear_probe_finds_what_lies_open_and_guesses_at_noise() -> None:
    rng = np.random.default_rng(0)
    (train, labels), (test, test_labels) = clusters(rng, 300), clusters(rng, 300)
    assert evaluation.linear_probe(train, labels, test, test_labels) > 0.97
    noise = evaluation.linear_probe(rng.normal(size=(300, 6)), labels, rng.normal(size=(300, 6)), test_labels)
    assert noise < 0.45


def test_linear_probe_takes_scale_and_middle_from_the_training_part_alone() -> None:
    rng = np.random.default_rng(0)
    (train, labels), (test, test_labels) = clusters(rng, 100), clusters(rng, 100)
    plain = evaluation.linear_probe(train, labels, test, test_labels)
    train[:, 1, 2] = test[:, 1, 2] = 7.0  # a constant has no scale
    scaled = evaluation.linear_probe(1000 * train + 5, labels, 1000 * test + 5, test_labels)
    assert scaled == pytest.approx(plain, abs=0.03)
    # Each test row is judged as if it came alone: standardised among themselves, all would be the same.
    one = np.repeat(test[:1], 100, axis=0) + rng.normal(0, 1e-6, test.shape)
    assert evaluation.linear_probe(train, labels, one, np.repeat(test_labels[:1], 100)) == 1.0


def test_linear_probe_takes_half_precision_without_a_warning() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype("float16")
    with warnings.catch_warnings(action="error"):
        evaluation.linear_probe(rows, [0, 1] * 10, rows, [0, 1] * 10)


def test_linear_probe_takes_two_tables_with_the_same_columns_in_one_order() -> None:
    table = pd.DataFrame({"a": [0.0, 0.0, 1.0, 1.0], "b": [0.0, 1.0, 0.0, 1.0]})
    assert evaluation.linear_probe(table, [0, 0, 1, 1], table.to_numpy(), [0, 0, 1, 1]) == 1.0
    with pytest.raises(
        ValueError, match=r"test_features: expected the columns 'a', 'b', got 'b', 'a'\. Give"
    ):
        evaluation.linear_probe(table, [0, 0, 1, 1], table[["b", "a"]], [0, 0, 1, 1])


def test_linear_probe_refuses() -> None:
    good, labels = np.eye(4), np.array([0, 0, 1, 1])
    for train, train_labels, test, message in (
        (good[:3], labels, good, r"train_labels: expected 3 whole numbers, .* got int64 \(4,\)"),
        (good, labels, good[:, :2], "test_features: expected 4 an example, as in training, got 2"),
        (good, labels * 0, good, "train_labels: expected two classes or more, got one"),
        (good * np.nan, labels, good, "train_features: expected finite numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation.linear_probe(train, train_labels, test, labels)


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(size=400)
    half = 1.96 * values.std() / 20
    textbook = values.mean() - half, values.mean() + half
    assert evaluation.bootstrap_interval(np.mean, values) == pytest.approx(textbook, abs=0.02)


def test_arrays_are_resampled_together_and_undefined_draws_are_left_out() -> None:
    a = np.arange(50.0)
    assert evaluation.bootstrap_interval(lambda x, y: (x - y).mean(), a, a - 1) == (1.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluation.bootstrap_interval(roc_auc_score, [1, 0, 0], [0.9, 0.1, 0.2], draws=50)
    assert found == (1.0, 1.0)
    assert evaluation.bootstrap_interval(np.mean, [3.0]) == (3.0, 3.0)
    with pytest.raises(ValueError, match=r"arrays: expected numbers .* as many in each, got int64 \(3,\)"):
        evaluation.bootstrap_interval(np.mean, [1, 2], [1, 2, 3])
