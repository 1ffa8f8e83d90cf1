"""Layers in the place of others: with the same weights, but computed in another way, or under another name.

Keras hands a 1x1 convolution to the same kernel as any other, and on a CPU that kernel's gradient with
respect to its input takes most of a training step of MobileNetV2 at small image sizes (the benchmark
``pointwise_step_speedup`` measures it). A matrix product over the channels gives the same numbers up to
rounding.
"""

from typing import Any

import keras
from keras import ops


def is_pointwise(layer: Any) -> bool:
    """Whether a layer is a plain 1x1 convolution of stride one over the last axis."""
    return (
        type(layer) is keras.layers.Conv2D
        and layer.kernel_size == (1, 1)
        and layer.strides == (1, 1)
        and layer.groups == 1
        and layer.data_format == "channels_last"
        and layer.activity_regularizer is None
        and layer.quantization_mode is None
        and "call" not in vars(layer)
    )


@keras.saving.register_keras_serializable(package="tlhelpers")
class StandIn(keras.layers.Layer):  # type: ignore[misc]
    """A layer or operation under another name.

    The layer stays the owner of its weights: training or freezing either does so to both. `options` are
    Keras' own, when a saved model is read.
    """

    def __init__(self, layer: Any, **options: Any) -> None:
        policy = {"dtype": layer.dtype_policy} if isinstance(layer, keras.Layer) else {}
        super().__init__(**{"name": layer.name, **policy, **options})
        self.layer = layer
        self.built = getattr(layer, "built", True)
        self.supports_masking = getattr(layer, "supports_masking", False)

    @property
    def trainable(self) -> bool:
        return bool(getattr(getattr(self, "layer", None), "trainable", True))

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if isinstance(getattr(self, "layer", None), keras.Layer):
            self.layer.trainable = value

    def build(self, *shapes: Any) -> None:
        """Make the weights, where a saved model is read."""
        if not getattr(self.layer, "built", True):
            self.layer.build(*shapes)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer(*args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StandIn":
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)


@keras.saving.register_keras_serializable(package="tlhelpers")
class Pointwise(StandIn):
    """A built 1x1 convolution, computed as a matrix product."""

    @property
    def kernel(self) -> Any:
        return self.layer.kernel

    @property
    def bias(self) -> Any:
        return self.layer.bias

    def call(self, inputs: Any) -> Any:
        """(n, height, width, channels in) to (n, height, width, channels out)."""
        kernel = ops.reshape(self.layer.kernel, self.layer.kernel.shape[2:])
        # One large product, where a stack of images would be as many small ones.
        rows = ops.matmul(ops.reshape(inputs, (-1, kernel.shape[0])), kernel)
        outputs = ops.reshape(rows, (*ops.shape(inputs)[:-1], kernel.shape[1]))
        if self.layer.use_bias:
            outputs = outputs + self.layer.bias
        return outputs if self.layer.activation is None else self.layer.activation(outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)
