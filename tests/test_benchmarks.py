"""The benchmarks' own arithmetic: what they time and weigh must be what they say."""

import sys

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("memory is read from /proc", allow_module_level=True)

import benchmarks.__main__ as bench
from benchmarks import meter


def test_peak_sees_what_was_given_back_and_not_what_a_file_holds(tmp_path):
    np.save(tmp_path / "large.npy", np.zeros(30_000_000 // 8))
    with meter.Peak() as peak:
        before = peak.mb
        np.load(tmp_path / "large.npy", mmap_mode="r").sum()
        mapped = meter.anonymous_mb() - before
        held = np.ones(60_000_000 // 8)
        # Long enough for the watcher, which looks every 20 ms.
        for _ in range(50):
            held += 1
        del held
    assert mapped < 15
    assert 45 < peak.mb - before < 90


def test_laps_add_up_by_name_and_leave_out_what_is_skipped(monkeypatch):
    clock = iter([0.0, 2.0, 5.0, 6.0])
    monkeypatch.setattr(meter.time, "perf_counter", lambda: next(clock))
    laps = meter.Laps()
    laps.lap("a")
    laps.skip()
    laps.lap("a")
    assert laps.seconds == {"a": 3.0}


def test_the_seconds_of_a_phase_hold_its_preparation_and_its_prefix():
    seconds = {"prepare": 1.0, "head prefix": 2.0, "head": 4.0, "tune prefix": 8.0, "tune": 16.0}
    assert bench.article_seconds({"seconds": seconds}) == 31
    assert bench.article_seconds({"seconds": seconds}, phases=("head",)) == 7


def test_an_unknown_benchmark_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "speedup"])
    with pytest.raises(SystemExit, match=r"expected some of .*phase1_speedup.* got 'speedup'"):
        bench.main()


def test_multiply_adds_of_a_dense_layer_and_a_convolution():
    import keras

    from benchmarks import pieces

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(5)(x))
    assert pieces.multiply_adds(model) == 64 * 9 * 3 * 4 + 16 * 9 * 4 + 4 * 5
