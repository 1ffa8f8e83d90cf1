"""A trained classifier as static files that a web page can run, without a server and without a framework.

The page's program, ``book/_static/digit-model.js``, knows some ten operations. `export` translates a Keras
model into a list of them: nested models are opened, BatchNorm is folded into the convolution before it,
and weights are rounded to float16.
"""

import json
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tlhelpers import cache
from tlhelpers._graph import flat, nodes, original
from tlhelpers._trial import check_predict
from tlhelpers.fused import is_fused

__all__ = ["Exported", "export"]

FORMAT = 2
"""Of the two files together; the page's program refuses another."""

LARGEST = float(np.finfo(np.float16).max)

# What each adds to a step. JSON has no infinity: a clip of null is a rectifier without an upper end.
ACTIVATIONS: dict[Any, dict[str, Any]] = {
    keras.activations.linear: {},
    keras.activations.relu: {"clip": None},
    keras.activations.relu6: {"clip": 6.0},
    keras.activations.softmax: {"softmax": True},
}

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Exported:
    """What `export` wrote: where its two files lie, weights and biases in them, and their bytes."""

    folder: Path
    parameters: int
    size: int


@dataclass
class _Step:
    """One operation: what it reads, what it makes, and its numbers, still in float."""

    op: str
    name: str
    reads: list[int]
    shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    kernel: Array | None = None
    bias: Array | None = None
    done: bool = False  # an activation came: nothing more can be folded in


def export(model: keras.Model, folder: str | Path) -> Exported:
    """Write a trained classifier for the page's own program: a list of operations, and the weights.

    Parameters
    ----------
    model
        A Functional or built Sequential model from one image (height, width) or (height, width, channels) to
        probabilities; nested models are opened. Made of layers of MobileNetV2 and its heads: Conv2D,
        DepthwiseConv2D, Dense, BatchNormalization, ReLU, Activation, Add, Concatenate, Resizing (bilinear),
        Rescaling, ZeroPadding2D, GlobalAveragePooling2D, Flatten, Reshape, Dropout.
    folder
        Where to write ``model.json`` and ``weights.bin``. What was there under these names is replaced.

    Raises
    ------
    TypeError
        If the model has no graph, or a layer that the page's program does not know.
    ValueError
        If the model has several inputs or outputs or no fixed size, a known layer has an option that is not
        known, a weight is too large for float16, or the operations, run on two random images before anything
        is written, do not give what the model gives.
    tlhelpers.cache.CacheError
        If the folder can't be written.

    Notes
    -----
    Half the bytes of float32 with eleven significant bits; the page computes in float32. Eight bits, one
    scale a channel, would halve it again. They were tried, and changed the classes of far too many digits.
    Explained in the chapter "Go beyond the article".

    Examples
    --------
    >>> import tempfile, keras
    >>> from tlhelpers import page
    >>> layers = [keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    >>> page.web.export(keras.Sequential(layers), tempfile.mkdtemp()).parameters
    650
    """
    folder = Path(folder)
    weights = bytearray()
    listed = []
    parameters = 0
    steps = _steps(model)
    for step in steps:
        entry = {"op": step.op, "name": step.name, "reads": step.reads, "shape": step.shape, **step.options}
        for part, values in _rounded(step).items():
            entry[part] = {"at": len(weights), "shape": values.shape}
            weights.extend(values.tobytes())
            parameters += values.size
        listed.append(entry)
    _check(model, steps)
    image = tuple(model.inputs[0].shape[1:])
    # A page that finds one file of two exports says so, by the sum.
    facts = {"bytes": len(weights), "crc32": zlib.crc32(weights)}
    header = {"format": FORMAT, "input": image, **facts, "steps": listed}
    text = json.dumps(header, separators=(",", ":")).encode()
    for name, content in (("model.json", text), ("weights.bin", bytes(weights))):
        with cache.atomic_file(folder / name) as partial:
            partial.write_bytes(content)
    return Exported(folder, parameters, len(text) + len(weights))


def _check(model: keras.Model, steps: list[_Step]) -> None:
    """Run the operations as the page does, and compare with Keras."""
    images = np.random.default_rng(0).integers(0, 256, (2, *model.inputs[0].shape[1:])).astype("float32")
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    for image, probabilities in zip(images, expected.reshape(len(images), -1), strict=True):
        differ = float(np.abs(_run(steps, image)[-1].ravel() - probabilities).max())
        if not differ <= 1e-3 * max(1.0, float(np.abs(probabilities).max())):
            raise ValueError(
                f"model: expected operations that give what Keras gives, got others by {differ:.2g} on a "
                "random image. A layer does what page.web.export does not know; nothing was written."
            )


def _run(steps: list[_Step], image: Array) -> list[Array]:
    """What each operation makes of one image."""
    made: list[Array] = []
    for step in steps:
        result = image if step.op == "input" else _result(step, [made[i] for i in step.reads])
        if "clip" in step.options:
            result = np.clip(result, 0, step.options["clip"])
        if "softmax" in step.options:
            result = np.exp(result - result.max()) / np.exp(result - result.max()).sum()
        if result.shape != step.shape:
            raise ValueError(f"{step.name}: expected shape {step.shape}, got {result.shape} from {step.op}.")
        made.append(result)
    return made


def _result(step: _Step, reads: list[Array]) -> Any:
    """One operation of ``digit-model.js``, in float64."""
    first, shape = reads[0], step.shape
    if step.op == "rescale":
        return first * step.options["factor"] + step.options["offset"]
    if step.op == "reshape":
        return first.reshape(shape)
    if step.op == "add":
        return np.add.reduce(reads) if len({each.shape for each in reads}) == 1 else np.empty(0)
    if step.op == "concat":
        return np.concatenate(reads, axis=-1)
    if step.op == "mean":
        return first.mean(axis=(0, 1), keepdims=len(shape) == 3)
    if step.op == "resize":
        return np.asarray(keras.ops.image.resize(first, shape[:2], interpolation="bilinear"))
    kernel, bias = step.kernel, 0 if step.bias is None else step.bias
    assert kernel is not None
    if step.op == "dense":
        return np.asarray(first @ kernel + bias)
    (down, right), (top, left), (tall, wide) = step.options["stride"], step.options["zeros"], kernel.shape[:2]
    wall = np.pad(first, ((top, tall), (left, wide), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(wall, (tall, wide), axis=(0, 1))
    windows = windows[::down, ::right][: shape[0], : shape[1]]
    return np.einsum("hwiyx,yxio->hwo" if step.op == "conv" else "hwiyx,yxi->hwi", windows, kernel) + bias


def _rounded(step: _Step) -> dict[str, Array]:
    """A step's numbers as they are stored: float16, little-endian."""
    if step.kernel is None:
        return {}
    bias = np.zeros(step.kernel.shape[-1]) if step.bias is None else step.bias
    numbers = {"kernel": step.kernel, "bias": bias}
    for values in numbers.values():
        # `not` also catches what is no number.
        if not np.abs(values).max() <= LARGEST:
            raise ValueError(
                f"{step.name}: expected weights within {LARGEST:g} of zero, which float16 can hold, "
                f"got {np.abs(values).max():g}. Has training diverged?"
            )
    return {part: values.astype("<f2") for part, values in numbers.items()}


def _steps(model: keras.Model) -> list[_Step]:
    """The model as a list of operations, each reading from earlier ones; the first is the input."""
    whole = flat(model)
    if len(whole.inputs) != 1 or len(whole.outputs) != 1:
        raise ValueError(
            f"model: expected one input and one output, got {len(whole.inputs)} and {len(whole.outputs)}. "
            "Export the part between them: keras.Model(one_input, one_output)."
        )
    if None in whole.inputs[0].shape[1:]:
        raise ValueError(
            f"model: expected an input of fixed size, got {tuple(whole.inputs[0].shape)}. "
            "Build it with keras.Input((height, width, channels))."
        )
    check_predict(model)
    order = nodes(whole)
    uses = Counter(id(tensor) for node in order for tensor in node.input_tensors)
    uses[id(whole.outputs[0])] += 1
    steps: list[_Step] = []
    made: dict[int, int] = {}  # tensor -> the step that makes it
    latest: dict[int, int] = {}  # step -> the very tensor that it makes, under no other name
    pads: dict[int, tuple[tuple[int, int], tuple[int, int]]] = {}  # tensor -> zeros that it still lacks

    def only(source: Any) -> bool:
        """Whether one layer alone reads a tensor, and its step makes that very tensor."""
        return uses[id(source)] == 1 and latest[made[id(source)]] == id(source)

    for node in order:
        layer, tensor = original(node.operation), node.outputs[0]
        _check_known(layer)
        reads = [made[id(source)] for source in node.input_tensors]
        shape = tuple(int(size) for size in tensor.shape[1:])
        padded = [pads[id(source)] for source in node.input_tensors if id(source) in pads]
        if padded and not isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            raise TypeError(f"{layer.name}: expected a convolution after zero padding, got {_kind(layer)}.")
        if isinstance(layer, keras.layers.ZeroPadding2D):
            made[id(tensor)], pads[id(tensor)] = reads[0], layer.padding
        elif isinstance(layer, keras.layers.Dropout):
            made[id(tensor)] = reads[0]
        elif len(reads) == 1 and only(node.input_tensors[0]) and _folded(steps[reads[0]], layer):
            steps[reads[0]].name = layer.name
            made[id(tensor)], latest[reads[0]] = reads[0], id(tensor)
        else:
            if node.is_input:
                steps.append(_Step("input", layer.name, [], shape))
            else:
                steps.append(_step(layer, reads, shape, *padded, source=node.input_tensors[0].shape))
            made[id(tensor)] = len(steps) - 1
            latest[len(steps) - 1] = id(tensor)
    if id(whole.outputs[0]) in pads:
        raise TypeError(f"{model.name}: expected a convolution after zero padding, got the model's end.")
    return steps


_K = keras.layers
KNOWN = (
    _K.InputLayer, _K.Conv2D, _K.DepthwiseConv2D, _K.Dense, _K.BatchNormalization, _K.ReLU, _K.Activation,
    _K.Add, _K.Concatenate, _K.Resizing, _K.Rescaling, _K.ZeroPadding2D, _K.GlobalAveragePooling2D,
    _K.Flatten, _K.Reshape, _K.Dropout,
)  # fmt: skip


def _check_known(layer: Any) -> None:
    """Refuse a layer of another class, also a subclass, or with an option of all layers that changes it."""
    if type(layer) not in KNOWN or ("call" in vars(layer) and not is_fused(layer)):
        raise TypeError(
            f"{layer.name}: expected a layer that the page's program knows, got {_kind(layer)}. "
            "page.web.export says which it knows; add the operation there and in digit-model.js."
        )
    if getattr(layer, "data_format", "channels_last") not in ("channels_last", None):
        raise ValueError(f"{layer.name}: expected channels on the last axis, got {layer.data_format}.")
    if getattr(layer, "quantization_mode", None) is not None:
        raise ValueError(
            f"{layer.name}: expected weights as they were trained, got {layer.quantization_mode} ones. "
            "Export the model before it is quantized."
        )


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _activation(layer: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """What a layer's activation adds to the options of its step; nothing if it is linear or there is none."""
    if isinstance(layer, keras.layers.ReLU):
        if layer.negative_slope or layer.threshold:
            raise ValueError(f"{layer.name}: expected a plain or capped rectifier, got {layer.get_config()}.")
        return {"clip": None if layer.max_value is None else float(layer.max_value)}
    activation = getattr(layer, "activation", keras.activations.linear)
    if activation not in ACTIVATIONS:
        name = getattr(activation, "__name__", activation)
        raise ValueError(f"{layer.name}: expected linear, relu, relu6 or softmax, got {name}.")
    options = ACTIVATIONS[activation]
    if "softmax" in options and len(shape) != 1:
        raise ValueError(
            f"{layer.name}: expected softmax over (n, numbers), got (n, {shape}). Flatten first."
        )
    return options


def _folded(step: _Step, layer: Any) -> bool:
    """Put a layer into the step before it, where that gives the same numbers; False where it can't be."""
    if step.done or step.op == "input":
        return False
    if isinstance(layer, (keras.layers.ReLU, keras.layers.Activation)):
        step.options |= _activation(layer, step.shape)
        step.done = True
        return True
    if isinstance(layer, keras.layers.BatchNormalization) and step.kernel is not None:
        scale, shift = _affine(layer, len(step.shape))
        # The channel is the last axis of every kernel here; a depthwise one is (height, width, channels).
        step.kernel = step.kernel * scale
        step.bias = (0 if step.bias is None else step.bias) * scale + shift
        return True
    return False


def _affine(layer: keras.layers.BatchNormalization, last: int) -> tuple[Array, Array]:
    """BatchNorm in inference: the factor and the summand of each channel."""
    if layer.axis not in (-1, last):
        raise ValueError(f"{layer.name}: expected BatchNorm over the last axis, got axis {layer.axis}.")
    mean, variance = (keras.ops.convert_to_numpy(each) for each in (layer.moving_mean, layer.moving_variance))
    scale = 1 / np.sqrt(variance.astype("float64") + layer.epsilon)
    if layer.scale:
        scale = scale * keras.ops.convert_to_numpy(layer.gamma)
    shift = -mean * scale
    if layer.center:
        shift = shift + keras.ops.convert_to_numpy(layer.beta)
    return scale, shift


def _step(
    layer: Any,
    reads: list[int],
    shape: tuple[int, ...],
    padding: Any = None,
    *,
    source: tuple[int | None, ...],
) -> _Step:
    """The operation of a single layer."""
    name, known = layer.name, keras.layers
    if isinstance(layer, known.DepthwiseConv2D):
        step = _Step("depthwise", name, reads, shape, _window(layer, padding, source))
        if layer.depth_multiplier != 1:
            raise ValueError(f"{name}: expected a depth multiplier of 1, got {layer.depth_multiplier}.")
        step.kernel = keras.ops.convert_to_numpy(layer.kernel)[..., 0]
    elif isinstance(layer, known.Conv2D):
        if layer.groups != 1:
            raise ValueError(f"{name}: expected 1 group, got {layer.groups}. Use DepthwiseConv2D.")
        step = _Step("conv", name, reads, shape, _window(layer, padding, source))
        step.kernel = keras.ops.convert_to_numpy(layer.kernel)
    elif isinstance(layer, known.Dense):
        if len(source) != 2:
            raise ValueError(f"{name}: expected a dense layer on (n, numbers), got {source}. Flatten first.")
        step = _Step("dense", name, reads, shape)
        step.kernel = keras.ops.convert_to_numpy(layer.kernel)
    elif isinstance(layer, (known.Flatten, known.Reshape)):
        return _Step("reshape", name, reads, shape)
    elif isinstance(layer, known.Rescaling):
        if np.ndim(layer.scale) or np.ndim(layer.offset):
            raise ValueError(f"{name}: expected one factor for all channels, got {layer.get_config()}.")
        factors = {"factor": float(layer.scale), "offset": float(layer.offset)}
        step = _Step("rescale", name, reads, shape, factors)
    elif isinstance(layer, known.Resizing):
        plain = layer.interpolation == "bilinear" and not layer.antialias
        if not plain or layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
            raise ValueError(f"{name}: expected plain bilinear resizing, got {layer.get_config()}.")
        return _Step("resize", name, reads, shape)
    elif isinstance(layer, (known.Add, known.Concatenate, known.GlobalAveragePooling2D)):
        if isinstance(layer, known.Concatenate) and layer.axis not in (-1, len(shape)):
            raise ValueError(f"{name}: expected to concatenate along the last axis, got axis {layer.axis}.")
        ops = {known.Add: "add", known.Concatenate: "concat", known.GlobalAveragePooling2D: "mean"}
        return _Step(ops[type(layer)], name, reads, shape)
    elif isinstance(layer, (known.ReLU, known.Activation)):
        step = _Step("rescale", name, reads, shape, {"factor": 1.0, "offset": 0.0})
    else:
        raise TypeError(
            f"{name}: expected BatchNorm right after a convolution, got {_kind(layer)} elsewhere."
        )
    if getattr(layer, "use_bias", False):
        step.bias = keras.ops.convert_to_numpy(layer.bias)
    if activation := _activation(layer, shape):
        step.options |= activation
        step.done = True
    return step


def _window(layer: Any, padding: Any, source: tuple[int | None, ...]) -> dict[str, Any]:
    """Stride and the rows and columns of zeros before and after, for a convolution."""
    if layer.dilation_rate not in (1, (1, 1)):
        raise ValueError(f"{layer.name}: expected no dilation, got {layer.dilation_rate}.")
    strides = layer.strides if isinstance(layer.strides, tuple) else (layer.strides, layer.strides)
    (top, _), (left, _) = padding or ((0, 0), (0, 0))
    if layer.padding == "same":
        if padding is not None:
            raise ValueError(f"{layer.name}: expected padding once, got ZeroPadding2D and 'same'.")
        # As TensorFlow does it: what does not divide evenly goes to the end.
        sides = zip(source[1:3], strides, layer.kernel_size, strict=True)
        top, left = (
            max((-(-(size or 0) // stride) - 1) * stride + window - (size or 0), 0) // 2
            for size, stride, window in sides
        )
    return {"stride": strides, "zeros": (top, left)}
