"""Networks of other people: each is cut, computed once and frozen right, or refused with one clear error."""

import functools

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import _trial

L = keras.layers
X = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
pytestmark = pytest.mark.usefixtures("own_cache")


def model_of(layer, shape=(4,), **options) -> keras.Model:
    inputs = keras.Input(shape, **options)
    model = keras.Model(inputs, layer(inputs))
    tl.freeze(model)
    return model


def parts(model, at, x):
    """What the model gives, and what its two parts give."""
    prefix, suffix = tl.split(model, at=at)
    return model.predict(x, verbose=0), suffix.predict(prefix.predict(x, verbose=0), verbose=0)


# -- what a prefix computes is more than what its layers say of themselves ------------------------------


def named(factor):
    def prepare(x):
        return x * factor

    return prepare


def of_class(factor):
    class Block(L.Layer):
        def call(self, x):
            return x * factor

    return Block()


def with_table(factor):
    pytest.importorskip("tensorflow")  # whose table it keeps
    lookup = L.IntegerLookup()
    lookup.adapt(np.array([1] * int(2 * factor) + [2] * 5))
    return lookup


def with_array(factor):
    class Block(L.Layer):
        def __init__(self, numbers):
            super().__init__()
            self.numbers = numbers

        def call(self, x):
            return x * self.numbers[1_500]

        def get_config(self):
            return {**super().get_config(), "numbers": self.numbers}

    numbers = np.zeros(3_000, "float32")
    numbers[1_500] = factor  # NumPy prints "..." in its place
    return Block(numbers)


def set_later(factor):
    block = of_class(1.0)
    block.call = named(factor)
    return block


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda factor: L.Lambda(named(factor)), {}),
        (lambda factor: L.Dense(3, activation=named(factor), kernel_initializer="ones"), {}),
        (of_class, {}),
        (with_table, {"shape": (3,), "dtype": "int64"}),
        (with_array, {}),
        (set_later, {}),
    ],
)
def test_features_of_another_function_under_the_same_name_are_not_reused(make, options):
    x = np.array([[1, 2, 3], [3, 2, 1]], "int64") if options else X
    found = []
    for factor in (1.5, 4.0):
        model = model_of(make(factor), **options)
        found.append(np.array(tl.precompute(model, x)))
        np.testing.assert_allclose(found[-1], model.predict(x, verbose=0), rtol=1e-6)
    assert not np.array_equal(*found)


class Times(L.Layer):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor


@pytest.mark.parametrize(
    ("make", "setting", "values"),
    [(Times, "factor", (2.0, 5.0)), (L.Rescaling, "scale", (2.0, 3.0)), (L.ReLU, "max_value", (9.0, 0.5))],
)
def test_a_setting_that_is_changed_between_two_calls_counts(make, setting, values):
    layer = make(values[0])
    model = model_of(layer)
    model.predict(X, verbose=0)
    for value in (values[1], values[0]):  # Keras keeps what it compiled before
        setattr(layer, setting, value)
        np.testing.assert_allclose(tl.precompute(model, X), model(X, training=False), rtol=1e-6)
    np.testing.assert_allclose(tl.precompute(model_of(make(values[1])), X), make(values[1])(X), rtol=1e-6)


@pytest.mark.parametrize(
    "layer", [L.LSTM(2, stateful=True), L.Lambda(lambda x: keras.ops.reshape(x, (4, 40)))]
)
def test_a_network_for_batches_of_one_size_is_refused(layer):
    inputs = keras.Input(batch_shape=(4, 5, 8))
    model = keras.Model(inputs, layer(inputs))
    tl.freeze(model)
    with pytest.raises(
        ValueError, match=r"takes any number of examples, got \w+Error for \d\. Leave batch sizes"
    ):
        tl.precompute(model, np.concatenate([SEQUENCES, SEQUENCES]), batch_size=4)


def test_a_layer_that_does_not_say_how_it_was_made_is_refused():
    class Own(L.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def call(self, x):
            return self.function(x)

    with pytest.raises(
        ValueError, match=r"say how they were made, .*get_config does not. Give Own a get_config"
    ):
        tl.precompute(model_of(Own(keras.ops.abs)), X)

    class Broken(L.Dense):
        def get_config(self):
            return {**super().get_config(), "width": self.width}

    with pytest.raises(ValueError, match=r"get_config does not. Give Broken a get_config"):
        tl.precompute(model_of(Broken(3)), X)


# -- randomness, and what else training changes ---------------------------------------------------------

SEQUENCES = np.random.default_rng(0).normal(size=(6, 5, 8)).astype("float32")


@pytest.mark.parametrize("layer", [L.LSTM(4), L.GRU(4), L.Bidirectional(L.LSTM(4))])
def test_recurrent_layers_that_drop_nothing_are_computed_once(layer):
    model = model_of(layer, (5, 8))
    features = tl.precompute(model, SEQUENCES)
    np.testing.assert_allclose(features, model.predict(SEQUENCES, verbose=0), atol=1e-6)


class Counts(L.Layer):
    def build(self, shape):
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=None):
        if training:
            self.seen.assign_add(1.0)
        return x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (L.LSTM(4, dropout=0.5), "which draws random numbers in training"),
        (L.LSTM(4, recurrent_dropout=0.5), "which draws random numbers in training"),
        (L.Dropout(0.0001), "which draws random numbers in training"),
        (L.Lambda(lambda x: x + keras.random.normal(keras.ops.shape(x))), "others in training"),
        (L.Lambda(lambda x: x - keras.ops.mean(x, axis=0, keepdims=True)), "each image by itself"),
        (Counts(), "which a pass in training moves though it is frozen"),
        (
            L.SpectralNormalization(L.Dense(4, name="inner")),
            "got 'spectral.*', which a pass in training moves though it is frozen",
        ),
    ],
)
def test_what_training_or_other_images_change_is_refused(layer, message):
    model = model_of(layer, (5, 8))
    before = [weight.numpy() for weight in model.variables]
    with pytest.raises(Exception, match=message) as error:
        tl.precompute(model, SEQUENCES)
    assert isinstance(error.value, ValueError)
    assert all(map(np.array_equal, before, [weight.numpy() for weight in model.variables]))


# -- the graph and the call -------------------------------------------------------------------------------


def test_a_nested_model_gets_its_inputs_by_name():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    inner = keras.Model([b, a], L.Subtract(name="sub")([a, b]))
    p, q = keras.Input((4,), name="p"), keras.Input((4,), name="q")
    model = keras.Model([p, q], L.Dense(1)(inner({"a": p, "b": q})))
    np.testing.assert_allclose(*parts(model, "sub", [X, 2 * X]), atol=1e-6)


SAID = [{"training": True}, {"training": False}, {"training": None}, {}]


@pytest.mark.parametrize("inside", SAID)
@pytest.mark.parametrize("recorded", SAID)
def test_a_nested_model_keeps_the_training_it_was_called_with(recorded, inside):
    # Keras' rule is another before and after 3.16; the parts follow it, whatever it is.
    keras.utils.set_random_seed(0)
    inputs, inner_inputs = keras.Input((64,)), keras.Input((64,))
    layer = L.Dropout(0.5, seed=1)
    inner = keras.Model(inner_inputs, layer(inner_inputs, **inside))
    stem = L.Dense(64, kernel_initializer="identity", name="stem")(inputs)
    model = keras.Model(inputs, L.Dense(64, kernel_initializer="identity")(inner(stem, **recorded)))
    prefix, suffix = tl.split(model, at="stem")
    ones, state = np.ones((1, 64), "float32"), layer.seed_generator.state
    for training in (None, False, True):
        found = []
        for whole in (True, False):
            state.assign([1, 0])
            kwargs = {} if training is None else {"training": training}
            found.append(model(ones, **kwargs) if whole else suffix(prefix(ones, **kwargs), **kwargs))
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, found))


def test_layers_that_cannot_be_told_are_not():
    # Keras computes the shapes of an Add by a method that takes no ``training``.
    inputs, inner_inputs = keras.Input((4,)), keras.Input((4,))
    summed = L.Add()([inner_inputs, L.ReLU()(inner_inputs)])
    inner = keras.Model(inner_inputs, L.BatchNormalization()(summed))
    model = keras.Model(inputs, L.Dense(2, name="end")(inner(inputs, training=False)))
    prefix, _ = tl.split(model, at=tl.cut_points(model)[-1])
    assert prefix.compute_output_shape((3, 4)) == (3, 4)


class Doubled(keras.Model):
    def call(self, x, training=None):
        return 2 * super().call(x)


def own_call(outer: bool) -> keras.Model:
    inputs, inner_inputs = keras.Input((4,)), keras.Input((4,))
    inner = Doubled(inner_inputs, L.Dense(4, name="inside")(inner_inputs), name="doubled")
    return inner if outer else keras.Model(inputs, L.Dense(1, name="head")(inner(inputs)))


def test_a_call_of_its_own_is_refused_and_stays_whole_inside_another_model():
    with pytest.raises(TypeError, match="expected a Functional or built Sequential Keras model, got Doubled"):
        tl.cut_points(own_call(True))
    model = own_call(False)
    assert tl.cut_points(model) == ["doubled"]
    np.testing.assert_allclose(*parts(model, "doubled", X), atol=1e-6)


def test_a_predict_that_prepares_images_is_refused():
    class Prepares(keras.Model):
        def predict(self, x, **options):
            return super().predict(x / 255, **options)

    class Plain(keras.Model):
        def predict(self, x, **options):
            return super().predict(x, **options)

    inputs = keras.Input((4,))
    body = L.Dense(3, name="a")(inputs)
    outputs = L.Dense(2)(body)
    assert tl.cut_points(Plain(inputs, outputs)) == ["a"]
    frozen = Prepares(inputs, outputs)
    tl.freeze(frozen)
    for use in (functools.partial(tl.split, at="a"), functools.partial(tl.precompute, source=X)):
        with pytest.raises(TypeError, match="got Prepares, whose predict prepares its input first"):
            use(frozen)


def net(name: str, *layers: str) -> keras.Model:
    """Dense layers of these names, in a model."""
    inputs = keras.Input((4,))
    last = functools.reduce(lambda x, layer: L.Dense(3, name=layer)(x), layers, inputs)
    return keras.Model(inputs, last, name=name)


def joined(head: str, **branches: list[str]) -> keras.Model:
    """Nested models side by side, and a head."""
    inputs = [keras.Input((4,)) for _ in branches]
    ends = [net(name, *layers)(x) for (name, layers), x in zip(branches.items(), inputs, strict=True)]
    return keras.Model(inputs, L.Dense(1, name=head)(L.Concatenate(name="cat")(ends)))


def test_names_that_occur_twice_are_told_apart():
    two = joined("dense", rgb=["dense"], flow=["dense"])
    assert tl.cut_points(two) == ["cat"]
    np.testing.assert_allclose(*parts(two, "cat", [X, X]), atol=1e-6)
    body = [net("base", "first", "dense"), L.Dense(2, name="dense"), L.Dense(1, name="end")]
    stacked = keras.Sequential([keras.Input((4,)), *body])
    assert tl.cut_points(stacked) == ["first", "base_dense", "dense"]
    for at in ("base_dense", "dense"):
        np.testing.assert_allclose(*parts(stacked, at, X), atol=1e-6)
    tl.freeze(stacked, train_from="base_dense")
    assert len(stacked.trainable_weights) == 6
    tl.freeze(stacked)
    np.testing.assert_allclose(tl.precompute(stacked, X), stacked.predict(X, verbose=0), atol=1e-6)
    layers = [L.Dense(4, name="stem"), L.Activation("relu", name="activations")]
    np.testing.assert_allclose(*parts(keras.Sequential([keras.Input((4,)), *layers]), "stem", X), atol=1e-6)


def test_dictionaries_stay_dictionaries():
    inputs = {name: keras.Input((4,), name=name) for name in ("left", "right")}
    stem = L.Add(name="stem")(list(inputs.values()))
    model = keras.Model(inputs, {"one": L.Dense(1)(stem), "two": L.Dense(2)(stem)})
    whole, both = parts(model, "stem", {"left": X, "right": 3 * X})
    assert sorted(both) == sorted(whole) == ["one", "two"]
    for name, value in whole.items():
        np.testing.assert_allclose(both[name], value, atol=1e-6)


# -- what crosses a cut -----------------------------------------------------------------------------------


def folded() -> keras.Model:
    inputs = keras.Input((4, 8, 8, 3))
    x = keras.ops.reshape(inputs, (-1, 8, 8, 3))
    x = L.GlobalAveragePooling2D(name="inside")(L.Conv2D(5, 3, name="also_inside")(x))
    x = L.GlobalAveragePooling1D(name="after")(keras.ops.reshape(x, (-1, 4, 5)))
    return keras.Model(inputs, L.Dense(1, name="head")(x))


def test_no_cut_is_offered_where_the_batch_axis_holds_something_else():
    model = folded()
    cuts = tl.cut_points(model)
    assert "after" in cuts
    assert not {"inside", "also_inside"} & set(cuts)
    with pytest.raises(ValueError, match="got 'inside'"):
        tl.split(model, at="inside")
    tl.freeze(model)
    prefix = keras.Model(model.inputs, model.get_layer("inside").output)
    with pytest.raises(ValueError, match="a row of activations for each of 2 images, got 8"):
        tl.precompute(prefix, np.zeros((2, 4, 8, 8, 3), "float32"))


@pytest.mark.parametrize("axis", [0, -2])
def test_examples_that_are_joined_or_normalised_together_are_noticed(axis):
    inputs = keras.Input((4,))
    joined = L.Concatenate(axis=axis, name="joined")([L.Dense(4, name="a")(inputs), inputs])
    assert tl.cut_points(keras.Model(inputs, L.Dense(1)(L.Dense(3, name="b")(joined)))) == []
    model = keras.Model(inputs, joined)
    tl.freeze(model)
    with pytest.raises(ValueError, match="a row of activations for each of 8 images, got 16"):
        tl.precompute(model, X[:8])
    fixed = keras.backend.backend() == "torch"  # normalises over as many examples as it was built for
    with pytest.raises(ValueError, match="any number of examples" if fixed else "each image by itself"):
        tl.precompute(model_of(L.LayerNormalization(axis=axis, center=False, scale=False)), X)


def test_no_cut_is_offered_where_a_mask_or_an_output_crosses():
    tokens = keras.Input((6,), dtype="int32")
    states = L.LayerNormalization(name="norm")(L.Embedding(10, 4, mask_zero=True)(tokens))
    assert tl.cut_points(keras.Model(tokens, L.Dense(3, "softmax")(states))) == []
    pooled = L.Dense(4, name="dense")(L.LSTM(5, name="last")(states))
    assert tl.cut_points(keras.Model(tokens, L.Dense(3)(pooled))) == ["last", "dense"]
    inputs = keras.Input((4,))
    both = L.Dense(3, name="both")(L.Dense(3, name="a")(inputs))
    assert tl.cut_points(keras.Model(inputs, [both, L.Dense(2)(both)])) == ["a"]


def test_an_input_that_nothing_reads_forbids_no_cut():
    used, unused = keras.Input((4,)), keras.Input((2,))
    outputs = L.Dense(2)(L.Dense(3, name="a")(used))
    try:
        model = keras.Model([used, unused], outputs)
    except ValueError:
        pytest.skip(f"Keras {keras.version()} makes no such model")
    assert tl.cut_points(model) == ["a"]
    np.testing.assert_allclose(*parts(model, "a", [X, X[:, :2]]), rtol=1e-6)


def test_no_cut_is_offered_where_a_layer_gives_another_shape_than_it_says():
    class Lying(L.Layer):
        def call(self, x):
            return x[:, 1:]

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((4, 3))
    x = L.GlobalAveragePooling1D(name="mean")(L.Identity(name="b")(Lying(name="a")(inputs)))
    assert tl.cut_points(keras.Model(inputs, L.Dense(1)(x))) == ["mean"]


def regularised(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    loss = {name: keras.regularizers.L2(0.5)}
    inputs = keras.Input((4, 4, 3))
    x = L.Conv2D(4, 3, padding="same", name="conv", activity_regularizer=loss.get("conv"))(inputs)
    x = L.Conv2D(8, 1, name="point", activity_regularizer=loss.get("point"))(x)
    return keras.Model(inputs, L.Dense(1)(L.GlobalAveragePooling2D()(x)))


def test_losses_that_layers_add_are_the_suffix_own_or_the_cut_is_refused():
    x, y = np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype("float32"), np.zeros((8, 1))
    model = regularised("point")
    prefix, suffix = tl.split(model, at="conv")
    losses = []
    for each, inputs in ((model, x), (suffix, prefix.predict(x, verbose=0))):
        each.compile("sgd", "mse")
        losses.append(each.evaluate(inputs, y, verbose=0))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    with pytest.raises(ValueError, match=r"expected the suffix to add the model.s losses, .*an activity"):
        tl.split(regularised("conv"), at="conv")


def test_two_parts_that_are_not_the_model_are_refused():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(1)(L.Dropout(0.5)(L.Dense(3, name="a")(inputs))))
    prefix, suffix = tl.split(model, at="a")
    _trial.check_cut(model, prefix, suffix, "a")
    without = keras.Sequential([keras.Input((3,)), model.layers[-1]])  # right outside of training alone
    doubled = keras.Model(suffix.inputs, 2 * suffix.outputs[0])
    for wrong, when in ((without, "in training"), (doubled, "outside of training")):
        with pytest.raises(ValueError, match=rf"to be model\(x\), got other numbers, .* cut at 'a', {when}"):
            _trial.check_cut(model, prefix, wrong, "a")


class Enlarging(L.Layer):
    """What BatchNorm over few examples does layer after layer: in training, rounding becomes a difference."""

    def call(self, x, training=False):
        return keras.ops.sin(3e5 * x) if training else x


def test_rounding_that_a_network_enlarges_in_training_is_no_other_network():
    inputs = keras.Input((4,))
    dense, enlarging = L.Dense(3, name="a", kernel_initializer="ones"), Enlarging()
    model = keras.Model(inputs, enlarging(dense(inputs)))
    prefix, suffix = tl.split(model, at="a")
    rounded = keras.Model(suffix.inputs, enlarging(suffix.inputs[0] * (1 + 2e-7)))
    _trial.check_cut(model, prefix, rounded, "a")
    other = keras.Model(suffix.inputs, 2 * enlarging(suffix.inputs[0]))
    still = keras.Model(suffix.inputs, L.Identity()(suffix.inputs[0]))  # right outside of training alone
    for wrong in (other, still):
        with pytest.raises(ValueError, match=r"to be model\(x\), got other numbers"):
            _trial.check_cut(model, prefix, wrong, "a")


def test_a_step_of_its_own_is_said():
    class Stepping(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    inputs = keras.Input((4,))
    model = Stepping(inputs, L.Dense(1)(L.Dense(3, name="a")(inputs)))
    with pytest.warns(UserWarning, match="expected Keras' own train_step, got Stepping's"):
        tl.split(model, at="a")


def test_a_model_that_cannot_be_tried_out_is_refused():
    inputs = keras.Input((None,))
    elevens = L.Lambda(lambda x: keras.ops.reshape(x, (-1, 11)), output_shape=(11,), name="elevens")
    model = keras.Model(inputs, L.Dense(1)(elevens(inputs)))
    with pytest.raises(ValueError, match="expected to try it out on 3 random examples, got an error"):
        tl.cut_points(model)


# -- layers inside layers ---------------------------------------------------------------------------------


def wrapped() -> tuple[keras.Model, keras.Model]:
    layers = [L.Conv2D(4, 3, name="conv"), L.BatchNormalization(name="norm"), L.GlobalAveragePooling2D()]
    base = keras.Sequential([keras.Input((8, 8, 3)), *layers], name="base")
    video = keras.Input((2, 8, 8, 3))
    states = L.LSTM(3, name="lstm")(L.TimeDistributed(base, name="wrapper")(video))
    return keras.Model(video, L.Dense(1, name="head")(states)), base


VIDEOS = np.random.default_rng(0).normal(5, 2, (8, 2, 8, 8, 3)).astype("float32")


def test_freezing_reaches_into_layers_whatever_their_flags_were():
    model, base = wrapped()
    model.get_layer("wrapper").trainable = False
    base.get_layer("conv").trainable = True
    tl.freeze(model)
    assert model.trainable_weights == []
    base.trainable = False
    tl.freeze(model, train_from="wrapper", batch_norm="frozen")
    assert [layer.trainable for layer in base.layers] == [True, False, True]
    model.compile("sgd", "mse")
    with tl.unchanged(model):  # the averages of the BatchNorm inside
        model.fit(VIDEOS, np.zeros((8, 1)), verbose=0)


def test_unchanged_watches_each_frozen_weight():
    model, base = wrapped()
    tl.freeze(model, train_from="lstm")
    model.get_layer("wrapper").trainable = True
    base.get_layer("conv").trainable = False
    kernel = base.get_layer("conv").kernel
    with pytest.raises(tl.freezing.FrozenWeightsMoved, match="conv"), tl.unchanged(model):
        kernel.assign(kernel + 1)


def test_statistics_inside_a_wrapper_are_the_mean_over_all_its_calls():
    model, base = wrapped()
    tl.freeze(model, train_from=0, batch_norm="train")
    tl.refresh_batch_norm(model, VIDEOS, batch_size=4)
    seen = keras.ops.mean(base.get_layer("conv")(VIDEOS.reshape(-1, 8, 8, 3)), axis=(0, 1, 2))
    seen, moved = map(keras.ops.convert_to_numpy, (seen, base.get_layer("norm").moving_mean))
    np.testing.assert_allclose(moved, seen, rtol=1e-4)
    assert base.get_layer("norm").momentum == 0.99
    assert "call" not in vars(base.get_layer("norm"))


def test_statistics_of_several_inputs():
    inputs = [keras.Input((4,), name="a"), keras.Input((3,), name="b")]
    model = keras.Model(inputs, L.BatchNormalization(name="norm")(L.Concatenate()(inputs)))
    tl.refresh_batch_norm(model, [X, 2 * X[:, :3]], batch_size=9)
    seen = np.concatenate([X, 2 * X[:, :3]], axis=1).mean(axis=0)
    np.testing.assert_allclose(model.get_layer("norm").moving_mean, seen, atol=1e-6)
    for wrong in ((row for row in X), [X, X[:4, :3]]):
        message = r"inputs: expected arrays \(n, ...\) .* of one length.*\[x for x, y in batches\]"
        with pytest.raises(TypeError, match=message):
            tl.refresh_batch_norm(model, wrong, batch_size=4)


def test_weights_that_are_frozen_by_themselves_stay_so():
    inputs = keras.Input((4,))
    body = L.Dense(6, name="b")(L.Dense(6, name="a")(inputs))
    model = keras.Model(inputs, L.Dense(1, name="head")(body))
    tl.freeze(model, train_from="head")
    model.get_layer("b").enable_lora(2)
    model.get_layer("head").bias.trainable = False
    tl.freeze(model, train_from="b")
    trained = [weight.path.split("/", 1)[1] for weight in model.trainable_weights]
    assert trained == ["bias", "lora_kernel_a", "lora_kernel_b", "kernel"]
    assert not model.get_layer("b")._kernel.trainable
    model.get_layer("b").bias.trainable = False  # LoRA alone, as its paper has it
    tl.freeze(model, train_from="b")
    assert [weight.name for weight in model.get_layer("b").trainable_weights] == [
        "lora_kernel_a",
        "lora_kernel_b",
    ]
    model.compile("sgd", "mse")
    with tl.unchanged(model):
        model.fit(X, np.zeros((9, 1)), verbose=0)
    with pytest.raises(tl.freezing.FrozenWeightsMoved, match="in 1: b"), tl.unchanged(model):
        model.get_layer("b")._kernel.assign(model.get_layer("b")._kernel + 1)


def test_pointwise_convolutions_of_a_suffix_freeze_train_and_are_watched():
    images = keras.Input((8, 8, 3))
    layers = [L.Conv2D(4, 3, name="c"), L.Conv2D(4, 1, name="point"), L.Conv2D(4, 3, name="z"), L.Flatten()]
    x = functools.reduce(lambda x, layer: layer(x), layers, images)
    model = keras.Model(images, L.Dense(1, name="head")(x))
    tl.freeze(model, train_from="head")
    _, suffix = tl.split(model, at="c")
    kernel = model.get_layer("point").kernel
    with pytest.raises(tl.freezing.FrozenWeightsMoved, match="point"), tl.unchanged(suffix):
        kernel.assign(kernel + 1)
    tl.freeze(suffix, train_from="point")
    assert any(weight is kernel for weight in suffix.trainable_weights)
    suffix.get_layer("point").trainable = False
    assert not any(weight is kernel for weight in suffix.trainable_weights)


def test_a_name_means_one_layer_or_is_refused():
    model = joined("head", rgb=["first_rgb", "last"], flow=["first_flow", "last"])
    with pytest.raises(ValueError, match=r"'last', which 2 have\. Give an index"):
        tl.freeze(model, train_from="last")
    tl.freeze(model, train_from="flow")
    assert model.get_layer("flow").get_layer("first_flow").trainable
    assert not model.get_layer("rgb").get_layer("last").trainable


@pytest.mark.parametrize(("dense", "number"), [(None, 3), (L.Dense(4, name="dense"), 5)])
def test_own_weights_of_a_subclassed_model_freeze_and_train_again(dense, number):
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.dense = dense
            self.token = self.add_weight(shape=(4,), name="token")

        def call(self, x):
            return (dense(x) if dense else x) + self.token

    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(1, name="head")(Own()(inputs)))
    for first, expected in ((None, 0), (0, number), ("head", 2), (0, number)):
        tl.freeze(model, train_from=first)
        assert len(model.trainable_weights) == expected


def test_statistics_of_a_subclassed_model():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = L.BatchNormalization()

        def call(self, x, training=None):
            return self.norm(x, training=training)

    model = Own()
    model(X, training=False)
    tl.refresh_batch_norm(model, X, batch_size=9)
    np.testing.assert_allclose(model.norm.moving_mean, X.mean(axis=0), atol=1e-6)


def test_an_unbuilt_model_is_refused_in_words_that_fit():
    model = keras.Sequential([L.Dense(3), L.Dense(2)])
    with pytest.raises(TypeError, match=r"got an unbuilt Sequential\. Say what it takes"):
        tl.cut_points(model)
    with pytest.raises(ValueError, match="whose weights are not made yet"):
        tl.parts(model)


# -- images -----------------------------------------------------------------------------------------------

UNIT = np.random.default_rng(0).random((2, 8, 8, 3)).astype("float32")


@pytest.mark.parametrize(
    ("layers", "images", "right"),
    [
        ([L.Rescaling(255.0), L.Rescaling(1 / 255)], UNIT, True),
        ([L.Rescaling(1 / 255)], (255 * UNIT).astype("uint8"), True),
        ([L.Rescaling(1 / 65535)], (65535 * UNIT).astype("uint16"), True),
        ([L.Rescaling(1 / 127.5, -1)], UNIT, False),
        ([L.Resizing(4, 4), L.Rescaling(1 / 255)], UNIT, False),
        ([L.Rescaling([1 / 255] * 3)], UNIT, False),
        ([L.Rescaling(1 / 255)], (65535 * UNIT).astype("uint16"), False),
    ],
)
def test_images_in_a_range_that_the_scaling_cannot_be_for_are_refused(layers, images, right):
    model = model_of(keras.Sequential([keras.Input((8, 8, 3)), *layers]), (8, 8, 3))
    if right:
        np.testing.assert_allclose(tl.precompute(model, images), model.predict(images, verbose=0), rtol=1e-5)
    else:
        with pytest.raises(ValueError, match=r"expected raw values from 0 to 255, got at most .* scale once"):
            tl.precompute(model, images)
