"""The forward pass of a frozen network over a batch: LiteRT where it pays, else Keras.

LiteRT (XNNPACK's kernels) fuses a frozen network's layers for the CPU; `benchmarks/` measures what that gains
over the best compiled Keras pass. It is used only where it agrees with Keras on images of this very call.
"""

import gc
import importlib.metadata
import importlib.util
import os
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Run = Callable[[Any], list[Array]]

LITERT_FROM = 4096
"""Images from which on the gain outweighs the seconds that the conversion takes."""

AGREES = 1e-3
"""Largest difference to Keras allowed, as a share of the largest activation. float32 through 150 layers
differs by some 3e-5 of it between any two ways to compute it; a wrong conversion by far more."""


def engine(n_images: int) -> str:
    """What will compute so many images: ``"keras"``, or LiteRT with its version."""
    pays = n_images >= LITERT_FROM and keras.backend.backend() == "tensorflow"
    if not pays or importlib.util.find_spec("ai_edge_litert") is None:
        return "keras"
    return f"litert {importlib.metadata.version('ai-edge-litert')}"


def forward(prefix: keras.Model, sample: Any, by: str, name: str) -> Run:
    """A function from a batch to the activations at each output, by the engine that is named.

    Where LiteRT disagrees with Keras on the sample, or can't take the prefix, by Keras. `name` says what the
    prefix computes: what was compiled under another one, before a setting of a layer was changed, is stale.
    """
    if prefix not in _RUNS or _RUNS[prefix][0] != name:
        prefix.make_predict_function(force=True)
        _RUNS[prefix] = (name, {})

    def by_keras(batch: Any) -> list[Array]:
        return [np.asarray(each) for each in keras.tree.flatten(prefix.predict_on_batch(batch))]

    if by == "keras":
        return by_keras
    try:
        by_litert = _converted(prefix, sample.shape[1:])
        got = by_litert(sample)
    except Exception as error:  # whatever a converter can't take, Keras can
        said = str(error).strip().splitlines() or [repr(error)]
        _warn(f"can't take it ({said[0]})")
        return by_keras
    expected = keras.tree.flatten(prefix(sample, training=False))
    for ours, theirs in zip(got, map(keras.ops.convert_to_numpy, expected), strict=True):
        finite = np.isfinite(theirs)
        worst = float(np.abs(ours - theirs)[finite].max(initial=0))
        if not worst <= AGREES * float(np.abs(theirs[finite]).max(initial=0)):
            _warn(f"differs from Keras by {worst:.2g} on {len(sample)} images")
            return by_keras
    return by_litert


def _warn(why: str) -> None:
    warnings.warn(
        f"prefix: computed by Keras, several times slower, since LiteRT {why}. The result is right.",
        RuntimeWarning,
        stacklevel=5,
    )


# A prefix is mostly run twice, over training and validation images: seconds and memory for one conversion.
# Kept with it: the name under which it was compiled.
_RUNS: "weakref.WeakKeyDictionary[keras.Model, tuple[str, dict[Any, Run]]]" = weakref.WeakKeyDictionary()


def _converted(prefix: keras.Model, shape: tuple[int, ...]) -> Run:
    """LiteRT's version of the prefix; the last one again, if it is for this shape."""
    runs = _RUNS[prefix][1]
    if shape not in runs:
        runs.clear()
        runs[shape] = _litert(prefix, shape)
    return runs[shape]


def _litert(prefix: keras.Model, shape: tuple[int, ...]) -> Run:
    """Convert with the weights as constants, so that layers can be fused."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    groups = (prefix.trainable_variables, prefix.non_trainable_variables)
    arrays = [[keras.ops.convert_to_numpy(weight) for weight in group] for group in groups]
    kind = prefix.inputs[0].dtype

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), kind)])  # type: ignore[untyped-decorator]
    def constant(batch: Any) -> Any:
        weights = [[tf.constant(weight) for weight in group] for group in arrays]
        return keras.tree.flatten(prefix.stateless_call(*weights, batch, training=False)[0])

    # It logs each temporary folder it writes to, which would end up on the chapter's page.
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        converted = tf.lite.TFLiteConverter.from_concrete_functions(
            [constant.get_concrete_function()], tf.Module()
        ).convert()
    finally:
        logger.setLevel(level)
    # The graph holds every weight once more, in a circle of references that Python breaks only now and then.
    del constant
    gc.collect()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    interpreter = Interpreter(model_content=converted, num_threads=threads)
    input_at = interpreter.get_input_details()[0]["index"]
    # In alphabetical order otherwise: output_10 comes before output_2.
    outputs = interpreter.get_signature_runner().get_output_details()
    outputs_at = [outputs[f"output_{number}"]["index"] for number in range(len(outputs))]
    ready: list[int] = []

    def run(batch: Array) -> list[Array]:
        if ready != [len(batch)]:
            interpreter.resize_tensor_input(input_at, [len(batch), *shape])
            interpreter.allocate_tensors()
            ready[:] = [len(batch)]
        interpreter.set_tensor(input_at, np.asarray(batch, dtype=kind))
        interpreter.invoke()
        return [interpreter.get_tensor(at) for at in outputs_at]

    return run
