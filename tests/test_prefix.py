"""The frozen prefix: where a network can be cut, and that both parts are the network."""

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tests.networks import residual
from tlhelpers import _forward

L = keras.layers
pytestmark = pytest.mark.usefixtures("own_cache")


def test_cut_points_leave_out_the_inside_of_a_residual_block():
    # And after the last layer nothing would be left.
    assert tl.cut_points(residual()) == ["a", "c", "d", "pool"]


def test_cut_points_of_a_sequential_model_of_a_layer_used_twice_and_of_a_late_input():
    dense, inputs, late = L.Dense, keras.Input((4,)), keras.Input((4,))
    assert tl.cut_points(keras.Sequential([inputs, dense(4, name="one"), dense(1)])) == ["one"]
    shared = dense(4, name="shared")
    assert tl.cut_points(keras.Model(inputs, dense(1)(shared(shared(inputs))))) == []
    joined = L.Concatenate(name="join")([dense(4, name="a")(inputs), late])
    assert tl.cut_points(keras.Model([inputs, late], dense(1)(joined))) == ["join"]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("b", "got 'b', which has a shortcut .* Cut at a or c instead"),
        ("poool", "got 'poool', which is no layer here.* Nearest: pool"),
        ("head", "nothing after it. Cut at pool"),
    ],
)
def test_a_cut_that_cannot_be_names_those_that_can(at, message):
    with pytest.raises(ValueError, match=message):
        tl.split(residual(), at=at)


def test_everything_frozen_is_said():
    model = residual()
    tl.freeze(model)
    with pytest.warns(UserWarning, match="expected something after 'c' that trains, got frozen layers only"):
        tl.split(model, at="c")


# -- the suffix' 1x1 convolutions ----------------------------------------------------------------


def pointwise_model(**options) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(4, 3, name="first", trainable=False)(inputs)
    x = L.Conv2D(8, 1, name="expand", **options)(x)
    x = L.Conv2D(5, 1, strides=2, name="strided")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, L.Dense(3, activation="softmax", name="head")(x))


@pytest.mark.parametrize("options", [{}, {"use_bias": False, "activation": "relu"}])
def test_a_pointwise_convolution_is_a_matrix_product_with_the_same_gradients(options):
    images, labels = np.random.default_rng(0).normal(size=(20, 6, 6, 3)).astype("float32"), np.arange(20) % 3
    trained = []
    for quick in (False, True):
        model = pointwise_model(**options)
        prefix, suffix = tl.split(model, at="first")
        if quick:
            assert type(suffix.get_layer("expand")).__name__ == "Pointwise"
            assert type(suffix.get_layer("strided")) is L.Conv2D
        else:
            suffix = keras.Model(model.get_layer("first").output, model.output)
        suffix.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        suffix.fit(np.asarray(tl.precompute(prefix, images)), labels, epochs=3, verbose=0, shuffle=False)
        trained.append(model.get_weights())
    for plain, product in zip(*trained, strict=True):
        np.testing.assert_allclose(product, plain, atol=1e-6)


def test_a_pointwise_convolution_freezes_and_saves_with_the_suffix(tmp_path):
    model = pointwise_model()
    _, suffix = tl.split(model, at="first")
    suffix.get_layer("expand").trainable = False
    assert model.get_layer("expand").trainable_weights == []
    suffix.save(tmp_path / "suffix.keras")
    again = keras.saving.load_model(tmp_path / "suffix.keras")
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype("float32")
    np.testing.assert_allclose(again.predict(x, verbose=0), suffix.predict(x, verbose=0), atol=1e-6)


# -- other networks ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_another_backbone(monkeypatch):
    """Prefix and suffix are the model; LiteRT takes the prefix. (`make nightly` tries every family.)"""
    monkeypatch.setattr(_forward, "LITERT_FROM", 1)
    keras.utils.set_random_seed(0)
    backbone = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(32, 32, 3))
    backbone.trainable = False
    for layer in backbone.layers:
        if isinstance(layer, L.Dropout):  # stochastic depth
            layer.rate = 0
    model = keras.Sequential([keras.Input((32, 32, 3)), backbone, L.GlobalAveragePooling2D(), L.Dense(3)])
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype("float32")
    cuts = tl.cut_points(model)
    assert len(cuts) > 20
    prefix, suffix = tl.split(model, at=cuts[len(cuts) // 2])
    exact = keras.ops.convert_to_numpy(prefix(images, training=False))  # no graph: it would take longer
    whole = keras.ops.convert_to_numpy(model(images, training=False))
    # Random weights make small numbers of an image: a millionth here.
    joined = keras.ops.convert_to_numpy(suffix(exact, training=False))
    np.testing.assert_allclose(joined, whole, atol=1e-4 * np.abs(whole).max())
    assert np.abs(tl.precompute(prefix, images) - exact).max() <= 1e-3 * np.abs(exact).max()
