"""Activations computed once: from any source, at several depths, in parts; kept, noticed, shared, refused."""

import importlib.util
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
from tests.networks import residual, some_images
from tlhelpers import _backend, _forward, _parts

L = keras.layers
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def prefix() -> keras.Model:
    return tl.split(residual(), at="c")[0]


def one_layer(layer: L.Layer, shape: tuple[int, ...] = (4,)) -> keras.Model:
    """The prefix of a model that ends after a layer of this kind."""
    inputs = keras.Input(shape)
    x = L.ReLU(name="after")(layer(inputs))
    return tl.split(keras.Model(inputs, L.Flatten()(x)), at="after")[0]


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(tl.features, "PART_IMAGES", 8)


def test_the_second_call_reads_and_does_not_compute(prefix, monkeypatch):
    images = some_images()
    first = tl.precompute(prefix, images, batch_size=10)
    np.testing.assert_allclose(first, prefix(images, training=False), atol=1e-6)
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
    return sorted((cache_folder / "features").rglob("*"))


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
    with pytest.raises(
        ValueError, match="expected finite float32 numbers, got others in image 20, the first"
    ):
        tl.precompute(prefix, images, batch_size=8)
    with pytest.raises(ValueError, match="expected finite float16 numbers"):
        tl.precompute(prefix, some_images() * 1e6, dtype="float16")
    assert features_of(tmp_path / "cache") == []


SLOWLY = """
import sys, time
from pathlib import Path
import numpy as np
from tlhelpers._parts import Store, key_of

store = Store(Path(sys.argv[1]), (3,), "float32", rows=8, batch=8)
keys = [f"{part:064x}" for part in range(100)]
with store.making("killed", keys, 800) as making:
    for part in range(100):
        if not making.has(part, key_of(keys[part:part + 1])):
            print(part, flush=True)
            time.sleep(float(sys.argv[2]))
            rows = dict(enumerate(np.arange(24 * part, 24 * part + 24).reshape(8, 3)))
            making.write(part, key_of(keys[part:part + 1]), [f"{8 * part + row:032x}" for row in rows], rows)
    making.finish("killed", keys, 800)
"""


def test_killed_at_random_points_it_ends_in_the_same_bytes(tmp_path):
    folder, chance, done = tmp_path / "killed", np.random.default_rng(), []
    command = [sys.executable, "-c", SLOWLY]
    for _ in range(3):
        process = subprocess.Popen([*command, folder, "0.05"], stdout=subprocess.PIPE)
        # A hundred parts of 50 ms or more: a kill soon after the first hits the middle, on a busy one too.
        assert process.stdout.readline()
        time.sleep(float(chance.uniform(0, 0.15)))
        process.kill()
        process.communicate()
        assert not list(folder.glob("*.npy"))
        done.append(len(set(re.findall(r"(\d+) 8 [0-9a-f]{64}", (folder / "killed.parts").read_text()))))
    assert done == sorted(done)
    with (folder / "killed.parts").open("a") as journal:
        journal.write("1")  # a kill may tear a line
    computed = subprocess.run([*command, folder, "0"], capture_output=True, text=True, check=True).stdout
    assert len(computed.split()) == 100 - done[-1]
    subprocess.run([*command, tmp_path / "whole", "0"], capture_output=True, check=True)
    assert (folder / "killed.npy").read_bytes() == (tmp_path / "whole" / "killed.npy").read_bytes()


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
    mine = next(features.rglob("*.npy"))
    kernel.assign(before + 1)
    tl.precompute(prefix, some_images(), batch_size=8)
    theirs = next(path for path in features.rglob("*.npy") if path != mine)
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
    making = _parts.Store.making

    def watched(store, name, *args):
        with pytest.raises(tl.cache.CacheError, match="another process holds"):
            tl.cache.lock(f"features-{store.folder.name}-{name}", timeout_s=0).__enter__()
        return making(store, name, *args)

    monkeypatch.setattr(_parts.Store, "making", watched)
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


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.ones((0, 8, 8, 2)), {}, r"numbers, \(n, 8, 8, 2\) with n of at least 1, got \(0, 8, 8, 2\)"),
        (np.ones((3, 8, 9, 2)), {}, r"got \(3, 8, 9, 2\)"),
        (np.ones((8, 8, 2)), {}, r"got \(8, 8, 2\)"),
        (np.ones((3, 8, 8)), {}, r"got \(3, 8, 8\)"),
        (some_images().astype(str), {}, "images: expected an array of numbers, .* got ndarray of <U32"),
        ([["a"]], {}, r"expected an array of numbers, \(n, 8, 8, 2\).*got list of <U1"),
        ([np.zeros(4), np.zeros(3)], {}, "got list of no one shape"),
        (some_images().astype(np.longdouble), {}, r"got ndarray of (float128|longdouble)"),
        (
            np.ma.masked_less(some_images(), 0),
            {},
            "got MaskedArray of float32. Give one numeric type",
        ),
        (iter(some_images()), {}, r"got \(8, 8, 2\).*That is one example: give batches"),
        (some_images(), {"part": (2, 2)}, "part: expected 0 to 1, got 2"),
        (some_images(), {"part": (1, 2, 3)}, r"part: expected \(i, n\), got 3 numbers"),
        (some_images(), {"part": (1, 2)}, r"part: expected no more shares than batches, got \(1, 2\)"),
        (some_images(), {"at": "c"}, r"at: expected a list of cut points, got 'c'. Give \['c'\]"),
        (some_images(), {"at": ["b"]}, r"at: expected a layer whose single output"),
        (3, {}, "source: expected what Keras' predict takes, or a folder, got int"),
        (some_images(), {"batch_size": 0}, "batch_size: expected 1 or more, got 0"),
        (some_images(), {"dtype": "int8"}, 'dtype: expected "float32" or "float16", got \'int8\''),
    ],
)
def test_wrong_input_is_refused_and_leaves_nothing(images, options, message, prefix, tmp_path):
    with pytest.raises(ValueError, match=message):
        tl.precompute(prefix, images, **options)
    assert features_of(tmp_path / "cache") == []


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


# -- what computes the pass ----------------------------------------------------------------------


@pytest.fixture
def litert(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("LiteRT converts what TensorFlow runs")
    monkeypatch.setattr(_forward, "LITERT_FROM", 1)


def test_litert_agrees_with_keras_and_converts_once_for_the_same_weights(prefix, litert, monkeypatch):
    conversions, convert = [], _backend.litert
    monkeypatch.setattr(_backend, "litert", lambda *a: conversions.append(a) or convert(*a))
    prefix.predict_on_batch = lambda batch: pytest.fail("Keras computed it")

    def check(n: int) -> None:
        features = tl.precompute(prefix, some_images(n), batch_size=16)
        np.testing.assert_allclose(features, prefix(some_images(n), training=False), atol=1e-5)

    check(20)
    check(50)  # the last batch is smaller
    assert len(conversions) == 1
    prefix.weights[0].assign(prefix.weights[0] + 1)
    check(20)
    assert len(conversions) == 2


@pytest.mark.parametrize("wrong", ["other numbers", "not a number", "no conversion"])
def test_litert_that_is_wrong_is_not_used_and_said(wrong, prefix, litert, monkeypatch):
    def converted(network, threads):
        if wrong == "no conversion":
            raise RuntimeError("failed to legalize operation\nwith details")
        add = np.nan if wrong == "not a number" else 0.1
        return lambda batch: [prefix.predict(batch, verbose=0) + add]

    monkeypatch.setattr(_forward, "interpreter", converted)
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


# -- any source ----------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    """Images, with labels and weights, in batches of any size."""

    def __init__(self, *arrays, size=10, end=True):
        super().__init__()
        self.arrays, self.size, self.end = arrays, size, end

    @property
    def num_batches(self):
        return -(-len(self.arrays[0]) // self.size) if self.end else None

    def __getitem__(self, number):
        found = tuple(each[self.size * number : self.size * (number + 1)] for each in self.arrays)
        return found if len(found) > 1 else found[0]


def source(kind: str, *arrays):
    """The same examples as what Keras' predict takes, in batches of other sizes than ours."""
    batches = Batches(*arrays)
    if kind == "PyDataset":
        return batches
    if kind == "generator":
        return (batches[number] for number in range(batches.num_batches))
    if kind == "loader":
        return iter([list(batches[number]) for number in range(batches.num_batches)])
    if kind == "torch":
        torch = pytest.importorskip("torch")
        tensors = torch.utils.data.TensorDataset(*map(torch.from_numpy, arrays))
        return torch.utils.data.DataLoader(tensors, batch_size=7)
    tensorflow = pytest.importorskip("tensorflow")
    data = tensorflow.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0])
    return data.batch(7 if kind == "tf.data" else 1000)


KINDS = ["tf.data", "one large batch", "PyDataset", "generator", "loader", "torch"]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_batches_give_what_the_array_gives_and_keep_their_labels(kind, prefix, small_parts, tmp_path):
    images = some_images()
    labels, weights = np.arange(48), np.linspace(0, 1, 48)
    features, y, w = tl.precompute(prefix, source(kind, images, labels, weights), batch_size=8)
    assert np.array_equal(y, labels)
    assert np.array_equal(w, weights)
    # It is the array's own file: nothing is computed again, and no second one is written.
    prefix.predict_on_batch = lambda batch: pytest.fail("computed again")
    assert np.array_equal(tl.precompute(prefix, images, batch_size=8), features)
    again, *_ = tl.precompute(prefix, source(kind, images, labels, weights), batch_size=8)
    assert np.array_equal(again, features)
    assert [path.suffix for path in features_of(tmp_path / "cache") if path.is_file()] == [".npy", ".parts"]


def test_a_shuffled_source_is_read_once(prefix):
    tf = pytest.importorskip("tensorflow")
    images = some_images(60)
    data = tf.data.Dataset.from_tensor_slices((images, np.arange(60))).shuffle(
        60, reshuffle_each_iteration=True
    )
    features, order = tl.precompute(prefix, data.batch(8))
    assert order.tolist() != list(range(60))
    assert sorted(order) == list(range(60))
    np.testing.assert_allclose(features, prefix.predict(images[order], verbose=0), atol=1e-6)


def test_a_generator_may_fill_the_same_arrays_again(prefix):
    images = some_images()
    x, y = np.empty((8, 8, 8, 2), "float32"), np.empty(8, int)

    def refilled():
        for at in range(0, 48, 8):
            x[:], y[:] = images[at : at + 8], np.arange(at, at + 8)
            yield x, y

    features, labels = tl.precompute(prefix, refilled())
    assert labels.tolist() == list(range(48))
    np.testing.assert_allclose(features, prefix.predict(images, verbose=0), atol=1e-6)


def two_inputs() -> keras.Model:
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    return keras.Model([a, b], L.Dense(5, name="end", trainable=False)(L.Concatenate()([a, b])))


def test_several_inputs_and_outputs(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
    model = two_inputs()
    want = model.predict([a, b], verbose=0)
    for given in ([a, b], {"b": b, "a": a}, iter([({"a": a, "b": b},)])):
        found = tl.precompute(model, given)
        np.testing.assert_allclose(found, want, atol=1e-6)
    for wrong, message in (
        ([a], "an array for each of the inputs a, b, got list"),
        ({"a": a, "c": b}, r"got \['a', 'c'\]"),
        ([a, b[:9]], r"inputs of one length, got \[20, 9\]"),
        ([a, a], r"images\['b'\]: expected an array of numbers, \(n, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            tl.precompute(model, wrong)
    taps = keras.Model(model.inputs, {"sum": model.output, "join": model.layers[2].output})
    found = tl.precompute(taps, [a, b])
    np.testing.assert_allclose(found["join"], np.concatenate([a, b], 1), atol=1e-6)
    np.testing.assert_allclose(found["sum"], want, atol=1e-6)


def test_sizes_that_the_network_leaves_open_follow_the_images():
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, L.Conv2D(3, 3, trainable=False)(inputs))
    for size in (8, 6):
        images = some_images()[:, :size, :size]
        np.testing.assert_allclose(tl.precompute(model, images), model.predict(images, verbose=0), atol=1e-6)
    vague = L.Lambda(lambda x: x, output_shape=lambda shape: (shape[0], None, None, 2))
    with pytest.raises(ValueError, match="expected activations of one size, got"):
        tl.precompute(keras.Model(inputs, vague(inputs)), some_images())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: source("tf.data", some_images()).repeat(), "expected batches with an end"),
        (lambda: Batches(some_images(), end=False), "expected batches with an end"),
        (lambda: iter([]), "expected batches of examples, got none"),
        (lambda: iter([some_images(8), some_images(8).astype("float64")]), "expected batches alike"),
        (lambda: iter([(some_images(8), np.arange(7))]), "expected a label for each of 8 examples"),
        (lambda: "nowhere", "expected a folder of images, got 'nowhere', which is none"),
    ],
)
def test_a_source_that_is_none_is_refused_and_leaves_nothing(given, message, prefix, tmp_path):
    with pytest.raises(ValueError, match=message):
        tl.precompute(of_photos() if given() == "nowhere" else prefix, given())
    assert features_of(tmp_path / "cache") == []


def test_an_error_of_the_source_passes_and_leaves_nothing(prefix, tmp_path):
    def broken():
        yield some_images(8)
        raise PermissionError(13, "Permission denied", "photo.jpg")

    with pytest.raises(PermissionError, match="photo"):
        tl.precompute(prefix, broken())
    assert features_of(tmp_path / "cache") == []


def photos(folder, number: int = 12, size: int = 10) -> np.ndarray:
    """Two classes in folders; what they hold, in the order of the names."""
    images = np.random.default_rng(0).integers(0, 256, (number, size, size, 3), dtype="uint8")
    for position, image in enumerate(images):
        path = folder / ("ants" if position < number // 3 else "bees") / f"{position:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, image, scale=False)
    return images


def of_photos(size: int = 10) -> keras.Model:
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, L.Flatten()(L.Rescaling(1 / 255)(inputs)))


def test_a_folder_of_photos(tmp_path):
    if importlib.util.find_spec("tensorflow") is None:
        photos(tmp_path)
        with pytest.raises(ValueError, match=r"source: expected TensorFlow, .* give batches"):
            tl.precompute(of_photos(), tmp_path)
        return
    images = photos(tmp_path / "photos")
    features, labels = tl.precompute(of_photos(), tmp_path / "photos", batch_size=5)
    np.testing.assert_allclose(features, images.reshape(12, -1) / 255, atol=1e-6)
    assert labels.tolist() == [0] * 4 + [1] * 8
    (tmp_path / "photos" / "ants" / ".hidden").mkdir()  # makes no classes of it
    features = tl.precompute(of_photos(), str(tmp_path / "photos" / "ants"))
    np.testing.assert_allclose(features, images[:4].reshape(4, -1) / 255, atol=1e-6)
    damaged = tmp_path / "photos" / "bees" / "00007.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"images that TensorFlow can read.* at [^,]*00007.png\. Mend"):
        tl.precompute(of_photos(), tmp_path / "photos")
    damaged.rename(damaged.with_suffix(".webp"))
    with pytest.warns(UserWarning, match=r"got 1 other files, which are left out, '.*00007.webp' first"):
        assert len(tl.precompute(of_photos(), tmp_path / "photos")[1]) == 11
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected a folder of images, got an error: No images found"):
        tl.precompute(of_photos(), tmp_path / "empty")
    with pytest.raises(ValueError, match="a prefix that takes images of one size"):
        tl.precompute(two_inputs(), tmp_path / "photos")


LARGE = """
import resource
import keras, numpy as np, tlhelpers as tl

inputs = keras.Input((8, 8, 3))
prefix = keras.Model(inputs, keras.layers.Conv2D(16, 3, trainable=False)(inputs))
images = np.random.default_rng(0).integers(0, 256, (256, 8, 8, 3)).astype("float32")
for number in (16, 160):
    tl.precompute(prefix, (images + each for each in range(number)), batch_size=256)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_source():
    """Activations of 2,304 bytes: ten times the examples are 88 MB more on disk, and not in memory."""
    found = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True).stdout
    few, many = (int(line) / 1024 for line in found.split())
    assert many - few < 44


# -- several depths from one pass ----------------------------------------------------------------


@pytest.mark.parametrize("images_from", [10**9, 1])  # Keras, LiteRT
def test_several_depths_from_one_pass_are_those_of_each_cut(images_from, monkeypatch, tmp_path):
    monkeypatch.setattr(_forward, "LITERT_FROM", images_from)
    model = residual()
    tl.freeze(model)
    found = tl.precompute(model, some_images(), at=["pool", "a", "c", "head"])
    assert list(found) == ["pool", "a", "c", "head"]
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "other"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nothing is left to train
        for name in ("a", "c", "pool"):
            alone = tl.precompute(tl.split(model, at=name)[0], some_images())
            np.testing.assert_allclose(found[name], alone, atol=1e-6)
    np.testing.assert_allclose(found["head"], model.predict(some_images(), verbose=0), atol=1e-6)


def test_the_depth_that_was_chosen_is_not_computed_again(monkeypatch):
    model = residual()  # the head trains
    tl.precompute(model, some_images(), at=["a", "pool"])
    prefix, _ = tl.split(model, at="pool")
    prefix.predict_on_batch = lambda batch: pytest.fail("computed again")
    assert tl.precompute(prefix, some_images()).shape == (48, 4)
    with pytest.raises(ValueError, match="frozen layers only, got 1 that train, 'head' first"):
        tl.precompute(model, some_images(), at=["head"])


def test_ten_outputs_or_more_keep_their_order(litert):
    inputs = keras.Input((8,))
    ends = [L.Rescaling(number + 1.0)(inputs) for number in range(12)]
    found = tl.precompute(keras.Model(inputs, ends), np.ones((5, 8), "float32"))
    assert [float(each[0, 0]) for each in found] == [1.0 + number for number in range(12)]


# -- what other calls, processes and machines computed ---------------------------------------------


@pytest.fixture
def computed(prefix, monkeypatch):
    """The rows that the prefix was asked for."""
    rows: list[np.ndarray] = []
    compute = prefix.predict_on_batch
    monkeypatch.setattr(prefix, "predict_on_batch", lambda batch: rows.extend(batch) or compute(batch))
    return rows


def test_images_appended_or_removed_cost_only_themselves(
    prefix, small_parts, computed, monkeypatch, tmp_path
):
    images = some_images(60)
    sets = {
        "first": images[:48],
        "appended": images,
        "removed": np.delete(images[:48], [3, 30], axis=0),
        "reordered": images[::-1],
    }
    cost, found = {}, {}
    for name, given in sets.items():
        computed.clear()
        found[name] = np.array(tl.precompute(prefix, given, batch_size=8))
        cost[name] = len(computed)
    assert cost == {"first": 48, "appended": 12, "removed": 0, "reordered": 0}
    for name, given in sets.items():
        monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / name))
        np.testing.assert_allclose(
            found[name], tl.precompute(prefix, given, batch_size=8), rtol=1e-6, atol=1e-6
        )


def test_functions_of_ones_own_are_shared_when_images_are_appended():
    inputs = keras.Input((4,))
    calls = []
    model = keras.Model(inputs, L.Lambda(lambda x: keras.ops.abs(x), output_shape=(4,))(inputs))
    images = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
    compute = model.predict_on_batch
    model.predict_on_batch = lambda batch: calls.extend(batch) or compute(batch)
    tl.precompute(model, images[:199])
    calls.clear()
    np.testing.assert_allclose(tl.precompute(model, images), np.abs(images), rtol=1e-6)
    assert len(calls) == 1


@pytest.mark.parametrize("kind", ["array", "tf.data"])
def test_shares_make_the_whole(kind, prefix, small_parts, computed, monkeypatch, tmp_path):
    images, labels = some_images(60), np.arange(60)

    def given():
        return images if kind == "array" else source("tf.data", images, labels)

    shares = [tl.precompute(prefix, given(), part=(share, 3), batch_size=8) for share in range(3)]
    if kind == "tf.data":
        assert sorted(np.concatenate([y for _, y in shares])) == list(range(60))
        shares = [features for features, _ in shares]
    assert sum(map(len, shares)) == len(computed) == 60
    computed.clear()
    joined = tl.precompute(prefix, images, batch_size=8)
    assert len(computed) == 0
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "other"))
    assert np.array_equal(tl.precompute(prefix, images, batch_size=8), joined)


def test_a_damaged_array_gives_no_rows_to_others(prefix, small_parts, computed, tmp_path):
    tl.precompute(prefix, some_images(48), batch_size=8)
    (file,) = (tmp_path / "cache").rglob("*.npy")
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(flip(data, len(data) - 9))  # in the last of six parts
    computed.clear()
    features = tl.precompute(prefix, some_images(50), batch_size=8)
    assert len(computed) == 10
    np.testing.assert_allclose(features, prefix.predict(some_images(50), verbose=0), atol=1e-6)


def test_a_source_that_was_interrupted_goes_on(prefix, small_parts, computed):
    def batches(end):
        for number in range(6):
            if number == end:
                raise KeyboardInterrupt
            yield some_images()[8 * number : 8 * (number + 1)], np.arange(8)

    with pytest.raises(KeyboardInterrupt):
        tl.precompute(prefix, batches(4), batch_size=8)
    assert len(computed) == 32
    features, labels = tl.precompute(prefix, batches(None), batch_size=8)
    assert len(computed) == 48
    assert len(labels) == 48
    assert np.array_equal(tl.precompute(prefix, some_images(), batch_size=8), features)
