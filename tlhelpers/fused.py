"""The same training in fewer and larger operations, where TensorFlow has them.

Keras makes BatchNorm and Adam of small operations, which any backend has. On a processor much of a training
step goes into starting them. Nothing here changes what is computed, except for rounding.
"""

import types
from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from . import _backend
from .freezing import check_model, leaves

__all__ = ["fuse"]

FEW = 4
"""Positions of a map up to which a sum of products is quicker for the depthwise filter's gradient. Measured
on x86-64, with batches of 32 and 128."""
ROUNDING = 1e-4
"""How far two ways to make a small step may part, as a share of the largest weight."""


def fuse(model: keras.Model) -> dict[str, int]:
    """Let a compiled model train with fused operations: the same steps, sooner.

    Three things change. BatchNorm that trains is one operation, on maps of more than one position. The
    filter's gradient of a depthwise convolution is a sum of products, on maps of four positions or fewer.
    Adam's step is one operation a variable. Each is tried first on a few random numbers, against Keras' own.
    What is no plain Keras layer, or has settings that are not covered, stays as it is.

    The change lasts as long as the objects do. A saved or cloned model is a plain one.

    Parameters
    ----------
    model
        A compiled model on TensorFlow; float32. Call it after ``compile`` and before ``fit``.

    Returns
    -------
    dict of str to int
        How many layers of each class are fused, and how many variables the optimiser updates so.

    Raises
    ------
    ValueError
        If the backend is not TensorFlow, or the model is not built, not compiled, or in a ``tf.distribute``
        strategy.
    RuntimeError
        If a fused operation gives something else here than Keras. Nothing was changed.

    Notes
    -----
    Rounding differs, and so do two trainings after many steps, as they do on another processor. Explained in
    the chapter "Fine-tune the top".

    Examples
    --------
    >>> import keras, tlhelpers as tl
    >>> layers = [keras.Input((8, 8, 3)), keras.layers.DepthwiseConv2D(3), keras.layers.BatchNormalization()]
    >>> model = keras.Sequential(layers)
    >>> model.compile("adam", "mse")
    >>> tl.fuse(model)
    {'DepthwiseConv2D': 1, 'BatchNormalization': 1, 'Adam': 4}
    """
    if _backend.NAME != "tensorflow":
        raise ValueError(f"backend: expected tensorflow, got {_backend.NAME}. Leave tl.fuse out there.")
    check_model(model)
    if (optimizer := getattr(model, "optimizer", None)) is None:
        raise ValueError("model: expected a compiled one, got one without an optimiser. Call compile first.")
    if not model.built:
        raise ValueError("model: expected a built one, got none of its weights. Give it an Input layer.")
    if _backend.distributed(model):
        raise ValueError("model: expected one device, got a tf.distribute strategy. Leave tl.fuse out there.")
    layers = [layer for layer in leaves(model) if layer.trainable and type(layer) in CALLS and _covers(layer)]
    # TensorFlow traces a step twice where variables are made inside it.
    optimizer.build(model.trainable_variables)
    for layer in {f"{type(layer)}{_plain(layer)}": layer for layer in layers}.values():
        _check_layer(layer)
    adam = type(optimizer) in (keras.optimizers.Adam, keras.optimizers.AdamW) and not optimizer.amsgrad
    if adam:
        _check_adam(optimizer)
    for layer in layers:
        layer.call = types.MethodType(CALLS[type(layer)], layer)
    found = Counter(type(layer).__name__ for layer in layers)
    if adam:
        optimizer.update_step = types.MethodType(_update, optimizer)
        found[type(optimizer).__name__] = len(model.trainable_variables)
    model.train_function = None  # the next `fit` traces its step anew
    return dict(found)


def _batch_norm(self: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    _, height, width, channels = inputs.shape
    few = None in (height, width, channels) or height * width == 1
    if not (training and self.trainable) or few or mask is not None:
        return type(self).call(self, inputs, training=training, mask=mask)
    gamma = self.gamma if self.scale else keras.ops.ones(channels)
    beta = self.beta if self.center else keras.ops.zeros(channels)
    y, mean, variance = _backend.batch_norm(inputs, gamma, beta, self.epsilon)
    for average, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
        average.assign(average * self.momentum + now * (1.0 - self.momentum))
    return y


def _depthwise(self: Any, inputs: Any) -> Any:
    _, *sides = self.compute_output_shape(inputs.shape)[:3]
    if None in (*inputs.shape[1:], *sides) or np.prod(sides) > FEW:
        return type(self).call(self, inputs)
    y = _backend.small_depthwise(inputs, self.kernel, self.strides[0], self.padding)
    return self.activation(y + self.bias if self.use_bias else y)


CALLS: dict[type, Callable[..., Any]] = {
    keras.layers.BatchNormalization: _batch_norm,
    keras.layers.DepthwiseConv2D: _depthwise,
}


def is_fused(layer: keras.Layer) -> bool:
    """Whether a layer's call is one of these, which outside of training is Keras' own."""
    return getattr(vars(layer).get("call"), "__func__", None) in CALLS.values()


def _update(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
    if hasattr(gradient, "indices"):  # an embedding's, of some rows
        type(self).update_step(self, gradient, variable, learning_rate)
    else:
        at = self._get_variable_index(variable)
        moments = (self._momentums[at], self._velocities[at])
        numbers = (learning_rate, self.beta_1, self.beta_2, self.epsilon)
        _backend.adam(variable, gradient, *moments, self.iterations + 1, *numbers)


def _covers(layer: Any) -> bool:
    """Whether a layer's settings are those that its fused operation knows."""
    if layer.compute_dtype != "float32":
        return False
    if isinstance(layer, keras.layers.BatchNormalization):
        image = layer.axis in (-1, 3) and layer.input_spec.ndim == 4
        return image and not (getattr(layer, "renorm", False) or layer.synchronized)
    return (
        layer.data_format == "channels_last"
        and tuple(layer.dilation_rate) == (1, 1)
        and layer.depth_multiplier == 1
        and len(set(layer.strides)) == 1
    )


def _plain(layer: keras.Layer) -> dict[str, Any]:
    """What a copy is made of, without random weights, which would move the reader's random numbers on."""
    config = layer.get_config() | {"name": "plain"}
    return {name: "zeros" if name.endswith("_initializer") else each for name, each in config.items()}


def _agree(what: str, steps: Callable[[bool], list[Any]]) -> None:
    plain, ours = (np.concatenate([np.ravel(each) for each in steps(fused)]) for fused in (False, True))
    if not (far := np.abs(plain - ours).max()) <= ROUNDING * np.abs(plain).max():
        raise RuntimeError(
            f"model: expected the same step of {what} from a fused operation, got one that differs by "
            f"{far:.2g}. Leave tl.fuse out with these versions of Keras and TensorFlow, and report it."
        )


def _check_layer(layer: Any) -> None:
    """Make a step of gradient descent through a layer like this one, in both ways."""
    norm = isinstance(layer, keras.layers.BatchNormalization)
    side = 3 if norm else 2 if layer.padding == "same" else max(layer.kernel_size)

    def steps(fused: bool) -> list[Any]:
        copy = type(layer).from_config(_plain(layer))
        before = keras.layers.Conv2D(3, 1, kernel_initializer="zeros", use_bias=False, name="before")
        network = keras.Sequential([keras.Input((side, side, 3)), before, copy], name="network")
        rng = np.random.default_rng(0)
        network.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in network.weights])
        if fused:
            copy.call = types.MethodType(CALLS[type(layer)], copy)
        network.compile(keras.optimizers.SGD(0.1, name="plain"), "mse", run_eagerly=True)
        x, y = (rng.normal(size=(8, *shape[1:])) for shape in (network.input_shape, network.output_shape))
        network.train_on_batch(x, y)
        return list(network.get_weights())

    _agree(type(layer).__name__, steps)


def _check_adam(optimizer: Any) -> None:
    """Make two steps with an optimiser like this one, in both ways."""

    def steps(fused: bool) -> list[Any]:
        copy = type(optimizer).from_config(optimizer.get_config())
        variable = keras.Variable([1.0, -2.0, 0.0], name="plain")
        if fused:
            copy.update_step = types.MethodType(_update, copy)
        for gradient in ([0.3, -4.0, 1e-4], [-0.1, 2.0, 1e-3]):
            copy.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        return [keras.ops.convert_to_numpy(each) for each in (variable, *copy.variables[2:])]

    _agree(type(optimizer).__name__, steps)
