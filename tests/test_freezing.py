"""Freezing: which layers train, BatchNorm, and the proof that nothing else moved."""

import keras
import numpy as np
import pytest

import tlhelpers as tl


def small_network() -> keras.Model:
    """Dense, BatchNorm, nested (Dense, BatchNorm), Dense: what a backbone has, in small."""
    inner_input = keras.Input((4,))
    inner_output = keras.layers.BatchNormalization(name="inner_norm")(
        keras.layers.Dense(4, name="inner_dense")(inner_input)
    )
    inner = keras.Model(inner_input, inner_output, name="inner")
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, name="first")(inputs)
    x = inner(keras.layers.BatchNormalization(name="norm")(x))
    return keras.Model(inputs, keras.layers.Dense(2, name="last")(x))


def fit(model: keras.Model, *, compile_first: bool = True) -> None:
    """One epoch on inputs whose mean is far from zero, so that statistics have somewhere to go."""
    inputs = np.random.default_rng(0).normal(3, 2, (32, 4)).astype("float32")
    if compile_first:
        model.compile("sgd", "mse")
    model.fit(inputs, np.zeros((32, 2)), batch_size=8, verbose=0)


def averages(model: keras.Model) -> list[np.ndarray]:
    norms = [layer for layer in tl.freezing.leaves(model) if "norm" in layer.name]
    return [keras.ops.convert_to_numpy(norm.moving_mean).copy() for norm in norms]


def trained(model: keras.Model) -> list[str]:
    return [layer.name for layer in tl.freezing.leaves(model) if layer.trainable_weights]


@pytest.mark.parametrize("first", ["inner_dense", 4, -3])
def test_from_a_layer_on_by_name_or_index_and_all_by_default(first):
    model = small_network()
    tl.freeze(model, train_from=first)
    assert trained(model) == ["inner_dense", "last"]
    tl.freeze(model, train_from=first, batch_norm="train")
    assert trained(model) == ["inner_dense", "inner_norm", "last"]
    tl.freeze(model)
    assert not any(layer.trainable for layer in tl.freezing.leaves(model))


def test_frozen_batch_norm_keeps_its_statistics_and_trained_moves_them():
    model = small_network()
    tl.freeze(model, train_from=0, batch_norm="frozen")
    before = averages(model)
    fit(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, averages(model), strict=True))
    tl.freeze(model, train_from=0, batch_norm="train")
    fit(model)
    assert not any(np.array_equal(a, b) for a, b in zip(before, averages(model), strict=True))


def test_training_false_in_the_call_does_not_protect_batch_norm_under_fit():
    # Keras issue 20285. If this fails, Keras has mended it, and chapters 2 and 3 must say so.
    norm = keras.layers.BatchNormalization(name="norm")
    inner = keras.Sequential([keras.Input((4,)), norm])
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inner(inputs, training=False)))
    before = averages(inner)
    fit(model)
    assert not np.array_equal(before[0], averages(inner)[0])


def test_a_change_of_trainable_needs_compile():
    model = small_network()
    tl.freeze(model, train_from="last")
    fit(model)
    before = keras.ops.convert_to_numpy(model.get_layer("first").kernel).copy()
    tl.freeze(model, train_from=0)
    fit(model, compile_first=False)
    assert np.array_equal(before, keras.ops.convert_to_numpy(model.get_layer("first").kernel))
    fit(model)
    assert not np.array_equal(before, keras.ops.convert_to_numpy(model.get_layer("first").kernel))


def test_unchanged_is_silent_when_frozen_layers_stay_and_names_what_moved():
    model = small_network()
    tl.freeze(model, train_from="last")
    with tl.unchanged(model):
        fit(model)
    average = model.get_layer("inner").get_layer("inner_norm").moving_mean
    expected = pytest.raises(tl.freezing.FrozenWeightsMoved, match=r"expected 4 frozen.*in 1: inner_norm\.")
    with expected, tl.unchanged(model):
        average.assign(average + 1e-7)


def test_unchanged_tells_layers_of_one_name_apart():
    branches = []
    for name in ("left", "right"):
        inputs = keras.Input((4,))
        branches.append(keras.Model(inputs, keras.layers.Dense(2, name="same")(inputs), name=name))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Add()([branch(inputs) for branch in branches]))
    tl.freeze(model)
    with tl.unchanged(model):
        pass


def test_unchanged_has_nothing_to_prove_when_nothing_is_frozen():
    model = small_network()
    tl.freeze(model, train_from=0, batch_norm="train")
    with pytest.raises(ValueError, match="at least one frozen layer"), tl.unchanged(model):
        pass


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"train_from": "inner_dens"}, LookupError, "layer 'inner_dens'.*did you mean 'inner_dense'"),
        ({"train_from": 99}, ValueError, "expected an index into 7 layers, got 99"),
        ({"train_from": 3.0}, TypeError, "expected a layer's name or index, or None, got 3.0"),
        ({"train_from": True}, TypeError, "expected a layer's name or index, or None, got True"),
        ({"batch_norm": "freeze"}, ValueError, 'expected "frozen" or "train", got \'freeze\''),
    ],
)
def test_wrong_options_say_what_to_do(options, error, message):
    with pytest.raises(error, match=message):
        tl.freeze(small_network(), **options)


def test_parts_count_by_block():
    backbone = tl.load_backbone("mobilenet_v2_glyphs", weights="random")
    tl.freeze(backbone, train_from="block_16_expand")
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pool")(backbone(inputs)))
    parts = tl.parts(model).set_index("part")
    assert list(parts.index) == ["stem", *[f"block {n}" for n in range(17)], "last convolution", "pool"]
    assert parts.parameters.sum() == model.count_params()
    assert list(parts.index[parts.trainable > 0]) == ["block 16", "last convolution"]
    # Frozen BatchNorm: of the trained part only the kernels count.
    kernels = [w for w in backbone.trainable_weights if w.path.endswith("kernel")]
    assert parts.trainable.sum() == sum(int(np.prod(kernel.shape)) for kernel in kernels)


def test_refresh_sets_the_averages_of_the_data_and_nothing_else():
    model = small_network()
    tl.freeze(model, train_from="norm", batch_norm="train")
    weights = [keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]
    inputs = np.random.default_rng(1).normal(5, 1, (64, 4)).astype("float32")
    # Seven at the end fill no batch and are left out.
    tl.refresh_batch_norm(model, np.concatenate([inputs, np.full((7, 4), 99, "float32")]), batch_size=16)
    seen = keras.ops.convert_to_numpy(model.get_layer("first")(inputs)).mean(axis=0)
    np.testing.assert_allclose(averages(model)[0], seen, rtol=1e-4, atol=1e-4)
    after = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    assert all(np.array_equal(a, b) for a, b in zip(weights, after, strict=True))
    assert model.get_layer("norm").momentum == 0.99


def test_refresh_leaves_frozen_batch_norm_alone_and_says_what_it_lacks():
    model = small_network()
    tl.freeze(model, train_from="inner_norm", batch_norm="train")
    before = averages(model)
    tl.refresh_batch_norm(model, np.full((8, 4), 7, "float32"), batch_size=4)
    assert np.array_equal(averages(model)[0], before[0])
    assert not np.array_equal(averages(model)[1], before[1])
    with pytest.raises(ValueError, match="at least batch_size=256, got 8"):
        tl.refresh_batch_norm(model, np.ones((8, 4), "float32"))
    tl.freeze(model)
    with pytest.raises(ValueError, match="expected a trainable BatchNorm layer, got none"):
        tl.refresh_batch_norm(model, np.ones((8, 4), "float32"), batch_size=4)
