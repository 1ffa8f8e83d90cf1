"""What Keras leaves to its backend: TensorFlow, JAX or PyTorch, each asked for here and nowhere else."""

import gc
import importlib
import logging
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

NAME: str = keras.backend.backend()


def module() -> types.ModuleType:
    """The backend's own package; TensorFlow's no longer says what it does."""
    found = importlib.import_module(NAME)
    logging.getLogger("tensorflow").setLevel("ERROR")  # hints on retracing would go onto a notebook's page
    return found


def random_state(state: Any = None) -> Any:
    """The state of what layers draw from where they keep no seed; set back first, where one is given."""
    if NAME != "torch":  # the others' layers always keep one
        return None
    import torch

    if state is not None:
        torch.random.set_rng_state(state)
    return torch.random.get_rng_state()


def gradient(function: Callable[[Any], Any], x: Any) -> Any:
    """The gradient, at the tensor `x`, of the sum of what a function of Keras' operations gives for it."""
    if NAME == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = keras.ops.sum(function(x))
        return tape.gradient(y, x)
    if NAME == "jax":
        import jax

        return jax.grad(lambda x: keras.ops.sum(function(x)))(x)
    import torch

    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(keras.ops.sum(function(x)), x)[0]


def litert(model: keras.Model, shape: tuple[int, ...]) -> bytes:
    """A model of one input as LiteRT takes it; its weights become constants, so that layers can be fused."""
    import tensorflow as tf

    groups = (model.trainable_variables, model.non_trainable_variables)
    arrays = [[keras.ops.convert_to_numpy(weight) for weight in group] for group in groups]

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), model.inputs[0].dtype)])  # type: ignore[untyped-decorator]
    def constant(batch: Any) -> Any:
        weights = [[tf.constant(weight) for weight in group] for group in arrays]
        return keras.tree.flatten(model.stateless_call(*weights, batch, training=False)[0])

    # It logs each temporary folder it writes to, which would end up on the chapter's page.
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        converted = tf.lite.TFLiteConverter.from_concrete_functions(
            [constant.get_concrete_function()], tf.Module()
        ).convert()
    finally:
        logger.setLevel(level)
    # The graph holds every weight once more, in a circle of references that Python breaks only now and then.
    del constant
    gc.collect()
    return bytes(converted)


def in_place(array: Any, dtype: Any, name: str | None) -> Any:
    """A TensorFlow tensor of an array's own memory, which nobody may write to; or of a copy."""
    import tensorflow as tf

    aligned = array.flags.c_contiguous and array.ctypes.data % 64 == 0
    if not aligned or array.ndim == 0 or (dtype is not None and tf.as_dtype(dtype) != array.dtype):
        return tf.constant(np.array(array), dtype=dtype, name=name)
    # DLPack takes no read-only array. The map is private: not even a write would reach the file.
    array.flags.writeable = True
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def untuned(dataset: Any) -> Any:
    """A tf.data.Dataset without the search for settings."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def decodes(path: str) -> bool:
    """Whether TensorFlow, and so Keras, reads an image file."""
    import tensorflow as tf

    try:
        tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
    except tf.errors.OpError:
        return False
    return True


def batch_norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Images (n, h, w, channels) normalised by their own statistics, in one operation; mean and variance."""
    import tensorflow as tf

    y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon)
    # It divides by one less, to estimate another sample's variance; Keras' own layer does not.
    number = tf.cast(tf.size(x) // tf.size(mean), variance.dtype)
    return y, mean, variance * (number - 1) / number


def small_depthwise(x: Any, kernel: Any, strides: int, padding: str) -> Any:
    """A depthwise convolution whose filter's gradient is a sum of products, for maps of a few positions."""
    import tensorflow as tf

    how: dict[str, Any] = {"strides": [1, strides, strides, 1], "padding": padding.upper()}

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolve(x: Any, kernel: Any) -> Any:
        y = tf.nn.depthwise_conv2d(x, kernel, **how)

        def gradients(dy: Any) -> tuple[Any, Any]:
            dx = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=dy, **how
            )
            rows, columns = (
                _overlaps(x.shape[axis], y.shape[axis], kernel.shape[axis - 1], strides) for axis in (1, 2)
            )
            taps = [
                tf.reduce_sum(x[:, i, j] * dy[:, k, m], [0, 1, 2]) if i and j else tf.zeros_like(x[0, 0, 0])
                for i, k in rows
                for j, m in columns
            ]
            return dx, tf.reshape(tf.stack(taps), kernel.shape)

        return y, gradients

    return convolve(x, tf.convert_to_tensor(kernel))


def _overlaps(size: int, outputs: int, width: int, stride: int) -> list[tuple[slice | None, slice | None]]:
    """For each place in a kernel, which inputs it meets and which outputs they count for."""
    before = max((outputs - 1) * stride + width - size, 0) // 2  # of the padding; none where it is "valid"
    found: list[tuple[slice | None, slice | None]] = []
    for place in range(width):
        at = [o for o in range(outputs) if 0 <= o * stride + place - before < size]
        if at:
            first, last = (o * stride + place - before for o in (at[0], at[-1]))
            found.append((slice(first, last + 1, stride), slice(at[0], at[-1] + 1)))
        else:
            found.append((None, None))
    return found


def adam(
    variable: Any, gradient: Any, m: Any, v: Any, step: Any, rate: Any, beta_1: Any, beta_2: Any, epsilon: Any
) -> None:
    """One variable's step of Adam, as one operation. Kingma and Ba, Adam, 2015, as section 2 ends."""
    import tensorflow as tf

    beta_1, beta_2, epsilon, rate, step = (
        tf.cast(number, variable.dtype) for number in (beta_1, beta_2, epsilon, rate, step)
    )
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle, m=m.value.handle, v=v.value.handle, grad=tf.cast(gradient, variable.dtype),
        lr=rate, beta1=beta_1, beta2=beta_2, epsilon=epsilon,
        beta1_power=tf.pow(beta_1, step), beta2_power=tf.pow(beta_2, step),
    )  # fmt: skip


def distributed(model: keras.Model) -> bool:
    """Whether a variable may be several, one on each device."""
    import tensorflow as tf

    return bool(tf.distribute.has_strategy() or model.distribute_strategy.num_replicas_in_sync > 1)
