"""Unfreeze with care: each block's share of the learning rate, epoch by epoch, in five ways.

All ways train one network on the same digits; nothing but these shares differs. A row of
``book/measured/unfreezing.csv`` is one training; a chapter repeats one of them.
"""

import functools
import time
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from . import datasets, editions, recipes
from ._errors import unknown_name
from ._restart import Network
from .freezing import freeze
from .prefix import split

__all__ = ["EPOCHS", "GROUPS", "RATES", "WAYS", "GroupAdam", "draw", "measure", "shares", "shifted"]

GROUPS = (*(f"block_{number}" for number in range(3, 10)), "head")
"""What has a share of its own, from the input on: the blocks that our recipe trains, and the head."""

WAYS = ("head only", "all at once", "discriminative rates", "gradual unfreezing", "probe, then fine-tune")
"""The ways that are compared."""

DIVISOR = 2.6
"""Howard and Ruder's: each layer's rate over that of the layer below it."""

EPOCHS, BATCH_SIZE, LABELS = 20, 32, 300
"""What every way has in common: passes over the labels, images a step, labels."""
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Learning rates tried with seed 0. The one with the best validation accuracy serves all seeds."""

_VALIDATION, _TEST = 1000, 2000


def shares(way: str, epoch: int, *, epochs: int = EPOCHS) -> npt.NDArray[np.float32]:
    """Each group's share of the learning rate in one epoch.

    Parameters
    ----------
    way
        One of `WAYS`.
    epoch
        Counted from 0.
    epochs
        Of the whole training.

    Returns
    -------
    numpy.ndarray
        float32, one number from 0 to 1 for each of `GROUPS`. A group with 0 does not move.

    Raises
    ------
    LookupError
        If there is no such way.

    Notes
    -----
    Discriminative rates and gradual unfreezing: Howard and Ruder, *Universal language model fine-tuning
    for text classification*, 2018. Linear probe, then fine-tuning: Kumar et al., *Fine-tuning can distort
    pretrained features and underperform out-of-distribution*, 2022.
    Explained in the chapter "Unfreeze with care".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.unfreezing.shares("gradual unfreezing", epoch=2).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    """
    if way not in WAYS:
        raise unknown_name("way", way, WAYS)
    from_the_head = np.arange(len(GROUPS))[::-1]
    if way == "discriminative rates":
        return np.asarray(DIVISOR ** -from_the_head.astype(float), np.float32)
    probing = way == "head only" or (way == "probe, then fine-tune" and epoch < epochs // 2)
    opened = 0 if probing else epoch if way == "gradual unfreezing" else len(GROUPS)
    return np.asarray(from_the_head <= opened, np.float32)


class GroupAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam with a share of the learning rate for each group of layers.

    Adam divides each gradient by its usual size, so to scale a gradient changes nothing: the rate itself
    must be scaled. A group's share may change between epochs, without another `compile`; its moments go
    on being averaged while its share is 0.

    Parameters
    ----------
    learning_rate
        What a share of 1 stands for.
    groups
        Beginnings of layer names, each followed by ``_`` or the name's end.

    Attributes
    ----------
    shares
        keras.Variable, float32, one number for each group, 1 at first.

    Raises
    ------
    ValueError
        In training, if a variable belongs to no group.

    Notes
    -----
    Source: the discriminative learning rates of Howard and Ruder, 2018.
    Explained in the chapter "Unfreeze with care".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> adam = tl.unfreezing.GroupAdam(0.001, tl.unfreezing.GROUPS)
    >>> adam.shares.assign(tl.unfreezing.shares("head only", epoch=0))  # doctest: +SKIP
    """

    def __init__(self, learning_rate: float = 0.001, groups: tuple[str, ...] = GROUPS) -> None:
        super().__init__(learning_rate)
        self.groups = tuple(groups)
        self.shares = keras.Variable(np.ones(len(groups), "float32"), trainable=False, name="shares")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step, with its group's share of the rate."""
        # TensorFlow's own variable, which Keras hands on here, has the path for a name.
        path = getattr(variable, "path", variable.name).partition(":")[0]
        layer = path.split("/")[-2]
        for place, group in enumerate(self.groups):
            if layer == group or layer.startswith(f"{group}_"):
                super().update_step(gradient, variable, learning_rate * self.shares[place])
                return
        raise ValueError(
            f"{path}: expected a layer of one of {', '.join(self.groups)}, got none of them. "
            "Freeze it, or name its group."
        )


def balanced(given: npt.NDArray[np.int64], labels: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Positions of so many examples, equally many of each class; see `draw`."""
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(given, return_counts=True)
    each, left = divmod(labels, len(classes))
    if left or not 0 < each <= counts.min():
        raise ValueError(
            f"labels: expected a multiple of {len(classes)} classes, from {len(classes)} to "
            f"{len(classes) * counts.min()} (the smallest class has {counts.min()}), got {labels}."
        )
    return np.concatenate([rng.permutation(np.flatnonzero(given == c))[:each] for c in classes])


def draw(train: datasets.Split, labels: int, *, seed: int) -> datasets.Split:
    """So many labelled images, equally many of each class.

    Parameters
    ----------
    train
        Where to draw from.
    labels
        How many, a multiple of the number of classes.
    seed
        Which draw.

    Returns
    -------
    tlhelpers.datasets.Split
        One class after another.

    Raises
    ------
    ValueError
        If `labels` is no such multiple, or a class has too few images.

    Notes
    -----
    Explained in the chapter "Unfreeze with care".

    Examples
    --------
    >>> import numpy as np, tlhelpers as tl
    >>> few = tl.unfreezing.draw(tl.load_dataset("digits").train, 30, seed=0)
    >>> np.bincount(few.labels).tolist()
    [3, 3, 3, 3, 3, 3, 3, 3, 3, 3]
    """
    rows = balanced(train.labels, labels, seed=seed)
    return datasets.Split(train.images[rows], train.labels[rows], train.indices[rows])


def shifted(edition: editions.Edition) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Digits of another kind than those trained on: what a classifier meets once it leaves home.

    Parameters
    ----------
    edition
        Full: the digits inside scikit-learn, which other people wrote and another scanner read, enlarged
        to 20 pixels and framed to 28 as MNIST's are. Pocket: its test digits, moved, turned and resized.

    Returns
    -------
    tuple of numpy.ndarray
        uint8 (n, height, width), values 0..255, and int64 (n,).

    Notes
    -----
    Explained in the chapter "Unfreeze with care".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.unfreezing.shifted(pocket)[0].shape
    (1500, 8, 8)
    """
    digits = datasets.load_dataset("digits")
    if edition.name == "pocket":
        images, labels = recipes.augmented(digits.test.images, digits.test.labels, seed=0)
        n = len(digits.test)
        return images[n:], labels[n:]
    parts = (digits.train, digits.validation, digits.test)
    images = np.concatenate([part.images for part in parts]).astype("float32")
    larger = keras.ops.image.resize(images[..., None], (20, 20), interpolation="bilinear")
    framed = np.pad(keras.ops.convert_to_numpy(larger)[..., 0], ((0, 0), (4, 4), (4, 4)))
    return framed.round().astype("uint8"), np.concatenate([part.labels for part in parts])


@functools.cache
def _network(edition: editions.Edition) -> Network:
    """Our network with BatchNorm frozen, cut before what trains; compiled once, since tracing is slow."""
    whole = recipes.our_model(edition, seed=0)
    freeze(whole.get_layer("backbone"), train_from="block_3_expand")
    prefix, suffix = split(whole, at=recipes.OURS_CUT)
    suffix.compile(GroupAdam(), "sparse_categorical_crossentropy")
    suffix.optimizer.build(suffix.trainable_variables)
    return Network(prefix, suffix, suffix.get_weights())


@functools.cache
def _held_out(edition: editions.Edition) -> list[tuple[npt.NDArray[Any], npt.NDArray[np.int64]]]:
    """What block 2 makes of validation, test and shifted digits, and their labels."""
    data = datasets.load_dataset(edition.dataset)
    prefix = _network(edition).prefix
    parts = [
        (data.validation.images[:_VALIDATION], data.validation.labels[:_VALIDATION]),
        (data.test.images[:_TEST], data.test.labels[:_TEST]),
        shifted(edition),
    ]
    return [(prefix.predict(images, batch_size=250, verbose=0), labels) for images, labels in parts]


def measure(edition: editions.Edition, way: str, *, seed: int, rate: float) -> dict[str, float]:
    """Train our network in one way, and test it at home and away.

    Blocks 3 to 9 and the head train on 300 digits for 20 epochs, BatchNorm frozen; the learning rate
    follows a cosine to zero. Draw, head, dropout and order of batches follow the seed, so that all ways
    with one seed differ in nothing but the shares.

    Parameters
    ----------
    edition
        Names data set and backbone.
    way
        One of `WAYS`.
    seed
        For everything that is drawn.
    rate
        The learning rate of the first epoch, for a share of 1.

    Returns
    -------
    dict
        ``validation_accuracy``, ``test_accuracy``, ``shifted_accuracy`` (shares of the digits, 0 to 1)
        and ``cpu_seconds`` of the training.

    Raises
    ------
    LookupError
        If there is no such way.
    tlhelpers.downloads.DownloadError
        If data or weights can't be had.

    Notes
    -----
    Explained in the chapter "Unfreeze with care".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> found = tl.unfreezing.measure(pocket, "head only", seed=0, rate=0.001)  # doctest: +SKIP
    """
    shares(way, 0)  # a wrong name should not wait for the data
    few = draw(datasets.load_dataset(edition.dataset).train, LABELS, seed=seed)
    network = _network(edition)
    suffix, adam = network.suffix, network.suffix.optimizer
    x = network.prefix.predict(few.images, batch_size=100, verbose=0)
    began = time.process_time()
    network.reset(rate, seed)

    def begin(epoch: int, logs: Any = None) -> None:
        adam.learning_rate = rate * (1 + np.cos(np.pi * epoch / EPOCHS)) / 2
        adam.shares.assign(shares(way, epoch))

    keras.utils.set_random_seed(seed)
    suffix.fit(
        x,
        few.labels,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=begin)],
    )
    seconds = time.process_time() - began
    found = {}
    for name, (images, labels) in zip(("validation", "test", "shifted"), _held_out(edition), strict=True):
        answers = suffix.predict(images, batch_size=250, verbose=0).argmax(axis=1)
        found[f"{name}_accuracy"] = float((answers == labels).mean())
    return {**found, "cpu_seconds": round(seconds, 1)}
