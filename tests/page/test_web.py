"""The exported files say what Keras computes; tests/browser runs them by the page's own program."""

import json
import zlib

import keras
import numpy as np
import pytest
from keras import layers

import tlhelpers as tl
from tlhelpers import page, studies
from tlhelpers.page import web


def run(folder, image):
    """One image through the operations as the two files have them; every result by its name, in order."""
    header = json.loads((folder / "model.json").read_text())
    weights = (folder / "weights.bin").read_bytes()
    assert (len(weights), zlib.crc32(weights)) == (header["bytes"], header["crc32"])
    steps = []
    for entry in header["steps"]:
        parts = {name: entry.pop(name) for name in ("kernel", "bias") if name in entry}
        numbers = {name: np.ndarray(at["shape"], "<f2", weights, at["at"]) for name, at in parts.items()}
        known = {name: entry.pop(name) for name in ("op", "name", "reads", "shape")}
        known["shape"] = tuple(known["shape"])
        steps.append(web._Step(**known, options=entry, **numbers))
    made = web._run(steps, image.astype(float))
    return dict(zip((step.name for step in steps), made, strict=True))


def trained_looking(model, seed=0):
    """Give every weight and moving statistic a value that shows if it is left out."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        low, high = (0.5, 1.5) if "variance" in weight.path or "gamma" in weight.path else (-0.3, 0.3)
        weight.assign(random.uniform(low, high, weight.shape))
    return model


def close(model, folder, *, images):
    web.export(model, folder)
    for image, row in zip(images, np.asarray(model(images, training=False)), strict=True):
        *_, answer = run(folder, image).values()
        np.testing.assert_allclose(answer.ravel(), row.ravel(), atol=3e-3)


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (3, 8, 8), "uint8")


def test_our_model_gives_keras_probabilities_and_the_frozen_part_by_the_name_of_its_cut(tmp_path):
    model = studies.recipes.our_model(page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test"))
    images = tl.load_dataset("digits").test.images[:2]
    close(model, tmp_path, images=images)
    prefix, _ = tl.split(model, at="block_2_add")
    frozen = run(tmp_path, images[0])["block_2_add"]
    np.testing.assert_allclose(frozen, prefix(images[:1], training=False)[0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    "middle",
    [
        [layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")],
        [layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False), layers.BatchNormalization()],
        [layers.ZeroPadding2D(((0, 1), (0, 1))), layers.DepthwiseConv2D(3, strides=2), layers.ReLU(6.0)],
        [layers.DepthwiseConv2D((3, 2)), layers.BatchNormalization(scale=False), layers.Activation("relu")],
        [layers.Conv2D(4, (2, 3), strides=(1, 2), padding="same"), layers.Activation("relu6")],
        [layers.Rescaling(0.1, offset=-1), layers.ReLU(), layers.Conv2D(3, 1)],
        [layers.Resizing(5, 11), layers.Conv2D(3, 2)],
        [layers.Resizing(16, 4), layers.ReLU(), layers.Conv2D(3, 2), layers.BatchNormalization()],
    ],
)
def test_layers_and_what_is_folded_into_them(middle, images, tmp_path):
    inputs = keras.Input((8, 8))
    x = layers.Rescaling(1 / 255)(layers.Reshape((8, 8, 1))(inputs))
    x = layers.Concatenate()([x, x])
    for layer in middle:
        x = type(layer).from_config(layer.get_config())(x)
    mean = layers.Conv2D(4, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    pooled = [layers.GlobalAveragePooling2D()(x), layers.Flatten()(mean)]
    x = layers.Concatenate()([layers.Flatten()(x), *pooled])
    x = layers.Dense(6, activation="relu")(layers.Dropout(0.5)(x))
    model = trained_looking(keras.Model(inputs, layers.Dense(10, activation="softmax")(x)))
    close(model, tmp_path, images=images)


def test_a_fused_model_is_written_as_a_plain_one(images, tmp_path):
    middle = [layers.DepthwiseConv2D(3), layers.BatchNormalization(), layers.Flatten()]
    first = [keras.Input((8, 8)), layers.Rescaling(1 / 255), layers.Reshape((8, 8, 1))]
    model = trained_looking(keras.Sequential([*first, *middle, layers.Dense(10, "softmax")]))
    model.compile("adam", "mse")
    assert tl.fuse(model)["BatchNormalization"] == 1
    close(model, tmp_path, images=images)


@pytest.mark.parametrize("rectifier", [layers.ReLU(), layers.Activation("relu6")])
def test_a_layer_whose_result_is_used_twice_keeps_it_unfolded(rectifier, images, tmp_path):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 3, padding="same")(layers.Rescaling(1 / 255)(inputs))
    both = layers.Add()([x, rectifier(x)])
    flat = layers.Flatten()(both)
    twice = layers.Concatenate()([flat, flat])
    model = trained_looking(keras.Model(inputs, layers.Activation("softmax")(layers.Dense(10)(twice))))
    close(model, tmp_path, images=images[..., None])


def test_writing_again_replaces_the_files(images, tmp_path):
    for seed in (0, 1):
        parts = [layers.Flatten(), layers.Rescaling(1 / 255), layers.Dense(10, "softmax")]
        model = trained_looking(keras.Sequential([keras.Input((8, 8)), *parts]), seed)
        close(model, tmp_path / "new" / "folder", images=images)


class Standardised(layers.Conv2D):
    def call(self, x):
        return 2 * super().call(x)


@pytest.mark.parametrize("shape", [(8, 8), (64,), (4, 16)])
def test_a_new_shape_is_a_step_of_its_own(shape, images, tmp_path):
    parts = [layers.Rescaling(1 / 255), layers.Reshape(shape), layers.ReLU(), layers.Reshape((8, 8, 1))]
    parts += [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(10, "softmax")]
    close(trained_looking(keras.Sequential([keras.Input((8, 8)), *parts])), tmp_path, images=images)


def test_what_the_operations_do_not_give_is_not_written(monkeypatch, tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()])
    right = web._window
    monkeypatch.setattr(page.web, "_window", lambda *a: {**right(*a), "zeros": (1, 1)})
    with pytest.raises(ValueError, match=r"expected operations that give what Keras gives, got others by"):
        web.export(trained_looking(model), tmp_path)
    quantised = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    quantised.quantize("int8")
    with pytest.raises(ValueError, match="expected weights as they were trained, got int8 ones"):
        web.export(quantised, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_names_that_occur_twice_are_exported(images, tmp_path):
    inner = keras.Sequential([keras.Input((64,)), layers.Dense(3, name="dense")])
    parts = [layers.Flatten(), layers.Rescaling(1 / 255), inner, layers.Dense(2, "softmax", name="dense")]
    close(trained_looking(keras.Sequential([keras.Input((8, 8)), *parts])), tmp_path, images=images)


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ([layers.MaxPooling2D()], TypeError, "got MaxPooling2D"),
        ([Standardised(4, 3)], TypeError, "got Standardised"),
        ([layers.GlobalAveragePooling2D(data_format="channels_first")], ValueError, "channels on the last"),
        ([layers.Conv2D(6, 3), layers.BatchNormalization(axis=1)], ValueError, "got axis 1"),
        ([layers.Resizing(4, 8, pad_to_aspect_ratio=True)], ValueError, "plain bilinear"),
        ([layers.Rescaling([1.0, 2.0])], ValueError, "one factor for all channels"),
        ([layers.Conv2D(4, 3, groups=2)], ValueError, "expected 1 group, got 2"),
        ([layers.Conv2D(4, 3, dilation_rate=2)], ValueError, "expected no dilation"),
        ([layers.Conv2D(4, 3, activation="tanh")], ValueError, "linear, relu, relu6 or softmax"),
        ([layers.DepthwiseConv2D(3, depth_multiplier=2)], ValueError, "multiplier of 1, got 2"),
        ([layers.Resizing(4, 4, interpolation="nearest")], ValueError, "plain bilinear"),
        ([layers.Dense(4)], ValueError, "Flatten first"),
        ([layers.ReLU(negative_slope=0.1)], ValueError, "plain or capped rectifier"),
        ([layers.Conv2D(4, 3, activation="softmax")], ValueError, "softmax over"),
        ([layers.Conv2D(4, 1), layers.ReLU(negative_slope=0.1)], ValueError, "rectifier"),
        ([layers.ZeroPadding2D(1), layers.Flatten()], TypeError, "after zero padding"),
        ([layers.ZeroPadding2D(1)], TypeError, "got the model's end"),
        ([layers.Conv2D(4, 1), layers.ReLU(), layers.BatchNormalization()], TypeError, "got BatchNormal"),
    ],
)
def test_what_the_page_cannot_run_is_refused(parts, error, words, tmp_path):
    with pytest.raises(error, match=words):
        web.export(keras.Sequential([keras.Input((8, 8, 2)), *parts]), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [1e6, np.nan])
def test_weights_beyond_float16_are_refused(value, tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(4, 1)])
    model.layers[0].bias.assign(np.full(4, value))
    with pytest.raises(ValueError, match="float16 can hold"):
        web.export(model, tmp_path)


def test_two_outputs_and_an_open_size_are_refused(tmp_path):
    inputs, large = keras.Input((8, 8)), keras.Input((None, None, 1))
    x = layers.Flatten()(inputs)
    with pytest.raises(ValueError, match="one input and one output, got 1 and 2"):
        web.export(keras.Model(inputs, [layers.Dense(2)(x), layers.Dense(3)(x)]), tmp_path)
    with pytest.raises(ValueError, match="input of fixed size"):
        web.export(keras.Model(large, layers.GlobalAveragePooling2D()(large)), tmp_path)
