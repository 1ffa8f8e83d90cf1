"""Compute the frozen part of a network once, over any source of examples, and keep what came out."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from itertools import chain, islice
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from . import _backend, _inputs, _parts, _sources, cache
from ._forward import computed, engine
from ._graph import alone, draws, ends, flat, formed, own_weights, signature, unusual, walk
from ._trial import check_predict, not_repeatable, try_out
from .prefix import no_cut, places

__all__ = ["precompute"]

# What one part of a file holds at most: what is lost to a kill.
PART_IMAGES = 1024
PART_BYTES = 1 << 24

Array = npt.NDArray[Any]


def precompute(
    prefix: keras.Model,
    source: Any,
    *,
    at: Sequence[str] | None = None,
    part: tuple[int, int] | None = None,
    batch_size: int = 64,
    dtype: Literal["float32", "float16"] = "float32",
    executor: Executor | None = None,
) -> Any:
    """Run a frozen prefix over all examples once and keep the activations on disk.

    They lie in the cache folder, in a folder whose name says what computes (weights, layers, precision, batch
    size, versions, the source of this package) and under a name that says what was given. The same call again
    reads them back and compares their bytes with the digests beside them: what was damaged is computed again,
    with a warning. After Ctrl-C or a kill the next call goes on from the last whole part and ends in the same
    bytes; a second process that wants the same file waits. An example that any array of this network holds is
    not computed again: append some, or take some away, and only what is new costs time.

    Layers and functions of one's own, of which Keras knows the name alone, count by what the prefix gives for
    eight of the examples: a change that shows on none of the eight is not noticed.

    From 4,096 examples on, LiteRT does the pass where it is installed (package ai-edge-litert), can take the
    prefix and agrees with Keras on a sample; if not, Keras does, and a warning says why. The two differ by
    rounding: less than 1/1000 of the largest activation.

    Parameters
    ----------
    prefix
        The frozen part, from `split`, or any Keras model. With `at`, only what lies before the last of these
        cut points must be frozen.
    source
        What Keras' ``predict`` takes, any numeric dtype: an array (n, ...), or for several inputs a list or
        dictionary of them; a ``tf.data.Dataset``, ``keras.utils.PyDataset``, data loader or generator of
        batches, with labels and weights or without. Or the name of a folder of images, which
        ``keras.utils.image_dataset_from_directory`` reads in the order of their names, resized to what the
        prefix takes; folders in it are classes. A source is read once: a shuffled one keeps its labels, and
        gets a file for each order.
    at
        Cut points (`cut_points(prefix)`) or the last layer: the activations at each of them, from one pass.
    part
        ``(i, n)``: every n-th batch only, from the i-th on (0 to n - 1). So n processes share the work, or n
        machines, whose files are copied into one cache folder; the call without `part` then finds all of it.
    batch_size
        Examples in one pass; changes speed and memory, and results in the last bits only.
    dtype
        Precision on disk. float16 rounds by 2**-11 of an activation at most, or 2**-25 if that is more.
    executor
        Who computes, one core a worker: any executor of ``concurrent.futures``' kind (the standard library's,
        loky's, Dask's ``client.get_executor()``, MPI's). The workers need this package and ai-edge-litert in
        the same versions, no Keras and no common folder: they get the prefix as LiteRT's bytes and some
        examples, and return activations. This process reads the examples and keeps the files. For a
        ProcessPoolExecutor give ``mp_context=multiprocessing.get_context("spawn")``: a process that is forked
        from one that runs TensorFlow may hang. The bytes are the same for any number of workers whose
        processors are alike, and as without `executor` from 4,096 examples on; other processors may round
        the last bits in another way. At most 256 MB of examples are under way, in parts of up to 1,024: for
        more workers than that feeds let several processes call, each with a `part`.

    Returns
    -------
    numpy.memmap
        Read-only activations, ``(n, *prefix.output_shape[1:])``. Keras' `fit` on TensorFlow reads float32
        ones from the map, without a copy in memory. With `at`, a dictionary of such maps by name; of a prefix
        with several outputs, as many in its structure.
        Where the source gives labels, a tuple of the activations and of them, in the same order (of a folder:
        the class' position among the names of the folders, int32); and of the weights, if there are any.

    Raises
    ------
    ValueError
        If a layer of the prefix trains, is random, moves, mixes examples, or does not say how it was made; if
        the source is empty, has no end, batches that are not alike, another shape than the prefix takes, or a
        range that its first Rescaling can't be for; or if an activation is not finite in `dtype`; if
        `executor` is none, or LiteRT can't run the prefix.
    concurrent.futures.BrokenExecutor
        If a worker dies, refuses, has other versions, or gives rows of another shape or whose first is wrong.
        What was finished stays: the same call with an executor that works goes on from there.
    tlhelpers.cache.CacheError
        If the cache folder can't be written or the disk is full; nothing half-written stays.

    Warns
    -----
    UserWarning
        If a folder holds files that Keras does not read as images; they are left out.

    Notes
    -----
    Explained in the chapters "Train the head" and "Go beyond one machine".

    Examples
    --------
    >>> import keras, numpy as np, tlhelpers as tl
    >>> layers = [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    >>> model = keras.Sequential(layers)
    >>> tl.freeze(model, train_from="b")
    >>> prefix, suffix = tl.split(model, at="a")
    >>> tl.precompute(prefix, np.ones((5, 4), "float32")).shape
    (5, 3)

    With labels, batch by batch:

    >>> batches = ((np.full((2, 4), number), np.full(2, number)) for number in range(3))
    >>> features, labels = tl.precompute(prefix, batches)
    >>> features.shape, labels
    ((6, 3), array([0, 0, 1, 1, 2, 2]))

    By two workers, here two threads:

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     tl.precompute(prefix, np.ones((7, 4), "float32"), executor=pool).shape
    (7, 3)
    """
    check_predict(prefix)
    network, names = _tapped(prefix, at)
    _check_frozen(network)
    batch_size = _inputs.whole("batch_size", batch_size, 1)
    _inputs.word("dtype", dtype, ("float32", "float16"))
    if executor is not None and not isinstance(executor, Executor):
        raise ValueError(
            f"executor: expected a concurrent.futures.Executor, got {type(executor).__name__}. Give one, as "
            "ProcessPoolExecutor(), or a Dask client's client.get_executor()."
        )
    if len(pair := [0, 1] if part is None else _inputs.listed("part", part, "(i, n)", "Give both.")) != 2:
        raise ValueError(f"part: expected (i, n), got {len(pair)} numbers. Give both.")
    share, shares = pair
    shares = _inputs.whole("part", shares, 1)
    share = _inputs.whole("part", share, 0, shares - 1)
    whole = flat(network)
    opened = _sources.opened(source, whole, batch_size)
    read = islice(opened.items, share, None, shares)
    if (first := next(read, None)) is None:
        raise ValueError(f"part: expected no more shares than batches, got {part}. Take fewer shares.")
    batches: Iterator[_sources.Item] = chain([first], read)
    given, keys, number, working = first[0], list[str](), 0, f"stream-{share}-of-{shares}"
    if opened.arrays is not None:
        # What is there as a whole has its name before anything is computed. (Its batches are views.)
        listed = [*batches]
        keys, number = [_key(x) for (x,) in listed], sum(map(_sources.length, listed))
        given, batches, working = opened.arrays, iter(listed), _parts.key_of(keys)
    else:
        batches = _watched(whole, batches)
    _check_range(whole, given)
    by = engine(opened.number or 0, len(whole.inputs), workers=executor is not None)
    stores = _stores(network, whole, given, by, batch_size, dtype)

    def there() -> list[Any]:
        return [store.find(working, keys, number) if keys else None for store in stores]

    features = there()
    more: _sources.Item = ()
    if any(each is None for each in features):
        with contextlib.ExitStack() as stack:
            for folder in sorted({store.folder.name for store in stores}):  # all processes in one order
                stack.enter_context(cache.lock(f"features-{folder}-{working}"))
            features = there()  # another process may have made them meanwhile
            if made := [place for place, each in enumerate(features) if each is None]:
                making = [stack.enter_context(stores[place].making(working, keys, number)) for place in made]
                if len(made) < len(stores):
                    network = keras.Model(whole.input, alone([whole.outputs[place] for place in made]))
                total = opened.number and opened.number // shares
                keys, number, more = _fill(making, network, given, batches, by, total, executor)
                for place, array in zip(made, making, strict=True):
                    features[place] = array.finish(_parts.key_of(keys), keys, number)
    result = formed(whole.output, features) if at is None else dict(zip(names, features, strict=True))
    return (result, *more) if more else result


def _key(batch: Any) -> str:
    return cache.content_key(*keras.tree.flatten(batch))


def _tapped(prefix: keras.Model, at: Sequence[str] | None) -> tuple[keras.Model, Sequence[str]]:
    """A network that ends at each of some cut points; without any, the prefix itself."""
    if at is None:
        return prefix, ()
    whole, found = places(prefix)
    found |= ends(whole)
    if isinstance(at, str) or not at:
        raise ValueError(
            f"at: expected a list of cut points, got {at!r}. Give [{at or next(iter(found))!r}]."
        )
    for name in at:
        if name not in found:
            raise ValueError(no_cut(name, [each.name for each in whole.operations], list(found)))
    return keras.Model(whole.input, alone([found[name] for name in at])), at


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


def _stores(
    network: keras.Model, whole: Any, given: Any, by: str, batch_size: int, dtype: str
) -> list[_parts.Store]:
    """Where the activations of each output are kept: in a folder named after what computes them."""
    outputs = whole.outputs
    singly = [network] if len(outputs) == 1 else [keras.Model(whole.input, each) for each in outputs]
    versions = (keras.version(), _backend.NAME, _backend.module().__version__, by)
    names = [
        cache.content_key(
            *versions, cache.code_key(), dtype, batch_size, signature(each),
            *map(keras.ops.convert_to_numpy, each.weights),
        )
        for each in singly
    ]  # fmt: skip
    unsure = [unusual(flat(each)) or any(map(draws, walk(each))) for each in singly]
    if any(unsure):
        # Those with the smallest digests are mostly the same ones when examples are added or taken away.
        few = np.sort(np.argsort(_parts.digests(keras.tree.flatten(given)))[:8])
        seen = try_out(network, _sources.rows(given, few), str(names))
        names = [
            cache.content_key(name, numbers) if new else name
            for name, numbers, new in zip(names, seen, unsure, strict=True)
        ]
    shapes = _shapes(network, whole, given)
    most = batch_size * max(int(np.prod(shape)) for shape in shapes) * np.dtype(dtype).itemsize
    rows = batch_size * max(1, min(PART_IMAGES // batch_size, PART_BYTES // most))
    folder = cache.cache_folder() / "features"
    return [
        _parts.Store(folder / name, shape, dtype, rows=rows, batch=batch_size)
        for name, shape in zip(names, shapes, strict=True)
    ]


def _shapes(network: keras.Model, whole: Any, given: Any) -> list[tuple[int, ...]]:
    """Of an example's activations at each output; those that the network leaves open follow its inputs."""
    made = whole.outputs
    if any(None in tensor.shape[1:] for tensor in made):
        specs = [
            keras.KerasTensor((1, *array.shape[1:]), dtype=tensor.dtype)
            for array, tensor in zip(keras.tree.flatten(given), whole.inputs, strict=True)
        ]
        made = keras.tree.flatten(network.compute_output_spec(formed(whole.input, specs)))
    shapes = [tuple(tensor.shape[1:]) for tensor in made]
    if any(None in shape for shape in shapes):
        raise ValueError(
            f"prefix: expected activations of one size, got {shapes}. Give the layer that leaves it open an "
            "output_shape, or cut before it."
        )
    return shapes


def _fill(
    making: list[_parts.Making],
    network: keras.Model,
    given: Any,
    batches: Iterator[_sources.Item],
    by: str,
    total: int | None,
    executor: Executor | None,
) -> tuple[list[str], int, _sources.Item]:
    """Compute what is missing. What was read: its keys by batch, its number, and what came with it."""
    store = making[0].store
    size, per_part = store.batch, store.rows // store.batch
    keys: list[str] = []
    more: list[Any] = []
    name = "".join(array.store.folder.name for array in making)
    number = 0

    def tasks() -> Iterator[tuple[_Part, Any]]:
        nonlocal number
        for part, group in enumerate(iter(lambda: list(islice(batches, per_part)), [])):
            x, *labels = _sources.joined(group)
            keys.extend(_key(each) for each, *_ in group)
            key, first, number = _parts.key_of(keys[-len(group) :]), number, number + _sources.length((x,))
            more.append(tuple(labels))
            lacking = [array for array in making if not array.has(part, key)]
            examples = _parts.digests(keras.tree.flatten(x)) if lacking else []
            need = np.flatnonzero(np.any([array.missing(examples) for array in lacking], axis=0))
            if len(need):
                yield _Part(part, key, first, examples, need, lacking), _sources.rows(x, need)
                continue
            for array in lacking:
                array.put_off(part, key, examples)
            bar.update(number - first)

    with tqdm(total=total, desc="prefix", unit="image", unit_scale=True, leave=False) as bar:
        for part, found in computed(tasks(), network, _some(given), by, name, size, executor):
            made = {
                array: dict(zip(part.need, _finite(rows, store.dtype, part.first + part.need), strict=True))
                for array, rows in zip(making, found, strict=True)
            }
            for array in part.lacking:
                array.write(part.number, part.key, part.examples, made[array])
            bar.update(len(part.examples))
    return keys, number, _sources.joined(more)


class _Part(NamedTuple):
    """What is to be computed of a part: those examples that it needs, of `examples` from `first` on."""

    number: int
    key: str
    first: int
    examples: list[str]
    need: Array
    lacking: list[_parts.Making]


def _finite(activations: Array, dtype: str, place: Array) -> Array:
    # What float16 can't hold becomes infinite, and is refused.
    with np.errstate(over="ignore"):
        found = activations.astype(dtype)
    fine = np.isfinite(found).reshape(len(found), -1).all(axis=1)
    if not fine.all():
        raise ValueError(
            f"activations: expected finite {dtype} numbers, got others in image {place[fine.argmin()]}, "
            "the first of them. Check that images and weights are finite, and the pixel range"
            f"{', or use float32' if dtype == 'float16' else ''}."
        )
    return found


def _some(given: Any) -> Any:
    """Eight examples, from all over."""
    number = len(keras.tree.flatten(given)[0])
    return _sources.rows(given, slice(None, None, max(1, number // 8)))


def _watched(whole: Any, batches: Iterator[_sources.Item]) -> Iterator[_sources.Item]:
    for batch in batches:
        _check_range(whole, batch[0], dark=True)
        yield batch


def _check_range(whole: Any, given: Any, *, dark: bool = False) -> None:
    """Refuse what the first Rescaling can't be for: values scaled before, or of more than eight bits.

    A batch may be `dark`, so that its values say nothing of a scaling before.
    """
    before = (keras.layers.InputLayer, keras.layers.Reshape, keras.layers.Resizing)
    first = next((each for each in whole.layers if not isinstance(each, before)), None)
    if not isinstance(first, keras.layers.Rescaling) or len(whole.inputs) > 1:
        return
    (images,) = keras.tree.flatten(given)
    if images.dtype in (bool, np.uint8):
        return
    scale, top = float(np.max(first.scale)), float(images.max())
    # 1/255 and 1/127.5 make raw pixels 1 and 2 at most.
    scaled_before = images.dtype.kind == "f" and 0 < top <= 1 and not dark
    if scale < 1 / 50 and (scaled_before or top * scale > 3):
        raise ValueError(
            f"images: expected raw values from 0 to 255, got at most {top:g}, and the prefix multiplies by "
            f"{scale:.4g}. Pass the raw images, of eight bits: scale once, and only once."
        )
