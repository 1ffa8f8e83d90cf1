"""Pre-trained backbones by name, and the layers that turn raw images into what they expect."""

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import keras
import numpy as np

from . import _inputs, downloads
from ._errors import check_name

__all__ = ["BACKBONES", "feature_extractor", "load_backbone", "preparation", "small_convnet"]


def _imagenet(width: str, model: keras.Model) -> None:
    model.load_weights(str(downloads.fetch(f"mobilenet_v2_{width}_224_no_top.h5")))


def _glyphs(model: keras.Model) -> None:
    shipped = resources.files(__package__) / "weights" / "mobilenet_v2_glyphs.npz"
    with shipped.open("rb") as file, np.load(file) as arrays:
        for layer in model.layers:
            layer.set_weights([arrays[f"{layer.name}/{w.name}"].astype("float32") for w in layer.weights])


@dataclass(frozen=True)
class Backbone:
    """A pre-trained MobileNetV2 that can be had by name."""

    alpha: float  # its width
    pixel_range: tuple[float, float]  # what it was trained on, for black and for white
    load: Callable[[keras.Model], None]  # gives a new network the pre-trained weights


BACKBONES = {
    "mobilenet_v2_imagenet": Backbone(1.0, (-1.0, 1.0), functools.partial(_imagenet, "1.00")),
    "mobilenet_v2_035_imagenet": Backbone(0.35, (-1.0, 1.0), functools.partial(_imagenet, "0.35")),
    "mobilenet_v2_glyphs": Backbone(0.35, (0.0, 1.0), _glyphs),
}
"""By name.

:meta hide-value:
"""


def load_backbone(
    name: str,
    *,
    image_size: int = 32,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: int = 0,
) -> keras.Model:
    """A backbone by name: the pre-trained network without its classification head.

    Parameters
    ----------
    name
        ``"mobilenet_v2_imagenet"`` (alpha 1.0, pre-trained on ImageNet's photos),
        ``"mobilenet_v2_035_imagenet"`` (the same with alpha 0.35) or
        ``"mobilenet_v2_glyphs"`` (alpha 0.35, pre-trained by this project on letters and symbols it drew).
    image_size
        Height and width of the input in pixels, 32 or more.
    weights
        ``"pretrained"``, or ``"random"`` for the same network before any training, as a control.
    seed
        Which random weights.

    Returns
    -------
    keras.Model
        Named "backbone"; input float32 (n, image_size, image_size, 3), output float32
        (n, image_size/32, image_size/32, channels). All layers trainable, as Keras returns it.

    Raises
    ------
    LookupError, TypeError, ValueError
        No backbone has that name; `image_size` is under 32; `weights` is neither of the two, or those
        loaded are not finite; a number is none.
    tlhelpers.downloads.DownloadError
        The weights can't be had.

    Notes
    -----
    Source: Sandler et al., *MobileNetV2: Inverted Residuals and Linear Bottlenecks*, 2018.
    Explained in the chapter "Build the model".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> backbone = tl.load_backbone("mobilenet_v2_glyphs", weights="random")
    >>> backbone.input_shape, backbone.output_shape
    ((None, 32, 32, 3), (None, 1, 1, 1280))
    """
    backbone, image_size = _known(name, image_size)
    _inputs.word("weights", weights, ("pretrained", "random"))
    seed = _inputs.whole("seed", seed, 0, _inputs.SEED)
    # Keras draws the initialisers' seeds from Python's generator while it builds the layers.
    state = random.getstate()
    random.seed(seed)
    try:
        model = keras.applications.MobileNetV2(
            (image_size, image_size, 3), backbone.alpha, include_top=False, weights=None, name="backbone"
        )
    finally:
        random.setstate(state)
    if weights == "pretrained":
        backbone.load(model)
    for weight in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            raise ValueError(
                f"weights: expected finite numbers, got NaN or infinity in {weight.path} of {name}. "
                "Remove the file that they were read from, and get it anew."
            )
    return model


def _known(name: str, image_size: int) -> tuple[Backbone, int]:
    check_name("backbone", name, BACKBONES)
    # MobileNetV2 halves its input five times; below 32 pixels nothing would be left.
    advice = "Enlarge the images, for example with tl.preparation(..., image_size=32)."
    return BACKBONES[name], _inputs.whole("image_size", image_size, 32, 10_000, advice)


def _image_shape(given: Any, least: int = 1) -> tuple[int, ...]:
    """(height, width) or (height, width, 3), as whole numbers."""
    expected = "(height, width) or (height, width, 3)"
    advice = "Give the shape of one image, without the number of images."
    sides = [
        _inputs.whole("image_shape", each, 1)
        for each in _inputs.listed("image_shape", given, expected, advice)
    ]
    if len(sides) not in (2, 3) or sides[2:] not in ([], [3]) or min(sides[:2]) < least:
        raise ValueError(
            f"image_shape: expected {expected} of {least} pixels or more, got {tuple(sides)}. {advice}"
        )
    return tuple(sides)


def preparation(
    backbone: str,
    image_shape: tuple[int, ...],
    *,
    image_size: int = 32,
    pixel_range: tuple[float, float] | None = None,
) -> keras.Model:
    """The layers that turn raw grey or colour images into what a backbone was trained on.

    They add the channel axis, resize (bilinear), scale 0..255 to the backbone's pixel range, and repeat a
    single channel three times. As layers they travel inside the model: what is saved takes raw images.

    Parameters
    ----------
    backbone, image_size
        As `load_backbone` takes them.
    image_shape
        Shape of one raw image: (height, width) for grey, (height, width, 3) for colour.
    pixel_range
        Values for black and for white, where they are to be others than the backbone was trained on.

    Returns
    -------
    keras.Model
        Named "prepare"; input ``(n, *image_shape)`` with values 0..255, output float32
        (n, image_size, image_size, 3) with values in the pixel range. No weights.

    Raises
    ------
    LookupError, TypeError, ValueError
        As `load_backbone`; `image_shape` is neither of the two; the range is empty.

    Notes
    -----
    Explained in the chapter "Prepare the data", line by line.

    Examples
    --------
    >>> import numpy as np, tlhelpers as tl
    >>> prepare = tl.preparation("mobilenet_v2_imagenet", (28, 28))
    >>> black_and_white = prepare(np.stack([np.zeros((28, 28)), np.full((28, 28), 255)]))
    >>> black_and_white.numpy().min(axis=(1, 2, 3)).tolist()
    [-1.0, 1.0]
    >>> prepare.output_shape
    (None, 32, 32, 3)
    """
    known, image_size = _known(backbone, image_size)
    image_shape = _image_shape(image_shape)
    grey = len(image_shape) == 2
    advice = "Leave it out for what the backbone was trained on."
    given = known.pixel_range if pixel_range is None else pixel_range
    ends = _inputs.listed("pixel_range", given, "two numbers", advice)
    found = [_inputs.real("pixel_range", each, -_inputs.LARGE) for each in ends]
    if len(ends) != 2 or not found[0] < found[1]:
        raise ValueError(
            f"pixel_range: expected the value of black below that of white, got {tuple(ends)}. {advice}"
        )
    black, white = ends
    inputs = keras.Input(image_shape, name="image")
    x = keras.layers.Reshape((*image_shape, 1), name="add_channel")(inputs) if grey else inputs
    x = keras.layers.Resizing(image_size, image_size, name="resize")(x)
    x = keras.layers.Rescaling(1 / 255, name="scale")(x)
    if (black, white) != (0, 1):
        # In two steps, since one rounds otherwise, and the measured tables were made with two.
        x = keras.layers.Rescaling(white - black, offset=black, name="pixel_range")(x)
    if grey:
        x = keras.layers.Concatenate(name="three_channels")([x, x, x])
    return keras.Model(inputs, x, name="prepare")


def small_convnet(
    image_shape: tuple[int, ...],
    *,
    classes: int = 10,
    widths: tuple[int, ...] = (32, 64, 128),
    seed: int = 0,
) -> keras.Model:
    """A small convolutional network with random weights, of the kind one would write for small images.

    For each width convolution, BatchNorm, ReLU and pooling, then dropout and one dense layer.

    Parameters
    ----------
    image_shape
        As `preparation` takes it. Each pooling halves height and width; something must be left.
    classes
        Outputs.
    widths
        Channels of each convolution.
    seed
        Of the weights and the dropout.

    Returns
    -------
    keras.Model
        Raw images ``(n, *image_shape)``, values 0..255, to float32 (n, classes) probabilities.

    Raises
    ------
    TypeError, ValueError
        A number or a shape is not as above.

    Notes
    -----
    Explained in the chapter "See why it matters".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.backbones.small_convnet((8, 8)).output_shape
    (None, 10)
    """
    every = _inputs.listed("widths", widths, "whole numbers", "Give a tuple of them.")
    widths = tuple(_inputs.whole("widths", each, 1) for each in every)
    image_shape, classes = _image_shape(image_shape, 2 ** len(widths)), _inputs.whole("classes", classes, 1)
    seed = _inputs.whole("seed", seed, 0, _inputs.SEED)
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    body: list[keras.Layer] = [layers.Reshape((*image_shape, 1))] if len(image_shape) == 2 else []
    body.append(layers.Rescaling(1 / 255))
    for width in widths:
        body.append(layers.Conv2D(width, 3, padding="same", use_bias=False))
        body += [layers.BatchNormalization(momentum=0.95), layers.ReLU(), layers.MaxPooling2D()]
    body += [layers.Flatten(), layers.Dropout(0.3, seed=seed, name="dropout")]
    return keras.Sequential([keras.Input(image_shape), *body, layers.Dense(classes, activation="softmax")])


def feature_extractor(
    backbone: str,
    image_shape: tuple[int, ...],
    *,
    cuts: Sequence[str],
    image_size: int = 32,
    pool: bool = False,
    pixel_range: tuple[float, float] | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: int = 0,
) -> keras.Model:
    """A frozen backbone that gives its features at several depths, in one pass over raw images.

    Parameters
    ----------
    backbone, image_size, weights, seed
        As `load_backbone` takes them.
    image_shape, pixel_range
        As `preparation` takes them.
    cuts
        Names of layers of the backbone.
    pool
        Give the mean over height and width instead of every number.

    Returns
    -------
    keras.Model
        Raw images to a list of float32 arrays, one for each cut: (n, height, width, channels), or
        (n, channels) where pooled.

    Raises
    ------
    LookupError, TypeError, ValueError
        As `load_backbone` and `preparation`; the backbone has no such layer.

    Notes
    -----
    Explained in the chapter "Judge chest X-rays".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> see = tl.backbones.feature_extractor("mobilenet_v2_glyphs", (8, 8), cuts=["block_5_add", "out_relu"])
    >>> [tensor.shape for tensor in see.outputs]
    [(None, 4, 4, 16), (None, 1, 1, 1280)]
    """
    network = load_backbone(backbone, image_size=image_size, weights=weights, seed=seed)
    network.trainable = False
    layers = {layer.name: layer for layer in network.layers}
    cuts = _inputs.names("cuts", cuts)
    for cut in cuts:
        check_name("layer of the backbone", cut, layers)
    outputs = [layers[cut].output for cut in cuts]
    if pool:
        outputs = [keras.layers.GlobalAveragePooling2D()(output) for output in outputs]
    inputs = keras.Input(image_shape)
    prepare = preparation(backbone, image_shape, image_size=image_size, pixel_range=pixel_range)
    return keras.Model(inputs, keras.Model(network.inputs, outputs)(prepare(inputs)))
