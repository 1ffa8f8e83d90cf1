"""Keras' private names, here and nowhere else: a model's graph, replayed, cut, described; how arrays are fed.

Each use of something that Keras does not document is named in ``tests/test_graph.py``, which says what it is
used for and fails if Keras changes it.
"""

import functools
import inspect
from typing import Any

import keras
import numpy as np

from . import _backend, cache
from ._pointwise import Pointwise, StandIn, is_pointwise


def functional(model: Any) -> Any:
    """The Functional graph of a model; a Sequential keeps one inside."""
    if isinstance(model, keras.Sequential) and model.built and _calls_its_graph(model):
        return model._functional
    if not hasattr(model, "_nodes_by_depth") or not _calls_its_graph(model):
        unbuilt = isinstance(model, keras.Sequential) and not model.built
        advice = (
            "Say what it takes, with a keras.Input first."
            if unbuilt
            else "A subclassed model has no graph to cut; rebuild it with keras.Model(inputs, outputs)."
        )
        raise TypeError(
            "model: expected a Functional or built Sequential Keras model, got "
            f"{'an unbuilt ' if unbuilt else ''}{type(model).__name__}. {advice}"
        )
    return model


@functools.cache
def _graph_calls() -> tuple[Any, ...]:
    """The ``call`` of models that do what their graph says, and nothing else."""
    inputs = keras.Input((1,))
    return keras.Sequential.call, type(keras.Model(inputs, keras.layers.Identity()(inputs))).call


def _calls_its_graph(model: Any) -> bool:
    return type(model).call in _graph_calls() and "call" not in vars(model)


def nodes(graph: Any) -> list[Any]:
    """The calls of a graph, each after those it needs."""
    return [
        node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in graph._nodes_by_depth[depth]
    ]


def walk(layer: Any) -> list[Any]:
    """A layer or model and all layers inside it at any depth, each after what holds it."""
    every: list[Any] = layer._flatten_layers() if layer._layers else [layer]
    return every


def own_weights(layer: Any) -> tuple[list[Any], list[Any]]:
    """A layer's own weights, without those of layers inside it: made to be trained, and made not to be."""
    return layer._trainable_variables, layer._non_trainable_variables


def flat(model: keras.Model) -> Any:
    """The same network with nested models opened; every layer is shared with `model`.

    A nested model that does more than its graph says, by a ``call`` of its own, stays a layer. Where a name
    occurs in a nested model and elsewhere, the nested layer goes by both names: ``"backbone_predictions"``.
    """
    graph = functional(model)
    if not any(map(_opened, nodes(graph))):
        return graph
    inputs = [keras.Input(batch_shape=old.shape, dtype=old.dtype, name=old.name) for old in graph.inputs]
    outputs = replay(graph, inputs, names=long_names(graph))
    return keras.Model(formed(graph.input, inputs), formed(graph.output, outputs))


def _opened(node: Any) -> Any:
    """The graph of a nested model, if its call is nothing but that graph on tensors; else None."""
    args, kwargs = node.arguments.args, dict(node.arguments.kwargs)
    if not isinstance(node.operation, keras.Model) or len(args) != 1:
        return None
    # Keras hands over the masks that stand at the tensors, which stand at the new ones as well.
    masks = zip(keras.tree.flatten(args[0]), keras.tree.flatten(kwargs.pop("mask", [])), strict=False)
    own = all(mask is None or mask is getattr(tensor, "_keras_mask", None) for tensor, mask in masks)
    # Where Keras takes a None that was said for inference, nothing that the layers are told means the same.
    unsaid = kwargs.pop("training", False) is not None or _outer_training_wins()
    if not (own and unsaid) or any(value is not None for value in keras.tree.flatten(kwargs)):
        return None
    try:
        return functional(node.operation)
    except TypeError:
        return None


def long_names(graph: Any) -> dict[int, str]:
    """What operations of a graph and of models nested in it go by, where a name occurs twice."""
    found: dict[str, dict[int, list[str]]] = {}

    def note(graph: Any, owners: list[str]) -> None:
        for node in nodes(graph):
            inner = _opened(node)
            if inner is not None:
                note(inner, [*owners, node.operation.name])
            elif not node.is_input:
                found.setdefault(node.operation.name, {}).setdefault(id(node.operation), owners)

    note(graph, [])
    taken = set(found)
    names = {}
    for name, owners_of in found.items():
        for operation, owners in owners_of.items() if len(owners_of) > 1 else ():
            if owners:
                long = "_".join([*owners, name])
                while long in taken:
                    long += "_"
                taken.add(long)
                names[operation] = long
    return names


def replay(
    graph: Any,
    tensors: list[Any],
    *,
    quick: bool = False,
    names: dict[int, str] | None = None,
    training: bool | None = None,
    stand_ins: dict[int, Any] | None = None,
) -> list[Any]:
    """Call a graph's layers again, in order, on other tensors; nested models are opened.

    With `quick`, 1x1 convolutions are computed as matrix products. `names` are other names for operations, by
    id. `training` is what a nested model was called with.
    """
    known = {id(old): new for old, new in zip(graph.inputs, tensors, strict=True)}
    stand_ins = {} if stand_ins is None else stand_ins
    names = names or {}
    for node in nodes(graph):
        if node.is_input:
            continue
        args, kwargs = node.arguments.fill_in(known)
        operation = node.operation
        unsaid = "training" not in kwargs or _outer_training_wins()
        if training is not None and unsaid and _takes_training(operation):
            kwargs["training"] = training
        inner = _opened(node)
        if inner is not None:
            given = _in_order(inner, args[0])
            options: dict[str, Any] = {"quick": quick, "names": names, "stand_ins": stand_ins}
            outputs = replay(inner, given, training=kwargs.get("training"), **options)
        else:
            if quick and is_pointwise(operation):
                operation = stand_ins.setdefault(id(operation), Pointwise(operation))
            elif id(operation) in names:
                renamed = StandIn(operation, name=names[id(operation)])
                operation = stand_ins.setdefault(id(operation), renamed)
            outputs = keras.tree.flatten(operation(*args, **kwargs))
        known.update((id(old), new) for old, new in zip(node.outputs, outputs, strict=True))
    return [known[id(output)] for output in graph.outputs]


def _in_order(graph: Any, given: Any) -> list[Any]:
    """The tensors that a nested model was given, in the order of its inputs; a dictionary goes by name."""
    if isinstance(given, dict) and not isinstance(graph.input, dict):
        return [given[tensor.name] for tensor in graph.inputs]
    return list(keras.tree.flatten(given))


def _takes_training(operation: Any) -> bool:
    return isinstance(operation, keras.Layer) and "training" in inspect.signature(operation.call).parameters


@functools.cache
def _outer_training_wins() -> bool:
    """Whether what a model is called with, by ``fit`` or as a nested one, overrides what a layer inside was.

    Up to Keras 3.15 it does. On its main branch (pull request 23364) it does not, and there a layer that was
    called with ``training=None`` is never in training.
    """
    inputs = keras.Input((64,))
    inner = keras.Model(inputs, keras.layers.Dropout(0.5, seed=0)(inputs, training=False))
    return bool((keras.ops.convert_to_numpy(inner(np.ones((1, 64)), training=True)) == 0).any())


def alone(tensors: list[Any]) -> Any:
    """A single tensor as such: Keras warns of arrays where a model was made from a list."""
    return tensors[0] if len(tensors) == 1 else tensors


def formed(like: Any, tensors: list[Any]) -> Any:
    """Tensors in the form that a model takes or gives them: one, a list, a dictionary."""
    if len(tensors) == 1 and not isinstance(like, dict):
        return tensors[0]
    return keras.tree.pack_sequence_as(like, tensors)


def fits(want: tuple[int | None, ...], got: tuple[int, ...]) -> bool:
    """Whether a shape is as announced; where None was, any size is."""
    return len(want) == len(got) and all(size in (None, found) for size, found in zip(want, got, strict=True))


def cuts(graph: Any) -> dict[str, Any]:
    """Each layer after which a single tensor carries all that the rest needs, with that tensor."""
    order = nodes(graph)
    ends = {id(tensor) for tensor in graph.outputs}
    last_use = dict.fromkeys(ends, len(order))
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
        # An input that nothing reads stands last.
        pending_inputs = any(
            other.is_input and id(other.outputs[0]) in last_use for other in order[position + 1 :]
        )
        if node.is_input or pending_inputs or calls[node.operation.name] > 1 or len(node.outputs) != 1:
            continue
        (tensor,) = node.outputs
        # A mask would cross the cut beside its tensor, be it to reach the loss alone.
        if alive == {id(tensor)} and id(tensor) not in ends and not hasattr(tensor, "_keras_mask"):
            found[node.operation.name] = tensor
    return found


def ends(graph: Any) -> dict[str, Any]:
    """The layers whose single output is one of the graph's own, with that tensor."""
    outputs = {id(tensor) for tensor in graph.outputs}
    made = [(node.operation.name, node.outputs) for node in nodes(graph)]
    return {name: tensors[0] for name, tensors in made if len(tensors) == 1 and id(tensors[0]) in outputs}


def signature(model: keras.Model) -> str:
    """What a network computes, apart from its weights and names, which Keras numbers anew in each process.

    It says as much as configurations say. Raises ValueError where a layer has none.
    """
    whole = flat(model)
    order = nodes(whole)
    made_by = {id(tensor): position for position, node in enumerate(order) for tensor in node.outputs}

    def described(value: Any) -> str:
        return f"tensor {made_by[id(value)]}" if isinstance(value, keras.KerasTensor) else _in_full(value)

    lines = [str([made_by[id(tensor)] for tensor in tensors]) for tensors in (whole.inputs, whole.outputs)]
    for node in order:
        operation = node.operation
        try:
            config = operation.get_config()
        except Exception as error:  # Keras' own, or one out of a get_config that is broken
            raise ValueError(
                f"prefix: expected layers that say how they were made, got {operation.name!r}, whose "
                f"get_config does not. Give {type(operation).__name__} a get_config that names its arguments."
            ) from error
        kept = {key: value for key, value in config.items() if key not in ("name", "trainable")}
        # A lookup layer's table is neither in its configuration nor among its weights.
        inside = walk(operation) if isinstance(operation, keras.Layer) else []
        tables = [each.get_vocabulary() for each in inside if hasattr(each, "get_vocabulary")]
        # Constants of an operation such as x * 2 are in the call and not in the configuration.
        call = keras.tree.map_structure(described, (node.arguments.args, node.arguments.kwargs))
        lines.append(f"{type(operation).__name__} {_in_full(kept)} {tables} {call}")
    return "\n".join(lines)


def _in_full(value: Any) -> str:
    """A setting as text, arrays by all their numbers."""
    if isinstance(value, dict):
        return str({str(key): _in_full(each) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return str([_in_full(each) for each in value])
    return cache.content_key(np.asarray(value)) if hasattr(value, "__array__") else repr(value)


def original(operation: Any) -> Any:
    """The layer that a stand-in stands for; any other operation as it is."""
    return operation.layer if isinstance(operation, StandIn) else operation


def draws(layer: keras.Layer) -> bool:
    """Whether a layer keeps a generator of random numbers. An LSTM does, also where it drops nothing."""
    return any(
        part.startswith("seed_generator") for variable in layer.variables for part in variable.path.split("/")
    )


_layers = keras.layers
_PLAIN = frozenset({
    _layers.InputLayer, _layers.Rescaling, _layers.Resizing, _layers.Reshape, _layers.Flatten,
    _layers.Identity, _layers.Conv2D, _layers.DepthwiseConv2D, _layers.Dense, _layers.BatchNormalization,
    _layers.LayerNormalization, _layers.Activation, _layers.ReLU, _layers.Dropout, _layers.Add,
    _layers.Multiply, _layers.Concatenate, _layers.ZeroPadding2D, _layers.Cropping2D, _layers.MaxPooling2D,
    _layers.AveragePooling2D, _layers.GlobalAveragePooling2D, _layers.GlobalMaxPooling2D,
})  # fmt: skip
"""Layers that treat each example by itself, as their weights and configuration say."""


def unusual(graph: Any) -> bool:
    """Whether more can happen in a graph than its layers' weights and configurations say.

    If not, each example goes through it by itself, and what it computes has one name. If so, it must be tried
    out on a few examples.
    """
    return not all(map(_says_all, nodes(graph)))


@functools.cache
def _defaults(call: Any) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(call).parameters.items()}


def _says_all(node: Any) -> bool:
    operation = node.operation
    if type(operation) not in _PLAIN or "call" in vars(operation):
        return False
    # training=False, where that is not what the layer does by itself
    usual = _defaults(type(operation).call)
    said = node.arguments.kwargs.items()
    told = any(isinstance(value, bool) and value is not usual.get(name) for name, value in said)
    # A function of one's own is in the configuration by its name.
    activation = getattr(operation, "activation", None)
    own = activation is not None and not getattr(activation, "__module__", "").startswith("keras.")
    # Along the first axis, examples are joined or normalised together.
    rank = len(node.outputs[0].shape)
    across = any(axis % rank == 0 for axis in np.ravel(getattr(operation, "axis", -1)))
    return not (told or own or across) and getattr(operation, "activity_regularizer", None) is None


def feed_arrays_plainly() -> None:
    """From now on Keras feeds arrays to TensorFlow without tf.data's autotuning; no number changes.

    There is nothing to tune where arrays in memory are cut into batches. The search for settings takes
    processor time from the training, and `fit` waits for it to end after the last epoch, seconds at times
    (``benchmarks``: ``array_feed``).
    """
    if _backend.NAME != "tensorflow":
        return
    try:
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
    except ImportError:  # a later Keras, with another way: a reader's chapter then takes longer, and is right
        return
    feed = ArrayDataAdapter.get_tf_dataset
    if hasattr(feed, "__wrapped__"):  # done before
        return

    @functools.wraps(feed)
    def plainly(adapter: Any) -> Any:
        return _backend.untuned(feed(adapter))

    ArrayDataAdapter.get_tf_dataset = plainly
