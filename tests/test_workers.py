"""`precompute` by an executor: the same bytes from any, and a clear error from each that is broken."""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tests.networks import residual, some_images
from tlhelpers import _forward, _workers

pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="LiteRT is TensorFlow's"),
]


@pytest.fixture(scope="module")  # converted once
def prefix() -> keras.Model:
    return tl.split(residual(), at="c")[0]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tl.features, "PART_IMAGES", 8)


def by(prefix: keras.Model, executor: Executor | None, images: Any = None) -> Any:
    return tl.precompute(prefix, some_images() if images is None else images, batch_size=8, executor=executor)


def digests(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.suffix in (".npy", ".parts")]
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.suffix == ".npy")


class Inline(Executor):
    """Does the work at once, in this process, and changes what comes in or out."""

    def __init__(
        self, change: Callable[[Any], Any] = lambda rows: rows, before: Callable[..., Any] | None = None
    ):
        self.change, self.before, self.done = change, before or (lambda *given: given), 0

    def submit(self, function: Any, /, *given: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(self.change(function(*self.before(*given), **options)))
        except Exception as error:
            future.set_exception(error)
        self.done += 1
        return future


def spawned(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def test_any_executor_and_number_of_workers_give_the_same_bytes(
    prefix: keras.Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {}
    makes: dict[str, Callable[[], Executor]] = {
        **{f"{number} threads": lambda number=number: ThreadPoolExecutor(number) for number in (1, 3)},
        **{f"{number} processes": lambda number=number: spawned(number) for number in (1, 2)},
        "inline": Inline,
    }
    for name, make in makes.items():
        monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / name))
        with make() as executor:
            by(prefix, executor)
        found[name] = digests(tmp_path / name)
    monkeypatch.setattr(_forward, "LITERT_FROM", 1)
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "alone"))
    features = by(prefix, None)
    assert [*found.values()] == [digests(tmp_path / "alone")] * len(makes)
    np.testing.assert_allclose(features, prefix(some_images(), training=False), atol=1e-5)


def test_what_is_there_asks_no_worker_and_new_examples_cost_only_themselves(prefix: keras.Model) -> None:
    first = by(prefix, Inline())
    again, more = Inline(), Inline()
    assert np.array_equal(by(prefix, again), first)
    assert again.done == 0
    images = np.concatenate([some_images(), some_images(50)[48:]])
    assert np.array_equal(by(prefix, more, images)[:48], first)
    assert more.done == 1


def test_batches_keep_their_labels(prefix: keras.Model) -> None:
    def batches() -> Iterator[tuple[Any, Any]]:
        for at in range(0, 48, 8):
            yield some_images()[at : at + 8], np.arange(at, at + 8)

    with ThreadPoolExecutor(3) as executor:
        features, labels = by(prefix, executor, batches())
    assert np.array_equal(labels, np.arange(48))
    assert np.array_equal(features, by(prefix, Inline()))


def one_refused(number: int) -> Callable[..., Any]:
    """Lets tasks through, but for one."""
    count = iter(range(100))

    def before(*given: Any) -> Any:
        if next(count) == number:
            raise OSError("no route to host")
        return given

    return before


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        (lambda: Inline(before=one_refused(2)), "got OSError: no route to host"),
        (lambda: Inline(lambda rows: [rows[0][:, :4]]), r"a first row that gives \(1, 4, 8, 4\) in place of"),
        (lambda: Inline(lambda rows: [rows[0][1:]]), "expected 1 arrays of 8 rows, got another shape"),
        (lambda: Inline(lambda rows: rows * 2), "expected 1 arrays of 8 rows, got another shape"),
        (lambda: Inline(lambda rows: [rows[0] * 1.01]), "got a first row that differs by"),
        (lambda: Inline(lambda rows: None), "got TypeError"),
        (
            lambda: Inline(before=lambda asked, *rest: ("another version", *rest)),
            "expected another version in",
        ),
    ],
    ids=["refuses", "shape", "rows", "outputs", "numbers", "nothing", "version"],
)
def test_a_worker_that_is_wrong_is_one_clear_error(
    executor: Callable[[], Executor], message: str, prefix: keras.Model
) -> None:
    with pytest.raises(BrokenExecutor, match=rf"executor: expected activations .*{message}.* parts that are"):
        by(prefix, executor())
    right = by(prefix, Inline())
    np.testing.assert_allclose(right, prefix(some_images(), training=False), atol=1e-5)


def test_the_parts_before_a_failure_stay(prefix: keras.Model) -> None:
    with pytest.raises(BrokenExecutor):
        by(prefix, Inline(before=one_refused(4)))
    again = Inline()
    by(prefix, again)
    assert again.done == 1  # five of six parts were there


def test_an_executor_that_refuses_more_costs_no_finished_part(prefix: keras.Model) -> None:
    class Refuses(Inline):
        def submit(self, *given: Any, **options: Any) -> Future[Any]:
            if self.done == 3:
                raise RuntimeError("the queue is full")
            return super().submit(*given, **options)

    with pytest.raises(BrokenExecutor, match="got RuntimeError: the queue is full"):
        by(prefix, Refuses())
    again = Inline()
    by(prefix, again)
    assert again.done == 3


def test_an_executor_that_is_shut_down_is_refused(prefix: keras.Model) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(BrokenExecutor, match="got RuntimeError: cannot schedule new futures after shutdown"):
        by(prefix, executor)


def test_a_worker_that_is_killed_costs_no_finished_part(prefix: keras.Model, tmp_path: Path) -> None:
    class Kills(ProcessPoolExecutor):
        """Kills its worker before the fourth task."""

        def submit(self, function: Any, /, *given: Any, **options: Any) -> Future[Any]:
            if len(sent) == 3:
                for future in sent:
                    future.result()
                os.kill(super().submit(os.getpid).result(), signal.SIGKILL)
            sent.append(super().submit(function, *given, **options))
            return sent[-1]

    sent: list[Future[Any]] = []
    killed = pytest.raises(BrokenExecutor, match=r"got BrokenProcessPool: .* goes on from them")
    with killed, Kills(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        by(prefix, executor)
    again = Inline()
    features = by(prefix, again)
    assert again.done <= 3
    assert np.array_equal(features, by(prefix, Inline()))
    np.testing.assert_allclose(features, prefix(some_images(), training=False), atol=1e-5)


def test_silence_is_said(prefix: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Inline):
        def submit(self, *given: Any, **options: Any) -> Future[Any]:
            late: Future[Any] = Future()
            threading.Timer(
                0.5, lambda: late.set_result(Inline.submit(self, *given, **options).result())
            ).start()
            return late

    monkeypatch.setattr(_workers, "SILENCE_S", 0.01)
    with pytest.warns(RuntimeWarning, match=r"no worker gave anything for 0\.01 s, of 6 tasks"):
        by(prefix, Late())


def test_no_more_is_under_way_than_memory_has_room_for(
    prefix: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Inline):
        under_way, most = 0, 0

        def submit(self, *given: Any, **options: Any) -> Future[Any]:
            late, now = Future[Any](), Inline.submit(self, *given, **options)
            self.under_way += 1
            self.most = max(self.most, self.under_way)

            def finish() -> None:
                self.under_way -= 1
                late.set_result(now.result())

            threading.Timer(0.1, finish).start()
            return late

    monkeypatch.setattr(_workers, "AHEAD_BYTES", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    slow = Slow()
    seen = by(prefix, slow)
    assert slow.done == 6
    assert slow.most <= 3
    assert np.array_equal(seen, by(prefix, Inline()))


def test_one_worker_serves_several_networks(prefix: keras.Model) -> None:
    other = keras.Sequential([keras.Input(prefix.input_shape[1:]), keras.layers.Rescaling(2.0)])
    for network in (prefix, other, prefix):
        expected = network(some_images(16), training=False)
        features = tl.precompute(network, some_images(16), batch_size=8, executor=Inline(lambda rows: rows))
        np.testing.assert_allclose(features, expected, atol=1e-5)


def test_what_can_not_run_in_workers_is_refused(prefix: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"executor: expected a concurrent\.futures\.Executor, got int\. Give"
    ):
        by(prefix, 2)  # type: ignore[arg-type]
    a, b = keras.Input((4,)), keras.Input((4,))
    both = keras.Model([a, b], keras.layers.Add()([a, b]))
    with pytest.raises(ValueError, match=r"executor: expected what LiteRT can run .* got 2 inputs"):
        tl.precompute(both, [np.ones((5, 4))] * 2, executor=Inline())
    monkeypatch.setattr(_workers, "AGREES", 0.0)
    with pytest.raises(
        ValueError, match=r"executor: expected a prefix .* got that it differs by .* from Keras"
    ):
        by(prefix, Inline())
