"""Keras' private names, here and nowhere else: a model's graph, replayed, cut, described; how arrays are fed.

Each use of something that Keras does not document is named in ``tests/test_graph.py``, which says what it is
used for and fails if Keras changes it.
"""

import functools
from typing import Any

import keras
import numpy as np

from . import cache
from ._pointwise import Pointwise, is_pointwise


def functional(model: Any) -> Any:
    """The Functional graph of a model; a Sequential keeps one inside."""
    if isinstance(model, keras.Sequential) and model.built:
        model = model._functional
    if not hasattr(model, "_nodes_by_depth"):
        raise TypeError(
            f"model: expected a Functional or built Sequential Keras model, got {type(model).__name__}. "
            "A subclassed model has no graph to cut; rebuild it with keras.Model(inputs, outputs)."
        )
    return model


def nodes(graph: Any) -> list[Any]:
    """The calls of a graph, each after those it needs."""
    return [
        node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in graph._nodes_by_depth[depth]
    ]


def replay(graph: Any, tensors: list[Any], *, quick: bool = False) -> list[Any]:
    """Call a graph's layers again, in order, on other tensors; nested models are opened.

    With `quick`, 1x1 convolutions are computed as matrix products.
    """
    known = {id(old): new for old, new in zip(graph.inputs, tensors, strict=True)}
    stand_ins: dict[int, keras.Layer] = {}
    for node in nodes(graph):
        if node.is_input:
            continue
        args, kwargs = node.arguments.fill_in(known)
        operation = node.operation
        if quick and is_pointwise(operation):
            operation = stand_ins.setdefault(id(operation), Pointwise(operation))
        if isinstance(operation, keras.Model):
            outputs = replay(functional(operation), keras.tree.flatten(args))
        else:
            outputs = keras.tree.flatten(operation(*args, **kwargs))
        known.update((id(old), new) for old, new in zip(node.outputs, outputs, strict=True))
    return [known[id(output)] for output in graph.outputs]


def flat(model: keras.Model) -> Any:
    """The same network with nested models opened; every layer is shared with `model`."""
    graph = functional(model)
    inputs = [keras.Input(batch_shape=old.shape, dtype=old.dtype, name=old.name) for old in graph.inputs]
    return keras.Model(alone(inputs), replay(graph, inputs))


def alone(tensors: list[Any]) -> Any:
    """A single tensor as such: Keras warns of arrays where a model was made from a list."""
    return tensors[0] if len(tensors) == 1 else tensors


def cuts(graph: Any) -> dict[str, Any]:
    """Each layer after which a single tensor carries all that the rest needs, with that tensor."""
    order = nodes(graph)
    last_use = {id(tensor): len(order) for tensor in graph.outputs}
    for position, node in enumerate(order):
        for tensor in node.input_tensors:
            last_use[id(tensor)] = max(position, last_use.get(id(tensor), 0))
    calls: dict[str, int] = {}
    for node in order:
        calls[node.operation.name] = calls.get(node.operation.name, 0) + 1
    found: dict[str, Any] = {}
    alive: set[int] = set()
    for position, node in enumerate(order):
        alive = {tensor for tensor in alive if last_use[tensor] > position}
        alive |= {id(tensor) for tensor in node.outputs if id(tensor) in last_use}
        pending_inputs = any(other.is_input for other in order[position + 1 :])
        inside = not node.is_input and position < len(order) - 1 and not pending_inputs
        if (
            inside
            and len(node.outputs) == 1
            and alive == {id(node.outputs[0])}
            and calls[node.operation.name] == 1
        ):
            found[node.operation.name] = node.outputs[0]
    return found


def signature(model: keras.Model) -> str:
    """What a network computes, apart from its weights and names, which Keras numbers anew in each process."""
    order = nodes(flat(model))
    made_by = {id(tensor): position for position, node in enumerate(order) for tensor in node.outputs}

    def described(value: Any) -> str:
        if isinstance(value, keras.KerasTensor):
            return f"tensor {made_by[id(value)]}"
        return cache.content_key(np.asarray(value)) if hasattr(value, "__array__") else repr(value)

    lines = []
    for node in order:
        config = {
            key: value
            for key, value in node.operation.get_config().items()
            if key not in ("name", "trainable")
        }
        # Constants of an operation such as x * 2 are in the call and not in the configuration.
        call = keras.tree.map_structure(described, (node.arguments.args, node.arguments.kwargs))
        lines.append(f"{type(node.operation).__name__} {config} {call}")
    return "\n".join(lines)


def draws(layer: keras.Layer) -> bool:
    """Whether a layer keeps a generator of random numbers."""
    return any(
        part.startswith("seed_generator") for variable in layer.variables for part in variable.path.split("/")
    )


def feed_arrays_plainly() -> None:
    """From now on Keras feeds arrays to TensorFlow without tf.data's autotuning; no number changes.

    There is nothing to tune where arrays in memory are cut into batches. The search for settings takes
    processor time from the training, and `fit` waits for it to end after the last epoch, seconds at times
    (``benchmarks``: ``array_feed``).
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    try:
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
    except ImportError:  # a later Keras, with another way: a reader's chapter then takes longer, and is right
        return
    feed = ArrayDataAdapter.get_tf_dataset
    if hasattr(feed, "__wrapped__"):  # done before
        return

    @functools.wraps(feed)
    def plainly(adapter: Any) -> Any:
        options = tf.data.Options()
        options.autotune.enabled = False
        return feed(adapter).with_options(options)

    ArrayDataAdapter.get_tf_dataset = plainly
