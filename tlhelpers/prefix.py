"""Compute the frozen part of a network once.

Frozen layers without randomness give the same activations in every epoch. So cut the network where
the frozen part ends, run that part once over the images, and train the rest on what came out. Three
lines do it, and `fit` stays Keras' own::

    prefix, suffix = tl.split(model, at="pool")
    features = tl.precompute(prefix, train.images)
    suffix.fit(features, train.labels, epochs=10)

Prefix and suffix share the model's layers: after `fit`, `model` itself is trained.
"""

import difflib
import importlib
import warnings
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from . import cache
from ._forward import engine, forward
from ._parts import build
from ._pointwise import Pointwise, is_pointwise
from .freezing import leaves

__all__ = ["cut_points", "precompute", "split"]

# What one part of a file holds at most: what is lost to a kill.
PART_IMAGES = 1024
PART_BYTES = 1 << 24


def _functional(model: Any) -> Any:
    """The Functional graph of a model; a Sequential keeps one inside."""
    if isinstance(model, keras.Sequential) and model.built:
        model = model._functional
    if not hasattr(model, "_nodes_by_depth"):
        raise TypeError(
            f"model: expected a Functional or built Sequential Keras model, got {type(model).__name__}. "
            "A subclassed model has no graph to cut; rebuild it with keras.Model(inputs, outputs)."
        )
    return model


def _replay(graph: Any, tensors: list[Any], *, quick: bool = False) -> list[Any]:
    """Call a graph's layers again, in order, on other tensors; nested models are opened.

    With `quick`, 1x1 convolutions are computed as matrix products.
    """
    known = {id(old): new for old, new in zip(graph.inputs, tensors, strict=True)}
    stand_ins: dict[int, keras.Layer] = {}
    for node in _nodes(graph):
        if node.is_input:
            continue
        args, kwargs = node.arguments.fill_in(known)
        operation = node.operation
        if quick and is_pointwise(operation):
            operation = stand_ins.setdefault(id(operation), Pointwise(operation))
        if isinstance(operation, keras.Model):
            outputs = _replay(_functional(operation), keras.tree.flatten(args))
        else:
            outputs = keras.tree.flatten(operation(*args, **kwargs))
        known.update((id(old), new) for old, new in zip(node.outputs, outputs, strict=True))
    return [known[id(output)] for output in graph.outputs]


def _nodes(graph: Any) -> list[Any]:
    """The calls of a graph, each after those it needs."""
    return [
        node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in graph._nodes_by_depth[depth]
    ]


def _flat(model: keras.Model) -> Any:
    """The same network with nested models opened; every layer is shared with `model`."""
    graph = _functional(model)
    inputs = [keras.Input(batch_shape=old.shape, dtype=old.dtype, name=old.name) for old in graph.inputs]
    return keras.Model(_alone(inputs), _replay(graph, inputs))


def _alone(tensors: list[Any]) -> Any:
    """A single tensor as such: Keras warns of arrays where a model was made from a list."""
    return tensors[0] if len(tensors) == 1 else tensors


def _cuts(flat: Any) -> dict[str, Any]:
    """Each layer after which a single tensor carries all that the rest needs, with that tensor."""
    nodes = _nodes(flat)
    last_use = {id(tensor): len(nodes) for tensor in flat.outputs}
    for position, node in enumerate(nodes):
        for tensor in node.input_tensors:
            last_use[id(tensor)] = max(position, last_use.get(id(tensor), 0))
    calls: dict[str, int] = {}
    for node in nodes:
        calls[node.operation.name] = calls.get(node.operation.name, 0) + 1
    cuts: dict[str, Any] = {}
    alive: set[int] = set()
    for position, node in enumerate(nodes):
        alive = {tensor for tensor in alive if last_use[tensor] > position}
        alive |= {id(tensor) for tensor in node.outputs if id(tensor) in last_use}
        pending_inputs = any(other.is_input for other in nodes[position + 1 :])
        inside = not node.is_input and position < len(nodes) - 1 and not pending_inputs
        if (
            inside
            and len(node.outputs) == 1
            and alive == {id(node.outputs[0])}
            and calls[node.operation.name] == 1
        ):
            cuts[node.operation.name] = node.outputs[0]
    return cuts


def cut_points(model: keras.Model) -> list[str]:
    """The layers a model can be cut after, in order.

    A cut point is a layer whose single output is all that the later layers need. Inside a residual
    block there is none, since the shortcut carries a second tensor past it.

    Parameters
    ----------
    model
        A Functional or built Sequential Keras model; nested models are opened.

    Returns
    -------
    list of str
        Layer names. The last layer is left out: nothing would remain after it.

    Raises
    ------
    TypeError
        If the model has no graph (a subclassed model).

    Notes
    -----
    Explained in the chapter "Train the head".

    Examples
    --------
    >>> import keras, tlhelpers as tl
    >>> inputs = keras.Input((4,))
    >>> a = keras.layers.Dense(4, name="a")(inputs)
    >>> b = keras.layers.Dense(4, name="b")(a)
    >>> model = keras.Model(inputs, keras.layers.Dense(1, name="c")(keras.layers.Add(name="add")([a, b])))
    >>> tl.cut_points(model)
    ['a', 'add']
    """
    return list(_cuts(_flat(model)))


def split(model: keras.Model, at: str) -> tuple[keras.Model, keras.Model]:
    """Cut a model after a layer into prefix and suffix that share its layers.

    Parameters
    ----------
    model
        A Functional or built Sequential Keras model; nested models are opened, so `at` may name a
        layer of a backbone inside a classifier.
    at
        The last layer of the prefix: one of `cut_points(model)`.

    Returns
    -------
    prefix, suffix : keras.Model
        ``suffix(prefix(x))`` is ``model(x)``. Training the suffix trains `model`. In the suffix each
        1x1 convolution is computed as a matrix product, with the same weights and name: on a CPU a
        training step with a small batch (32) takes a fraction of the time.

    Raises
    ------
    ValueError
        If there is no such layer, or the network can't be cut there at a single tensor; the message
        names the cut points around it.
    TypeError
        If the model has no graph (a subclassed model).

    Warns
    -----
    UserWarning
        If nothing after the cut trains.

    Notes
    -----
    Explained in the chapter "Train the head".

    Examples
    --------
    >>> import keras, tlhelpers as tl
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    ... )
    >>> prefix, suffix = tl.split(model, at="a")
    >>> prefix.output_shape, suffix.input_shape
    ((None, 3), (None, 3))
    >>> suffix.layers[-1] is model.layers[-1]
    True
    """
    flat = _flat(model)
    cuts = _cuts(flat)
    if at not in cuts:
        raise ValueError(_no_cut(at, [layer.name for layer in flat.layers], list(cuts)))
    prefix = keras.Model(_alone(flat.inputs), cuts[at], name="prefix")
    rest = keras.Model(cuts[at], _alone(flat.outputs))
    inputs = keras.Input(batch_shape=cuts[at].shape, dtype=cuts[at].dtype, name="activations")
    suffix = keras.Model(inputs, _alone(_replay(rest, [inputs], quick=True)), name="suffix")
    if suffix.weights and not suffix.trainable_weights:
        warnings.warn(
            f"split: expected something after {at!r} that trains, got frozen layers only, so `fit` would "
            "change nothing. Unfreeze what is to be trained with tl.freeze(model, train_from=...). For the "
            "activations alone, the prefix is all you need.",
            stacklevel=2,
        )
    return prefix, suffix


def _no_cut(at: str, names: list[str], cuts: list[str]) -> str:
    if at not in names:
        near = difflib.get_close_matches(at, cuts, n=3, cutoff=0.3) or cuts[:3]
        return (
            f"at: expected a layer to cut after, got {at!r}, which is no layer here. "
            f"Nearest: {', '.join(near)}."
        )
    position = names.index(at)
    before = [name for name in cuts if names.index(name) < position][-1:]
    after = [name for name in cuts if names.index(name) > position][:1]
    return (
        f"at: expected a layer whose single output is all that the rest needs, got {at!r}, which has a "
        f"shortcut around it or nothing after it. Cut at {' or '.join(before + after)} instead."
    )


def signature(model: keras.Model) -> str:
    """What a network computes, apart from its weights and names, which Keras numbers anew in each process."""
    nodes = _nodes(_flat(model))
    made_by = {id(tensor): position for position, node in enumerate(nodes) for tensor in node.outputs}

    def described(value: Any) -> str:
        if isinstance(value, keras.KerasTensor):
            return f"tensor {made_by[id(value)]}"
        return cache.content_key(np.asarray(value)) if hasattr(value, "__array__") else repr(value)

    lines = []
    for node in nodes:
        config = {
            key: value
            for key, value in node.operation.get_config().items()
            if key not in ("name", "trainable")
        }
        # Constants of an operation such as x * 2 are in the call and not in the configuration.
        call = keras.tree.map_structure(described, (node.arguments.args, node.arguments.kwargs))
        lines.append(f"{type(node.operation).__name__} {config} {call}")
    return "\n".join(lines)


def _draws(layer: keras.Layer) -> bool:
    """Whether a layer keeps a generator of random numbers."""
    return any(
        part.startswith("seed_generator") for variable in layer.variables for part in variable.path.split("/")
    )


def _check_frozen(prefix: keras.Model) -> None:
    layers = leaves(prefix)
    # A BatchNorm without scale and offset has no trainable weight, yet `fit` would move its statistics.
    trains = [
        layer.name
        for layer in layers
        if layer.trainable_weights or (layer.trainable and isinstance(layer, keras.layers.BatchNormalization))
    ]
    if trains:
        raise ValueError(
            f"prefix: expected frozen layers only, got {len(trains)} that train, {trains[0]!r} first. "
            "What is computed once can't be trained: freeze them with tl.freeze(...) or cut before them."
        )
    rate_zero = [layer for layer in layers if getattr(layer, "rate", None) == 0]
    chancy = [layer.name for layer in layers if layer not in rate_zero and _draws(layer)]
    if chancy:
        raise ValueError(
            f"prefix: expected layers that give the same output each time, got {chancy[0]!r}, which draws "
            "random numbers in training. Computed once it would draw them once. Cut before it, or switch it "
            "off where it can be (a Dropout: layer.rate = 0)."
        )


def precompute(
    prefix: keras.Model,
    images: npt.NDArray[Any],
    *,
    batch_size: int = 64,
    dtype: Literal["float32", "float16"] = "float32",
) -> npt.NDArray[np.floating[Any]]:
    """Run a frozen prefix over all images once and keep the activations on disk.

    The file lies in the cache folder under a name made from its content: weights, layers, images,
    precision, batch size, versions and this library's source. The same call again reads it back,
    after comparing its bytes with the digests written beside it: what was damaged is computed again,
    with a warning. After Ctrl-C or a kill the next call goes on from the last whole part and ends in
    the same bytes; a second process that wants the same file waits.

    From 4,096 images on, LiteRT does the pass where it is installed (package ai-edge-litert), can
    take the prefix and agrees with Keras on a sample of these images; if not, Keras does, and a
    warning says why. The two differ by rounding: less than 1/1000 of the largest activation.

    Parameters
    ----------
    prefix
        The frozen part, from `split` (or any Keras model with one input and one output). Nothing in
        it may train or draw random numbers.
    images
        What the prefix takes, (n, ...), any numeric dtype.
    batch_size
        Images in one pass; changes speed and memory, and results in the last bits only.
    dtype
        Precision on disk. float16 halves the file. Its rounding error is at most 2**-11 of an
        activation, or 2**-25 where that is larger.

    Returns
    -------
    numpy.memmap
        Read-only activations, ``(n, *prefix.output_shape[1:])``. Keras' `fit` on TensorFlow reads
        float32 ones from the map, without a copy in memory.

    Raises
    ------
    ValueError
        If a layer of the prefix trains or is random, if `images` is empty or has another shape than
        the prefix takes, or if an activation is not finite in `dtype`.
    tlhelpers.cache.CacheError
        If the cache folder can't be written or the disk is full; nothing half-written stays.

    Notes
    -----
    Explained in the chapter "Train the head".

    Examples
    --------
    >>> import keras, numpy as np, tlhelpers as tl
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    ... )
    >>> tl.freeze(model, train_from="b")
    >>> prefix, suffix = tl.split(model, at="a")
    >>> tl.precompute(prefix, np.ones((5, 4), "float32")).shape
    (5, 3)
    """
    _check_frozen(prefix)
    images = np.asanyarray(images)
    _check_images(prefix, images)
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}.")
    if dtype not in ("float32", "float16"):
        raise ValueError(f'dtype: expected "float32" or "float16", got {dtype!r}.')
    name = cache.content_key(
        keras.version(),
        keras.backend.backend(),
        importlib.import_module(keras.backend.backend()).__version__,
        engine(len(images)),
        cache.library_digest(),
        signature(prefix),
        *[keras.ops.convert_to_numpy(weight) for weight in prefix.weights],
        np.asarray(images),
        dtype,
        batch_size,
    )
    shape = (len(images), *prefix.compute_output_shape((batch_size, *images.shape[1:]))[1:])
    batch_bytes = batch_size * int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    rows = batch_size * max(1, min(PART_IMAGES // batch_size, PART_BYTES // batch_bytes))

    def start(missing: int) -> Callable[[int, int], npt.NDArray[Any]]:
        run = forward(prefix, images)
        bar = tqdm(total=missing, desc="prefix", unit="image", unit_scale=True, leave=False)

        def part(first: int, end: int) -> npt.NDArray[Any]:
            batches = []
            for at in range(first, end, batch_size):
                # What float16 can't hold becomes infinite, and is refused.
                with np.errstate(over="ignore"):
                    batches.append(run(images[at : min(end, at + batch_size)]).astype(dtype))
                if not np.isfinite(batches[-1]).all():
                    raise ValueError(
                        f"activations: expected finite {dtype} numbers, got others in images {at} to "
                        f"{at + len(batches[-1]) - 1}. Check the pixel range and the weights, or use "
                        "dtype='float32'."
                    )
                bar.update(len(batches[-1]))
            if bar.n >= missing:
                bar.close()
            return np.concatenate(batches)

        return part

    with cache.lock(f"features-{name}"):
        return build(cache.cache_folder() / "features" / f"{name}.npy", shape, dtype, rows=rows, start=start)


def _check_images(prefix: keras.Model, images: npt.NDArray[Any]) -> None:
    expected = tuple(prefix.input_shape[1:])
    fits = len(expected) == images.ndim - 1 and all(
        want in (None, got) for want, got in zip(expected, images.shape[1:], strict=True)
    )
    if len(images) == 0 or not fits:
        raise ValueError(
            f"images: expected (n, {', '.join(map(str, expected))}) with n of at least 1, "
            f"got {images.shape}. Give what the prefix takes; raw images if the model begins with its "
            "preparation layers."
        )
    if images.dtype.kind not in "biuf":
        raise ValueError(f"images: expected numbers, got {images.dtype}. Give an array of one numeric type.")
    divides = any(isinstance(x, keras.layers.Rescaling) and x.scale == 1 / 255 for x in leaves(prefix))
    if divides and images.dtype.kind == "f" and 0 < images.max() <= 1:
        raise ValueError(
            f"images: expected raw values from 0 to 255, got at most {images.max():g}, and the prefix "
            "divides by 255. Pass the raw images: scale once, and only once."
        )
