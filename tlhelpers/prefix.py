"""Cut a network where its frozen part ends.

Frozen layers without randomness give the same activations in every epoch. So cut the network where the frozen
part ends, run that part once over the images, and train the rest on what came out::

    prefix, suffix = tl.split(model, at="pool")
    features = tl.precompute(prefix, train.images)
    suffix.fit(features, train.labels, epochs=10)

Prefix and suffix share the model's layers: after `fit`, `model` itself is trained.
"""

import difflib
import warnings
from typing import Any

import keras

from ._graph import alone, cuts, flat, formed, replay, unusual
from ._trial import by_rows, check_cut, check_predict, overrides

__all__ = ["cut_points", "split"]


def cut_points(model: keras.Model) -> list[str]:
    """The layers a model can be cut after, in order.

    A cut point is a layer whose single output is all that the later layers need. Inside a residual
    block there is none, since the shortcut carries a second tensor past it; nor where a mask would have to
    cross, where the output is one of the model's own, or where it has other rows than the examples.

    Parameters
    ----------
    model
        A Functional or built Sequential Keras model; nested models are opened.

    Returns
    -------
    list of str
        Layer names. The last layer is left out: nothing would remain after it. Where a nested layer's name
        occurs elsewhere, too, it goes by its model's name and its own, as in ``"backbone_predictions"``.

    Raises
    ------
    TypeError
        If the model has no graph: it is a subclassed model, or has a ``call`` of its own.

    Notes
    -----
    Explained in the chapter "Train the head".

    Examples
    --------
    >>> import keras, tlhelpers as tl
    >>> inputs = keras.Input((4,))
    >>> a = keras.layers.Dense(4, name="a")(inputs)
    >>> b = keras.layers.Dense(4, name="b")(a)
    >>> model = keras.Model(inputs, keras.layers.Dense(1, name="c")(keras.layers.Add(name="add")([a, b])))
    >>> tl.cut_points(model)
    ['a', 'add']
    """
    return list(places(model)[1])


def split(model: keras.Model, at: str) -> tuple[keras.Model, keras.Model]:
    """Cut a model after a layer into prefix and suffix that share its layers.

    Parameters
    ----------
    model
        A Functional or built Sequential Keras model; nested models are opened.
    at
        The last layer of the prefix: one of `cut_points(model)`, maybe inside a nested backbone.

    Returns
    -------
    prefix, suffix : keras.Model
        ``suffix(prefix(x))`` is ``model(x)``; training the suffix trains `model`. In the suffix each 1x1
        convolution is computed as a matrix product, with the same weights and name: on a CPU a training
        step with a small batch (32) takes a fraction of the time.

    Raises
    ------
    ValueError
        If the network can't be cut there at a single tensor; the message names the cut points around it. Or
        if the two do not give what the model gives, tried out on random examples, in training and outside of
        it, with the losses that layers add.
    TypeError
        If the model has no graph (a subclassed model, or one with a ``call`` of its own), or prepares its
        input in ``predict``, outside of the graph.

    Warns
    -----
    UserWarning
        If nothing after the cut trains, or the model has a ``train_step`` of its own: the suffix has Keras'.

    Notes
    -----
    Explained in the chapter "Train the head".

    Examples
    --------
    >>> import keras, tlhelpers as tl
    >>> layers = [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    >>> model = keras.Sequential(layers)
    >>> prefix, suffix = tl.split(model, at="a")
    >>> prefix.output_shape, suffix.input_shape
    ((None, 3), (None, 3))
    >>> suffix.layers[-1] is model.layers[-1]
    True
    """
    whole, found = places(model)
    if at not in found:
        raise ValueError(no_cut(at, [each.name for each in whole.operations], list(found)))
    tensor = found[at]
    prefix = keras.Model(whole.input, tensor, name="prefix")
    rest = keras.Model(tensor, alone(whole.outputs))
    taken = {layer.name for layer in rest.layers}
    name = "activations"
    while name in taken:
        name += "_"
    inputs = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
    outputs = replay(rest, [inputs], quick=True)
    suffix = keras.Model(inputs, formed(whole.output, outputs), name="suffix")
    if unusual(whole):
        check_cut(model, prefix, suffix, at)
    if overrides(model, "train_step"):
        warnings.warn(
            f"split: expected Keras' own train_step, got {type(model).__name__}'s, which the suffix does not "
            "have: its fit takes plain steps. Train the model as a whole, or write the step for the suffix.",
            stacklevel=2,
        )
    if suffix.weights and not suffix.trainable_weights:
        warnings.warn(
            f"split: expected something after {at!r} that trains, got frozen layers only, so `fit` would "
            "change nothing. Unfreeze what is to be trained with tl.freeze(model, train_from=...). For the "
            "activations alone, the prefix is all you need.",
            stacklevel=2,
        )
    return prefix, suffix


def no_cut(at: str, names: list[str], cuts: list[str]) -> str:
    expected = "at: expected a layer whose single output is all that the rest needs"
    if at not in names:
        near = difflib.get_close_matches(at, cuts, n=3, cutoff=0.3) or cuts[:3]
        return f"{expected}, got {at!r}, which is no layer here. Nearest: {', '.join(near)}."
    position = names.index(at)
    before = [name for name in cuts if names.index(name) < position][-1:]
    after = [name for name in cuts if names.index(name) > position][:1]
    instead = f"Cut at {' or '.join(before + after)} instead." if cuts else "There is no cut point here."
    return (
        f"{expected}, got {at!r}, which has a shortcut or a mask around it, other rows than examples, or "
        f"nothing after it. {instead}"
    )


def places(model: keras.Model) -> tuple[Any, dict[str, Any]]:
    """The network with nested models opened, and where it can be cut."""
    whole = flat(model)
    check_predict(model)
    found = cuts(whole)
    return whole, by_rows(whole, found) if unusual(whole) else found
