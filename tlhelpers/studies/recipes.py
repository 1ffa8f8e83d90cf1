"""What later chapters need from earlier ones, trained: the article's two phases, and our own recipe.

A chapter shows its Keras lines and runs them. A later chapter that starts from the result calls the
function here, which runs the same lines once and keeps the weights in the cache folder, under a name
made from everything that went in. A chapter that has just run its lines hands the result over with `keep`.
"""

import dataclasses
import functools
import importlib
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from tqdm.keras import TqdmCallback

from tlhelpers import _inputs, cache, datasets
from tlhelpers._graph import signature
from tlhelpers.backbones import feature_extractor, load_backbone, preparation
from tlhelpers.evaluation import history_table
from tlhelpers.features import precompute
from tlhelpers.freezing import freeze, leaves
from tlhelpers.fused import fuse
from tlhelpers.page import editions
from tlhelpers.prefix import cut_points, split

from .skeleton import Network, fit_with_cosine

__all__ = [
    "TRAIN_FROM",
    "Trained",
    "article_fine_tuned",
    "article_head",
    "article_model",
    "augmented",
    "compile_as_ours",
    "keep",
    "our_classifier",
    "our_model",
]

ARTICLE_RANGE = (0.0, 1.0)
"""What the article scales pixels to. ImageNet's network was trained on -1 to 1."""
BATCH_SIZE = 32
HEAD_EPOCHS = 10
FINE_TUNE_EPOCHS = 5
STEPS_PER_EXECUTION = 20
"""Steps that Keras runs between two looks from Python; changes speed only."""

TRAIN_FROM = 100
"""First backbone layer that fine-tuning trains. The article says "the last few layers" and no more;
this is the choice of TensorFlow's tutorial on transfer learning. Its chapter measures two others."""

BLOCKS = ("block_2_add", "block_5_add", "block_6_expand_relu", "block_9_add", "block_12_add")
"""Where the backbones are read out from early to late."""

OURS_CUT = "block_2_add"
OURS_END = "block_9_add"
OURS_BATCH_SIZE = 128


@dataclass(frozen=True)
class Trained:
    """A trained classifier (raw digits in, ten probabilities out) and one row of history an epoch."""

    model: keras.Model
    history: pd.DataFrame


def article_model(edition: editions.Edition, *, seed: int = 0) -> keras.Model:
    """The article's classifier before any training on digits; the seed is for the head's weights.

    Raw digits (n, height, width), values 0..255, to float32 (n, 10) probabilities. Layers "prepare",
    "backbone" (frozen), "pool", "head". Built line by line in the chapter "Build the model".
    """
    image_shape = datasets.load_dataset(edition.dataset).train.images.shape[1:]
    prepare = preparation(edition.backbone, image_shape, pixel_range=ARTICLE_RANGE)
    backbone = load_backbone(edition.backbone)
    freeze(backbone)
    inputs = keras.Input(image_shape, name="digits")
    x = backbone(prepare(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    initial = keras.initializers.GlorotUniform(seed=seed)
    outputs = keras.layers.Dense(10, activation="softmax", kernel_initializer=initial, name="head")(x)
    return keras.Model(inputs, outputs, name="classifier")


def compile_as_article(model: keras.Model) -> None:
    """Compile as the article does: Adam with Keras' defaults, categorical cross-entropy, accuracy."""
    compile_with(keras.optimizers.Adam(), model)


def compile_with(
    optimizer: keras.optimizers.Optimizer, model: keras.Model, *, steps: int = STEPS_PER_EXECUTION
) -> None:
    """Compile a classifier with its loss and its accuracy, `steps` of training in one call."""
    model.compile(
        optimizer=optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        steps_per_execution=steps,
    )
    # TensorFlow traces a training step twice if variables are made inside it: the optimiser's, or a metric's
    # that was given by name. To have them made before changes no number.
    model.optimizer.build(model.trainable_variables)


def article_head(edition: editions.Edition, *, seed: int = 0) -> Trained:
    """The article's first phase: the backbone frozen, the head trained for ten epochs.

    The seed is for the head's initial weights and the order of the batches. Shown line by line in the chapter
    "Train the head".
    """
    return _run(Head(edition, seed))


def article_fine_tuned(edition: editions.Edition, *, train_from: int = TRAIN_FROM, seed: int = 0) -> Trained:
    """The article's second phase: the backbone's last layers unfrozen, BatchNorm training, epochs 11 to 15.

    `train_from` is the index of the first backbone layer that trains; the seed is also the first phase's.
    Shown line by line in the chapter "Fine-tune the top".
    """
    layers = len(load_backbone(edition.backbone).layers)
    train_from = _inputs.whole("train_from", train_from, 0, layers - 1, "Count the backbone's layers from 0.")
    return _run(FineTune(edition, seed, train_from))


def our_model(
    edition: editions.Edition, *, weights: Literal["pretrained", "random"] = "pretrained", seed: int = 0
) -> keras.Model:
    """Our classifier before any training on digits: the backbone's first ten blocks, and all of their output.

    Blocks 0 to 2 are frozen, blocks 3 to 9 train, with BatchNorm, whose averages follow quickly (momentum
    0.95). Input and output are those of `article_model`; the layers are "prepare", "backbone", "flatten",
    "dropout", "head". Cut it after ``"block_2_add"``. The seed is for the head, the dropout and a
    backbone of random weights. Explained in the chapter "Go beyond the article".
    """
    image_shape = datasets.load_dataset(edition.dataset).train.images.shape[1:]
    whole = load_backbone(edition.backbone, weights=weights, seed=seed)
    backbone = keras.Model(whole.inputs, whole.get_layer(OURS_END).output, name="backbone")
    freeze(backbone, train_from="block_3_expand", batch_norm="train")
    follow_quickly(backbone, 0.95)
    inputs = keras.Input(image_shape, name="digits")
    x = backbone(preparation(edition.backbone, image_shape, pixel_range=ARTICLE_RANGE)(inputs))
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dropout(0.3, seed=seed, name="dropout")(x)
    initial = keras.initializers.GlorotUniform(seed=seed)
    outputs = keras.layers.Dense(10, activation="softmax", kernel_initializer=initial, name="head")(x)
    return keras.Model(inputs, outputs, name="classifier")


def follow_quickly(backbone: keras.Model, momentum: float) -> None:
    """Set BatchNorm's momentum: with Keras' 0.999 its averages lag behind where steps are few."""
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum


def augmented(
    images: npt.NDArray[Any], labels: npt.NDArray[Any], *, copies: int = 3, seed: int = 0
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The images, and after them so many copies of each, turned, scaled and shifted a little at random.

    A frozen prefix can't see new images in each epoch if it runs once. It can see a few copies of each, made
    beforehand. Rotation by up to 12 degrees, zoom by up to 12%, shift by up to 7% of the size, by Keras' own
    layers. Explained in the chapter "Go beyond the article".

    Takes grey images (n, height, width) of any numeric dtype, on a background of 0, and their labels, (n,).
    Gives ((copies + 1) * n, height, width) of the same dtype, the originals first, and int64 labels.

    Examples
    --------
    >>> import numpy as np
    >>> from tlhelpers import studies
    >>> images, labels = studies.recipes.augmented(np.zeros((5, 8, 8), "uint8"), np.arange(5), copies=2)
    >>> images.shape, images.dtype, labels.shape
    ((15, 8, 8), dtype('uint8'), (15,))
    """
    expected, advice = "grey images (n, height, width), one at least", "Give them without a channel axis."
    images = _inputs.array("images", images, expected, advice, ndim=(3,))
    labels = _inputs.labels("labels", labels, len(images))
    copies = _inputs.whole("copies", copies, 0)
    change = keras.Sequential(
        [
            keras.layers.RandomRotation(12 / 360, fill_mode="constant", seed=seed),
            keras.layers.RandomZoom(0.12, fill_mode="constant", seed=seed),
            keras.layers.RandomTranslation(0.07, 0.07, fill_mode="constant", seed=seed),
        ]
    )
    changed = []
    for _ in range(copies):
        for first in range(0, len(images), 1024):
            batch = change(images[first : first + 1024, ..., None].astype("float32"), training=True)
            pixels = keras.ops.convert_to_numpy(batch)[..., 0]
            whole = np.issubdtype(images.dtype, np.integer)
            changed.append((np.rint(pixels) if whole else pixels).astype(images.dtype))
    return np.concatenate([images, *changed]), np.tile(labels, copies + 1)


def compile_as_ours(model: keras.Model, *, steps: int) -> None:
    """Compile with our recipe's optimiser: Adam, whose learning rate goes `up_and_down`, 0.002 at most.

    `steps` are those of all epochs. Explained in the chapter "Go beyond the article".
    """
    steps = _inputs.whole("steps", steps, 10, advice="Give the steps of all epochs together.")
    compile_with(keras.optimizers.Adam(up_and_down(0.002, steps)), model)


def up_and_down(peak: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A learning rate that rises over the first tenth of the steps, then follows a cosine to zero.

    Source of the cosine: Loshchilov and Hutter, *SGDR*, 2017; of the warm-up: Goyal et al., *Accurate, Large
    Minibatch SGD*, 2017.
    """
    rise = steps // 10
    return keras.optimizers.schedules.CosineDecay(0.0, steps - rise, warmup_target=peak, warmup_steps=rise)


def our_classifier(edition: editions.Edition, *, limit: int | None = None, seed: int = 0) -> Trained:
    """Our recipe: cut early, keep all of the output, train the middle, with copies of each digit.

    Trains on the first `limit` training digits, or on all. The seed is for the head's initial weights, the
    copies, the dropout and the order of the batches. Shown line by line in the chapter "Go beyond the
    article".
    """
    if limit is not None:
        limit = _inputs.whole("limit", limit, OURS_BATCH_SIZE, advice="A batch of digits is the least.")
    return _run(_Ours(edition, seed, limit))


def last_cut_before(model: keras.Model, layer: str) -> str:
    """The last cut point before a layer: where to divide a network that trains from there on."""
    order = [each.name for each in leaves(model)]
    first = order.index(layer)
    return [name for name in cut_points(model) if order.index(name) < first][-1]


@dataclass(frozen=True)
class Head:
    """A training that later chapters start from: what trains, from where, on what."""

    edition: editions.Edition
    seed: int
    name: ClassVar[str] = "article_head"
    phase: ClassVar[str] = "head"
    epochs: ClassVar[int] = HEAD_EPOCHS
    first_epoch: ClassVar[int] = 1
    batch_size: ClassVar[int] = BATCH_SIZE

    def blank(self) -> keras.Model:
        """The classifier with this phase's layers trainable and nobody's weights in particular."""
        return article_model(self.edition, seed=self.seed)

    def start(self) -> tuple[keras.Model, str]:
        """The classifier before this phase, and where to cut it."""
        return self.blank(), "pool"

    def digits(self, train: datasets.Split) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """What it trains on."""
        return train.images, train.labels

    def compile(self, steps: int, suffix: keras.Model) -> None:
        """Compile what trains, for so many steps in all."""
        compile_as_article(suffix)

    def train(
        self,
        compiling: Callable[[keras.Model], None] | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> tuple[keras.Model, pd.DataFrame]:
        """The classifier after this phase, and its history; `compiling` may take the recipe's place."""
        model, at = self.start()
        data = datasets.load_dataset(self.edition.dataset)
        images, labels = self.digits(data.train)
        steps = self.epochs * -(-len(images) // self.batch_size)
        history = train_behind(
            model,
            at,
            images,
            labels,
            compiling=compiling or functools.partial(self.compile, steps),
            batch_size=self.batch_size,
            epochs=self.epochs,
            seed=self.seed,
            validation=data.validation,
            callbacks=callbacks,
        )
        return model, history_table(history, phase=self.phase, first_epoch=self.first_epoch)


@dataclass(frozen=True)
class FineTune(Head):
    train_from: int
    name: ClassVar[str] = "article_fine_tuned"
    phase: ClassVar[str] = "fine-tuning"
    epochs: ClassVar[int] = FINE_TUNE_EPOCHS
    first_epoch: ClassVar[int] = HEAD_EPOCHS + 1

    def blank(self) -> keras.Model:
        model = article_model(self.edition, seed=self.seed)
        freeze(model.get_layer("backbone"), train_from=self.train_from, batch_norm="train")
        return model

    def compile(self, steps: int, suffix: keras.Model) -> None:
        compile_as_article(suffix)
        fuse(suffix)

    def start(self) -> tuple[keras.Model, str]:
        model = article_head(self.edition, seed=self.seed).model
        backbone = model.get_layer("backbone")
        freeze(backbone, train_from=self.train_from, batch_norm="train")
        return model, last_cut_before(model, backbone.layers[self.train_from].name)


@dataclass(frozen=True)
class _Ours(Head):
    limit: int | None
    name: ClassVar[str] = "our_classifier"
    phase: ClassVar[str] = "ours"
    batch_size: ClassVar[int] = OURS_BATCH_SIZE

    @property
    def epochs(self) -> int:  # type: ignore[override]
        return our_passes(self.edition)

    def blank(self) -> keras.Model:
        return our_model(self.edition, seed=self.seed)

    def start(self) -> tuple[keras.Model, str]:
        return self.blank(), OURS_CUT

    def digits(self, train: datasets.Split) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        return augmented(train.images[: self.limit], train.labels[: self.limit], seed=self.seed)

    def compile(self, steps: int, suffix: keras.Model) -> None:
        compile_as_ours(suffix, steps=steps)
        fuse(suffix)


def our_passes(edition: editions.Edition) -> int:
    """Passes over the digits and their copies: more where digits are few."""
    return 2 if edition.name == "full" else 20


def _run(plan: Head) -> Trained:
    path = _path(plan)
    if (kept := _read(path)) is None:
        with cache.lock(path.stem):
            if (kept := _read(path)) is None:
                bar = TqdmCallback(verbose=0, desc=plan.name, leave=False)
                _store(path, *plan.train(callbacks=[bar]))
                kept = _read(path)
    assert kept, path
    model, (weights, history) = plan.blank(), kept
    model.set_weights(weights)
    return Trained(model, history)


def train_behind(
    model: keras.Model,
    at: str,
    images: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    *,
    compiling: Callable[[keras.Model], None],
    batch_size: int,
    epochs: int,
    seed: int,
    validation: datasets.Split | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.callbacks.History:
    """Run what lies before a cut once, then compile and train the rest; the seed orders the batches."""
    prefix, suffix = split(model, at=at)
    features = precompute(prefix, images)
    held = (precompute(prefix, validation.images), validation.labels) if validation else None
    compiling(suffix)
    keras.utils.set_random_seed(seed)
    how: dict[str, Any] = {"batch_size": batch_size, "epochs": epochs, "callbacks": [*callbacks]}
    return suffix.fit(features, labels, validation_data=held, verbose=0, **how)


GROUPS = (*(f"block_{number}" for number in range(3, 10)), "head")  # what our recipe trains


class GroupAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam with a multiplier of the learning rate for each group of layers.

    Adam divides each gradient by its usual size, so to scale a gradient changes nothing: the rate itself
    must be scaled. A group's multiplier may change between epochs, without another `compile`; its moments go
    on being averaged while it is 0. Source: the discriminative learning rates of Howard and Ruder, 2018.

    `groups` are beginnings of layer names, each followed by ``_`` or the name's end. `multipliers` is a
    variable, float32, one number for each group, 1 at first: ``adam.multipliers.assign([0.1, 1.0])``.
    """

    def __init__(self, learning_rate: float = 0.001, groups: tuple[str, ...] = GROUPS) -> None:
        super().__init__(learning_rate)
        self.groups = tuple(groups)
        ones = np.ones(len(groups), "float32")
        self.multipliers = keras.Variable(ones, trainable=False, name="multipliers")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step, at its group's rate."""
        # TensorFlow's own variable, which Keras hands on here, has the path for a name.
        path = getattr(variable, "path", variable.name).partition(":")[0]
        layer = path.split("/")[-2]
        for place, group in enumerate(self.groups):
            if layer == group or layer.startswith(f"{group}_"):
                super().update_step(gradient, variable, learning_rate * self.multipliers[place])
                return
        raise ValueError(
            f"{path}: expected a layer of one of {', '.join(self.groups)}, got none of them. "
            "Freeze it, or name its group."
        )


def keep(
    model: keras.Model, suffix: keras.Model, history: Any, *, edition: editions.Edition, seed: int = 0
) -> bool:
    """Hand the result of a chapter's own lines to the chapters after it; gives whether it was kept.

    Takes the whole classifier after training, the part that `fit` trained, and the history that `fit` gave.
    Compares what was run with the recipe: layers, frozen weights, what trains, optimiser, loss, epochs and
    steps. (Labels and seed leave no trace in a model, so they can't be compared.) If all agree, the weights
    and the history go into the cache folder and the recipe need not run again. If not (a reader changed the
    number of epochs, say), it prints what differs and keeps nothing: later chapters then run the recipe
    themselves. Used in the chapters "Train the head" and "Fine-tune the top".
    """
    trains = [i for i, layer in enumerate(model.get_layer("backbone").layers) if layer.trainable]
    plan = FineTune(edition, seed, trains[0]) if trains else Head(edition, seed)
    reference, at = plan.start()
    expected_suffix = split(reference, at=at)[1]
    compile_as_article(expected_suffix)
    digits = len(datasets.load_dataset(edition.dataset).train)
    steps = plan.epochs * -(-digits // BATCH_SIZE)
    expected = _settings(reference, expected_suffix, epochs=plan.epochs, steps=steps)
    optimizer = getattr(suffix, "optimizer", None)
    steps = int(optimizer.iterations) if optimizer else 0
    got = _settings(model, suffix, epochs=history.params["epochs"], steps=steps)
    differs = [name for name in expected if expected[name] != got[name]]
    if differs:
        shown = [f"{name} (recipe {_short(expected[name])}, here {_short(got[name])})" for name in differs]
        print(f"Not kept for later chapters, since it differs from the recipe in {', '.join(shown)}.")
        return False
    _store(_path(plan), model, history_table(history, phase=plan.phase, first_epoch=plan.first_epoch))
    return True


def _settings(model: keras.Model, suffix: keras.Model, *, epochs: int, steps: int) -> dict[str, Any]:
    trainable = {id(weight) for weight in model.trainable_weights}
    optimizer = getattr(suffix, "optimizer", None)
    return {
        "epochs": epochs,
        "steps": steps,
        "optimizer": (type(optimizer).__name__, float(optimizer.learning_rate)) if optimizer else None,
        "loss": getattr(suffix, "loss", None),
        "layers": signature(model),
        "trained weights": [weight.path for weight in model.trainable_weights],
        "frozen weights": cache.content_key(
            *[
                keras.ops.convert_to_numpy(weight)
                for layer in leaves(model)
                if not layer.trainable
                for weight in layer.weights
                if id(weight) not in trainable
            ]
        ),
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _path(plan: Head) -> Path:
    """Where a recipe's result lies: a name made from all that goes into it."""
    data = datasets.load_dataset(plan.edition.dataset)
    backbone = load_backbone(plan.edition.backbone)
    key = cache.content_key(
        plan.name,
        *[getattr(plan, field.name) for field in dataclasses.fields(plan) if field.name != "edition"],
        keras.version(),
        keras.backend.backend(),
        importlib.import_module(keras.backend.backend()).__version__,
        cache.code_key("backbones", "datasets", "freezing", __name__),
        *[keras.ops.convert_to_numpy(weight) for weight in backbone.weights],
        *[array for part in (data.train, data.validation) for array in (part.images, part.labels)],
    )
    return cache.cache_folder() / "recipes" / f"{plan.name}-{key[:32]}.npz"


def _store(path: Path, model: keras.Model, history: pd.DataFrame) -> None:
    weights = [keras.ops.convert_to_numpy(each) for each in model.weights]
    with cache.atomic_file(path) as partial:
        # Not HDF5, which ends the process where a disk is full.
        np.savez(partial, *weights, name=path.stem, history=history.to_json(orient="records"))


def _read(path: Path) -> tuple[list[npt.NDArray[Any]], pd.DataFrame] | None:
    """The weights and the history that lie there; says so where they are not as they were stored."""
    if not path.exists():
        return None
    try:
        with np.load(path) as stored:  # an archive keeps a checksum of each array
            kept = {name: stored[name] for name in stored.files}
        history = io.StringIO(str(kept.pop("history")))
        if kept.pop("name") == path.stem:  # not another recipe's
            return [*kept.values()], pd.read_json(history, orient="records", precise_float=True)
    except Exception:  # an archive fails in as many ways as there are bytes to change
        pass
    warnings.warn(f"{path} is damaged (changed or truncated); it is computed again.", stacklevel=4)
    return None


# -- a frozen network, read at several depths ------------------------------------------------------


@functools.cache  # building the graph is slow
def reader(
    backbone: str, image_shape: tuple[int, ...], cuts: tuple[str, ...], *, batch_size: int, **how: Any
) -> Callable[[npt.NDArray[Any]], dict[str, npt.NDArray[np.float32]]]:
    """What gives the frozen features (n, numbers) of raw images, by cut; `how` is for `feature_extractor`."""
    see = feature_extractor(backbone, image_shape, cuts=cuts, **how)

    def read(images: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        seen = see.predict(images, batch_size=batch_size, verbose=0)
        return {cut: each.reshape(len(images), -1) for cut, each in zip(cuts, seen, strict=True)}

    return read


# -- tables ----------------------------------------------------------------------------------------


def table_network(width: int, *, seed: int = 0) -> keras.Model:
    """A small network for prepared rows of a table, float32 (n, width): a probability, (n, 1).

    Two hidden layers, dropout, and a head of one number; not compiled. The seed is for weights and dropout.
    """
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((width,))
    for number, units in ((1, 64), (2, 32)):
        x = keras.layers.Dense(units, activation="relu", name=f"hidden_{number}")(x)
    x = keras.layers.Dropout(0.2, seed=seed, name="dropout")(x)
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="head")(x))


# -- the classic shape, trained from any depth ----------------------------------------------------


# To trace a network takes longer than to train it on few labels, so the networks are kept.
@functools.lru_cache(maxsize=24)
def classic_network(
    backbone_name: str,
    image_shape: tuple[int, ...],
    image_size: int,
    classes: int,
    train_from: str,
    *,
    cut: str = "out_relu",
    pooled: bool = True,
) -> Network:
    """Backbone, average pooling, dropout and one dense layer, cut before what trains; BatchNorm frozen.

    The same compiled network at every call: `Network.reset` sets it back. `train_from` is the first layer
    that trains, `cut` the last one of the backbone that is kept; without `pooled` the head reads all of its
    numbers. The rest is as `tlhelpers.load_backbone` takes it.
    """
    whole = load_backbone(backbone_name, image_size=image_size)
    backbone = keras.Model(whole.inputs, whole.get_layer(cut).output, name="backbone")
    freeze(backbone, train_from=train_from)
    inputs = keras.Input(image_shape, name="images")
    x = backbone(preparation(backbone_name, image_shape, image_size=image_size)(inputs))
    x = (keras.layers.GlobalAveragePooling2D if pooled else keras.layers.Flatten)(name="pool")(x)
    x = keras.layers.Dropout(0.2, seed=0, name="dropout")(x)
    model = keras.Model(inputs, keras.layers.Dense(classes, activation="softmax", name="head")(x))
    prefix, suffix = split(model, last_cut_before(model, train_from))
    suffix.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
    suffix.optimizer.build(suffix.trainable_variables)
    return Network(prefix, suffix, suffix.get_weights())


def train_classic(
    network: Network,
    few: datasets.Split,
    validation: datasets.Split,
    test: datasets.Split,
    *,
    penalty: float,
    rate: float,
    epochs: int,
    batch_size: int,
    seed: int,
) -> list[npt.NDArray[np.float32]]:
    """Train a `classic_network` on few images; give its probabilities for validation and test images.

    The head starts as a linear probe: ridge on the frozen features, with a `penalty` in units of their mean
    squared distance from their mean, as a softmax whose scale is fitted to the validation images. The frozen
    part is computed once; the rest trains with Adam, the learning rate following a cosine.
    """
    network.reset(rate, seed)
    x, held, seen = (np.array(precompute(network.prefix, part.images)) for part in (few, validation, test))
    read = functools.partial(network.read.predict, batch_size=100, verbose=0)
    network.suffix.get_layer("head").set_weights(
        probe_head(read(x), few.labels, read(held), validation.labels, penalty=penalty)
    )
    fit_with_cosine(network.suffix, x, few.labels, rate=rate, epochs=epochs, batch_size=batch_size, seed=seed)
    return [network.suffix.predict(each, batch_size=100, verbose=0) for each in (held, seen)]


def probe_head(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    held: npt.NDArray[np.float32],
    held_labels: npt.NDArray[np.int64],
    *,
    penalty: float,
) -> list[npt.NDArray[np.float64]]:
    """Kernel and bias of a softmax that is a linear probe: see `train_classic`."""
    classes = len(np.unique(held_labels))
    size = ((features - features.mean(axis=0)) ** 2).sum() / len(features)
    targets = np.where(labels[:, None] == range(classes), 1, -1)
    ridge = Ridge(penalty * size).fit(features, targets)
    scores = ridge.predict(held)
    # One number that changes no answer; Guo et al., On calibration of modern neural networks, 2017.
    scale = minimize_scalar(lambda k: log_loss(held_labels, softmax(k * scores, axis=1)), bounds=(0, 100)).x
    return [scale * ridge.coef_.T, scale * ridge.intercept_]
