"""The forward pass of a frozen network over a batch: LiteRT where it pays, else Keras.

LiteRT (XNNPACK's kernels) fuses a frozen network's layers for the CPU; `benchmarks/` measures what that gains
over the best compiled Keras pass. It is used only where it agrees with Keras on images of this very call.
"""

import importlib.metadata
import importlib.util
import os
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import Executor
from itertools import chain
from typing import Any

import keras
import numpy as np

from . import _backend, _sources
from ._workers import Array, Run, Task, differs, interpreter, joined, spread

LITERT_FROM = 4096
"""Images from which on the gain outweighs the seconds that the conversion takes."""


def engine(n_images: int, n_inputs: int, *, workers: bool) -> str:
    """What will compute so many images: ``"keras"``, or LiteRT with its version, which all workers run.

    Raises ValueError where there are workers and LiteRT can't be had.
    """
    installed = importlib.util.find_spec("ai_edge_litert") is not None
    can = n_inputs == 1 and _backend.NAME == "tensorflow" and installed
    if workers and not can:
        raise ValueError(
            "executor: expected what LiteRT can run in the workers (one input, Keras on tensorflow, the "
            f"package ai-edge-litert), got {n_inputs} inputs, Keras on {_backend.NAME}, ai-edge-litert "
            f"{'' if installed else 'not '}installed. Leave executor out."
        )
    use = can and (workers or n_images >= LITERT_FROM)
    return f"litert {importlib.metadata.version('ai-edge-litert')}" if use else "keras"


def computed(
    tasks: Iterator[tuple[Task, Any]],
    prefix: keras.Model,
    sample: Any,
    by: str,
    name: str,
    size: int,
    executor: Executor | None,
) -> Iterator[tuple[Task, list[Array]]]:
    """Each task with the activations of its examples at each output, `size` at a time, by the engine named.

    Where LiteRT disagrees with Keras on the sample, or can't take the prefix, by Keras, or with workers a
    ValueError. `name` says what the prefix computes: what was compiled under another one, before a setting
    of a layer was changed, is stale.
    """
    if (begin := next(tasks, None)) is None:
        return
    tasks = chain([begin], tasks)
    if prefix not in _RUNS or _RUNS[prefix][0] != name:
        prefix.make_predict_function(force=True)
        _RUNS[prefix] = (name, {})

    def by_keras(batch: Any) -> list[Array]:
        return [np.asarray(each) for each in keras.tree.flatten(prefix.predict_on_batch(batch))]

    run: Run = by_keras
    if by != "keras":
        network, by_litert, why = _agreeing(prefix, sample)
        if executor and by_litert:
            yield from spread(tasks, executor, network, size, by_litert)
            return
        if executor:
            raise ValueError(
                f"executor: expected a prefix that LiteRT runs as Keras does, got that it {why}. "
                "Leave executor out, and Keras computes it here."
            )
        if by_litert:
            run = by_litert
        else:
            warnings.warn(
                f"prefix: computed by Keras, several times slower, since LiteRT {why}. The result is right.",
                RuntimeWarning,
                stacklevel=5,
            )
    for task, x in tasks:
        places = range(0, _sources.length(x), size)
        yield task, joined(run(_sources.rows(x, slice(at, at + size))) for at in places)


# A prefix is mostly run twice, over training and validation images: seconds and memory for one conversion.
# Kept with it: the name under which it was compiled.
_RUNS: "weakref.WeakKeyDictionary[keras.Model, tuple[str, dict[Any, tuple[bytes, Run]]]]"
_RUNS = weakref.WeakKeyDictionary()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _agreeing(prefix: keras.Model, sample: Any) -> tuple[bytes, Run | None, str]:
    """LiteRT's version of the prefix, its bytes first; the last one again, if it is for this shape.

    Without a run where it does not give what Keras gives, and in words why.
    """
    runs, shape = _RUNS[prefix][1], sample.shape[1:]
    try:
        if shape not in runs:
            runs.clear()
            network = _backend.litert(prefix, shape)
            runs[shape] = network, interpreter(network, threads=_cores())
        network, run = runs[shape]
        got = run(sample)
    except Exception as error:  # whatever a converter can't take, Keras can
        said = str(error).strip().splitlines() or [repr(error)]
        return b"", None, f"can't take it ({said[0]})"
    expected = keras.tree.flatten(prefix(sample, training=False))
    if how := differs(got, [*map(keras.ops.convert_to_numpy, expected)]):
        return b"", None, f"{how} from Keras"
    return network, run, ""
