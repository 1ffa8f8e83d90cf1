"""The same bytes from every engine and any number of workers, also where a worker is killed.

    python -m tools.checks.engines

Needs loky and dask: `make nightly ONLY=engines` runs it in an environment that has them. One line a pass.
"""

import hashlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

PART, PARTS, KILLS = 64, 12, 10
NUMBERS = (1, 2, 3)


def standard(workers: int) -> ProcessPoolExecutor:
    """The standard library's pool."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@contextmanager
def dask(workers: int) -> Iterator[tuple[Executor, list[int]]]:
    """Dask's executor, and its workers' process numbers."""
    from dask.distributed import Client, LocalCluster

    how = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with LocalCluster(n_workers=workers, **how) as cluster, Client(cluster) as client:
        yield client.get_executor(), [*client.run(os.getpid).values()]


def main() -> int:
    """Run every pass, and say whether all gave one digest."""
    # Here: each worker of the standard pool imports what this module imports.
    import keras
    import loky

    import tlhelpers as tl

    tl.features.PART_IMAGES = PART
    see = tl.backbones.feature_extractor("mobilenet_v2_glyphs", (96, 96), cuts=["out_relu"], image_size=96)
    shape = (PART * PARTS, 96, 96)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found: dict[str, str] = {}

    def digest(executor: Executor) -> str:
        (features,) = keras.tree.flatten(tl.precompute(see, images, executor=executor))
        return hashlib.sha256(features.tobytes()).hexdigest()[:16]

    @contextmanager
    def empty(name: str) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TLHELPERS_CACHE"] = folder
            began = time.perf_counter()
            yield
            print(f"{name}: {found[name]}, {time.perf_counter() - began:.1f} s", flush=True)

    makes: dict[str, Any] = {"standard": standard, "loky": loky.ProcessPoolExecutor}
    for number in NUMBERS:
        for engine, make in makes.items():
            with empty(name := f"{engine}, {number}"), make(number) as executor:
                found[name] = digest(executor)
        with dask(number) as (executor, _), empty(name := f"dask, {number}"):
            found[name] = digest(executor)
    with dask(2) as (executor, workers), empty(name := "dask, 2, one killed"):
        threading.Timer(0.5, os.kill, [workers[0], signal.SIGKILL]).start()
        found[name] = digest(executor)

    broke = 0
    for moment in range(KILLS):
        with empty(name := f"standard, 2, one killed after {(moment + 1) / 4:g} s"):
            with standard(2) as executor:
                victim = executor.submit(os.getpid).result()
                timer = threading.Timer((moment + 1) / 4, os.kill, [victim, signal.SIGKILL])
                timer.start()
                try:
                    digest(executor)
                except BrokenExecutor:
                    broke += 1
                timer.cancel()
            with standard(2) as executor:
                found[name] = digest(executor)
    print(f"{len(found)} passes, {len(set(found.values()))} digest(s); {broke} of {KILLS} kills broke a pool")
    return int(len(set(found.values())) != 1 or not broke)


if __name__ == "__main__":
    sys.exit(main())
