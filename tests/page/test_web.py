"""The exported files say what Keras computes: they are run here by a second, slow reading of the format."""

import json

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import page, studies


def run(folder, image):
    """One image through the exported steps, by loops; returns every step's result by name."""
    header = json.loads((folder / "model.json").read_text())
    weights = (folder / "weights.bin").read_bytes()
    assert len(weights) == header["bytes"]
    made, named = [], {}
    for step in header["steps"]:
        reads = [made[i] for i in step["reads"]]
        result = _once(step, reads, image, weights)
        if "clip" in step:
            result = np.clip(result, 0, step["clip"] if step["clip"] is not None else np.inf)
        if step.get("softmax"):
            result = np.exp(result - result.max())
            result /= result.sum()
        made.append(result.reshape(step["shape"]))
        named[step["name"]] = made[-1]
    return named, made[-1]


def _stored(part, weights):
    flat = np.frombuffer(weights, "<f2", int(np.prod(part["shape"])), part["at"])
    return flat.reshape(part["shape"]).astype(float)


def _once(step, reads, image, weights):
    op, shape = step["op"], step["shape"]
    if op == "input":
        return image.astype(float)
    if op == "rescale":
        return reads[0] * step["factor"] + step["offset"]
    if op == "add":
        return sum(reads)
    if op == "concat":
        return np.concatenate([each.reshape(*shape[:-1], -1) for each in reads], axis=-1)
    if op == "mean":
        return reads[0].mean(axis=(0, 1))
    if op == "resize":
        source = reads[0].reshape(*reads[0].shape[:2], -1)
        return np.asarray(keras.ops.image.resize(source, shape[:2], interpolation="bilinear"))
    kernel, bias = _stored(step["kernel"], weights), _stored(step["bias"], weights)
    if op == "dense":
        return reads[0].ravel() @ kernel + bias
    (down, right), (top, left) = step["stride"], step["zeros"]
    tall, wide = kernel.shape[:2]
    wall = np.pad(reads[0], ((top, tall), (left, wide), (0, 0)))
    result = np.empty(shape)
    for y, x in np.ndindex(*shape[:2]):
        window = wall[y * down : y * down + tall, x * right : x * right + wide]
        result[y, x] = (
            np.tensordot(window, kernel, 3) if op == "conv" else (window * kernel).sum(axis=(0, 1))
        ) + bias
    return result


def trained_looking(model, seed=0):
    """Give every weight and moving statistic a value that shows if it is left out."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        low, high = (0.5, 1.5) if "variance" in weight.path or "gamma" in weight.path else (-0.3, 0.3)
        weight.assign(random.uniform(low, high, weight.shape))
    return model


def close(model, folder, *, images):
    page.web.export(model, folder)
    for image, row in zip(images, np.asarray(model(images, training=False)), strict=True):
        np.testing.assert_allclose(run(folder, image)[1].ravel(), row.ravel(), atol=3e-3)


LAYERS = keras.layers


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (3, 8, 8), "uint8")


def test_our_model_gives_keras_probabilities_and_the_frozen_part_by_the_name_of_its_cut(tmp_path):
    model = studies.recipes.our_model(page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test"))
    images = tl.load_dataset("digits").test.images[:2]
    close(model, tmp_path, images=images)
    prefix, _ = tl.split(model, at="block_2_add")
    frozen = run(tmp_path, images[0])[0]["block_2_add"]
    np.testing.assert_allclose(frozen, prefix(images[:1], training=False)[0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    "middle",
    [
        [LAYERS.Conv2D(4, 3, strides=2, padding="same", activation="relu")],
        [LAYERS.Conv2D(4, 3, strides=2, padding="same", use_bias=False), LAYERS.BatchNormalization()],
        [LAYERS.ZeroPadding2D(((0, 1), (0, 1))), LAYERS.DepthwiseConv2D(3, strides=2), LAYERS.ReLU(6.0)],
        [LAYERS.DepthwiseConv2D((3, 2)), LAYERS.BatchNormalization(scale=False), LAYERS.Activation("relu")],
        [LAYERS.Conv2D(4, (2, 3), strides=(1, 2), padding="same"), LAYERS.Activation("relu6")],
        [LAYERS.Rescaling(0.1, offset=-1), LAYERS.ReLU(), LAYERS.Conv2D(3, 1)],
        [LAYERS.Resizing(5, 11), LAYERS.Conv2D(3, 2)],
        [LAYERS.Resizing(16, 4), LAYERS.ReLU(), LAYERS.Conv2D(3, 2), LAYERS.BatchNormalization()],
    ],
)
@pytest.mark.parametrize("end", ["flatten", "pool"])
def test_layers_and_what_is_folded_into_them(middle, end, images, tmp_path):
    inputs = keras.Input((8, 8))
    x = LAYERS.Rescaling(1 / 255)(LAYERS.Reshape((8, 8, 1))(inputs))
    x = LAYERS.Concatenate()([x, x])
    for layer in middle:
        x = type(layer).from_config(layer.get_config())(x)
    x = LAYERS.Flatten()(x) if end == "flatten" else LAYERS.GlobalAveragePooling2D()(x)
    x = LAYERS.Dense(6, activation="relu")(LAYERS.Dropout(0.5)(x))
    model = trained_looking(keras.Model(inputs, LAYERS.Dense(10, activation="softmax")(x)))
    close(model, tmp_path, images=images)


@pytest.mark.parametrize("rectifier", [LAYERS.ReLU(), LAYERS.Activation("relu6")])
def test_a_layer_whose_result_is_used_twice_keeps_it_unfolded(rectifier, images, tmp_path):
    inputs = keras.Input((8, 8, 1))
    x = LAYERS.Conv2D(3, 3, padding="same")(LAYERS.Rescaling(1 / 255)(inputs))
    both = LAYERS.Add()([x, rectifier(x)])
    flat = LAYERS.Flatten()(both)
    twice = LAYERS.Concatenate()([flat, flat])
    model = trained_looking(keras.Model(inputs, LAYERS.Activation("softmax")(LAYERS.Dense(10)(twice))))
    close(model, tmp_path, images=images[..., None])


def test_writing_again_replaces_the_files(images, tmp_path):
    for seed in (0, 1):
        layers = [LAYERS.Flatten(), LAYERS.Rescaling(1 / 255), LAYERS.Dense(10, "softmax")]
        model = trained_looking(keras.Sequential([keras.Input((8, 8)), *layers]), seed)
        close(model, tmp_path / "new" / "folder", images=images)


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        ([LAYERS.MaxPooling2D()], TypeError, "got MaxPooling2D"),
        ([LAYERS.Conv2D(4, 3, groups=2)], ValueError, "expected 1 group, got 2"),
        ([LAYERS.Conv2D(4, 3, dilation_rate=2)], ValueError, "expected no dilation"),
        ([LAYERS.Conv2D(4, 3, activation="tanh")], ValueError, "linear, relu, relu6 or softmax"),
        ([LAYERS.DepthwiseConv2D(3, depth_multiplier=2)], ValueError, "multiplier of 1, got 2"),
        ([LAYERS.Resizing(4, 4, interpolation="nearest")], ValueError, "plain bilinear"),
        ([LAYERS.Dense(4)], ValueError, "Flatten first"),
        ([LAYERS.ReLU(negative_slope=0.1)], ValueError, "plain or capped rectifier"),
        ([LAYERS.Conv2D(4, 3, activation="softmax")], ValueError, "softmax over"),
        ([LAYERS.Conv2D(4, 1), LAYERS.ReLU(negative_slope=0.1)], ValueError, "rectifier"),
        ([LAYERS.ZeroPadding2D(1), LAYERS.Flatten()], TypeError, "after zero padding"),
        ([LAYERS.ZeroPadding2D(1)], TypeError, "got the model's end"),
        ([LAYERS.Conv2D(4, 1), LAYERS.ReLU(), LAYERS.BatchNormalization()], TypeError, "got BatchNormal"),
    ],
)
def test_what_the_page_cannot_run_is_refused(layers, error, words, tmp_path):
    with pytest.raises(error, match=words):
        page.web.export(keras.Sequential([keras.Input((8, 8, 2)), *layers]), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [1e6, np.nan])
def test_weights_beyond_float16_are_refused(value, tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 2)), LAYERS.Conv2D(4, 1)])
    model.layers[0].bias.assign(np.full(4, value))
    with pytest.raises(ValueError, match="float16 can hold"):
        page.web.export(model, tmp_path)


def test_two_outputs_and_an_open_size_are_refused(tmp_path):
    inputs, large = keras.Input((8, 8)), keras.Input((None, None, 1))
    x = LAYERS.Flatten()(inputs)
    with pytest.raises(ValueError, match="one input and one output, got 1 and 2"):
        page.web.export(keras.Model(inputs, [LAYERS.Dense(2)(x), LAYERS.Dense(3)(x)]), tmp_path)
    with pytest.raises(ValueError, match="input of fixed size"):
        page.web.export(keras.Model(large, LAYERS.GlobalAveragePooling2D()(large)), tmp_path)
