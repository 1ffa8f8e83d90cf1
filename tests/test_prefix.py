"""The frozen prefix: where a network can be cut, and that computing it once changes nothing."""

import errno
import multiprocessing
import os
import re
import resource
import signal
import time
import warnings

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import _forward


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


@pytest.fixture
def prefix() -> keras.Model:
    return tl.split(residual(), at="c")[0]


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(tl.prefix, "PART_IMAGES", 8)


def one_layer(layer: keras.layers.Layer, shape: tuple[int, ...] = (4,)) -> keras.Model:
    """The prefix of a model that ends after a layer of this kind."""
    inputs = keras.Input(shape)
    x = keras.layers.ReLU(name="after")(layer(inputs))
    return tl.split(keras.Model(inputs, keras.layers.Flatten()(x)), at="after")[0]


def as_numpy(weights):
    return [keras.ops.convert_to_numpy(weight).copy() for weight in weights]


def test_cut_points_leave_out_the_inside_of_a_residual_block():
    assert tl.cut_points(residual()) == ["a", "c", "d", "pool"]
    cuts = tl.cut_points(tl.load_backbone("mobilenet_v2_glyphs", weights="random"))
    assert {"Conv1", "block_2_add", "block_6_expand_relu", "block_12_add", "Conv_1"} <= set(cuts)
    assert not {"block_2_expand", "out_relu"} & set(cuts)  # after the last one nothing would be left


@pytest.mark.parametrize("at", ["a", "c", "d", "pool"])
def test_prefix_then_suffix_is_the_model(at):
    model, images = residual(), some_images()
    prefix, suffix = tl.split(model, at=at)
    whole = model.predict(images, verbose=0)
    np.testing.assert_allclose(suffix.predict(prefix.predict(images, verbose=0), verbose=0), whole, atol=1e-6)


def test_cut_points_of_a_sequential_model_of_a_layer_used_twice_and_of_a_late_input():
    dense, inputs, late = keras.layers.Dense, keras.Input((4,)), keras.Input((4,))
    assert tl.cut_points(keras.Sequential([inputs, dense(4, name="one"), dense(1)])) == ["one"]
    shared = dense(4, name="shared")
    assert tl.cut_points(keras.Model(inputs, dense(1)(shared(shared(inputs))))) == []
    joined = keras.layers.Concatenate(name="join")([dense(4, name="a")(inputs), late])
    assert tl.cut_points(keras.Model([inputs, late], dense(1)(joined))) == ["join"]


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


def test_the_second_call_reads_and_does_not_compute(prefix, monkeypatch):
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


def scaled(factor: float) -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.ReLU(name="scaled")(inputs * factor)
    return tl.split(keras.Model(inputs, keras.layers.Flatten()(x)), at="scaled")[0]


def moved_bias() -> keras.Model:
    model = residual()
    layer = model.get_layer("inner").get_layer("a")
    layer.bias.assign(layer.bias + 1)
    return tl.split(model, at="c")[0]


def pool(size: int) -> keras.Model:
    return one_layer(keras.layers.AveragePooling2D(size, strides=2, padding="same"), (8, 8, 2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"images": some_images() + np.eye(8)[7][:, None]}),
        ({}, {"model": moved_bias}),
        ({"model": lambda: pool(2)}, {"model": lambda: pool(4)}),  # layers without weights
        ({"model": lambda: scaled(2.0)}, {"model": lambda: scaled(3.0)}),  # constants in an operation
        ({}, {"dtype": "float16"}),
        ({"dtype": "float16"}, {"dtype": "float32"}),
        ({}, {"batch_size": 7}),
    ],
)
def test_other_content_has_a_file_of_its_own(one, other, tmp_path):
    found = []
    for given in (one, other, one):
        model = given.get("model", lambda: tl.split(residual(), at="c")[0])()
        options = {name: given[name] for name in ("dtype", "batch_size") if name in given}
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", RuntimeWarning
            )  # a file under the wrong name would be taken for a damaged one
            found.append(np.array(tl.precompute(model, given.get("images", some_images()), **options)))
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2
    assert np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1]) or "batch_size" in other


def test_float16_is_within_its_stated_error(prefix):
    exact, half = (tl.precompute(prefix, some_images(), dtype=kind) for kind in ("float32", "float16"))
    assert half.dtype == np.float16
    assert (np.abs(half - exact) <= 2.0**-11 * np.abs(exact) + 2.0**-24).all()


def features_of(cache_folder) -> list:
    return sorted((cache_folder / "features").glob("*"))


def test_an_interrupted_pass_goes_on_from_the_last_whole_part(prefix, small_parts, monkeypatch, tmp_path):
    images, compute = some_images(), prefix.predict_on_batch
    calls = []

    def interrupted(batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(batch)

    prefix.predict_on_batch = interrupted
    with pytest.raises(KeyboardInterrupt):
        tl.precompute(prefix, images, batch_size=8)
    assert not list((tmp_path / "cache").rglob("*.npy"))  # nobody reads what is not whole
    features = tl.precompute(prefix, images, batch_size=8)
    assert len(calls) == 3 + 4  # two of six parts were there
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "other"))
    assert np.array_equal(tl.precompute(prefix, images, batch_size=8), features)


def test_an_error_leaves_nothing(prefix, small_parts, tmp_path):
    images = some_images()
    images[20] = np.nan
    with pytest.raises(ValueError, match="expected finite float32 numbers, got others in images 16 to 23"):
        tl.precompute(prefix, images, batch_size=8)
    with pytest.raises(ValueError, match="expected finite float16 numbers"):
        tl.precompute(prefix, some_images() * 1e6, dtype="float16")
    assert features_of(tmp_path / "cache") == []


def _slowly(cache, parts_done):
    os.environ["TLHELPERS_CACHE"] = cache
    tl.prefix.PART_IMAGES = 8
    prefix, _ = tl.split(residual(), at="c")
    compute = prefix.predict_on_batch

    def announced(batch):
        parts_done.value += 1
        time.sleep(0.05)
        return compute(batch)

    prefix.predict_on_batch = announced
    tl.precompute(prefix, some_images(800), batch_size=8)


def test_killed_at_random_points_it_ends_in_the_same_bytes(prefix, small_parts, tmp_path, monkeypatch):
    folder, context = tmp_path / "killed", multiprocessing.get_context("spawn")
    chance = np.random.default_rng()
    done = []
    for _ in range(3):
        begun = context.Value("i", 0)
        process = context.Process(target=_slowly, args=(str(folder), begun))
        process.start()
        # A hundred parts of 50 ms or more: a kill soon after the first hits the middle, on a busy one too.
        while begun.value == 0:
            assert process.is_alive()
            time.sleep(0.001)
        time.sleep(float(chance.uniform(0, 0.15)))
        process.kill()
        process.join()
        assert not list(folder.rglob("*.npy"))
        (journal,) = folder.rglob("*.parts")
        done.append(len(set(re.findall(r"^\d+(?= )", journal.read_text(), flags=re.M))))
    assert done == sorted(done)
    for each in (folder, tmp_path / "whole"):
        monkeypatch.setenv("TLHELPERS_CACHE", str(each))
        assert len(tl.precompute(prefix, some_images(800), batch_size=8)) == 800
    resumed, whole = (next(each.rglob("*.npy")).read_bytes() for each in (folder, tmp_path / "whole"))
    assert resumed == whole


@pytest.mark.parametrize("damage", ["one byte", "truncated", "longer", "header", "journal", "no journal"])
def test_a_damaged_file_is_noticed_said_and_computed_again(damage, prefix, small_parts, tmp_path):
    images = some_images()
    right = np.array(tl.precompute(prefix, images, batch_size=8))
    file, journal = (next((tmp_path / "cache").rglob(f"*.{end}")) for end in ("npy", "parts"))
    data = file.read_bytes()
    flipped = {at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in (20, len(data) // 2)}
    damaged = {"one byte": flipped[len(data) // 2], "header": flipped[20]}
    damaged |= {"truncated": data[:-1], "longer": data + b"x"}
    if damage == "journal":
        journal.write_bytes(b"\xff" * 40)
    elif damage == "no journal":
        journal.unlink()
    else:
        file.unlink()
        file.write_bytes(damaged[damage])
    with pytest.warns(RuntimeWarning, match=r"is damaged .* computed again"):
        again = tl.precompute(prefix, images, batch_size=8)
    assert np.array_equal(again, right)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert np.array_equal(tl.precompute(prefix, images, batch_size=8), right)


def test_only_the_damaged_part_is_computed_again(prefix, small_parts, tmp_path):
    tl.precompute(prefix, some_images(), batch_size=8)
    (file,) = (tmp_path / "cache").rglob("*.npy")
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - 1)
    calls, compute = [], prefix.predict_on_batch
    prefix.predict_on_batch = lambda batch: calls.append(batch) or compute(batch)
    with pytest.warns(RuntimeWarning, match="in 1 of 6 parts"):
        tl.precompute(prefix, some_images(), batch_size=8)
    assert len(calls) == 1


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
    # Without weights to train, BatchNorm's averages still move.
    norm = keras.layers.BatchNormalization(center=False, scale=False, name="norm")
    with pytest.raises(ValueError, match="'norm' first"):
        tl.precompute(one_layer(norm), np.ones((4, 4), "float32"))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Dropout", {"rate": 0.5}),
        ("GaussianNoise", {"stddev": 0.1}),
        ("RandomFlip", {}),
        ("RandomRotation", {"factor": 0.1}),
    ],
)
def test_a_random_layer_is_refused(kind, options):
    layer = getattr(keras.layers, kind)(name="chance", **options)
    with pytest.raises(ValueError, match="'chance', which draws"):
        tl.precompute(one_layer(layer, (8, 8, 2)), some_images())


def test_a_layer_named_after_seeds_or_switched_off_is_not_random():
    for layer in (keras.layers.Dense(4, name="seedling", trainable=False), keras.layers.Dropout(0)):
        assert tl.precompute(one_layer(layer), np.ones((2, 4), "float32")).shape == (2, 4)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (
            np.ones((0, 8, 8, 2)),
            {},
            r"images: expected \(n, 8, 8, 2\) with n of at least 1, got \(0, 8, 8, 2\)",
        ),
        (
            np.ones((3, 8, 9, 2)),
            {},
            r"images: expected \(n, 8, 8, 2\) with n of at least 1, got \(3, 8, 9, 2\)",
        ),
        (np.ones((8, 8, 2)), {}, r"images: expected \(n, 8, 8, 2\) with n of at least 1, got \(8, 8, 2\)"),
        (some_images().astype(str), {}, "images: expected numbers, got"),
        (some_images(), {"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        (some_images(), {"dtype": "int8"}, 'dtype: expected "float32" or "float16", got \'int8\''),
    ],
)
def test_wrong_input_is_refused_and_leaves_nothing(images, options, message, prefix, tmp_path):
    with pytest.raises(ValueError, match=message):
        tl.precompute(prefix, images, **options)
    assert features_of(tmp_path / "cache") == []


def test_images_scaled_twice_are_refused():
    prefix = one_layer(tl.preparation("mobilenet_v2_glyphs", (8, 8, 3)), (8, 8, 3))
    raw = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype="uint8")
    with pytest.raises(ValueError, match=r"expected raw values from 0 to 255, got at most .* scale once"):
        tl.precompute(prefix, raw / 255)
    assert tl.precompute(prefix, raw).max() > 0.9


def test_a_cache_folder_that_is_a_file_is_one_clear_error(prefix, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "file"))
    with pytest.raises(tl.cache.CacheError, match="file"):
        tl.precompute(prefix, some_images())


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(prefix, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_2_0", full)
    with pytest.raises(tl.cache.CacheError, match=r"space|full"):
        tl.precompute(prefix, some_images())
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_a_disk_that_refuses_in_the_middle_is_one_clear_error(prefix, small_parts, tmp_path):
    """The operating system itself stops the write, by a limit on the size of files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(tl.cache.CacheError, match="expected a folder to write to, got File too large"):
            tl.precompute(prefix, some_images(), batch_size=8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert features_of(tmp_path / "cache") == []
    assert tl.precompute(prefix, some_images(), batch_size=8).shape == (48, 8, 8, 4)


def test_everything_frozen_is_said():
    model = residual()
    tl.freeze(model)
    with pytest.warns(UserWarning, match="expected something after 'c' that trains, got frozen layers only"):
        tl.split(model, at="c")


# -- the suffix' 1x1 convolutions ----------------------------------------------------------------


def pointwise_model(**options) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, name="first", trainable=False)(inputs)
    x = keras.layers.Conv2D(8, 1, name="expand", **options)(x)
    x = keras.layers.Conv2D(5, 1, strides=2, name="strided")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}])
def test_a_pointwise_convolution_is_a_matrix_product_with_the_same_gradients(options):
    images, labels = np.random.default_rng(0).normal(size=(20, 6, 6, 3)).astype("float32"), np.arange(20) % 3
    trained = []
    for quick in (False, True):
        model = pointwise_model(**options)
        prefix, suffix = tl.split(model, at="first")
        if quick:
            assert type(suffix.get_layer("expand")).__name__ == "Pointwise"
            assert type(suffix.get_layer("strided")) is keras.layers.Conv2D
        else:
            suffix = keras.Model(model.get_layer("first").output, model.output)
        suffix.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        suffix.fit(np.asarray(tl.precompute(prefix, images)), labels, epochs=3, verbose=0, shuffle=False)
        trained.append(as_numpy(model.weights))
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


# -- what computes the pass ----------------------------------------------------------------------


@pytest.fixture
def litert(monkeypatch):
    monkeypatch.setattr(_forward, "LITERT_FROM", 1)


def test_litert_agrees_with_keras(prefix, monkeypatch):
    images = some_images(50)  # the last batch is smaller
    by_keras = np.array(tl.precompute(prefix, images, batch_size=16))
    monkeypatch.setattr(_forward, "LITERT_FROM", 1)
    prefix.predict_on_batch = lambda batch: pytest.fail("Keras computed it")
    np.testing.assert_allclose(tl.precompute(prefix, images, batch_size=16), by_keras, atol=1e-5)


def test_litert_converts_once_for_the_same_weights(prefix, litert, monkeypatch):
    conversions = []
    convert = _forward._litert
    monkeypatch.setattr(_forward, "_litert", lambda *a: conversions.append(a) or convert(*a))
    for images in (some_images(20), some_images(30)):
        tl.precompute(prefix, images)
    assert len(conversions) == 1
    weight = prefix.weights[0]
    weight.assign(weight + 1)
    changed = tl.precompute(prefix, some_images(20))
    assert len(conversions) == 2
    np.testing.assert_allclose(changed, prefix.predict(some_images(20), verbose=0), atol=1e-5)


@pytest.mark.parametrize("wrong", ["other numbers", "not a number", "no conversion"])
def test_litert_that_is_wrong_is_not_used_and_said(wrong, prefix, litert, monkeypatch):
    def converted(prefix, shape):
        if wrong == "no conversion":
            raise RuntimeError("failed to legalize operation\nwith details")
        add = np.nan if wrong == "not a number" else 0.1
        return lambda batch: prefix.predict(batch, verbose=0) + add

    monkeypatch.setattr(_forward, "_litert", converted)
    with pytest.warns(RuntimeWarning, match=r"computed by Keras, .* since LiteRT (differs|can't take it)"):
        features = tl.precompute(prefix, some_images())
    np.testing.assert_allclose(features, prefix.predict(some_images(), verbose=0), atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's own protocol")
def test_tensorflow_reads_the_map_in_place(prefix):
    import tensorflow as tf

    features = tl.precompute(prefix, some_images())
    tensor = tf.convert_to_tensor(features)
    assert np.from_dlpack(tensor).ctypes.data == features.ctypes.data
    assert not features.flags.writeable
    for part in (features[3:], features[:, 1], features[::2], features[0, 0, 0, 0]):  # not all are aligned
        np.testing.assert_array_equal(tf.convert_to_tensor(part), np.array(part))
    assert tf.convert_to_tensor(features, dtype="float64").dtype == tf.float64


# -- other networks ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["EfficientNetB0", "ResNet50V2", "MobileNetV2"])
def test_other_backbones_at_64_pixels(name, litert):
    """Cut early, in the middle or late, prefix and suffix are the model; LiteRT takes the late prefix."""
    keras.utils.set_random_seed(0)
    backbone = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(64, 64, 3))
    inputs = keras.Input((64, 64, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(pooled))
    backbone.trainable = False
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Dropout):  # EfficientNet's stochastic depth
            layer.rate = 0
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3)).astype("float32")
    cuts = tl.cut_points(model)
    assert len(cuts) > 20
    expected = model.predict(images, verbose=0)
    for at in (cuts[1], cuts[len(cuts) // 2], cuts[-2]):
        prefix, suffix = tl.split(model, at=at)
        found = suffix(prefix(images, training=False), training=False)
        np.testing.assert_allclose(found, expected, atol=2e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        features = tl.precompute(prefix, images)
    exact = prefix.predict(images, verbose=0)
    assert np.abs(features - exact).max() <= 1e-3 * np.abs(exact).max()
