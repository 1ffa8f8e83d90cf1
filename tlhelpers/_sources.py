"""Examples from whatever Keras' ``predict`` takes, in batches of one size, each once and in order."""

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from . import _backend
from ._graph import fits, formed

Item = tuple[Any, ...]
"""A batch: what the network takes, and what comes with it (labels, maybe weights), arrays or structures."""


class Source(NamedTuple):
    """Examples that are read batch by batch; `number` of them, or None where that isn't known before."""

    number: int | None
    items: Iterable[Item]
    arrays: Any = None
    """What the network takes, as a whole, where it is there as a whole."""


def opened(source: Any, graph: Any, batch_size: int) -> Source:
    """Look at a source: arrays, a folder of images, or anything that gives batches.

    Raises ValueError where it can't be what the graph takes, or has no end.
    """
    if isinstance(source, str | os.PathLike):
        return _folder(Path(source), graph, batch_size)
    if isinstance(source, keras.utils.PyDataset):
        count = source.num_batches
        if count is None:
            raise ValueError(_ENDLESS)
        return _batches((source[number] for number in range(count)), count, graph, batch_size)
    if hasattr(source, "__array__") or isinstance(source, list | tuple | dict):
        arrays = checked(source, graph)
        number = len(keras.tree.flatten(arrays)[0])
        places = (slice(at, at + batch_size) for at in range(0, number, batch_size))
        return Source(number, ((rows(arrays, place),) for place in places), arrays)
    if not isinstance(source, Iterable):
        raise ValueError(
            f"source: expected what Keras' predict takes, or a folder, got {type(source).__name__}. Give an "
            "array (n, ...), a tf.data.Dataset, a PyDataset, a generator of batches or a folder's name."
        )
    try:
        count = len(source)  # type: ignore[arg-type]
    except TypeError as error:
        if "infinite" in str(error):
            raise ValueError(_ENDLESS) from error
        count = None
    return _batches(source, count, graph, batch_size)


_ENDLESS = (
    "source: expected batches with an end, got a source that repeats for ever. Take a part of it, as with "
    "dataset.take(number of batches)."
)


def rows(tree: Any, place: Any) -> Any:
    """Some examples of arrays in a structure."""
    return keras.tree.map_structure(lambda array: array[place], tree)


def joined(items: list[Any]) -> Any:
    """Batches one after the other, in their structure."""
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *items)


def checked(given: Any, graph: Any) -> Any:
    """Arrays as a graph takes them, in its structure.

    Raises ValueError where they are something else.
    """
    inputs = graph.inputs
    several = len(inputs) > 1 or isinstance(graph.input, dict)
    names = [f"images[{tensor.name!r}]" for tensor in inputs] if several else ["images"]
    arrays: list[Any] = [given]
    if several:
        arrays = list(given.values()) if isinstance(given, dict) else list(given)
        known = [tensor.name for tensor in inputs]
        if isinstance(given, dict) and sorted(given) == sorted(known):
            arrays = [given[name] for name in known]
        elif isinstance(given, dict) or not isinstance(given, list | tuple) or len(given) != len(inputs):
            got = sorted(given) if isinstance(given, dict) else type(given).__name__
            raise ValueError(
                f"images: expected an array for each of the inputs {', '.join(known)}, got {got}. Give a "
                "dictionary by these names, or a list in this order."
            )
    found = [_checked(*each) for each in zip(arrays, inputs, names, strict=True)]
    if len({len(array) for array in found}) > 1:
        raise ValueError(
            f"images: expected inputs of one length, got {[len(array) for array in found]}. "
            "Give each example's inputs at the same place."
        )
    return formed(graph.input, found)


def _checked(given: Any, tensor: Any, name: str) -> npt.NDArray[Any]:
    want = tensor.shape[1:]
    expected = f"{name}: expected an array of numbers, (n, {', '.join(map(str, want))}) with n of at least 1"
    advice = "Give what the prefix takes; raw images if the model begins with its preparation layers."
    try:
        array: npt.NDArray[Any] = np.asanyarray(given)
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise ValueError(f"{expected}, got {type(given).__name__} of no one shape. {advice}") from error
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8 or np.ma.is_masked(array):
        raise ValueError(
            f"{expected}, got {type(given).__name__} of {array.dtype}. Give one numeric type, and no mask."
        )
    if fits(want, array.shape):
        advice = "That is one example: give batches, as with dataset.batch(64) or image[None]."
    if not array.shape or not len(array) or not fits(want, array.shape[1:]):
        raise ValueError(f"{expected}, got {array.shape}. {advice}")
    return array


def _batches(source: Iterable[Any], count: int | None, graph: Any, batch_size: int) -> Source:
    """Batches of any size, put together anew."""
    given = iter(source)
    try:
        first = _item(next(given), graph)
    except StopIteration:
        raise ValueError(
            f"source: expected batches of examples, got none from {type(source).__name__}."
        ) from None
    number = None if count is None else count * length(first)

    def items() -> Iterator[Item]:
        waiting, shapes = [first], _shapes(first)
        while waiting:
            while (have := sum(map(length, waiting))) < batch_size and (
                item := next(given, None)
            ) is not None:
                waiting.append(_item(item, graph))
                if _shapes(waiting[-1]) != shapes:
                    raise ValueError(
                        f"source: expected batches alike, got {_shapes(waiting[-1])} after {shapes}. Bring "
                        "images to one size and type, and labels to one form."
                    )
            together = joined(waiting) if len(waiting) > 1 else waiting[0]
            yield rows(together, slice(batch_size))
            waiting = [rows(together, slice(batch_size, None))] if have > batch_size else []
            if not waiting and (item := next(given, None)) is not None:
                waiting = [_item(item, graph)]

    return Source(number, items())


def _item(given: Any, graph: Any) -> Item:
    """A batch as Keras reads it: inputs alone, or with labels, or with weights as well."""
    x, *rest = keras.utils.unpack_x_y_sample_weight(given)
    # Copies: a generator may fill the same arrays again for its next batch.
    x = keras.tree.map_structure(np.array, checked(x, graph))
    more = tuple(keras.tree.map_structure(np.array, each) for each in rest if each is not None)
    if any(array.shape[:1] != (len(keras.tree.flatten(x)[0]),) for array in keras.tree.flatten(more)):
        got = [array.shape for array in keras.tree.flatten(more)]
        raise ValueError(
            f"source: expected a label for each of {len(keras.tree.flatten(x)[0])} examples of a batch, got "
            f"{got}. Give (images, labels) of one length."
        )
    return (x, *more)


def length(item: Item) -> int:
    return len(keras.tree.flatten(item)[0])


def _shapes(item: Item) -> list[Any]:
    return [(array.shape[1:], str(array.dtype)) for array in keras.tree.flatten(item)]


def _folder(folder: Path, graph: Any, batch_size: int) -> Source:
    """Images in a folder, or in a folder for each class, in the order of their names, as Keras reads them."""
    shape = graph.inputs[0].shape[1:]
    modes = {1: "grayscale", 3: "rgb", 4: "rgba"}
    if len(graph.inputs) != 1 or len(shape) != 3 or None in shape or shape[-1] not in modes:
        raise ValueError(
            "source: expected, for a folder, a prefix that takes images of one size, (height, width, 1, 3 or "
            f"4), got one that takes {[tensor.shape[1:] for tensor in graph.inputs]}. Read it yourself: "
            "keras.utils.image_dataset_from_directory(folder, image_size=..., shuffle=False)."
        )
    if not folder.is_dir():
        raise ValueError(
            f"source: expected a folder of images, got {str(folder)!r}, which is none. {_FOLDERS}"
        )
    within = {each: each.relative_to(folder).parts for each in folder.rglob("*")}
    seen = [each for each, parts in within.items() if not any(part.startswith(".") for part in parts)]
    classes = any(each.is_dir() for each in seen)
    try:
        images = keras.utils.image_dataset_from_directory(
            folder,
            labels="inferred" if classes else None,
            label_mode="int" if classes else None,
            color_mode=modes[shape[-1]],
            image_size=shape[:2],
            batch_size=batch_size,
            shuffle=False,
            verbose=False,
        )
    except ImportError as error:
        raise ValueError(
            "source: expected TensorFlow, with which Keras reads a folder, got none installed. Install it, "
            "or give batches, as of a torch DataLoader."
        ) from error
    except ValueError as error:  # no image in it
        raise ValueError(f"source: expected a folder of images, got an error: {error} {_FOLDERS}") from error
    paths = list(images.file_paths)
    if left := sorted({each for each in seen if each.is_file()} - {Path(path) for path in paths}):
        warnings.warn(
            f"source: expected images that Keras reads, got {len(left)} other files, which are left out, "
            f"{str(left[0])!r} first. {_FOLDERS}",
            stacklevel=4,
        )

    def items() -> Iterator[Item]:
        at, given = 0, iter(images)
        while True:
            try:
                item = next(given, None)
            except Exception as error:
                bad = [path for path in paths[at : at + batch_size] if not _backend.decodes(path)]
                raise ValueError(
                    f"source: expected images that TensorFlow can read, got an error at "
                    f"{', '.join(bad) or paths[at]}. Mend it, or move it out of the folder."
                ) from error
            if item is None:
                return
            yield _item(item, graph)
            at += batch_size

    return Source(len(paths), items())


_FOLDERS = "Give a folder of jpg, png, bmp or gif files, or one with a folder for each class."
