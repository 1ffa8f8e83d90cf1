"""The frozen prefix: where a network can be cut, and that computing it once changes nothing."""

import errno
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import _forward, _parts

L = keras.layers


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))


def residual(seed: int = 0) -> keras.Model:
    """A small convnet with one residual block inside a nested model, and a head."""
    keras.utils.set_random_seed(seed)
    inner_input = keras.Input((8, 8, 2))
    a = L.Conv2D(4, 3, padding="same", name="a")(inner_input)
    b = L.BatchNormalization(name="b_norm")(L.Conv2D(4, 3, padding="same", name="b")(a))
    inner = keras.Model(inner_input, L.ReLU(name="d")(L.Add(name="c")([a, b])), name="inner")
    inputs = keras.Input((8, 8, 2), name="image")
    pooled = L.GlobalAveragePooling2D(name="pool")(inner(inputs))
    model = keras.Model(inputs, L.Dense(3, activation="softmax", name="head")(pooled))
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


def one_layer(layer: L.Layer, shape: tuple[int, ...] = (4,)) -> keras.Model:
    """The prefix of a model that ends after a layer of this kind."""
    inputs = keras.Input(shape)
    x = L.ReLU(name="after")(layer(inputs))
    return tl.split(keras.Model(inputs, L.Flatten()(x)), at="after")[0]


def test_cut_points_leave_out_the_inside_of_a_residual_block():
    # And after the last layer nothing would be left.
    assert tl.cut_points(residual()) == ["a", "c", "d", "pool"]


@pytest.mark.parametrize("at", ["a", "c", "d", "pool"])
def test_prefix_then_suffix_is_the_model(at):
    model, images = residual(), some_images()
    prefix, suffix = tl.split(model, at=at)
    np.testing.assert_allclose(suffix(prefix(images)), model(images), atol=1e-6)


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
        predictions.append(np.asarray(model(images)))
    np.testing.assert_allclose(*losses, rtol=1e-4)
    np.testing.assert_allclose(*predictions, atol=1e-3)
    assert losses[0][0] > losses[0][-1]


def test_the_second_call_reads_and_does_not_compute(prefix, monkeypatch):
    images = some_images()
    first = tl.precompute(prefix, images, batch_size=10)
    np.testing.assert_allclose(first, prefix(images), atol=1e-6)
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
    x = L.ReLU(name="scaled")(inputs * factor)
    return tl.split(keras.Model(inputs, L.Flatten()(x)), at="scaled")[0]


def moved_bias() -> keras.Model:
    model = residual()
    layer = model.get_layer("inner").get_layer("a")
    layer.bias.assign(layer.bias + 1)
    return tl.split(model, at="c")[0]


def pool(size: int) -> keras.Model:
    return one_layer(L.AveragePooling2D(size, strides=2, padding="same"), (8, 8, 2))


@pytest.mark.filterwarnings("error::RuntimeWarning")  # under a wrong name, it would be taken for damaged
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


SLOWLY = """
import sys, time
from pathlib import Path
import numpy as np
from tlhelpers._parts import build

def part(first, end):
    print(first, flush=True)
    time.sleep(0.05)
    return np.arange(3 * first, 3 * end).reshape(-1, 3)

build(Path(sys.argv[1]), (800, 3), "float32", rows=8, start=lambda missing: part)
"""


def test_killed_at_random_points_it_ends_in_the_same_bytes(tmp_path):
    path, chance, done = tmp_path / "killed.npy", np.random.default_rng(), []
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", SLOWLY, path], stdout=subprocess.PIPE)
        # A hundred parts of 50 ms or more: a kill soon after the first hits the middle, on a busy one too.
        assert process.stdout.readline()
        time.sleep(float(chance.uniform(0, 0.15)))
        process.kill()
        process.communicate()
        assert not path.exists()
        done.append(len(set(re.findall(r"(\d+) [0-9a-f]{64}\n", path.with_suffix(".parts").read_text()))))
    assert done == sorted(done)
    with path.with_suffix(".parts").open("a") as journal:
        journal.write("1")  # a kill may tear a line
    whole, missing = tmp_path / "whole.npy", []

    def start(rows):
        missing.append(rows)
        return lambda first, end: np.arange(3 * first, 3 * end).reshape(-1, 3)

    for each in (path, whole, path):
        _parts.build(each, (800, 3), "float32", rows=8, start=start)
    assert path.read_bytes() == whole.read_bytes()
    assert missing == [800 - 8 * done[-1], 800]


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("end", "damage", "parts"),
    [
        ("npy", lambda data: flip(data, len(data) // 2), 1),
        ("npy", lambda data: data[:-1], 1),
        ("npy", lambda data: data + b"x", 6),
        ("npy", lambda data: flip(data, 20), 6),  # in the header
        ("parts", lambda data: b"\xff" * 40, 6),
        ("parts", lambda data: b"", 6),
    ],
)
def test_what_is_damaged_is_noticed_said_and_computed_again(
    end, damage, parts, prefix, small_parts, tmp_path
):
    right = np.array(tl.precompute(prefix, some_images(), batch_size=8))
    (file,) = (tmp_path / "cache").rglob(f"*.{end}")
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(damage(data))
    with pytest.warns(RuntimeWarning, match=f"is damaged .* in {parts} of 6 parts; they are computed again"):
        again = tl.precompute(prefix, some_images(), batch_size=8)
    assert np.array_equal(again, right)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert np.array_equal(tl.precompute(prefix, some_images(), batch_size=8), right)


def test_another_networks_file_is_not_taken_for_this_ones(prefix, small_parts, tmp_path):
    kernel, features = prefix.weights[0], tmp_path / "cache" / "features"
    before = kernel.numpy()
    right = np.array(tl.precompute(prefix, some_images(), batch_size=8))
    mine = next(features.glob("*.npy"))
    kernel.assign(before + 1)
    tl.precompute(prefix, some_images(), batch_size=8)
    theirs = next(path for path in features.glob("*.npy") if path != mine)
    for end in (".npy", ".parts"):
        shutil.copy(theirs.with_suffix(end), mine.with_suffix(end))
    kernel.assign(before)
    with pytest.warns(RuntimeWarning, match="is damaged .* in 6 of 6 parts"):
        again = np.array(tl.precompute(prefix, some_images(), batch_size=8))
    assert np.array_equal(again, right)


def test_what_is_there_is_read_without_a_right_to_write(prefix, tmp_path, monkeypatch):
    first = np.array(tl.precompute(prefix, some_images()))
    monkeypatch.setattr(tl.cache, "lock", lambda *a, **k: pytest.fail("a lock is a file that is written"))
    assert np.array_equal(tl.precompute(prefix, some_images()), first)


def test_a_second_process_waits_for_the_first(prefix, monkeypatch):
    build = _parts.build

    def watched(path, *args, **options):
        with pytest.raises(tl.cache.CacheError, match="another process holds"):
            tl.cache.lock(f"features-{path.stem}", timeout_s=0).__enter__()
        return build(path, *args, **options)

    monkeypatch.setattr(_parts, "build", watched)
    assert len(tl.precompute(prefix, some_images(16))) == 16


def test_what_trains_cannot_be_computed_once():
    model = residual()
    tl.freeze(model.get_layer("inner"), train_from="b")
    with pytest.raises(ValueError, match=r"expected frozen layers only, got 1 that train, 'b' first"):
        tl.precompute(tl.split(model, at="c")[0], some_images())
    # Without weights to train, BatchNorm's averages still move.
    norm = L.BatchNormalization(center=False, scale=False, name="norm")
    with pytest.raises(ValueError, match="'norm' first"):
        tl.precompute(one_layer(norm), np.ones((4, 4), "float32"))


@pytest.mark.parametrize("layer", [L.Dropout(0.5), L.RandomFlip()])
def test_a_random_layer_is_refused(layer):
    with pytest.raises(ValueError, match=f"'{layer.name}', which draws"):
        tl.precompute(one_layer(layer, (8, 8, 2)), some_images())


def test_a_layer_named_after_seeds_or_switched_off_is_not_random():
    for layer in (L.Dense(4, name="seedling", trainable=False), L.Dropout(0)):
        assert tl.precompute(one_layer(layer), np.ones((2, 4), "float32")).shape == (2, 4)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.ones((0, 8, 8, 2)), {}, r"numbers, \(n, 8, 8, 2\) with n of at least 1, got \(0, 8, 8, 2\)"),
        (np.ones((3, 8, 9, 2)), {}, r"got \(3, 8, 9, 2\)"),
        (np.ones((8, 8, 2)), {}, r"got \(8, 8, 2\)"),
        (some_images().astype(str), {}, "images: expected an array of numbers, .* got ndarray of <U32"),
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
    x = L.Conv2D(4, 3, name="first", trainable=False)(inputs)
    x = L.Conv2D(8, 1, name="expand", **options)(x)
    x = L.Conv2D(5, 1, strides=2, name="strided")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, L.Dense(3, activation="softmax", name="head")(x))


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}])
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


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", ["EfficientNetB0", "ResNet50V2"])
def test_other_backbones(name, litert):
    """Prefix and suffix are the model; LiteRT takes the prefix. (MobileNetV2 is in every chapter.)"""
    keras.utils.set_random_seed(0)
    backbone = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(32, 32, 3))
    backbone.trainable = False
    for layer in backbone.layers:
        if isinstance(layer, L.Dropout):  # EfficientNet's stochastic depth
            layer.rate = 0
    model = keras.Sequential([keras.Input((32, 32, 3)), backbone, L.GlobalAveragePooling2D(), L.Dense(3)])
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype("float32")
    cuts = tl.cut_points(model)
    assert len(cuts) > 20
    prefix, suffix = tl.split(model, at=cuts[len(cuts) // 2])
    exact = np.asarray(prefix(images, training=False))
    np.testing.assert_allclose(suffix(exact, training=False), model(images, training=False), atol=2e-5)
    assert np.abs(tl.precompute(prefix, images) - exact).max() <= 1e-3 * np.abs(exact).max()
