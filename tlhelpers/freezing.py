"""Which layers train, and the proof that the others did not move.

Two facts make this module worth having. ``fit`` moves a BatchNorm layer's statistics although they are no
trainable weights. They stay put in every version of Keras if the layer itself has ``trainable = False``; a
call with ``training=False`` keeps them only in some, and up to 3.15 ``fit`` overrides it (keras-team/keras
issue 20285, pull request 23364). And a change of ``trainable`` reaches a compiled model only at its next
``compile``.
"""

import contextlib
import functools
import itertools
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from . import _graph, _inputs
from ._errors import unknown_name

__all__ = ["FrozenWeightsMoved", "freeze", "parts", "refresh_batch_norm", "unchanged"]


class FrozenWeightsMoved(AssertionError):
    """Weights that were frozen differ from what they were."""


def check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(f"model: expected a keras.Model, got {type(model)}. Give one of Keras 3.")


def leaves(model: keras.Model) -> list[keras.Layer]:
    """Every layer of a model in order, nested models opened; for a plain backbone, ``model.layers``.

    A layer that holds layers, such as a Bidirectional, is one. So is a model without any.
    """
    found: list[keras.Layer] = []
    for layer in model.layers:
        found.extend(leaves(layer) or [layer] if isinstance(layer, keras.Model) else [layer])
    return found


def _position(model: keras.Model, layers: list[keras.Layer], train_from: str | int | None) -> int:
    if train_from is None:
        return len(layers)
    if isinstance(train_from, bool) or not isinstance(train_from, str | int):
        raise TypeError(f"train_from: expected a layer's name or index, or None, got {train_from!r}.")
    if isinstance(train_from, int):
        if not -len(layers) <= train_from < len(layers):
            raise ValueError(
                f"train_from: expected an index into {len(layers)} layers, got {train_from}. "
                "Give an index between 0 and the last layer, or a layer's name."
            )
        return train_from % len(layers)
    named = [each for each in _graph.walk(model)[1:] if each.name == train_from and each not in layers]
    # A nested model begins where its first layer does.
    firsts = [leaves(each)[0] for each in named if isinstance(each, keras.Model) and leaves(each)]
    with contextlib.suppress(TypeError):  # a model without a graph
        long = _graph.long_names(_graph.functional(model))
        firsts += [layer for layer in layers if long.get(id(layer)) == train_from]
    firsts += [layer for layer in layers if layer.name == train_from]
    places = sorted({layers.index(first) for first in firsts if first in layers})
    if not places:
        raise unknown_name("layer", train_from, [layer.name for layer in layers])
    if len(places) > 1:
        raise ValueError(
            f"train_from: expected a name that one layer has, got {train_from!r}, which {len(places)} have. "
            f"Give an index: {' or '.join(map(str, places))}."
        )
    return places[0]


def freeze(
    model: keras.Model,
    *,
    train_from: str | int | None = None,
    batch_norm: Literal["frozen", "train"] = "frozen",
) -> None:
    """Freeze a model's layers, all of them or all before a given one.

    Sets ``trainable`` on each layer, on all layers inside it, and on their weights, and nothing else. A
    weight that is frozen by itself, such as the kernel under LoRA, stays so. A compiled model takes notice
    at its next ``compile``.

    Parameters
    ----------
    model
        The backbone (or any Keras model with ``layers``), changed in place.
    train_from
        The first layer that trains, by its name (as in `tlhelpers.cut_points`), a nested model's name, or its
        index; all after it train, too. Layers are counted as ``model.layers`` lists them, those of nested
        models in their place: where a network has branches, that is one order of several. ``None`` freezes
        everything.
    batch_norm
        What the BatchNorm layers among the trained ones do. ``"frozen"`` keeps their scale, offset and moving
        statistics (the safe choice, and the one to take for few examples); ``"train"`` lets all four move, as
        a plain ``layer.trainable = True`` does.

    Raises
    ------
    LookupError, ValueError, TypeError
        If `train_from` is no layer's name or index or the name of several, or `batch_norm` is neither of the
        two.

    Notes
    -----
    Source: Yosinski et al., *How transferable are features in deep neural networks?*, 2014, for freezing by
    depth; Keras' guide to transfer learning for BatchNorm's double role.
    Explained in the chapters "Build the model" and "Fine-tune the top".

    Examples
    --------
    >>> import keras, tlhelpers as tl
    >>> from keras import layers
    >>> body = [layers.Dense(3), layers.BatchNormalization(name="norm"), layers.Dense(2)]
    >>> model = keras.Sequential([keras.Input((4,)), *body])
    >>> tl.freeze(model, train_from="norm")
    >>> [layer.trainable for layer in model.layers]
    [False, False, True]
    """
    if batch_norm not in ("frozen", "train"):
        raise ValueError(f'batch_norm: expected "frozen" or "train", got {batch_norm!r}.')
    check_model(model)
    layers = leaves(model)
    first = _position(model, layers, train_from)
    every = [(each, _graph.own_weights(each)[0]) for each in _graph.walk(model)]
    trains: dict[int, bool] = {}
    kept = (keras.layers.BatchNormalization,) if batch_norm == "frozen" else ()
    for position, layer in enumerate(layers):
        for each in _graph.walk(layer):
            trains[id(each)] = position >= first and not isinstance(each, kept)
    # Not of what holds the model's layers, which stays open while its own weights are frozen.
    inside = ((each, weights) for each, weights in every if weights and id(each) in trains)
    alone = {id(weight) for each, weights in inside for weight in _frozen_alone(each, weights)}
    for each, weights in every:  # what holds layers comes before them
        # What holds the model's layers stays open, or it would hide their own settings.
        if each.trainable is not (wanted := trains.get(id(each), True)):
            each.trainable = wanted
        if weights and (trained := trains.get(id(each))) is None:
            held = leaves(each) if isinstance(each, keras.Model) else []
            trained = layers.index(held[0] if held else layers[0]) >= first
        # Keras passes a flag on to weights only where it changes the layer's.
        for weight in weights:
            if weight.trainable is not (moves := bool(trained) and id(weight) not in alone):
                weight.trainable = moves


def _frozen_alone(layer: keras.Layer, weights: list[keras.Variable]) -> list[keras.Variable]:
    """Those of a layer's own weights that stay frozen when it trains."""
    low_rank = ("kernel", "embeddings") if getattr(layer, "lora_enabled", False) else ()
    return [w for w in weights if w.name in low_rank or (layer.trainable and not w.trainable)]


@contextlib.contextmanager
def unchanged(model: keras.Model) -> Iterator[None]:
    """Prove that what is frozen stays as it is, to the bit.

    Remembers each weight that does not train on entry, also inside a layer that trains, and the moving
    statistics of each frozen BatchNorm, and compares them on exit.

    Parameters
    ----------
    model
        Any Keras model with ``layers``; nested models are opened.

    Returns
    -------
    contextlib.AbstractContextManager
        For a ``with`` statement around whatever trains.

    Raises
    ------
    FrozenWeightsMoved
        On exit, with the names of the layers that moved.
    ValueError
        If no layer with weights is frozen: there would be nothing to prove.

    Notes
    -----
    Explained in the chapter "Train the head".

    Examples
    --------
    >>> import keras, numpy as np, tlhelpers as tl
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    >>> tl.freeze(model, train_from=1)
    >>> model.compile("sgd", "mse")
    >>> with tl.unchanged(model):
    ...     history = model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
    """
    check_model(model)
    every = ((layer, _frozen(layer, model)) for layer in _graph.walk(model))
    frozen = [(layer, weights) for layer, weights in every if weights]
    if not frozen:
        raise ValueError(
            "model: expected at least one frozen layer that has weights, got none. Call tl.freeze(...) first."
        )

    def copies() -> list[list[npt.NDArray[Any]]]:
        return [[keras.ops.convert_to_numpy(each).copy() for each in weights] for _, weights in frozen]

    before = copies()
    yield
    same = functools.partial(np.array_equal, equal_nan=True)
    # Quantization puts another weight in the place of one, and leaves that as it was.
    there = {id(each) for layer in _graph.walk(model) for kind in _graph.own_weights(layer) for each in kind}
    moved = [
        layer.name
        for (layer, weights), old, new in zip(frozen, before, copies(), strict=True)
        if not (all(map(same, old, new)) and there.issuperset(map(id, weights)))
    ]
    if moved:
        raise FrozenWeightsMoved(
            f"expected {len(frozen)} frozen layers to keep their weights, got changes in {len(moved)}: "
            f"{', '.join(moved[:5])}{', ...' if len(moved) > 5 else ''}. "
            "Was the model compiled after it was frozen, and did nothing set trainable back to True?"
        )


def _frozen(layer: keras.Layer, model: keras.Model) -> list[keras.Variable]:
    """A layer's own weights that ``fit`` of the model is to leave as they are."""
    weights, averages = _graph.own_weights(layer)
    still = [weight for weight in weights if not (weight.trainable and model.trainable)]
    return still if layer.trainable else [*still, *averages]


def refresh_batch_norm(model: keras.Model, inputs: npt.NDArray[Any], *, batch_size: int = 256) -> None:
    """Measure BatchNorm's statistics again, with the weights as they are now.

    While weights change quickly, BatchNorm's moving averages lag behind them, and the model does badly
    outside training although its weights are good. This replaces the averages by the plain mean over the
    batches of `inputs`; no weight is trained. Frozen BatchNorm layers keep theirs.

    Parameters
    ----------
    model
        A Keras model, changed in place.
    inputs
        Training inputs as the model takes them, (n, ...), or a list or dictionary of them; some thousands are
        enough. They should be in random order, since each batch stands for the whole.
    batch_size
        Inputs in a batch. Those at the end that fill no whole batch are left out.

    Raises
    ------
    TypeError, ValueError
        If `inputs` are no arrays, there are fewer than `batch_size`, no BatchNorm layer is trainable, or one
        was called with ``training=False`` as the model was made and Keras heeds that.

    Notes
    -----
    Dropout and other layers that act in training act here too.
    Source: Wu and Johnson, *Rethinking "Batch" in BatchNorm*, 2021, section 3 ("PreciseBN").
    Explained in the chapter "Fine-tune the top".

    Examples
    --------
    >>> import keras, numpy as np, tlhelpers as tl
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization()])
    >>> tl.refresh_batch_norm(model, np.full((8, 1), 5.0), batch_size=4)
    >>> model.layers[0].moving_mean.numpy()
    array([5.], dtype=float32)
    """
    check_model(model)
    norms = [layer for layer in _graph.walk(model) if isinstance(layer, keras.layers.BatchNormalization)]
    layers = [layer for layer in norms if layer.trainable]
    if not layers:
        raise ValueError("model: expected a trainable BatchNorm layer, got none. Frozen ones do not lag.")
    batch_size = _inputs.whole("batch_size", batch_size, 1)
    arrays = keras.tree.flatten(inputs)
    if len({getattr(each, "shape", ())[:1] or None for each in arrays} | {None}) != 2:
        raise TypeError(
            "inputs: expected arrays (n, ...) as the model takes them, of one length, got "
            f"{type(inputs).__name__}. Of a data set, give np.concatenate([x for x, y in batches])."
        )
    batches = len(arrays[0]) // batch_size
    if batches == 0:
        raise ValueError(
            f"inputs: expected at least batch_size={batch_size}, got {len(arrays[0])}. Give more."
        )
    with contextlib.ExitStack() as undo:
        for layer in layers:
            undo.callback(setattr, layer, "momentum", layer.momentum)
            own = vars(layer).get("call")
            undo.callback(setattr, layer, "call", own) if own else undo.callback(delattr, layer, "call")
            layer.call = _averaging(layer)
        for number in range(batches):
            rows = slice(number * batch_size, (number + 1) * batch_size)
            model(keras.tree.map_structure(operator.itemgetter(rows), inputs), training=True)


def _averaging(layer: keras.layers.BatchNormalization) -> Callable[..., Any]:
    """Its ``call``, with the momentum that makes the moving average the mean over all calls so far."""
    plain, calls = layer.call, itertools.count()

    def call(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("training"):
            raise ValueError(
                f"model: expected BatchNorm layers that can be in training, got {layer.name!r}, which was "
                "called with training=False as the model was made. Make it without, or freeze the layer."
            )
        number = next(calls)
        layer.momentum = number / (number + 1)
        return plain(*args, **kwargs)

    return call


# MobileNetV2 names its layers block_<number>_<what>; the first block and both ends have names of their own.
_MOBILENET_PARTS = {
    r"(Conv1|bn_Conv1|Conv1_relu)$": "stem",
    r"expanded_conv_": "block 0",
    r"block_(\d+)_": r"block \1",
    r"(Conv_1|Conv_1_bn|out_relu)$": "last convolution",
}


def _part(layer: keras.Layer, owner: str | None) -> str:
    for pattern, part in _MOBILENET_PARTS.items():
        if match := re.match(pattern, layer.name):
            return match.expand(part)
    return owner or str(layer.name)


def _count(weights: list[keras.Variable]) -> int:
    return int(sum(np.prod(weight.shape) for weight in weights))


def parts(model: keras.Model) -> pd.DataFrame:
    """A model part by part: how many layers, how many parameters, how many of them train.

    MobileNetV2's layers are put together by block; another nested model counts as one part; any other layer
    is a part of its own. Input layers are left out.

    Parameters
    ----------
    model
        Any Keras model with ``layers``.

    Returns
    -------
    pandas.DataFrame
        One row a part, in order: ``part`` (str), ``layers``, ``parameters`` and ``trainable`` (numbers of
        layers, of all parameters, and of those that ``fit`` changes by gradient; int64).

    Raises
    ------
    ValueError
        If the model has no weights yet.

    Notes
    -----
    Explained in the chapter "Build the model".

    Examples
    --------
    >>> import keras, tlhelpers as tl
    >>> body = [keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    >>> model = keras.Sequential([keras.Input((4,)), *body])
    >>> tl.freeze(model, train_from="b")
    >>> tl.parts(model)
      part  layers  parameters  trainable
    0    a       1          15          0
    1    b       1           8          8
    """
    check_model(model)
    if not model.built:
        raise ValueError(
            f"model: expected one that is built, got {type(model).__name__} {model.name!r}, whose weights "
            "are not made yet. Say what it takes, with a keras.Input first, or call it once."
        )
    owners = [(top, str(top.name) if isinstance(top, keras.Model) else None) for top in model.layers]
    rows = [
        (_part(layer, owner), 1, _count(layer.weights), _count(layer.trainable_weights))
        for top, owner in owners
        for layer in ((leaves(top) or [top]) if owner else [top])
        if not isinstance(layer, keras.layers.InputLayer)
    ]
    table = pd.DataFrame(rows, columns=["part", "layers", "parameters", "trainable"])
    return table.groupby("part", sort=False).sum().reset_index()
