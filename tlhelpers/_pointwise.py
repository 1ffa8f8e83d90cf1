"""A 1x1 convolution computed as the matrix product that it is.

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
    )


@keras.saving.register_keras_serializable(package="tlhelpers")
class Pointwise(keras.layers.Layer):  # type: ignore[misc]
    """A stand-in for a built 1x1 convolution: its weights, its name, its ``trainable``; another kernel.

    The convolution stays the owner of the weights: training or freezing either does so to both. `options` are
    Keras' own, when a saved model is read.
    """

    def __init__(self, conv: keras.layers.Conv2D, **options: Any) -> None:
        super().__init__(**{"name": conv.name, "dtype": conv.dtype_policy, **options})
        self.conv = conv
        self.built = conv.built

    @property
    def kernel(self) -> Any:
        """The convolution's kernel, (1, 1, channels in, channels out)."""
        return self.conv.kernel

    @property
    def bias(self) -> Any:
        """The convolution's bias, (channels out,), or None."""
        return self.conv.bias

    def build(self, input_shape: Any) -> None:
        """Make the weights, where a saved model is read."""
        if not self.conv.built:
            self.conv.build(input_shape)

    def call(self, inputs: Any) -> Any:
        """(n, height, width, channels in) to (n, height, width, channels out)."""
        kernel = ops.reshape(self.conv.kernel, self.conv.kernel.shape[2:])
        # One large product, where a stack of images would be as many small ones.
        rows = ops.matmul(ops.reshape(inputs, (-1, kernel.shape[0])), kernel)
        outputs = ops.reshape(rows, (*ops.shape(inputs)[:-1], kernel.shape[1]))
        if self.conv.use_bias:
            outputs = outputs + self.conv.bias
        return outputs if self.conv.activation is None else self.conv.activation(outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """As the convolution's."""
        return self.conv.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The convolution, with its configuration."""
        return {**super().get_config(), "conv": keras.saving.serialize_keras_object(self.conv)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Pointwise":
        """The layer again."""
        return cls(keras.saving.deserialize_keras_object(config.pop("conv")), **config)
