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

from . import cache
from ._forward import engine, forward
from ._graph import alone, cuts, draws, flat, replay, signature
from ._parts import build
from .freezing import leaves

__all__ = ["cut_points", "precompute", "split"]

# What one part of a file holds at most: what is lost to a kill.
PART_IMAGES = 1024
PART_BYTES = 1 << 24


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
    return list(cuts(flat(model)))


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
        If the network can't be cut there at a single tensor; the message names the cut points around it.
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
    >>> layers = [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    >>> model = keras.Sequential(layers)
    >>> prefix, suffix = tl.split(model, at="a")
    >>> prefix.output_shape, suffix.input_shape
    ((None, 3), (None, 3))
    >>> suffix.layers[-1] is model.layers[-1]
    True
    """
    whole = flat(model)
    places = cuts(whole)
    if at not in places:
        raise ValueError(_no_cut(at, [layer.name for layer in whole.layers], list(places)))
    tensor = places[at]
    prefix = keras.Model(alone(whole.inputs), tensor, name="prefix")
    rest = keras.Model(tensor, alone(whole.outputs))
    inputs = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name="activations")
    suffix = keras.Model(inputs, alone(replay(rest, [inputs], quick=True)), name="suffix")
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
    return (
        f"{expected}, got {at!r}, which has a shortcut around it or nothing after it. "
        f"Cut at {' or '.join(before + after)} instead."
    )


def _check_frozen(prefix: keras.Model) -> None:
    layers = leaves(prefix)
    # A BatchNorm without scale and offset has no trainable weight, yet `fit` would move its statistics.
    norm = keras.layers.BatchNormalization
    trains = [x.name for x in layers if x.trainable_weights or (x.trainable and isinstance(x, norm))]
    if trains:
        raise ValueError(
            f"prefix: expected frozen layers only, got {len(trains)} that train, {trains[0]!r} first. "
            "What is computed once can't be trained: freeze them with tl.freeze(...) or cut before them."
        )
    chancy = [layer.name for layer in layers if getattr(layer, "rate", None) != 0 and draws(layer)]
    if chancy:
        raise ValueError(
            f"prefix: expected layers that give the same output each time, got {chancy[0]!r}, which draws "
            "random numbers in training. Computed once it would draw them once. Cut before it, or switch it "
            "off (a Dropout: layer.rate = 0)."
        )


def precompute(
    prefix: keras.Model,
    images: npt.NDArray[Any],
    *,
    batch_size: int = 64,
    dtype: Literal["float32", "float16"] = "float32",
) -> npt.NDArray[np.floating[Any]]:
    """Run a frozen prefix over all images once and keep the activations on disk.

    The file lies in the cache folder under a name made from its content: weights, layers, images, precision,
    batch size, versions and the source of what computes. The same call again reads it back and compares its
    bytes with the digests beside it: what was damaged is computed again, with a warning. After Ctrl-C or a
    kill the next call goes on from the last whole part and ends in the same bytes; a second process that
    wants the same file waits.

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
        If a layer of the prefix trains or is random, if `images` is empty or has another shape than the
        prefix takes, or if an activation is not finite in `dtype`.
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
    _check_frozen(prefix)
    images = np.asanyarray(images)
    _check_images(prefix, images)
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}.")
    if dtype not in ("float32", "float16"):
        raise ValueError(f'dtype: expected "float32" or "float16", got {dtype!r}.')
    backend = keras.backend.backend()
    versions = (keras.version(), backend, importlib.import_module(backend).__version__, engine(len(images)))
    weights = [keras.ops.convert_to_numpy(weight) for weight in prefix.weights]
    name = cache.content_key(
        *versions, cache.code_key(), signature(prefix), *weights, np.asarray(images), dtype, batch_size
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
                        f"{at + len(batches[-1]) - 1}. Check pixel range and weights, or use dtype='float32'."
                    )
                bar.update(len(batches[-1]))
            if bar.n >= missing:
                bar.close()
            return np.concatenate(batches)

        return part

    with cache.lock(f"features-{name}"):
        return build(cache.cache_folder() / "features" / f"{name}.npy", shape, dtype, rows=rows, start=start)


def _check_images(prefix: keras.Model, images: npt.NDArray[Any]) -> None:
    want = prefix.input_shape[1:]
    fits = images.ndim == len(want) + 1 and all(
        size in (None, got) for size, got in zip(want, images.shape[1:], strict=True)
    )
    if len(images) == 0 or not fits:
        raise ValueError(
            f"images: expected (n, {', '.join(map(str, want))}) with n of at least 1, got {images.shape}. "
            "Give what the prefix takes; raw images if the model begins with its preparation layers."
        )
    if images.dtype.kind not in "biuf":
        raise ValueError(f"images: expected numbers, got {images.dtype}. Give an array of one numeric type.")
    divides = any(isinstance(x, keras.layers.Rescaling) and x.scale == 1 / 255 for x in leaves(prefix))
    if divides and images.dtype.kind == "f" and 0 < images.max() <= 1:
        raise ValueError(
            f"images: expected raw values from 0 to 255, got at most {images.max():g}, and the prefix "
            "divides by 255. Pass the raw images: scale once, and only once."
        )
