"""A converted network, which any process can run without Keras or TensorFlow: here, or in many workers."""

import importlib.metadata
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .cache import code_key

Array = npt.NDArray[Any]
Run = Callable[[Any], list[Array]]
Task = TypeVar("Task")

AHEAD_BYTES = 1 << 28
"""Examples that are under way at a time, at most; two for each core here in any case."""
SILENCE_S = 60.0
"""After how long without any result a warning says so, once."""


def interpreter(network: bytes, *, threads: int | None) -> Run:
    """LiteRT's run of a converted network, from a batch to its outputs. For one thread at a time."""
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_content=network, num_threads=threads)
    (given,) = made.get_input_details()
    # In alphabetical order otherwise: output_10 comes before output_2.
    outputs = made.get_signature_runner().get_output_details()
    outputs_at = [outputs[f"output_{number}"]["index"] for number in range(len(outputs))]
    ready: list[int] = []

    def run(batch: Array) -> list[Array]:
        if ready != [len(batch)]:
            made.resize_tensor_input(given["index"], [len(batch), *given["shape"][1:]])
            made.allocate_tensors()
            ready[:] = [len(batch)]
        made.set_tensor(given["index"], np.asarray(batch, dtype=given["dtype"]))
        made.invoke()
        return [made.get_tensor(at) for at in outputs_at]

    return run


def joined(batches: Iterable[list[Array]]) -> list[Array]:
    """Batch after batch, output by output."""
    return [np.concatenate(each) for each in zip(*batches, strict=True)]


def here() -> str:
    """What must be the same in a worker, or its rows may be others."""
    return f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}, tlhelpers' code {code_key()[:12]}"


_MINE = threading.local()


def work(asked: str, network: bytes, x: Array, size: int) -> list[Array]:
    """What a worker does, on one core: the activations of some examples, if it has what was `asked` for."""
    if (own := here()) != asked:
        raise RuntimeError(f"expected {asked} in every worker, got {own}")
    if getattr(_MINE, "network", None) != network:  # begun once in each thread of each process
        _MINE.network, _MINE.run = network, interpreter(network, threads=1)
    return joined(_MINE.run(x[at : at + size]) for at in range(0, len(x), size))


def spread(
    tasks: Iterator[tuple[Task, Array]], executor: Executor, network: bytes, size: int, check: Run
) -> Iterator[tuple[Task, list[Array]]]:
    """Each task with what the network gives for its examples, as soon as a worker has it.

    `check` computes the first example of each task here, too. Raises BrokenExecutor where a worker gives
    something else, or nothing; what was given before has been yielded.
    """
    asked = here()
    waiting: dict[Future[list[Array]], tuple[Task, Array]] = {}

    def done() -> Iterator[tuple[Task, list[Array]]]:
        finished = wait(waiting, SILENCE_S, FIRST_COMPLETED).done
        if not finished:
            warnings.warn(
                f"executor: no worker gave anything for {SILENCE_S:g} s, of {len(waiting)} tasks. If they "
                "hang, interrupt: the parts that are there stay.",
                RuntimeWarning,
                stacklevel=2,
            )
            finished = wait(waiting, None, FIRST_COMPLETED).done
        failed: Exception | None = None
        for future in finished:
            task, x = waiting.pop(future)
            try:
                rows = future.result()
                _check(rows, check(x[:1]), len(x))
            except Exception as error:  # whatever a worker or what lies between may raise
                failed = error
            else:
                yield task, rows
        if failed:
            raise _broken(failed) from failed

    try:
        for task, x in tasks:
            try:
                waiting[executor.submit(work, asked, network, x, size)] = task, x
            except Exception as error:  # shut down, or broken meanwhile
                while any(future.done() for future in waiting):
                    yield from done()
                raise _broken(error) from error
            while sum(x.nbytes for _, x in waiting.values()) > AHEAD_BYTES and len(waiting) > 2 * _cores():
                yield from done()
        while waiting:
            yield from done()
    finally:
        for future in waiting:
            future.cancel()


def _cores() -> int:
    return os.cpu_count() or 1


AGREES = 1e-3
"""Largest difference allowed, as a share of the largest activation. float32 through 150 layers differs by
some 3e-5 of it between any two ways to compute it; a wrong conversion by far more."""


def differs(ours: list[Array], theirs: list[Array]) -> str | None:
    """How two ways to compute the same activations differ by more than rounding; None if they don't."""
    for one, other in zip(ours, theirs, strict=True):
        if one.shape != other.shape:
            return f"gives {one.shape} in place of {other.shape}"
        finite = np.isfinite(other)
        worst = float(np.abs(one - other)[finite].max(initial=0))
        if not worst <= AGREES * float(np.abs(other[finite]).max(initial=0)):
            return f"differs by {worst:.2g}"
    return None


def _check(rows: Any, first: list[Array], number: int) -> None:
    if len(rows) != len(first) or any(len(each) != number for each in rows):
        raise RuntimeError(f"expected {len(first)} arrays of {number} rows, got another shape")
    if said := differs([each[:1] for each in rows], first):
        raise RuntimeError(f"expected what LiteRT gives here, got a first row that {said}")


def _broken(error: Exception) -> BrokenExecutor:
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return BrokenExecutor(
        f"executor: expected activations from every worker, got {said}. The parts that are there stay: give "
        "an executor that works, with this very library in its workers, and the same call goes on from them."
    )
