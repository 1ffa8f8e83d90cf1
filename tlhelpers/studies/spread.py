"""Spread a frozen pass: what the caller itself needs for a part, and from where on more workers don't help.

The caller is the real `precompute`. The workers are simulated: each sleeps for as long as one core of this
machine takes for a part, and gives what was computed before. So the caller is measured, and assumed is that
every worker is as quick as this core, and that the caller's own network is as quick as `LINK`.
"""

import functools
import heapq
import itertools
import math
import os
import pickle
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple
from unittest import mock

import keras
import numpy as np
import numpy.typing as npt

from tlhelpers import _backend, _workers, features
from tlhelpers.backbones import feature_extractor
from tlhelpers.page.editions import Edition

from .skeleton import Study

__all__ = ["CALLER", "LINK", "STORAGE", "THOUSAND", "Simulated", "seconds_a_part"]

Array = npt.NDArray[Any]

NETWORKS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "photos, 96 px": ((96, 96, 3), {"cuts": ["out_relu"], "pool": True, "image_size": 96}),
    "digits, 32 px": ((28, 28), {"cuts": ["block_2_add"], "image_size": 32}),
}
"""What an example is, and where MobileNetV2 is read. Its weights are random: they change no second."""
STORAGE = {"in memory": math.inf, "100 MB a second": 1e8}
"""Where the examples come from: bytes a second."""
LINK = 1.25e9
"""Bytes a second that are assumed between the caller and all its workers together: 10 Gbit/s."""
WORKERS = (1, 2, 4, 8, 16, 64, 256, 1024)
BATCH, TURNS = 64, 3
PARTS = 12
"""Parts in a pass that has the caller alone measured."""


class Task(NamedTuple):
    """A frozen network, one part's examples, what it gives for them, and processor seconds."""

    prefix: keras.Model
    examples: Array
    rows: Array
    run: _workers.Run
    part_s: float
    begin_s: float = 0.0
    """Before a first call of `precompute` sends anything, it converts and tries the network."""


@functools.cache
def task(name: str, images: int = features.PART_IMAGES) -> Task:
    """The network and one part of random images, computed on one core; the quickest of `TURNS`."""
    shape, how = NETWORKS[name]
    prefix = feature_extractor("mobilenet_v2_imagenet", shape, weights="random", **how)
    examples = np.random.default_rng(0).integers(0, 256, (images, *shape), dtype=np.uint8)
    run = _workers.interpreter(_backend.litert(prefix, shape), threads=1)
    run(examples[:BATCH])
    seconds = []
    for _ in range(TURNS):
        began = time.process_time()
        (rows,) = _workers.joined(run(examples[at : at + BATCH]) for at in range(0, images, BATCH))
        seconds.append(time.process_time() - began)
    made = Task(prefix, examples, rows, run, min(seconds))
    began = time.process_time()
    return Task(*made[:-1], run_pass(made, 1, 1).began - began)


class Simulated(Executor):
    """Workers that sleep. What is sent and given back is pickled, as for another process or machine."""

    def __init__(self, workers: int, part_s: float, rows: Array, first: dict[bytes, Array]):
        self._free, self._part_s, self._busy_until = [0.0] * workers, part_s, 0.0
        self._answer, self._first = pickle.dumps([rows], -1), first
        self._due: queue.SimpleQueue[tuple[float, Future[Any], bytes] | None] = queue.SimpleQueue()
        self.sent: list[float] = []  # when each part was, and when its rows were given back
        self.given: list[float] = []
        self.sent_bytes, self.read_s, self.send_s, self.receive_s, self.began, self.end = 0, *[0.0] * 5
        threading.Thread(target=self._give, daemon=True).start()

    def submit(self, function: Any, /, *given: Any, **options: Any) -> Future[Any]:
        """Send a task over the link to the worker that is free first."""
        began = time.thread_time()
        self.sent_bytes = len(pickle.dumps((function, given, options), -1))
        self.send_s += time.thread_time() - began
        self.began = self.began or time.process_time()
        now = time.perf_counter()
        self.sent.append(now)
        self._busy_until = max(now, self._busy_until) + self.sent_bytes / LINK
        end = max(self._busy_until, heapq.heappop(self._free)) + self._part_s
        heapq.heappush(self._free, end)
        future: Future[Any] = Future()
        self._due.put((end + len(self._answer) / LINK, future, given[2][0].tobytes()))
        return future

    def _give(self) -> None:
        while (due := self._due.get()) is not None:
            end, future, example = due
            time.sleep(max(0.0, end - time.perf_counter()))
            began = time.thread_time()
            rows = pickle.loads(self._answer)
            self.receive_s += time.thread_time() - began
            rows[0][0] = self._first[example]
            self.given.append(time.perf_counter())
            future.set_result(rows)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread that wakes up when a worker is done."""
        self._due.put(None)


def _numbered(examples: Array, part: int) -> Array:
    """The same examples with two pixels changed: no part's examples are like another's."""
    changed = examples.copy()
    changed.reshape(len(changed), -1)[:, :2] = divmod(part, 256)
    return changed


def run_pass(of: Task, workers: int, parts: int, part_s: float = 0.0, storage: float = math.inf) -> Simulated:
    """Let `precompute` have so many parts computed, into a folder that is removed. Gives who did it."""
    few = [_numbered(of.examples[:1], part) for part in range(parts)]
    first = {each.tobytes(): of.run(each)[0][0] for each in few}
    executor = Simulated(workers, part_s, of.rows, first)

    def source() -> Iterator[Array]:
        for part in range(parts):
            began = time.thread_time()
            examples = _numbered(of.examples, part)
            executor.read_s += time.thread_time() - began
            time.sleep(examples.nbytes / storage)
            for at in range(0, len(examples), BATCH):
                yield examples[at : at + BATCH]

    with executor, tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, TLHELPERS_CACHE=cache):
        features.precompute(of.prefix, source(), batch_size=BATCH, executor=executor)
        executor.end = time.process_time()
    return executor


def under_way(part_bytes: int) -> int:
    """Parts that a caller has under way at most: more workers than that have nothing to do."""
    return max(_workers.AHEAD_BYTES // part_bytes + 1, 2 * (os.cpu_count() or 1) + 1)


def seconds_a_part(workers: int, *, part_s: float, caller_s: float, under_way: int) -> float:
    """The model: the workers wait for the caller or it for them, whichever is slower."""
    return max(part_s / min(workers, under_way), caller_s)


def _caller(edition: Edition, network: str) -> dict[str, Any]:
    """What the caller needs for a part of examples in memory, in processor time; the least of `TURNS`."""
    chosen = task(network)
    # The clock runs from when the first part was read and sent.
    passes = [run_pass(chosen, 1, PARTS + 1) for _ in range(TURNS)]
    least = min(passes, key=lambda each: each.end - each.began)
    began = time.process_time()
    for part in range(PARTS):
        chosen.run(_numbered(chosen.examples[:1], part))
    each_s = {"check": (time.process_time() - began) / PARTS}
    each_s |= {name: getattr(least, f"{name}_s") / (PARTS + 1) for name in ("read", "send", "receive")}
    caller_s = (least.end - least.began) / PARTS
    each_s["keep"] = caller_s - sum(each_s.values())
    return {
        **{"part_images": len(chosen.examples), "part_bytes": chosen.examples.nbytes},
        **{"sent_bytes": least.sent_bytes, "returned_bytes": chosen.rows.nbytes},
        "under_way": under_way(chosen.examples.nbytes),
        **{"begin_s": chosen.begin_s, "part_s": chosen.part_s, "caller_s": caller_s},
        **{f"{name}_ms": 1000 * seconds for name, seconds in each_s.items()},
    }


def _thousand(edition: Edition, network: str, storage: str, workers: int) -> dict[str, Any]:
    """Seconds between two parts, once every worker is busy."""
    chosen = task(network)
    ahead = under_way(chosen.examples.nbytes)
    busy = min(workers, ahead)
    rounds = busy * -(-20 // busy)
    # The first ones are sent at once, then those in place of what was done meanwhile; the others in step.
    done = run_pass(chosen, workers, 2 * ahead + rounds + 1, chosen.part_s, STORAGE[storage])
    # Where workers are slower than the caller, what it has sent runs ahead for a while of what they give.
    seconds = max(each[2 * ahead + rounds] - each[2 * ahead] for each in (done.sent, done.given)) / rounds
    rate = len(chosen.examples) / seconds
    return {"parts": len(done.sent), "part_s": chosen.part_s, "seconds_a_part": seconds, "images_per_s": rate}


CALLER = Study(
    table="caller",
    keys=("network",),
    grid=lambda edition: [(name,) for name in NETWORKS if edition.name == "full"],
    row=_caller,
)
THOUSAND = Study(
    table="thousand",
    keys=("network", "storage", "workers"),
    grid=lambda edition: (
        itertools.product([*NETWORKS][:1], STORAGE, WORKERS) if edition.name == "full" else ()
    ),
    row=_thousand,
)
