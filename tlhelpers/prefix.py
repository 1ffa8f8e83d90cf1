"""Compute the frozen part of a network once.

Frozen layers without randomness give the same activations in every epoch. So cut the network where the frozen
part ends, run that part once over the images, and train the rest on what came out::

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

from . import _parts, cache
from ._forward import engine, forward
from ._graph import alone, cuts, draws, flat, formed, own_weights, replay, signature, unusual, walk
from ._trial import by_rows, check_cut, check_predict, not_repeatable, overrides, try_out

__all__ = ["cut_points", "precompute", "split"]

# What one part of a file holds at most: what is lost to a kill.
PART_IMAGES = 1024
PART_BYTES = 1 << 24


def cut_points(model: keras.Model) -> list[str]:
    """The layers a model can be cut after, in order.

    A cut point is a layer whose single output is all that the later layers need. Inside a residual
    block there is none, since the shortcut carries a second tensor past it; nor where a mask would have to
    cross, where the output is one of the model's own, or where it has other rows than the examples.

    Parameters
    ----------
    model
        A Functional or built Sequential Keras model; nested models are opened.

    Returns
    -------
    list of str
        Layer names. The last layer is left out: nothing would remain after it. Where a nested layer's name
        occurs elsewhere, too, it goes by its model's name and its own, as in ``"backbone_predictions"``.

    Raises
    ------
    TypeError
        If the model has no graph: it is a subclassed model, or has a ``call`` of its own.

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
    return list(_places(model)[1])


def split(model: keras.Model, at: str) -> tuple[keras.Model, keras.Model]:
    """Cut a model after a layer into prefix and suffix that share its layers.

    Parameters
    ----------
    model
        A Functional or built Sequential Keras model; nested models are opened.
    at
        The last layer of the prefix: one of `cut_points(model)`, maybe inside a nested backbone.

    Returns
    -------
    prefix, suffix : keras.Model
        ``suffix(prefix(x))`` is ``model(x)``; training the suffix trains `model`. In the suffix each 1x1
        convolution is computed as a matrix product, with the same weights and name: on a CPU a training
        step with a small batch (32) takes a fraction of the time.

    Raises
    ------
    ValueError
        If the network can't be cut there at a single tensor; the message names the cut points around it. Or
        if the two do not give what the model gives, tried out on random examples, in training and outside of
        it, with the losses that layers add.
    TypeError
        If the model has no graph (a subclassed model, or one with a ``call`` of its own), or prepares its
        input in ``predict``, outside of the graph.

    Warns
    -----
    UserWarning
        If nothing after the cut trains, or the model has a ``train_step`` of its own: the suffix has Keras'.

    Notes
    -----
    Explained in the chapter "Train the head".

    Examples
    --------
    >>> import keras, tlhelpers as tl
    >>> layers = [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    >>> model = keras.Sequential(layers)
    >>> prefix, suffix = tl.split(model, at="a")
    >>> prefix.output_shape, suffix.input_shape
    ((None, 3), (None, 3))
    >>> suffix.layers[-1] is model.layers[-1]
    True
    """
    whole, places = _places(model)
    if at not in places:
        raise ValueError(_no_cut(at, [each.name for each in whole.operations], list(places)))
    tensor = places[at]
    prefix = keras.Model(whole.input, tensor, name="prefix")
    rest = keras.Model(tensor, alone(whole.outputs))
    taken = {layer.name for layer in rest.layers}
    name = "activations"
    while name in taken:
        name += "_"
    inputs = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
    outputs = replay(rest, [inputs], quick=True)
    suffix = keras.Model(inputs, formed(whole.output, outputs), name="suffix")
    if unusual(whole):
        check_cut(model, prefix, suffix, at)
    if overrides(model, "train_step"):
        warnings.warn(
            f"split: expected Keras' own train_step, got {type(model).__name__}'s, which the suffix does not "
            "have: its fit takes plain steps. Train the model as a whole, or write the step for the suffix.",
            stacklevel=2,
        )
    if suffix.weights and not suffix.trainable_weights:
        warnings.warn(
            f"split: expected something after {at!r} that trains, got frozen layers only, so `fit` would "
            "change nothing. Unfreeze what is to be trained with tl.freeze(model, train_from=...). For the "
            "activations alone, the prefix is all you need.",
            stacklevel=2,
        )
    return prefix, suffix


def _no_cut(at: str, names: list[str], cuts: list[str]) -> str:
    expected = "at: expected a layer whose single output is all that the rest needs"
    if at not in names:
        near = difflib.get_close_matches(at, cuts, n=3, cutoff=0.3) or cuts[:3]
        return f"{expected}, got {at!r}, which is no layer here. Nearest: {', '.join(near)}."
    position = names.index(at)
    before = [name for name in cuts if names.index(name) < position][-1:]
    after = [name for name in cuts if names.index(name) > position][:1]
    instead = f"Cut at {' or '.join(before + after)} instead." if cuts else "There is no cut point here."
    return (
        f"{expected}, got {at!r}, which has a shortcut or a mask around it, other rows than examples, or "
        f"nothing after it. {instead}"
    )


def _places(model: keras.Model) -> tuple[Any, dict[str, Any]]:
    """The network with nested models opened, and where it can be cut."""
    whole = flat(model)
    check_predict(model)
    places = cuts(whole)
    return whole, by_rows(whole, places) if unusual(whole) else places


def _check_frozen(prefix: keras.Model) -> None:
    def trains(layer: keras.Layer) -> bool:
        weights, _ = own_weights(layer)
        # A BatchNorm without scale and offset has no trainable weight, yet `fit` would move its statistics.
        norm = isinstance(layer, keras.layers.BatchNormalization)
        return bool(layer.trainable) and (norm or any(weight.trainable for weight in weights))

    if found := [layer.name for layer in walk(prefix) if trains(layer)]:
        raise ValueError(
            f"prefix: expected frozen layers only, got {len(found)} that train, {found[0]!r} first. "
            "What is computed once can't be trained: freeze them with tl.freeze(...) or cut before them."
        )
    # A small rate may drop nothing of a few examples, so these are not left to a trial.
    rates = ("rate", "dropout", "recurrent_dropout", "drop_path_rate")
    for layer in walk(prefix):
        if len(walk(layer)) == 1 and draws(layer) and any(getattr(layer, name, 0) for name in rates):
            raise ValueError(not_repeatable(f"{layer.name!r}, which draws random numbers"))


def precompute(
    prefix: keras.Model,
    images: npt.NDArray[Any],
    *,
    batch_size: int = 64,
    dtype: Literal["float32", "float16"] = "float32",
) -> npt.NDArray[np.floating[Any]]:
    """Run a frozen prefix over all images once and keep the activations on disk.

    The file lies in the cache folder under a name made from its content: weights, layers, images, precision,
    batch size, versions and the source of what computes. Layers and functions of one's own, of which Keras
    knows the name alone, count by what the prefix gives for eight of the images: a change that shows on none
    of the eight is not noticed. The same call again reads the file back and compares its bytes with the
    digests beside it: what was damaged is computed again, with a warning. After Ctrl-C or a kill the next
    call goes on from the last whole part and ends in the same bytes; a second process that wants the same
    file waits.

    From 4,096 images on, LiteRT does the pass where it is installed (package ai-edge-litert), can take the
    prefix and agrees with Keras on a sample of these images; if not, Keras does, and a warning says why. The
    two differ by rounding: less than 1/1000 of the largest activation.

    Parameters
    ----------
    prefix
        The frozen part, from `split` (or any Keras model with one input and one output).
    images
        What the prefix takes, (n, ...), any numeric dtype.
    batch_size
        Images in one pass; changes speed and memory, and results in the last bits only.
    dtype
        Precision on disk. float16 rounds by 2**-11 of an activation at most, or 2**-25 if that is more.

    Returns
    -------
    numpy.memmap
        Read-only activations, ``(n, *prefix.output_shape[1:])``. Keras' `fit` on TensorFlow reads float32
        ones from the map, without a copy in memory.

    Raises
    ------
    ValueError
        If a layer of the prefix trains, is random, moves, mixes images, or does not say how it was made; if
        `images` is empty, has another shape than the prefix takes, or a range that its first Rescaling can't
        be for; or if an activation is not finite in `dtype`.
    tlhelpers.cache.CacheError
        If the cache folder can't be written or the disk is full; nothing half-written stays.

    Notes
    -----
    Explained in the chapter "Train the head".

    Examples
    --------
    >>> import keras, numpy as np, tlhelpers as tl
    >>> layers = [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    >>> model = keras.Sequential(layers)
    >>> tl.freeze(model, train_from="b")
    >>> prefix, suffix = tl.split(model, at="a")
    >>> tl.precompute(prefix, np.ones((5, 4), "float32")).shape
    (5, 3)
    """
    whole = flat(prefix)
    check_predict(prefix)
    _check_frozen(prefix)
    images = _checked_images(whole, images)
    _check_range(whole, images)
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}.")
    if dtype not in ("float32", "float16"):
        raise ValueError(f'dtype: expected "float32" or "float16", got {dtype!r}.')
    backend = keras.backend.backend()
    versions = (keras.version(), backend, importlib.import_module(backend).__version__, engine(len(images)))
    weights = [keras.ops.convert_to_numpy(weight) for weight in prefix.weights]
    network = cache.content_key(signature(whole), *weights)
    seen: list[npt.NDArray[Any]] = []
    if unusual(whole) or any(draws(layer) for layer in walk(prefix)):
        seen.append(try_out(prefix, images[:: max(1, len(images) // 8)][:8], network))
    name = cache.content_key(
        *versions, cache.code_key(), network, np.asarray(images), *seen, dtype, batch_size
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
                        f"{at + len(batches[-1]) - 1}. Check that images and weights are finite, and the "
                        f"pixel range{', or use float32' if dtype == 'float16' else ''}."
                    )
                bar.update(len(batches[-1]))
            if bar.n >= missing:
                bar.close()
            return np.concatenate(batches)

        return part

    path = cache.cache_folder() / "features" / f"{name}.npy"
    found = _parts.whole(path, shape, dtype, rows=rows)
    if found is not None:
        return found
    with cache.lock(f"features-{name}"):
        return _parts.build(path, shape, dtype, rows=rows, start=start)


def _checked_images(whole: Any, images: Any) -> npt.NDArray[Any]:
    if len(whole.inputs) != 1 or isinstance(whole.input, dict) or len(whole.outputs) != 1:
        names = ", ".join(tensor.name for tensor in whole.inputs)
        raise ValueError(
            f"prefix: expected one input and one output, got the inputs {names} and {len(whole.outputs)} "
            "outputs. Cut after the layer that joins them, or compute each branch by itself."
        )
    want = whole.inputs[0].shape[1:]
    expected = f"images: expected an array of numbers, (n, {', '.join(map(str, want))}) with n of at least 1"
    advice = "Give what the prefix takes; raw images if the model begins with its preparation layers."
    try:
        array: npt.NDArray[Any] = np.asanyarray(images)
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise ValueError(f"{expected}, got {type(images).__name__} of no one shape. {advice}") from error
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise ValueError(
            f"{expected}, got {type(images).__name__} of {array.dtype}. Give an array of one numeric type; "
            "of a data set, np.concatenate(list(batches))."
        )
    pairs = zip(want, array.shape[1:], strict=False)
    if array.ndim != len(want) + 1 or not len(array) or any(size not in (None, got) for size, got in pairs):
        raise ValueError(f"{expected}, got {array.shape}. {advice}")
    return array


def _check_range(whole: Any, images: npt.NDArray[Any]) -> None:
    """Refuse what the first Rescaling can't be for: values scaled before, or of more than eight bits."""
    before = (keras.layers.InputLayer, keras.layers.Reshape, keras.layers.Resizing)
    first = next((each for each in whole.layers if not isinstance(each, before)), None)
    if not isinstance(first, keras.layers.Rescaling) or images.dtype in (bool, np.uint8):
        return
    scale, top = float(np.max(first.scale)), float(images.max())
    # 1/255 and 1/127.5 make raw pixels 1 and 2 at most.
    scaled_before = images.dtype.kind == "f" and 0 < top <= 1
    if scale < 1 / 50 and (scaled_before or top * scale > 3):
        raise ValueError(
            f"images: expected raw values from 0 to 255, got at most {top:g}, and the prefix multiplies by "
            f"{scale:.4g}. Pass the raw images, of eight bits: scale once, and only once."
        )
