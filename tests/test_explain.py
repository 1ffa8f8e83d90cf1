"""Grad-CAM against differences of the score, and on models whose answer can be seen."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

import tlhelpers as tl
from tlhelpers.explain import grad_cam

L = keras.layers


@pytest.fixture(scope="module")
def nested() -> keras.Model:
    """A classifier with its backbone nested inside; class 0 reads brightness, class 1 its opposite."""
    layers = [keras.Input((8, 8, 1)), L.AveragePooling2D(2, name="halved"), L.Conv2D(2, 1, name="maps")]
    inside = keras.Sequential(layers, name="backbone")
    inputs = keras.Input((8, 8, 1))
    x = L.GlobalAveragePooling2D(name="pool")(inside(inputs))
    model = keras.Model(inputs, L.Dense(2, activation="softmax", name="head")(x))
    inside.get_layer("maps").set_weights([np.array([[[[1.0, -1.0]]]]), np.array([0.0, 1.0])])
    model.get_layer("head").set_weights([np.array([[40.0, 0.0], [0.0, 40.0]]), np.zeros(2)])
    return model


def spot(row: int, column: int) -> npt.NDArray[np.float32]:
    image = np.zeros((1, 8, 8, 1), "float32")
    image[0, row : row + 2, column : column + 2] = 1.0
    return image


def test_finds_the_place_in_a_nested_backbone(nested: keras.Model) -> None:
    images = np.concatenate([spot(0, 0), spot(6, 4)])
    bright, dark = (grad_cam(nested, images, at="maps", classes=[c, c]) for c in (0, 1))
    assert (bright.shape, bright.dtype) == ((2, 8, 8), np.float32)
    for one, other, (row, column) in zip(bright, dark, [(0, 0), (6, 4)], strict=True):
        there = one[row : row + 2, column : column + 2]
        assert there.mean() > 0.5
        assert there.max() == one.max() == other.max() == 1.0
        assert other[row, column] < 0.5  # what speaks for the other class lies elsewhere


def test_is_what_differences_of_the_score_give(nested: keras.Model) -> None:
    """The weights of the maps against finite differences of the score before the softmax."""
    image = spot(2, 2)
    maps = tl.split(nested, "maps")[0].predict(image, verbose=0)
    kernel, bias = nested.get_layer("head").get_weights()

    def score(channel: int, more: float) -> float:
        moved = maps.copy()
        moved[..., channel] += more  # every cell: the sum of the gradients
        return float((moved.mean(axis=(1, 2)) @ kernel + bias)[0, 0])

    weights = [(score(channel, 1e-2) - score(channel, 0)) / 1e-2 / 16 for channel in range(2)]
    expected = np.maximum((maps[0] * weights).sum(axis=-1), 0)
    found = grad_cam(nested, image, at="maps", classes=[0])[0]
    # The 4 by 4 cells lie in the middle of 2 by 2 pixels each; bilinear keeps the order of whole areas.
    cells = found.reshape(4, 2, 4, 2).mean(axis=(1, 3))
    assert np.unravel_index(cells.argmax(), (4, 4)) == np.unravel_index(expected.argmax(), (4, 4)) == (1, 1)


def test_survives_certainty_and_leaves_the_model_as_it_was(nested: keras.Model) -> None:
    image = 10 * np.ones((1, 8, 8, 1), "float32")  # the softmax is exactly 0 and 1, its gradient 0
    before = nested.predict(image, verbose=0)
    assert before.max() == 1.0
    assert grad_cam(nested, image, at="maps").max() == 1.0
    assert (nested.predict(image, verbose=0) == before).all()


def test_explains_the_prediction_unless_told_otherwise_in_any_batch_size(nested: keras.Model) -> None:
    images = np.concatenate([10 * spot(0, 0), spot(4, 4), 0 * spot(0, 0)])
    predicted = nested.predict(images, verbose=0).argmax(axis=1)
    assert set(predicted) == {0, 1}
    free = grad_cam(nested, images, at="maps", batch_size=2)
    np.testing.assert_allclose(free, grad_cam(nested, images, at="maps", classes=predicted), atol=1e-6)


def test_shows_nothing_where_nothing_speaks_for_the_class(nested: keras.Model) -> None:
    darker_than_black = -spot(0, 0)
    assert not grad_cam(nested, darker_than_black, at="maps", classes=[0]).any()


def ends(*layers: Any, units: int = 3) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, name="c", activation="relu")(inputs))
    x = L.Dense(units, name="scores")(x)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


COLOURS = np.random.default_rng(0).random((3, 8, 8, 3)).astype("float32")


@pytest.mark.parametrize(
    "layers",
    [
        [L.Activation("softmax")],
        [L.Softmax()],
        [keras.ops.softmax],
        [keras.ops.sigmoid],
        [L.Activation("softmax"), L.Reshape((3, 1)), L.Flatten()],
    ],
)
def test_the_score_is_the_one_before_the_softmax_wherever_that_stands(layers: Any) -> None:
    expected = grad_cam(ends(), COLOURS, at="c")
    np.testing.assert_allclose(grad_cam(ends(*layers), COLOURS, at="c"), expected, atol=1e-6)


def test_a_softmax_that_is_not_found_is_refused() -> None:
    own = L.Lambda(lambda x: keras.ops.exp(x) / keras.ops.sum(keras.ops.exp(x), axis=-1, keepdims=True))
    with pytest.raises(ValueError, match="expected scores, or a softmax or sigmoid of them at the end"):
        grad_cam(ends(own), COLOURS, at="c")


def test_one_sigmoid_has_two_classes() -> None:
    model = ends(L.Activation("sigmoid"), units=1)
    for_one, for_zero = (grad_cam(model, COLOURS, at="c", classes=[c] * 3) for c in (1, 0))
    kernel = model.get_layer("scores").kernel
    np.testing.assert_allclose(for_one, grad_cam(ends(units=1), COLOURS, at="c", classes=[0] * 3), atol=1e-6)
    model.get_layer("scores").bias.assign([-50.0])  # all are class 0, and what is shown speaks for it
    np.testing.assert_allclose(grad_cam(model, COLOURS, at="c"), for_zero, atol=1e-6)
    kernel.assign(-kernel)
    np.testing.assert_allclose(grad_cam(model, COLOURS, at="c", classes=[1] * 3), for_zero, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "more", "message"),
    [
        (spot(0, 0), {"at": "pool"}, r"at: expected a layer with output \(n, h, w, maps\), got 'pool'"),
        (spot(0, 0), {"classes": [2]}, "classes: expected 0 to 1, got 2 to 2"),
        (spot(0, 0)[:0], {}, "images: expected finite numbers of shape"),
        ({"image": spot(0, 0)}, {}, r"images: expected .*, got dict\. Give the array itself"),
    ],
)
def test_refuses_what_does_not_fit(nested: keras.Model, images: Any, more: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grad_cam(nested, images, **{"at": "maps", **more})


def test_refuses_a_model_of_two_images() -> None:
    images = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    both = L.Conv2D(4, 3, name="c")(L.Add()(images))
    model = keras.Model(images, L.Dense(2, "softmax")(L.GlobalAveragePooling2D()(both)))
    with pytest.raises(ValueError, match="model: expected one input, an image, got 2"):
        grad_cam(model, COLOURS, at="c")
