"""Freezing: which layers train, BatchNorm, and the proof that nothing else moved."""

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import _graph

L = keras.layers


@pytest.fixture
def model() -> keras.Model:
    """Dense, BatchNorm, nested (Dense, BatchNorm), Dense: what a backbone has, in small."""
    layers = [keras.Input((4,)), L.Dense(4, name="inner_dense"), L.BatchNormalization(name="inner_norm")]
    inner = keras.Sequential(layers, name="inner")
    outer = [L.Dense(4, name="first"), L.BatchNormalization(name="norm"), inner, L.Dense(2, name="last")]
    return keras.Sequential([keras.Input((4,)), *outer])


def fit(model: keras.Model) -> None:
    """One epoch on inputs whose mean is far from zero, so that statistics have somewhere to go."""
    inputs = np.random.default_rng(0).normal(3, 2, (32, 4)).astype("float32")
    model.compile("sgd", "mse")
    model.fit(inputs, np.zeros((32, 2)), batch_size=8, verbose=0)


def copies(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(each).copy() for each in variables]


def averages(model: keras.Model) -> list[np.ndarray]:
    return copies([layer.moving_mean for layer in tl.freezing.leaves(model) if "norm" in layer.name])


def trained(model: keras.Model) -> list[str]:
    return [layer.name for layer in tl.freezing.leaves(model) if layer.trainable_weights]


@pytest.mark.parametrize("first", ["inner_dense", 2, -3])
def test_from_a_layer_on_by_name_or_index_and_all_by_default(first, model):
    tl.freeze(model, train_from=first)
    assert trained(model) == ["inner_dense", "last"]
    tl.freeze(model, train_from=first, batch_norm="train")
    assert trained(model) == ["inner_dense", "inner_norm", "last"]
    tl.freeze(model)
    assert not any(layer.trainable for layer in tl.freezing.leaves(model))


@pytest.mark.parametrize(("batch_norm", "moves"), [("frozen", False), ("train", True)])
def test_frozen_batch_norm_keeps_its_statistics_and_trained_moves_them(batch_norm, moves, model):
    tl.freeze(model, train_from=0, batch_norm=batch_norm)
    before = averages(model)
    fit(model)
    assert [not np.array_equal(*pair) for pair in zip(before, averages(model), strict=True)] == [moves] * 2


def in_training(model: keras.Model) -> bool:
    """Whether its BatchNorm layer is in training under ``fit``: then the average moves."""
    before = averages(model)
    fit(model)
    return not np.array_equal(before[0], averages(model)[0])


@pytest.mark.parametrize(("first", "own"), [("norm", True), ("inside", True), ("last", False), (None, False)])
def test_a_nested_models_own_weights_train_where_all_of_it_does(first, own):
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__(name="scaled")
            self.inside, self.scale = L.Dense(4, name="inside"), self.add_weight(shape=(4,), name="scale")

        def call(self, x):
            return self.inside(x) * self.scale

    scaled = Scaled()
    body = [L.BatchNormalization(name="norm"), scaled, L.Dense(2, name="last")]
    tl.freeze(keras.Sequential([keras.Input((4,)), *body]), train_from=first)
    assert scaled.scale.trainable == own


def called_with_training_false() -> keras.Model:
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4), L.BatchNormalization(name="norm"), L.Dense(4)])
    inputs = keras.Input((4,))
    return keras.Model(inputs, L.Dense(2)(inner(inputs, training=False)))


def test_training_false_in_the_call_protects_batch_norm_by_keras_own_rule_and_trainable_false_always():
    # Keras issue 20285: up to 3.15 `fit` overrides the call. With pull request 23364 the call is heeded.
    # If neither holds, chapters "Build the model" and "Watch it break" must say so.
    assert in_training(called_with_training_false()) == _graph._outer_training_wins()
    model = called_with_training_false()
    tl.freeze(model, train_from=0)
    assert not in_training(model)


def test_unchanged_names_what_moved(model):
    # That it is silent while a frozen model trains, the example in its docstring shows.
    tl.freeze(model, train_from="last")
    average = model.get_layer("inner").get_layer("inner_norm").moving_mean
    expected = pytest.raises(tl.freezing.FrozenWeightsMoved, match=r"expected 4 frozen.*in 1: inner_norm\.")
    with expected, tl.unchanged(model):
        average.assign(average + 1e-7)


@pytest.mark.parametrize("other", [None, "model", L.Dense(3)])
def test_what_is_no_model_is_refused(other):
    calls = [
        tl.freeze,
        tl.parts,
        lambda it: tl.unchanged(it).__enter__(),
        lambda it: tl.refresh_batch_norm(it, 0),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"model: expected a keras\.Model, got <class "):
            call(other)
    with pytest.raises(TypeError, match="model: expected a Functional or built Sequential Keras model, got "):
        tl.precompute(other, np.ones((3, 4)))


def test_unchanged_sees_weights_that_are_replaced():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    tl.freeze(model)
    with pytest.raises(tl.freezing.FrozenWeightsMoved, match="got changes in"), tl.unchanged(model):
        model.layers[0].quantize("int8")  # the old kernel keeps its numbers, and is no longer the layer's


def test_unchanged_tells_layers_of_one_name_apart():
    inputs = keras.Input((4,))
    branches = [keras.Sequential([inputs, L.Dense(2, name="same")], name=side) for side in ("left", "right")]
    model = keras.Model(inputs, L.Add()([branch(inputs) for branch in branches]))
    tl.freeze(model)
    with tl.unchanged(model):
        pass


def test_unchanged_has_nothing_to_prove_when_nothing_is_frozen(model):
    tl.freeze(model, train_from=0, batch_norm="train")
    with pytest.raises(ValueError, match="at least one frozen layer"), tl.unchanged(model):
        pass


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"train_from": "inner_dens"}, LookupError, "layer 'inner_dens'.*did you mean 'inner_dense'"),
        ({"train_from": 99}, ValueError, "expected an index into 5 layers, got 99"),
        ({"train_from": True}, TypeError, "expected a layer's name or index, or None, got True"),
        ({"batch_norm": "freeze"}, ValueError, 'expected "frozen" or "train", got \'freeze\''),
    ],
)
def test_wrong_options_say_what_to_do(options, error, message, model):
    with pytest.raises(error, match=message):
        tl.freeze(model, **options)


def test_parts_count_by_block():
    backbone = tl.load_backbone("mobilenet_v2_glyphs", weights="random")
    tl.freeze(backbone, train_from="block_16_expand")
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, L.GlobalAveragePooling2D(name="pool")(backbone(inputs)))
    parts = tl.parts(model).set_index("part")
    assert list(parts.index) == ["stem", *[f"block {n}" for n in range(17)], "last convolution", "pool"]
    assert parts.parameters.sum() == model.count_params()
    assert list(parts.index[parts.trainable > 0]) == ["block 16", "last convolution"]
    # Frozen BatchNorm: of the trained part only the kernels count.
    kernels = [w for w in backbone.trainable_weights if w.path.endswith("kernel")]
    assert parts.trainable.sum() == sum(int(np.prod(kernel.shape)) for kernel in kernels)


def test_refresh_sets_the_averages_of_the_data_and_nothing_else(model):
    tl.freeze(model, train_from="norm", batch_norm="train")
    weights = copies(model.trainable_weights)
    inputs = np.random.default_rng(1).normal(5, 1, (64, 4)).astype("float32")
    # Seven at the end fill no batch and are left out.
    tl.refresh_batch_norm(model, np.concatenate([inputs, np.full((7, 4), 99, "float32")]), batch_size=16)
    seen = keras.ops.convert_to_numpy(model.get_layer("first")(inputs)).mean(axis=0)
    np.testing.assert_allclose(averages(model)[0], seen, rtol=1e-4, atol=1e-4)
    assert all(map(np.array_equal, weights, copies(model.trainable_weights)))
    assert model.get_layer("norm").momentum == 0.99


def test_refresh_leaves_frozen_batch_norm_alone_and_says_what_it_lacks(model):
    tl.freeze(model, train_from="inner_norm", batch_norm="train")
    before = averages(model)
    tl.refresh_batch_norm(model, np.full((8, 4), 7, "float32"), batch_size=4)
    assert [np.array_equal(*pair) for pair in zip(before, averages(model), strict=True)] == [True, False]
    with pytest.raises(ValueError, match="at least batch_size=256, got 8"):
        tl.refresh_batch_norm(model, np.ones((8, 4), "float32"))
    tl.freeze(model)
    with pytest.raises(ValueError, match="expected a trainable BatchNorm layer, got none"):
        tl.refresh_batch_norm(model, np.ones((8, 4), "float32"), batch_size=4)


def test_refresh_works_or_says_that_the_model_was_called_with_training_false():
    model, inputs = called_with_training_false(), np.full((8, 4), 7, "float32")
    before = averages(model)
    if _graph._outer_training_wins():
        tl.refresh_batch_norm(model, inputs, batch_size=4)
        assert not np.array_equal(before[0], averages(model)[0])
    else:
        with pytest.raises(ValueError, match="'norm', which was called with training=False"):
            tl.refresh_batch_norm(model, inputs, batch_size=4)
        assert np.array_equal(before[0], averages(model)[0])
