"""Where in an image lies what speaks for a class."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from . import _backend, _inputs
from ._graph import nodes, original
from .prefix import split

__all__ = ["grad_cam"]


def grad_cam(
    model: keras.Model,
    images: npt.NDArray[Any],
    *,
    at: str,
    classes: npt.ArrayLike | None = None,
    batch_size: int = 32,
) -> npt.NDArray[np.float32]:
    """Where in an image lies what speaks for a class: Grad-CAM.

    A feature map counts as much as the class's score rises with it, on average over its cells; the weighted
    sum of the maps, where it is positive, is the answer.

    Parameters
    ----------
    model : keras.Model
        A classifier of one input that `tlhelpers.split` can cut; backbones nested inside are opened.
    images : numpy.ndarray, shape (n, height, width) or (n, height, width, channels)
        As the model takes them.
    at : str
        The layer to look at, one of ``cut_points(model)``, whose output has shape (n, h, w, maps). Late
        ones say more about the class and less about the place. Where only a mean and a dense layer follow,
        the cells before the cut at zero add up to the score, but for a constant; earlier it is an estimate.
    classes : array_like of int, shape (n,), optional
        Whose score to explain, for each image; by default the class that the model predicts. A model of one
        sigmoid has the classes 0 and 1.
    batch_size : int, optional
        Images at a time.

    Returns
    -------
    numpy.ndarray, float32, shape (n, height, width)
        From 0 to 1, each image on its own scale, enlarged from the layer's h by w (bilinear). Zero
        everywhere where nothing speaks for the class.

    Raises
    ------
    TypeError, ValueError
        If there is no such cut, or model, images or classes are not as above.

    Notes
    -----
    Source: Selvaraju et al., *Grad-CAM: Visual explanations from deep networks via gradient-based
    localization*, 2017. As there, the score is the one before the softmax.
    Explained in the chapter "Recognise flowers".

    Examples
    --------
    >>> import keras, numpy as np
    >>> from tlhelpers import explain
    >>> bright = keras.layers.Conv2D(1, 1, kernel_initializer="ones", name="bright")
    >>> layers = [keras.Input((2, 2, 1)), bright, keras.layers.GlobalAveragePooling2D()]
    >>> model = keras.Sequential([*layers, keras.layers.Dense(1, kernel_initializer="ones")])
    >>> image = np.array([[0.0, 2.0], [0.0, 1.0]], "float32").reshape(1, 2, 2, 1)
    >>> explain.grad_cam(model, image, at="bright")[0].tolist()
    [[0.0, 1.0], [0.0, 0.5]]
    """
    expected = "finite numbers of shape (n, height, width) or (n, height, width, channels)"
    advice, large = "Give the array itself; for a single image, images[:1].", _inputs.LARGE
    images = _inputs.array("images", images, expected, advice, ndim=(3, 4), low=-large, high=large)
    batch_size = _inputs.whole("batch_size", batch_size, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that nothing after the cut trains is no fault here
        prefix, suffix = split(model, at)
    if (several := len(prefix.inputs)) > 1:
        raise ValueError(f"model: expected one input, an image, got {several}. Hold the others fixed.")
    if len(prefix.output_shape) != 4:
        raise ValueError(
            f"at: expected a layer with output (n, h, w, maps), got {at!r} with {prefix.output_shape}. "
            "Take one before the pooling."
        )
    try:
        first = prefix(images[:batch_size], training=False)
    except Exception as error:
        raise ValueError(
            f"images: expected what the model takes, {model.input_shape}, got {images.shape}. Give those."
        ) from error
    scores_of = _scores(suffix, first)
    k = scores_of(first).shape[1]
    chosen = None if classes is None else _inputs.labels("classes", classes, len(images), k)
    maps = []
    for start in range(0, len(images), batch_size):
        here = slice(start, start + batch_size)
        activations = prefix(images[here], training=False)

        def score(x: Any, wanted: Any = None if chosen is None else chosen[here]) -> Any:
            scores = scores_of(x)
            wanted = keras.ops.argmax(scores, axis=1) if wanted is None else wanted
            return keras.ops.take_along_axis(scores, keras.ops.expand_dims(wanted, 1), axis=1)

        gradients = _backend.gradient(score, activations)
        weights = keras.ops.mean(gradients, axis=(1, 2), keepdims=True)
        speaks = keras.ops.relu(keras.ops.sum(weights * activations, axis=-1, keepdims=True))
        maps.append(keras.ops.convert_to_numpy(keras.ops.image.resize(speaks, images.shape[1:3]))[..., 0])
    whole = np.concatenate(maps)
    highest = whole.max(axis=(1, 2), keepdims=True)
    return (whole / np.where(highest > 0, highest, 1)).astype(np.float32)


def _scores(suffix: keras.Model, activations: Any) -> Callable[[Any], Any]:
    """A function from activations to scores (n, classes), those before a softmax or sigmoid.

    What was found in the graph is tried out: with the softmax or sigmoid it must be what the model gives.
    """
    if len(suffix.outputs) != 1:
        raise ValueError(
            f"model: expected one output, got {len(suffix.outputs)}. Give keras.Model(inputs, one_of_them)."
        )
    made = {id(tensor): node for node in nodes(suffix) for tensor in node.outputs}
    tensor = suffix.outputs[0]
    while isinstance((node := made[id(tensor)]).operation, _SHAPES):
        (tensor,) = node.input_tensors
    last = original(node.operation)
    if isinstance(last, keras.layers.Activation | keras.layers.Softmax) or type(last).__name__ in _LINKS:
        (tensor,) = node.input_tensors
    before = keras.Model(suffix.inputs, tensor)

    def scores_of(x: Any) -> Any:
        kept = getattr(last, "activation", None)
        if kept in _LINKS.values():  # a part of the last layer
            last.activation = keras.activations.linear
        try:
            found = keras.ops.reshape(before(x, training=False), (len(x), -1))
        finally:
            if kept is not None:
                last.activation = kept
        # One number for two classes: what speaks for the second speaks against the first.
        return keras.ops.concatenate([-found, found], axis=1) if binary else found

    binary = False
    numbers = keras.ops.convert_to_numpy
    given = numbers(suffix(activations, training=False)).reshape(len(activations), -1)
    scores = numbers(scores_of(activations))
    tried = {name: link for name, link in _LINKS.items() if name == "Sigmoid" or given.shape[1] > 1}
    links = [name for name, link in tried.items() if np.allclose(numbers(link(scores)), given, atol=1e-5)]
    shares = given.min() >= 0 and np.allclose(given.sum(axis=1), 1, atol=1e-5) and given.shape[1] > 1
    if not links and (shares or not np.allclose(scores, given, rtol=1e-4, atol=1e-6)):
        raise ValueError(
            "model: expected scores, or a softmax or sigmoid of them at the end, got something else in "
            f"{node.operation.name!r}. Grad-CAM explains the score before it: give a model that ends there."
        )
    binary = "Sigmoid" in links and given.shape[1] == 1
    return scores_of


_SHAPES = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Identity, keras.layers.Dropout)
_LINKS = {"Softmax": keras.activations.softmax, "Sigmoid": keras.activations.sigmoid}
