"""Numbers against values worked out by hand or by a second, plain formula."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from types import SimpleNamespace

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


def many(n: int = 500, k: int = 10) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return labels and softmax outputs that are often right."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k)) + 2 * np.eye(k)[labels]
    chances = np.exp(logits)
    return labels, (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)


def test_worked_by_hand() -> None:
    result = evaluation.evaluate(LABELS, CHANCES, NAMES)
    assert result.n == 4
    assert result.accuracy == 0.5
    assert result.loss == pytest.approx(-np.log([0.8, 0.6, 0.2, 0.2]).mean())
    assert result.confusion.to_numpy().tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 0]]  # rows: true classes
    assert (result.confusion.index.name, result.confusion.columns.name) == ("true", "predicted")
    cat, dog, owl = result.per_class.to_dict("records")
    assert (cat["precision"], cat["recall"], cat["f1"], cat["support"]) == pytest.approx((1 / 3, 1, 0.5, 1))
    assert (dog["precision"], dog["recall"], dog["support"]) == pytest.approx((1, 0.5, 2))
    assert np.isnan(owl["precision"])  # never predicted
    assert owl["recall"] == 0


def test_interval_is_wilson() -> None:
    labels, chances = many()
    result = evaluation.evaluate(labels, chances, [str(i) for i in range(10)])
    n, p, z = 500, result.accuracy, 1.959964
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert result.interval == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_calibration_against_a_plain_loop() -> None:
    labels, chances = many()
    result = evaluation.evaluate(labels, chances, [str(i) for i in range(10)])
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected > 0.01
    assert result.calibration_error == pytest.approx(expected, abs=1e-6)
    assert len(result.reliability) == 15
    assert result.reliability["count"].sum() == 500


def test_bins_include_their_upper_edge_and_may_be_empty() -> None:
    result = evaluation.evaluate([0, 1], [[0.5, 0.5], [0.0, 1.0]], ["a", "b"], bins=4)
    table = result.reliability
    assert table["count"].tolist() == [0, 1, 0, 1]
    assert table["confidence"].dropna().tolist() == [0.5, 1.0]
    assert result.calibration_error == pytest.approx(0.25)


def test_a_class_without_images_keeps_its_place() -> None:
    result = evaluation.evaluate([0, 0], CHANCES[:2], NAMES)
    assert result.confusion.shape == (3, 3)
    assert result.per_class["support"].tolist() == [2, 0, 0]
    assert result.loss == pytest.approx(-np.log([0.8, 0.1]).mean())


def test_certain_and_wrong_costs_a_finite_loss() -> None:
    assert evaluation.evaluate([1], [[1.0, 0.0]], ["a", "b"]).loss == pytest.approx(36.04, abs=0.01)


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning", "error::FutureWarning")
def test_half_precision_rows_are_scaled_to_one() -> None:
    labels, chances = many()
    names = [str(i) for i in range(10)]
    half = evaluation.evaluate(labels, chances.astype(np.float16), names)
    assert half.loss == pytest.approx(evaluation.evaluate(labels, chances, names).loss, rel=1e-3)


def test_result_cannot_be_changed() -> None:
    result = evaluation.evaluate(LABELS, CHANCES, NAMES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.accuracy = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("labels", "chances", "names", "error", "words"),
    [
        (LABELS, CHANCES[:, 0], NAMES, ValueError, r"shape \(images, classes\), got \(4,\)"),
        (np.eye(3)[LABELS], CHANCES, NAMES, ValueError, "one-hot"),
        (LABELS[:3], CHANCES, NAMES, ValueError, "3 labels and 4 rows"),
        (LABELS[:0], CHANCES[:0], NAMES, ValueError, "at least one image, got none"),
        (LABELS.astype(float), CHANCES, NAMES, TypeError, "got dtype float64"),
        (LABELS, CHANCES.round().astype(int), NAMES, TypeError, "got dtype int64"),
        (LABELS + 1, CHANCES, NAMES, ValueError, "from 0 to 2 for 3 classes, got 1 to 3"),
        (LABELS - 1, CHANCES, NAMES, ValueError, "got -1 to 1"),
        (LABELS, CHANCES * [np.nan, 1, 1], NAMES, ValueError, "finite .* in row 0"),
        (LABELS, CHANCES * 1.01, NAMES, ValueError, r"a sum of 1\.01 in row 0"),
        (LABELS, CHANCES + np.array([0.5, 0, -0.5]), NAMES, ValueError, "lowest value of -0.4"),
        (LABELS, CHANCES, NAMES[:2], ValueError, "Expected 3 different class names"),
        (LABELS, CHANCES, ["cat", "cat", "owl"], ValueError, "2 of them different"),
        (LABELS, CHANCES, "abc", ValueError, "got 1,"),
    ],
)
def test_bad_input_gets_one_clear_error(
    labels: object, chances: object, names: list[str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        evaluation.evaluate(labels, chances, names)  # type: ignore[arg-type]


def test_rows_may_miss_one_by_a_thousandth() -> None:
    assert evaluation.evaluate(LABELS, CHANCES * 1.0009, NAMES).accuracy == 0.5


def test_bins_below_one() -> None:
    with pytest.raises(ValueError, match="got bins=0"):
        evaluation.evaluate(LABELS, CHANCES, NAMES, bins=0)


def test_mistakes_most_confident_first() -> None:
    table = evaluation.confident_mistakes(LABELS, CHANCES, class_names=NAMES)
    assert table.columns.tolist() == ["index", "true", "predicted", "confidence"]
    assert table["index"].tolist() == [2, 3]
    assert table["true"].tolist() == ["dog", "owl"]
    assert table["predicted"].tolist() == ["cat", "cat"]
    assert table["confidence"].tolist() == pytest.approx([0.7, 0.5])
    assert evaluation.confident_mistakes(LABELS, CHANCES, k=1)["index"].tolist() == [2]


def test_mistakes_without_names_are_numbers() -> None:
    table = evaluation.confident_mistakes(LABELS, CHANCES)
    assert table[["true", "predicted"]].to_numpy().tolist() == [[1, 0], [2, 0]]


def test_equal_confidence_keeps_the_order_of_the_images() -> None:
    chances = np.tile([[0.9, 0.1], [0.8, 0.2]], (100, 1))
    table = evaluation.confident_mistakes(np.ones(200, dtype=int), chances, k=200)
    assert table["index"].tolist() == [*range(0, 200, 2), *range(1, 200, 2)]


def test_no_mistakes_is_an_empty_table() -> None:
    table = evaluation.confident_mistakes([0], [[0.9, 0.1]], class_names=["a", "b"])
    assert table.empty
    assert "confidence" in table


def test_mistakes_refuse_bad_input() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        evaluation.confident_mistakes(LABELS, CHANCES, k=0)
    with pytest.raises(ValueError, match="3 different class names"):
        evaluation.confident_mistakes(LABELS, CHANCES, class_names=["a", "b"])
    with pytest.raises(ValueError, match="3 labels and 4 rows"):
        evaluation.confident_mistakes(LABELS[:3], CHANCES)


def test_history_of_two_phases() -> None:
    fitted = SimpleNamespace(history=HISTORY)
    first = evaluation.history_table(fitted, phase="frozen", seconds=[3.0, 2.0])
    second = evaluation.history_table(fitted, phase="fine-tuned", first_epoch=3)
    assert first.columns.tolist() == [
        "epoch", "phase", "accuracy", "loss", "val_accuracy", "val_loss", "seconds",
    ]  # fmt: skip
    assert "seconds" not in second
    table = pd.concat([first, second], ignore_index=True)
    assert table["epoch"].tolist() == [1, 2, 3, 4]
    assert table["phase"].tolist() == ["frozen"] * 2 + ["fine-tuned"] * 2
    assert table["val_loss"].tolist() == [1.3, 1.0] * 2


def test_history_refuses_what_fit_did_not_return() -> None:
    with pytest.raises(TypeError, match=r"what model\.fit returned .* got dict"):
        evaluation.history_table({"loss": [1.0]}, phase="frozen")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="val_accuracy, val_loss is missing"):
        evaluation.history_table(SimpleNamespace(history={"accuracy": [1], "loss": [0]}), phase="frozen")
    with pytest.raises(ValueError, match="at least one epoch"):
        evaluation.history_table(SimpleNamespace(history={name: [] for name in HISTORY}), phase="frozen")
    with pytest.raises(ValueError, match="each of the 2 epochs, got 1 values"):
        evaluation.history_table(SimpleNamespace(history=HISTORY), phase="frozen", seconds=[1.0])


@pytest.mark.parametrize("module", ["evaluation", "plots"])
def test_module_loads_no_keras(module: str) -> None:
    # In a process of its own: here another test may have loaded it.
    code = (
        f"import sys, tlhelpers.{module}; "
        "sys.exit(', '.join({'keras', 'tensorflow'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _clusters(rng: np.random.Generator, n: int, *, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, 3, n)
    features = rng.normal(0, 1, (n, 2, width // 2))
    features[np.arange(n), 0, labels] += 6
    return features, labels


def test_linear_probe_finds_what_lies_open_and_guesses_at_noise() -> None:
    rng = np.random.default_rng(0)
    train, labels = _clusters(rng, 300)
    test, test_labels = _clusters(rng, 300)
    assert evaluation.linear_probe(train, labels, test, test_labels) > 0.97
    noise = evaluation.linear_probe(rng.normal(size=(300, 6)), labels, rng.normal(size=(300, 6)), test_labels)
    assert noise < 0.45


def test_linear_probe_does_not_depend_on_the_features_scale_and_takes_constant_ones() -> None:
    rng = np.random.default_rng(0)
    train, labels = _clusters(rng, 100)
    test, test_labels = _clusters(rng, 100)
    plain = evaluation.linear_probe(train, labels, test, test_labels)
    train[:, 1, 2] = test[:, 1, 2] = 7.0
    scaled = evaluation.linear_probe(1000 * train + 5, labels, 1000 * test + 5, test_labels)
    assert scaled == pytest.approx(plain, abs=0.03)


def test_linear_probe_refuses() -> None:
    good, labels = np.eye(4), np.array([0, 0, 1, 1])
    for train, train_labels, test, message in (
        (good[:3], labels, good, r"train features of shape \(n, ...\) .* got \(3, 4\) and \(4,\)"),
        (good, labels, good[:, :2], "as many test features as train features, got 2 and 4"),
        (good, labels * 0, good, "two classes or more, got one"),
        (good * np.nan, labels, good, "finite train features"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation.linear_probe(train, train_labels, test, labels)


@pytest.fixture(scope="module")
def nested():
    """A classifier with its backbone nested inside; class 0 reads brightness, class 1 its opposite."""
    import keras

    inside = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.AveragePooling2D(2, name="halved"),
            keras.layers.Conv2D(2, 1, name="maps"),
        ],
        name="backbone",
    )
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(inside(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax", name="head")(x))
    inside.get_layer("maps").set_weights([np.array([[[[1.0, -1.0]]]]), np.array([0.0, 1.0])])
    model.get_layer("head").set_weights([np.array([[40.0, 0.0], [0.0, 40.0]]), np.zeros(2)])
    return model


def spot(row: int, column: int) -> npt.NDArray[np.float32]:
    image = np.zeros((1, 8, 8, 1), "float32")
    image[0, row : row + 2, column : column + 2] = 1.0
    return image


def test_grad_cam_finds_the_place_in_a_nested_backbone(nested):
    images = np.concatenate([spot(0, 0), spot(6, 4)])
    bright, dark = (evaluation.grad_cam(nested, images, at="maps", classes=[c, c]) for c in (0, 1))
    assert bright.shape == (2, 8, 8)
    assert bright.dtype == np.float32
    for one, other, (row, column) in zip(bright, dark, [(0, 0), (6, 4)], strict=True):
        assert one[row : row + 2, column : column + 2].mean() > 0.5
        assert one.max() == other.max() == 1.0
        assert one[row : row + 2, column : column + 2].max() == one.max()
        assert other[row, column] < 0.5  # what speaks for the other class lies elsewhere


def test_grad_cam_is_what_differences_of_the_score_give(nested):
    """The weights of the maps against finite differences of the score before the softmax."""
    import tlhelpers as tl

    image = spot(2, 2)
    prefix, suffix = tl.split(nested, "maps")
    maps = np.asarray(prefix(image))
    head = nested.get_layer("head")
    kernel, bias = (np.asarray(w) for w in head.weights)

    def score(activations):
        return float((activations.mean(axis=(1, 2)) @ kernel + bias)[0, 0])

    weights = []
    for channel in range(2):
        moved = maps.copy()
        moved[..., channel] += 1e-2  # every cell: the sum of the gradients
        weights.append((score(moved) - score(maps)) / 1e-2 / 16)
    expected = np.maximum((maps[0] * weights).sum(axis=-1), 0)
    found = evaluation.grad_cam(nested, image, at="maps", classes=[0])[0]
    # The 4 by 4 cells lie in the middle of 2 by 2 pixels each; bilinear keeps the order of whole areas.
    cells = found.reshape(4, 2, 4, 2).mean(axis=(1, 3))
    assert np.unravel_index(cells.argmax(), (4, 4)) == np.unravel_index(expected.argmax(), (4, 4)) == (1, 1)
    assert suffix.layers[-1] is head


def test_grad_cam_survives_certainty_and_leaves_the_model_as_it_was(nested):
    image = 10 * np.ones((1, 8, 8, 1), "float32")  # the softmax is exactly 0 and 1, its gradient 0
    before = nested(image).numpy()
    assert before.max() == 1.0
    assert evaluation.grad_cam(nested, image, at="maps").max() == 1.0
    assert (nested(image).numpy() == before).all()
    assert nested.get_layer("head").activation.__name__ == "softmax"


def test_grad_cam_explains_the_prediction_unless_told_otherwise_in_any_batch_size(nested):
    images = np.concatenate([10 * spot(0, 0), spot(4, 4), 0 * spot(0, 0)])
    predicted = nested(images).numpy().argmax(axis=1)
    assert set(predicted) == {0, 1}
    free = evaluation.grad_cam(nested, images, at="maps", batch_size=2)
    told = evaluation.grad_cam(nested, images, at="maps", classes=predicted)
    np.testing.assert_allclose(free, told, atol=1e-6)
    nothing = evaluation.grad_cam(nested, images[2:], at="maps", classes=[0])
    assert not nothing.any()


def test_grad_cam_refuses_what_does_not_fit(nested):
    image = spot(0, 0)
    with pytest.raises(ValueError, match=r"at: expected a layer with output \(n, h, w, maps\), got 'pool'"):
        evaluation.grad_cam(nested, image, at="pool")
    with pytest.raises(ValueError, match="at: expected a layer to cut after, got 'mapz'"):
        evaluation.grad_cam(nested, image, at="mapz")
    for classes in ([2], [-1], [0, 1], [0.5]):
        with pytest.raises(ValueError, match="classes: expected 1 whole numbers from 0 to 1"):
            evaluation.grad_cam(nested, image, at="maps", classes=classes)
    for images in (image[:0], image[0, :, 0]):
        with pytest.raises(ValueError, match="images: expected shape"):
            evaluation.grad_cam(nested, images, at="maps")


def test_the_interval_of_a_mean_is_the_textbook_one():
    values = np.random.default_rng(0).normal(size=400)
    low, high = evaluation.bootstrap_interval(np.mean, values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_arrays_are_resampled_together_and_undefined_draws_are_left_out():
    a = np.arange(50.0)
    assert evaluation.bootstrap_interval(lambda x, y: (x - y).mean(), a, a - 1) == (1.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = evaluation.bootstrap_interval(roc_auc_score, [1, 0, 0], [0.9, 0.1, 0.2], draws=50)
    assert (low, high) == (1.0, 1.0)
    assert evaluation.bootstrap_interval(np.mean, [3.0]) == (3.0, 3.0)
    with pytest.raises(ValueError, match=r"expected the same number of examples in each.* got \[2, 3\]"):
        evaluation.bootstrap_interval(np.mean, [1, 2], [1, 2, 3])


def test_grad_cam_shows_nothing_where_all_speaks_against_the_class() -> None:
    import keras

    layers = keras.layers
    bright = layers.Conv2D(1, 1, kernel_initializer="ones", name="bright")
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), bright, layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )
    model.layers[-1].set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])
    image = np.array([[0.0, 2.0], [0.0, 1.0]], "float32").reshape(1, 2, 2, 1)
    for_it = evaluation.grad_cam(model, image, at="bright", classes=[0])
    against = evaluation.grad_cam(model, image, at="bright", classes=[1])
    assert for_it[0].tolist() == [[0.0, 1.0], [0.0, 0.5]]
    assert not against.any()
