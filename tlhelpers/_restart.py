"""A network that is traced once and trained many times, each time as if it were new."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt


def forget(model: keras.Model, weights: list[npt.NDArray[Any]], *, rate: float, seed: int) -> None:
    """Give a compiled model these weights, the seed's dropout, and an optimiser that has seen nothing."""
    model.set_weights(weights)
    model.get_layer("dropout").seed_generator.state.assign(np.array([seed, 0], "uint32"))
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape))
    model.optimizer.learning_rate = rate


@dataclass(frozen=True, eq=False)
class Network:
    """A network cut before what trains, compiled once and set back before each training."""

    prefix: keras.Model
    suffix: keras.Model
    weights: list[npt.NDArray[Any]]

    def reset(self, rate: float, seed: int) -> None:
        """As at first, but for a head drawn from the seed."""
        forget(self.suffix, self.weights, rate=rate, seed=seed)
        kernel, bias = self.suffix.get_layer("head").weights
        kernel.assign(keras.initializers.GlorotUniform(seed=seed)(kernel.shape))
        bias.assign(np.zeros(bias.shape))
