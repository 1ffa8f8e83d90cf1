"""Networks drawn at random: wherever a cut is offered, the two parts are the network, also in training.

Fifty of them here, always the same; `make nightly ONLY=graphs` draws a thousand others.
"""

import contextlib
import os
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tlhelpers as tl
from tlhelpers import _trial

L = keras.layers
SHAPE = (4, 4, 3)
X = np.random.default_rng(0).normal(size=(12, *SHAPE)).astype("float32")
Y = np.arange(12) % 2
MANY = int(os.environ.get("GRAPHS", "50"))

KINDS = ["point", "conv", "depth", "norm", "relu", "drop"]
KINDS += ["scaled", "own", "add", "joined", "nested", "again"]
steps = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 9), st.sampled_from([None, None, True, False])),
    min_size=2,
    max_size=9,
)


def build(plan: list[tuple[str, int, bool | None]], *, regularised: bool, several: bool) -> keras.Model:
    """A network of steps, each of which reads one of the last two tensors; the same each time."""
    keras.utils.clear_session(free_memory=False)  # Keras numbers what has no name
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE, name="image")
    tensors, shared = [inputs], L.Conv2D(3, 1, name="shared")

    def add(number: int, kind: str, far: int, training: bool | None) -> Any:
        name, x = f"step_{number}_{kind}", tensors[-1 - (far if far < 2 else 0) % len(tensors)]
        loss = keras.regularizers.L2(0.1) if regularised and number == len(plan) - 1 else None
        match kind:
            case "point":
                return L.Conv2D(3, 1, name=name, activity_regularizer=loss, activation="tanh")(x)
            case "conv":
                return L.Conv2D(3, 3, padding="same", name=name)(x)
            case "depth":
                return L.DepthwiseConv2D(3, padding="same", name=name)(x)
            case "norm":
                return L.BatchNormalization(momentum=0.5, name=name)(x)
            case "relu":
                return L.ReLU(name=name)(x)
            case "drop":
                return L.Dropout(0.3, seed=number, name=name)(x)
            case "scaled":
                return x * 0.5 + 0.1
            case "own":
                return L.Lambda(lambda tensor: tensor * tensor / 2, name=name)(x)
            case "add":
                return L.Add(name=name)([x, tensors[0]])
            case "joined":
                return L.Conv2D(3, 1, name=name)(L.Concatenate()([x, tensors[-1]]))
            case "nested":
                layers = [L.Conv2D(3, 1, name="inside"), L.BatchNormalization(name="norm_inside")]
                layers.append(L.Dropout(0.3, seed=number, name="drop_inside"))
                inner = keras.Sequential([keras.Input(SHAPE), *layers], name=name)
                return inner(x) if training is None else inner(x, training=training)
            case _:
                return shared(x)

    for number, (kind, far, training) in enumerate(plan):
        tensors.append(add(number, kind, far, training))
    pooled = L.GlobalAveragePooling2D(name="pool")(tensors[-1])
    end = L.Dense(2, activation="softmax", name="head")(pooled)
    return keras.Model(inputs, {"head": end, "pooled": pooled} if several else end)


def dropped(prefix: keras.Model) -> bool:
    return any(isinstance(layer, L.Dropout) for layer in prefix._flatten_layers())


def train(model: keras.Model, x: Any, several: bool) -> None:
    """Three steps, without a graph, which would take longer to make."""
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(0.1), {"head": loss} if several else loss, run_eagerly=True)
    for rows in (slice(0, 4), slice(4, 8), slice(8, 12)):
        model.train_on_batch(x[rows], {"head": Y[rows]} if several else Y[rows])


def arrays(found: Any) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(each) for each in keras.tree.flatten(found)]


@given(steps, st.booleans(), st.booleans(), st.integers(0, 9))
@settings(
    max_examples=MANY,
    derandomize=MANY == 50,
    deadline=None,
    database=None,
    suppress_health_check=[*HealthCheck],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_parts_are_the_network(plan: Any, regularised: bool, several: bool, where: int) -> None:
    make = {"regularised": regularised, "several": several}
    model = build(plan, **make)
    cuts = tl.cut_points(model)
    assert "pool" in cuts or several
    if not cuts:
        return
    at = cuts[where % len(cuts)]
    try:
        prefix, suffix = tl.split(model, at=at)
    except ValueError as error:
        assert "expected the suffix to add the model's losses" in str(error)  # noqa: PT017
        assert regularised
        return
    for layer in prefix._flatten_layers(include_self=False):
        layer.trainable = False

    with _trial._restored(model, prefix, suffix) as back:  # called with training=True, layers may draw
        whole = arrays(model(X, training=False))
        back()
        parts = suffix(prefix(X, training=False), training=False)
    assert isinstance(parts, dict) == several
    for a, b in zip(whole, arrays(parts), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)

    # The same network twice, one trained whole and one from its cut on. (Dropout that is frozen still drops.)
    if dropped(prefix):
        with contextlib.suppress(ValueError):  # a dropout that was called with training=False drops nothing
            tl.precompute(prefix, X)
        return
    other = build(plan, **make)
    frozen, _ = tl.split(other, at=at)
    for layer in frozen._flatten_layers(include_self=False):
        layer.trainable = False
    train(other, X, several)
    train(suffix, np.array(tl.precompute(prefix, X)), several)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
