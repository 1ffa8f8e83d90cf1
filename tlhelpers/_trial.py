"""Promises tried out on a few examples: two parts are the network, and a frozen part gives the same twice.

Layers can do more than their configuration says. Where they might (`_graph.unusual`), nothing is inferred
from names and classes: the network runs, and what it gives is compared.
"""

import contextlib
import operator
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from . import _backend
from ._graph import draws, fits, formed, functional, walk

Array = npt.NDArray[Any]

ROWS = 3
SIZES = (32, 8, 64, 224, 1)
"""Tried in turn where a model leaves a size open."""
EXACT, IN_TRAINING = 1e-3, 1e-2
"""Differences allowed, as shares of the largest output; statistics of three examples enlarge rounding."""


def overrides(model: keras.Model, *methods: str) -> bool:
    """Whether a model has one of the methods of its own, in place of Keras'."""
    kind = type(model)
    return any(
        getattr(kind, name) is not getattr(keras.Model, name) or name in vars(model) for name in methods
    )


def check_predict(model: keras.Model) -> None:
    """Refuse a model without a graph, or whose ``predict`` does more, as of keras-hub's classifiers."""
    functional(model)
    if not overrides(model, "predict", "predict_on_batch", "predict_step"):
        return
    with _restored(model):
        x, outputs = _examples(model)
        try:
            again = _arrays(model.predict(x, verbose=0))
        except Exception:  # its preparation takes something else than the graph
            again = []
    if not _close(_arrays(outputs), again, EXACT):
        raise TypeError(
            f"model: expected predict to give what the model gives, got {type(model).__name__}, whose "
            "predict prepares its input first. Prepare the images yourself, and give "
            "keras.Model(model.inputs, model.outputs); or make the preparation a part of the network."
        )


def by_rows(graph: Any, places: dict[str, Any]) -> dict[str, Any]:
    """Those of the tensors that have a row for each example, and the shape that their layers say."""
    if not places:
        return {}
    taps = keras.Model(graph.input, list(places.values()))
    with _restored(taps):
        x, outputs = _examples(taps)
    rows = len(_arrays(x)[0])
    pairs = zip(places.items(), _arrays(outputs), strict=True)
    return {name: tensor for (name, tensor), found in pairs if fits((rows, *tensor.shape[1:]), found.shape)}


def check_cut(model: keras.Model, prefix: keras.Model, suffix: keras.Model, at: str) -> None:
    """Refuse a cut whose two parts do not give what the model gives, with the same losses."""
    with _restored(model, prefix, suffix) as back:
        x, _ = _examples(model)
        for training, allowed in ((False, EXACT), (True, IN_TRAINING)):
            when = "in training" if training else "outside of training"
            tried = f"tried on {len(_arrays(x)[0])} random examples, cut at {at!r}, {when}"
            back()
            whole, losses = _arrays(model(x, training=training)), float(sum(model.losses))
            back()
            parts = _arrays(suffix(prefix(x, training=training), training=training))
            if not _close(whole, parts, allowed) and training:
                allowed = max(allowed, min(0.5, _moved_by_rounding(model, x, whole, back)))
            if not _close(whole, parts, allowed):
                raise ValueError(
                    f"at: expected suffix(prefix(x)) to be model(x), got other numbers, {tried}. Something "
                    "crosses the cut beside its tensor, or the model never gives the same twice, as with a "
                    "stateful LSTM. Cut elsewhere, or train the model whole."
                )
            if not np.isclose(losses, got := float(sum(suffix.losses)), rtol=allowed):
                raise ValueError(
                    f"at: expected the suffix to add the model's losses, {losses:.4g}, got {got:.4g}, "
                    f"{tried}. A layer before the cut adds one, such as an activity regulariser. Switch that "
                    "off, or cut before it."
                )


def _moved_by_rounding(model: keras.Model, x: Any, whole: list[Array], back: Callable[[], None]) -> float:
    """How far a millionth of the inputs moves the outputs in training, as a share of the largest.

    Many BatchNorm layers, each over three examples, make much of rounding, of some more than of others.
    """
    rng, shares = np.random.default_rng(0), [0.0]
    for size in (1e-7, 1e-6, 1e-5):
        near = [
            each * rng.normal(1, size, each.shape).astype(each.dtype) if each.dtype.kind == "f" else each
            for each in _arrays(x)
        ]
        back()
        moved = _arrays(model(keras.tree.pack_sequence_as(x, near), training=True))
        for a, b in zip(whole, moved, strict=True):
            if a.dtype.kind == "f":
                shares.append(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6)))
    return max(shares)


_TRIED: "weakref.WeakKeyDictionary[keras.Model, str]" = weakref.WeakKeyDictionary()


def try_out(prefix: keras.Model, sample: Any, network: str) -> list[Array]:
    """What a prefix gives for a few images; refused where training, or other images, would change it.

    `network` names weights and configurations: what passed with the same ones is not tried again.
    """
    with _restored(prefix):
        found = _run(prefix, sample, training=False)
        if _TRIED.get(prefix) != network:
            _check_repeatable(prefix, sample, found)
    _TRIED[prefix] = network
    return found


def not_repeatable(got: str) -> str:
    """What to say of a layer whose output in training is another each time."""
    return (
        f"prefix: expected layers that give the same output each time, got {got} in training. Computed once "
        "it would draw them once. Cut before it, or switch it off (a Dropout: layer.rate = 0)."
    )


def _run(prefix: keras.Model, images: Any, *, training: bool) -> list[Array]:
    try:
        return _arrays(prefix(images, training=training))
    except Exception as error:
        raise ValueError(
            f"prefix: expected a network that takes any number of examples, got {type(error).__name__} for "
            f"{len(keras.tree.flatten(images)[0])}. Leave batch sizes open, as keras.Input(shape) does."
        ) from error


def _check_repeatable(prefix: keras.Model, sample: Any, found: list[Array]) -> None:
    number = len(keras.tree.flatten(sample)[0])
    if got := [each.shape[:1] for each in found if each.shape[:1] != (number,)]:
        raise ValueError(
            f"prefix: expected a row of activations for each of {number} images, got {got[0][0]}: it folds "
            "another axis into the first. Cut after the layer that unfolds it."
        )
    before = _arrays(prefix.weights)
    once, twice = (_run(prefix, sample, training=True) for _ in range(2))
    pairs = zip(prefix.weights, before, _arrays(prefix.weights), strict=True)
    if moved := [weight.path for weight, old, new in pairs if not np.array_equal(old, new)]:
        raise ValueError(
            f"prefix: expected weights that stay as they are, got {moved[0]!r}, which a pass in training "
            "moves though it is frozen. Cut before it."
        )
    if not (_close(once, twice, EXACT) and _close(found, once, EXACT)):
        random = [layer.name for layer in walk(prefix)[1:] if draws(layer)]
        raise ValueError(not_repeatable(f"{random[0]!r}, which draws random numbers" if random else "others"))
    single = keras.tree.map_structure(operator.itemgetter(slice(1)), sample)
    if not _close([each[:1] for each in found], _run(prefix, single, training=False), EXACT):
        raise ValueError(
            "prefix: expected activations of each image by itself, got others when other images stand "
            "beside it. Cut before the layer that mixes them."
        )


@contextlib.contextmanager
def _restored(*models: keras.Model) -> Iterator[Callable[[], None]]:
    """Put all variables back at the end, seeds among them, and whenever the function is called."""
    variables = list({id(each): each for model in models for each in model.variables}.values())
    values, state = _arrays(variables), _backend.random_state()

    def back() -> None:
        _backend.random_state(state)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    try:
        yield back
    finally:
        back()


def _examples(model: Any) -> tuple[Any, Any]:
    """Random inputs that a model takes, and what it makes of them."""
    errors: list[Exception] = []
    for size in SIZES:
        x = formed(functional(model).input, [_random(tensor, size) for tensor in model.inputs])
        try:
            return x, model(x, training=False)
        except Exception as error:
            errors.append(error)
    said = str(errors[0]).strip().splitlines() or [repr(errors[0])]
    raise ValueError(
        f"model: expected to try it out on {ROWS} random examples, got an error: {said[0]} It has layers "
        "that may do more than their configurations say, and is not trusted untried. Give its inputs fixed "
        "sizes."
    ) from errors[0]


def _random(tensor: Any, size: int) -> Any:
    """Numbers for an input: small whole ones, so that they also serve as tokens, or normal ones."""
    shape = (tensor.shape[0] or ROWS, *(each or size for each in tensor.shape[1:]))
    if tensor.dtype == "string":
        return np.full(shape, "a")
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=shape) if "float" in tensor.dtype else rng.integers(0, 2, size=shape)
    return keras.ops.convert_to_tensor(numbers, dtype=tensor.dtype)


def _arrays(tensors: Any) -> list[Array]:
    return [np.array(keras.ops.convert_to_numpy(each)) for each in keras.tree.flatten(tensors)]


def _close(some: list[Array], others: list[Array], allowed: float) -> bool:
    def close(a: Array, b: Array) -> bool:
        if a.shape != b.shape or a.dtype.kind not in "biuf":
            return np.array_equal(a, b)
        largest = max(float(np.abs(a).max(initial=0)), 1e-6)
        return np.allclose(a, b, rtol=0, atol=allowed * largest, equal_nan=True)

    return len(some) == len(others) and all(map(close, some, others))
