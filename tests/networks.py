"""A small network, and what goes through it, for several modules of tests."""

import keras
import numpy as np

import tlhelpers as tl

L = keras.layers


def residual(seed: int = 0) -> keras.Model:
    """A small convnet: one residual block inside a nested model that is frozen, and a head."""
    keras.utils.set_random_seed(seed)
    inner_input = keras.Input((8, 8, 2))
    a = L.Conv2D(4, 3, padding="same", name="a")(inner_input)
    b = L.BatchNormalization(name="b_norm")(L.Conv2D(4, 3, padding="same", name="b")(a))
    inner = keras.Model(inner_input, L.ReLU(name="d")(L.Add(name="c")([a, b])), name="inner")
    inputs = keras.Input((8, 8, 2), name="image")
    pooled = L.GlobalAveragePooling2D(name="pool")(inner(inputs))
    model = keras.Model(inputs, L.Dense(3, activation="softmax", name="head")(pooled))
    tl.freeze(inner)
    return model


def some_images(n: int = 48) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 8, 8, 2)).astype("float32")
