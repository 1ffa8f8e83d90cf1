"""Pre-trained backbones by name, and the layers that turn raw images into what they expect."""

import random
from collections.abc import Callable
from importlib import resources
from typing import Literal

import keras
import numpy as np

from . import downloads
from ._errors import unknown_name

__all__ = ["BACKBONES", "SMALLEST_IMAGE", "load_backbone", "preparation"]

SMALLEST_IMAGE = 32
"""MobileNetV2 halves its input five times; below 32 pixels nothing would be left."""


def _imagenet(image_size: int, pretrained: bool) -> keras.Model:
    weights = str(downloads.fetch("mobilenet_v2_1.00_224_no_top.h5")) if pretrained else None
    return keras.applications.MobileNetV2(
        input_shape=(image_size, image_size, 3), include_top=False, weights=weights, name="backbone"
    )


def _glyphs(image_size: int, pretrained: bool) -> keras.Model:
    model = keras.applications.MobileNetV2(
        input_shape=(image_size, image_size, 3), alpha=0.35, include_top=False, weights=None, name="backbone"
    )
    if pretrained:
        shipped = resources.files(__package__) / "weights" / "mobilenet_v2_glyphs.npz"
        with shipped.open("rb") as file, np.load(file) as arrays:
            for layer in model.layers:
                if layer.weights:
                    layer.set_weights(
                        [arrays[f"{layer.name}/{w.name}"].astype("float32") for w in layer.weights]
                    )
    return model


BACKBONES: dict[str, Callable[[int, bool], keras.Model]] = {
    "mobilenet_v2_imagenet": _imagenet,
    "mobilenet_v2_glyphs": _glyphs,
}
"""How each backbone is made, by its name.

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
        ``"mobilenet_v2_imagenet"`` (alpha 1.0, pre-trained on ImageNet's photos; the full edition's)
        or ``"mobilenet_v2_glyphs"`` (alpha 0.35, pre-trained by this project on letters and symbols
        it drew; ships with the library; the pocket edition's).
    image_size
        Height and width of the input in pixels, 32 or more.
    weights
        ``"pretrained"``, or ``"random"`` for the same network before any training: the control of
        every measurement.
    seed
        Which random weights. Used with ``weights="random"`` only.

    Returns
    -------
    keras.Model
        Named "backbone"; input float32 (n, image_size, image_size, 3), output float32
        (n, image_size/32, image_size/32, channels). All layers trainable, as Keras returns it.

    Raises
    ------
    LookupError
        If no backbone has that name.
    ValueError
        If `image_size` is under 32 or `weights` is neither of the two.
    tlhelpers.downloads.DownloadError
        If the weights can't be had.

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
    if name not in BACKBONES:
        raise unknown_name("backbone", name, BACKBONES)
    check_image_size(image_size)
    if weights not in ("pretrained", "random"):
        raise ValueError(f'weights: expected "pretrained" or "random", got {weights!r}.')
    # Keras draws the initialisers' seeds from Python's generator while it builds the layers.
    state = random.getstate()
    random.seed(seed)
    try:
        return BACKBONES[name](image_size, weights == "pretrained")
    finally:
        random.setstate(state)


def check_image_size(image_size: int) -> None:
    """Raise ValueError unless MobileNetV2 can take images of this size."""
    if image_size < SMALLEST_IMAGE:
        raise ValueError(
            f"image_size: expected at least {SMALLEST_IMAGE} pixels, got {image_size}. "
            "Enlarge the images, for example with tl.preparation(..., image_size=32)."
        )


def preparation(image_shape: tuple[int, ...], *, image_size: int = 32) -> keras.Model:
    """The layers that turn raw grey or colour images into what a backbone takes.

    Adds the channel axis, resizes (bilinear), scales 0..255 to 0..1 as the article does, and repeats
    a single channel three times. As layers they travel inside the model: what is saved takes raw
    images, and nobody has to remember the steps.

    Parameters
    ----------
    image_shape
        Shape of one raw image: (height, width) for grey, (height, width, 3) for colour.
    image_size
        Height and width of the result in pixels, 32 or more.

    Returns
    -------
    keras.Model
        Named "prepare"; input ``(n, *image_shape)`` with values 0..255, output float32
        (n, image_size, image_size, 3) with values 0..1. No weights.

    Raises
    ------
    ValueError
        If `image_shape` is neither of the two or `image_size` is under 32.

    Notes
    -----
    Built line by line in the chapter "Prepare the data".

    Examples
    --------
    >>> import numpy as np, tlhelpers as tl
    >>> prepare = tl.preparation((28, 28))
    >>> prepare(np.full((1, 28, 28), 255, "uint8")).numpy().max()
    np.float32(1.0)
    >>> prepare.output_shape
    (None, 32, 32, 3)
    """
    check_image_size(image_size)
    grey = len(image_shape) == 2
    if not grey and not (len(image_shape) == 3 and image_shape[2] == 3):
        raise ValueError(
            f"image_shape: expected (height, width) or (height, width, 3), got {tuple(image_shape)}. "
            "Give the shape of one image, without the number of images."
        )
    inputs = keras.Input(image_shape, name="image")
    x = keras.layers.Reshape((*image_shape, 1), name="add_channel")(inputs) if grey else inputs
    x = keras.layers.Resizing(image_size, image_size, name="resize")(x)
    x = keras.layers.Rescaling(1 / 255, name="scale")(x)
    if grey:
        x = keras.layers.Concatenate(name="three_channels")([x, x, x])
    return keras.Model(inputs, x, name="prepare")
