"""The benchmarks' own arithmetic: what they time and weigh must be what they say."""

import inspect
import re
import sys

import keras
import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("memory is read from /proc", allow_module_level=True)

import benchmarks.__main__ as bench
from benchmarks import meter, pieces


def test_peak_sees_what_was_given_back_and_not_what_a_file_holds(tmp_path):
    np.save(tmp_path / "large.npy", np.zeros(30_000_000 // 8))
    with meter.Peak() as peak:
        before = meter.anonymous_mb()
        np.load(tmp_path / "large.npy", mmap_mode="r").sum()
        mapped = meter.anonymous_mb() - before
        held = np.ones(60_000_000 // 8)
        most = meter.anonymous_mb()
        # Long enough for the watcher, which looks every 20 ms.
        for _ in range(50):
            held += 1
        del held
    assert mapped < 15
    assert most - before > 45
    assert peak.mb > most - 15


def test_every_piece_that_a_benchmark_asks_for_is_there():
    asked = set(re.findall(r'bench\("(\w+)"', inspect.getsource(bench)))
    assert "array_feed" in asked
    assert asked <= set(pieces.PIECES)


def test_the_seconds_of_a_phase_hold_its_preparation_and_its_prefix():
    seconds = {"prepare": 1.0, "head prefix": 2.0, "head": 4.0, "tune prefix": 8.0, "tune": 16.0}
    assert bench.article_seconds({"seconds": seconds}) == 31
    assert bench.article_seconds({"seconds": seconds}, phases=("head",)) == 7


def test_multiply_adds_of_a_dense_layer_and_a_convolution():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(5)(x))
    assert pieces.multiply_adds(model) == 64 * 9 * 3 * 4 + 16 * 9 * 4 + 4 * 5


def test_the_race_counts_seconds_from_the_start():
    side = {
        "seconds": {"prepare": 1.0, "head prefix": 2.0, "tune prefix": 8.0},
        "head": {"history": {"val_accuracy": [0.5, 0.6]}, "epochs": [4.0, 5.0]},
        "tune": {"history": {"val_accuracy": [0.9]}, "epochs": [16.0]},
    }
    ours = {"points": [(3.0, 0.8), (6.0, 0.99)]}
    table = bench._race(side, side, [ours, ours], [ours])
    plain = table[table.contestant == "article, plain"]
    assert list(plain.seconds) == [7.0, 12.0, 36.0]
    assert list(table[table.contestant == "ours"].seed) == [0, 0, 1, 1]
    assert list(table[table.contestant == "small network, from scratch"].val_accuracy) == [0.8, 0.99]


def test_the_watch_looks_four_times_an_epoch_and_its_seconds_do_not_count(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(meter.time, "perf_counter", lambda: clock[0])

    class Model:
        def predict(self, x, **_):
            clock[0] += 100
            return x

    watch = pieces._Watch(meter.Laps(), 8, np.eye(2), np.arange(2))
    watch.set_model(Model())
    for epoch in range(2):
        watch.on_epoch_begin(epoch)
        for batch in range(8):
            clock[0] += 1
            watch.on_train_batch_end(batch)
    assert watch.points == [(2.0 * looks, 1.0) for looks in range(1, 9)]


def test_threads_and_workers_are_measured_side_by_side(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("LiteRT is TensorFlow's")
    from benchmarks import workers
    from tlhelpers import _backend

    monkeypatch.setattr(workers, "TURNS", 2)
    monkeypatch.setattr(workers, "PART_BYTES", 64 * 3 * 4)
    model = keras.Sequential([keras.Input((4,), dtype="uint8"), keras.layers.Dense(3)])
    table = workers.in_turns(_backend.litert(model, (4,)), np.ones((150, 4), np.uint8), [2])
    assert [(row["way"], row["number"]) for row in table] == [("threads", 1), ("threads", 2), ("workers", 2)]
    assert all(row["least"] <= row["images_per_s"] <= row["most"] for row in table)
    assert (table[2]["part_images"], table[2]["returned_bytes"]) == (64, 12)
    assert table[2]["sent_bytes"] > 4
