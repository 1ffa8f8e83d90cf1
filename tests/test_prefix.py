"""The frozen prefix: where a network can be cut, and that computing it once changes nothing."""

import errno
import multiprocessing
import os

import keras
import numpy as np
import pytest

import tlhelpers as tl


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))


def residual(seed: int = 0) -> keras.Model:
    """A small convnet with one residual block inside a nested model, and a head."""
    keras.utils.set_random_seed(seed)
    inner_input = keras.Input((8, 8, 2))
    a = keras.layers.Conv2D(4, 3, padding="same", name="a")(inner_input)
    b = keras.layers.Conv2D(4, 3, padding="same", name="b")(a)
    b = keras.layers.BatchNormalization(name="b_norm")(b)
    c = keras.layers.Add(name="c")([a, b])
    inner = keras.Model(inner_input, keras.layers.ReLU(name="d")(c), name="inner")
    inputs = keras.Input((8, 8, 2), name="image")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(inner(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="head")(pooled))
    tl.freeze(inner)
    return model


def some_images(n: int = 48) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 8, 8, 2)).astype("float32")


def as_numpy(weights):
    return [keras.ops.convert_to_numpy(weight).copy() for weight in weights]


def test_cut_points_leave_out_the_inside_of_a_residual_block():
    assert tl.cut_points(residual()) == ["a", "c", "d", "pool"]


def test_cut_points_of_mobilenet_are_the_ends_of_its_blocks():
    cuts = tl.cut_points(tl.load_backbone("mobilenet_v2_glyphs", weights="random"))
    assert {"Conv1", "block_2_add", "block_6_expand_relu", "block_12_add", "Conv_1"} <= set(cuts)
    assert "block_2_expand" not in cuts
    assert "out_relu" not in cuts  # nothing would be left


@pytest.mark.parametrize("at", ["a", "c", "d", "pool"])
def test_prefix_then_suffix_is_the_model(at):
    model, images = residual(), some_images()
    prefix, suffix = tl.split(model, at=at)
    whole = model.predict(images, verbose=0)
    np.testing.assert_allclose(suffix.predict(prefix.predict(images, verbose=0), verbose=0), whole, atol=1e-6)


def test_a_sequential_model_and_a_layer_used_twice():
    shared = keras.layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    twice = keras.Model(inputs, keras.layers.Dense(1, name="end")(shared(shared(inputs))))
    assert tl.cut_points(twice) == []
    sequential = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, name="one"), keras.layers.Dense(1)]
    )
    assert tl.cut_points(sequential) == ["one"]


def test_an_input_that_joins_late_forbids_earlier_cuts():
    left, right = keras.Input((4,)), keras.Input((4,))
    a = keras.layers.Dense(4, name="a")(left)
    joined = keras.layers.Concatenate(name="join")([a, right])
    model = keras.Model([left, right], keras.layers.Dense(1, name="end")(joined))
    assert tl.cut_points(model) == ["join"]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("b", "got 'b', which has a shortcut around it .* Cut at a or c instead"),
        ("poool", "got 'poool', which is no layer here.* Nearest: pool"),
        ("head", "nothing after it. Cut at pool"),
    ],
)
def test_a_cut_that_cannot_be_names_those_that_can(at, message):
    with pytest.raises(ValueError, match=message):
        tl.split(residual(), at=at)


def test_a_subclassed_model_is_refused():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(TypeError, match="expected a Functional or built Sequential"):
        tl.split(Own(), at="a")


def test_training_the_suffix_trains_the_model_and_leaves_the_prefix():
    model, images = residual(), some_images()
    before = as_numpy(model.get_layer("head").weights)
    prefix, suffix = tl.split(model, at="pool")
    suffix.compile("adam", "sparse_categorical_crossentropy")
    with tl.unchanged(model):
        suffix.fit(tl.precompute(prefix, images), np.zeros(len(images)), verbose=0)
    after = as_numpy(model.get_layer("head").weights)
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_training_on_features_equals_training_the_whole_model():
    images = some_images(200)
    labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int64")
    losses, predictions = [], []
    for cached in (False, True):
        model = residual(seed=3)
        trained, inputs = model, images
        if cached:
            prefix, trained = tl.split(model, at="pool")
            inputs = tl.precompute(prefix, images)
        trained.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        keras.utils.set_random_seed(5)
        losses.append(trained.fit(inputs, labels, epochs=4, batch_size=16, verbose=0).history["loss"])
        predictions.append(model.predict(images, verbose=0).argmax(axis=1))
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert (predictions[0] == predictions[1]).mean() >= 0.999
    assert losses[0][0] > losses[0][-1]


def test_the_second_call_reads_and_does_not_compute(monkeypatch):
    prefix, _ = tl.split(residual(), at="c")
    images = some_images()
    first = tl.precompute(prefix, images, batch_size=10)
    np.testing.assert_allclose(first, prefix.predict(images, verbose=0), atol=1e-6)
    # Another process numbers its layers anew; the same network must still find the same file.
    again, _ = tl.split(residual(), at="c")
    for model in (prefix, again):
        monkeypatch.setattr(model, "predict_on_batch", lambda batch: pytest.fail("computed again"))
    assert np.array_equal(tl.precompute(again, images, batch_size=10), first)
    assert isinstance(first, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


def test_other_content_is_computed_anew():
    model, images = residual(), some_images()
    prefix, _ = tl.split(model, at="c")
    first = np.array(tl.precompute(prefix, images))
    other_images = images.copy()
    other_images[-1, -1, -1, -1] += 1
    assert not np.array_equal(tl.precompute(prefix, other_images), first)
    layer = model.get_layer("inner").get_layer("a")
    layer.bias.assign(layer.bias + 1)
    assert not np.array_equal(tl.precompute(prefix, images), first)


def test_layers_without_weights_count_as_content():
    images = some_images()
    results = []
    for size in (2, 4):
        inputs = keras.Input((8, 8, 2))
        x = keras.layers.AveragePooling2D(size, strides=2, padding="same", name="pool")(inputs)
        model = keras.Model(inputs, keras.layers.Flatten()(x))
        results.append(np.array(tl.precompute(tl.split(model, at="pool")[0], images)))
    assert not np.array_equal(*results)


def test_constants_in_an_operation_count_as_content():
    results = []
    for factor in (2.0, 3.0):
        inputs = keras.Input((4,))
        x = keras.layers.ReLU(name="scaled")(inputs * factor)
        model = keras.Model(inputs, keras.layers.Flatten()(x))
        results.append(np.array(tl.precompute(tl.split(model, at="scaled")[0], np.ones((3, 4), "float32"))))
    np.testing.assert_allclose(results[1], 1.5 * results[0])


def test_float16_is_within_its_stated_error():
    prefix, _ = tl.split(residual(), at="c")
    images = some_images()
    exact, half = tl.precompute(prefix, images), tl.precompute(prefix, images, dtype="float16")
    assert half.dtype == np.float16
    assert (np.abs(half - exact) <= 2.0**-11 * np.abs(exact) + 2.0**-24).all()


def test_nothing_half_written_stays(monkeypatch, tmp_path):
    prefix, _ = tl.split(residual(), at="c")
    images, compute = some_images(), prefix.predict_on_batch
    calls = []

    def fails_in_the_middle(batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(batch)

    monkeypatch.setattr(prefix, "predict_on_batch", fails_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        tl.precompute(prefix, images, batch_size=8)
    monkeypatch.undo()
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.npy"))
    np.testing.assert_allclose(tl.precompute(prefix, images), prefix.predict(images, verbose=0), atol=1e-6)


def _compute(cache, queue):
    os.environ["TLHELPERS_CACHE"] = cache
    prefix, _ = tl.split(residual(), at="c")
    queue.put(np.array(tl.precompute(prefix, some_images(16))).tobytes())


def test_two_processes_share_one_file(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    both = [context.Process(target=_compute, args=(str(tmp_path / "shared"), queue)) for _ in range(2)]
    for process in both:
        process.start()
    results = [queue.get(timeout=300) for _ in both]
    for process in both:
        process.join()
    assert results[0] == results[1]
    assert len(list((tmp_path / "shared").rglob("*.npy"))) == 1


def test_what_trains_cannot_be_computed_once():
    model = residual()
    tl.freeze(model.get_layer("inner"), train_from="b")
    with pytest.raises(ValueError, match=r"expected frozen layers only, got 1 that train, 'b' first"):
        tl.precompute(tl.split(model, at="c")[0], some_images())


def test_batch_norm_without_weights_to_train_still_has_to_be_frozen():
    inputs = keras.Input((4,))
    x = keras.layers.BatchNormalization(center=False, scale=False, name="norm")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    with pytest.raises(ValueError, match="'norm' first"):
        tl.precompute(tl.split(model, at="norm")[0], np.ones((4, 4), "float32"))


@pytest.mark.parametrize("kind", ["Dropout", "GaussianNoise", "RandomFlip", "RandomRotation"])
def test_a_random_layer_is_refused(kind):
    layer = {
        "Dropout": lambda: keras.layers.Dropout(0.5, name="chance"),
        "GaussianNoise": lambda: keras.layers.GaussianNoise(0.1, name="chance"),
        "RandomFlip": lambda: keras.layers.RandomFlip(name="chance"),
        "RandomRotation": lambda: keras.layers.RandomRotation(0.1, name="chance"),
    }[kind]()
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.ReLU(name="after")(layer(inputs))
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    with pytest.raises(ValueError, match="'chance', which draws"):
        tl.precompute(tl.split(model, at="after")[0], some_images())


@pytest.mark.parametrize("images", [np.ones((0, 8, 8, 2)), np.ones((3, 8, 9, 2)), np.ones((8, 8, 2))])
def test_images_of_the_wrong_shape_are_refused(images):
    prefix, _ = tl.split(residual(), at="c")
    with pytest.raises(ValueError, match=r"expected \(n, 8, 8, 2\) with n of at least 1, got"):
        tl.precompute(prefix, images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"batch_size": -1}, "batch_size: expected at least 1, got -1"),
        ({"dtype": "int8"}, 'expected "float32" or "float16", got \'int8\''),
    ],
)
def test_wrong_options_are_refused_and_leave_nothing(options, message, tmp_path):
    prefix, _ = tl.split(residual(), at="c")
    with pytest.raises(ValueError, match=message):
        tl.precompute(prefix, some_images(), **options)
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_images_scaled_twice_are_refused():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.ReLU(name="prepared")(tl.preparation((8, 8, 3))(inputs))
    prefix, _ = tl.split(keras.Model(inputs, keras.layers.Flatten()(x)), at="prepared")
    raw = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype="uint8")
    with pytest.raises(ValueError, match=r"expected raw values from 0 to 255, got at most .* scale once"):
        tl.precompute(prefix, raw / 255)
    assert tl.precompute(prefix, raw).max() > 0.9
    with pytest.raises(ValueError, match="images: expected numbers, got"):
        tl.precompute(prefix, raw.astype(str))


def test_a_layer_named_after_seeds_is_not_random():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, name="seedling")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    tl.freeze(model)
    assert tl.precompute(tl.split(model, at="seedling")[0], np.ones((2, 4), "float32")).shape == (2, 4)


def test_a_cache_folder_that_is_a_file_is_one_clear_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "file"))
    prefix, _ = tl.split(residual(), at="c")
    with pytest.raises(tl.cache.CacheError, match="file"):
        tl.precompute(prefix, some_images())


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    prefix, _ = tl.split(residual(), at="c")
    monkeypatch.setattr(np.lib.format, "write_array_header_2_0", full)
    with pytest.raises(tl.cache.CacheError, match=r"space|full"):
        tl.precompute(prefix, some_images())
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_activations_that_are_no_numbers_are_refused():
    prefix, _ = tl.split(residual(), at="c")
    images = some_images()
    images[5] = np.nan
    with pytest.raises(ValueError, match="expected finite float32 numbers"):
        tl.precompute(prefix, images)
    with pytest.raises(ValueError, match="expected finite float16 numbers"):
        tl.precompute(prefix, some_images() * 1e6, dtype="float16")
