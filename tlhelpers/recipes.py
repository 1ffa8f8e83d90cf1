"""What later chapters need from earlier ones: the article's recipe, trained, each phase one function.

A chapter shows its Keras lines and runs them. A later chapter that starts from the result calls the
function here, which runs the same lines once and keeps the weights in the cache folder, under a name
made from everything that went in. A chapter that has just run its lines hands the result over with
`keep`, so that it need not be computed again; what was not run as the recipe says is not kept.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pandas as pd
from tqdm.keras import TqdmCallback

from . import cache, datasets, editions
from .backbones import load_backbone, preparation
from .evaluation import history_table
from .freezing import freeze, leaves
from .prefix import cut_points, precompute, signature, split

__all__ = ["TRAIN_FROM", "Trained", "article_fine_tuned", "article_head", "article_model", "keep"]

BATCH_SIZE = 32
HEAD_EPOCHS = 10
FINE_TUNE_EPOCHS = 5
STEPS_PER_EXECUTION = 20
"""Steps that Keras runs between two looks from Python; changes speed only."""

TRAIN_FROM = 100
"""First backbone layer that fine-tuning trains. The article says "the last few layers" and no more;
this is the choice of TensorFlow's tutorial on transfer learning. Its chapter measures two others."""


@dataclass(frozen=True)
class Trained:
    """A trained classifier and how it got there.

    Attributes
    ----------
    model
        The whole classifier: raw digits in, ten probabilities out.
    history
        One row an epoch, as `tlhelpers.evaluation.history_table` makes it.
    """

    model: keras.Model
    history: pd.DataFrame


def article_model(edition: editions.Edition, *, seed: int = 0) -> keras.Model:
    """The article's classifier before any training on digits, as the chapter "Build the model" builds it.

    Parameters
    ----------
    edition
        Names the data set (whose image size the model takes) and the backbone.
    seed
        For the head's random initial weights.

    Returns
    -------
    keras.Model
        Raw digits (n, height, width), values 0..255, to float32 (n, 10) probabilities. Layers
        "prepare", "backbone" (frozen), "pool", "head".

    Notes
    -----
    Explained in the chapter "Build the model".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> pocket = tl.editions.Edition("pocket", "digits", "mobilenet_v2_glyphs", "an example")
    >>> tl.recipes.article_model(pocket).output_shape
    (None, 10)
    """
    image_shape = datasets.load_dataset(edition.dataset).train.images.shape[1:]
    prepare = preparation(image_shape)
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
    model.compile(
        optimizer=keras.optimizers.Adam(),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
    )


def article_head(edition: editions.Edition, *, seed: int = 0) -> Trained:
    """The article's first phase: the backbone frozen, the head trained for ten epochs.

    Parameters
    ----------
    edition
        Names data set and backbone.
    seed
        For the head's initial weights and the order of the batches.

    Returns
    -------
    Trained
        The classifier and ten rows of history.

    Raises
    ------
    tlhelpers.downloads.DownloadError
        If data or weights can't be had.

    Notes
    -----
    Shown line by line in the chapter "Train the head".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> trained = tl.recipes.article_head(tl.editions.current())  # doctest: +SKIP
    """
    return _run(_Head(edition, seed))


def article_fine_tuned(edition: editions.Edition, *, train_from: int = TRAIN_FROM, seed: int = 0) -> Trained:
    """The article's second phase: the backbone's last layers unfrozen, BatchNorm training, five epochs.

    Parameters
    ----------
    edition
        Names data set and backbone.
    train_from
        Index of the first backbone layer that trains.
    seed
        For the first phase, and for the order of the batches in both.

    Returns
    -------
    Trained
        The classifier and five rows of history, epochs 11 to 15.

    Raises
    ------
    ValueError
        If `train_from` is no index of a backbone layer.
    tlhelpers.downloads.DownloadError
        If data or weights can't be had.

    Notes
    -----
    Shown line by line in the chapter "Fine-tune the top".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> trained = tl.recipes.article_fine_tuned(tl.editions.current())  # doctest: +SKIP
    """
    layers = len(load_backbone(edition.backbone).layers)
    if not 0 <= train_from < layers:
        raise ValueError(f"train_from: expected an index into {layers} backbone layers, got {train_from}.")
    return _run(_FineTune(edition, seed, train_from))


def last_cut_before(model: keras.Model, train_from: int) -> str:
    """The last cut point of the frozen part: where the second phase divides the network."""
    order = [layer.name for layer in leaves(model)]
    first = order.index(model.get_layer("backbone").layers[train_from].name)
    return [name for name in cut_points(model) if order.index(name) < first][-1]


@dataclass(frozen=True)
class _Head:
    edition: editions.Edition
    seed: int
    name = "article_head"
    phase = "head"
    epochs = HEAD_EPOCHS
    first_epoch = 1

    def start(self) -> tuple[keras.Model, str]:
        """The classifier before this phase, and where to cut it."""
        return article_model(self.edition, seed=self.seed), "pool"


@dataclass(frozen=True)
class _FineTune:
    edition: editions.Edition
    seed: int
    train_from: int
    name = "article_fine_tuned"
    phase = "fine-tuning"
    epochs = FINE_TUNE_EPOCHS
    first_epoch = HEAD_EPOCHS + 1

    def start(self) -> tuple[keras.Model, str]:
        model = article_head(self.edition, seed=self.seed).model
        freeze(model.get_layer("backbone"), train_from=self.train_from, batch_norm="train")
        return model, last_cut_before(model, self.train_from)


_Plan = _Head | _FineTune


def _run(plan: _Plan) -> Trained:
    folder = _folder(plan)
    with cache.lock(folder.name):
        if not folder.exists():
            model, at = plan.start()
            data = datasets.load_dataset(plan.edition.dataset)
            prefix, suffix = split(model, at=at)
            train, validation = (precompute(prefix, part.images) for part in (data.train, data.validation))
            compile_as_article(suffix)
            keras.utils.set_random_seed(plan.seed)
            history = suffix.fit(
                train,
                data.train.labels,
                validation_data=(validation, data.validation.labels),
                batch_size=BATCH_SIZE,
                epochs=plan.epochs,
                verbose=0,
                callbacks=[TqdmCallback(verbose=0, desc=plan.name, leave=False)],
            )
            _store(folder, model, history_table(history, phase=plan.phase, first_epoch=plan.first_epoch))
    return _load(plan, folder)


def keep(
    model: keras.Model, suffix: keras.Model, history: Any, *, edition: editions.Edition, seed: int = 0
) -> bool:
    """Hand the result of a chapter's own lines to the chapters after it.

    Compares what was run with the recipe: layers, frozen weights, what trains, optimiser, loss,
    epochs and steps. (Labels and seed leave no trace in a model, so they can't be compared.) If all
    agree, the weights and the history go into the cache folder and the recipe need not run again. If
    not (a reader changed the number of epochs, say), it prints what differs and keeps nothing: later
    chapters then run the recipe themselves.

    Parameters
    ----------
    model
        The whole classifier after training.
    suffix
        The part that `fit` trained.
    history
        What `fit` returned.
    edition, seed
        As given to the recipe.

    Returns
    -------
    bool
        Whether the result was kept, or had been before.

    Notes
    -----
    Used in the chapters "Train the head" and "Fine-tune the top".

    Examples
    --------
    >>> import tlhelpers as tl
    >>> tl.recipes.keep(model, suffix, history, edition=edition)  # doctest: +SKIP
    True
    """
    trains = [i for i, layer in enumerate(model.get_layer("backbone").layers) if layer.trainable]
    plan: _Plan = _FineTune(edition, seed, trains[0]) if trains else _Head(edition, seed)
    reference, at = plan.start()
    expected_suffix = split(reference, at=at)[1]
    compile_as_article(expected_suffix)
    images = len(datasets.load_dataset(edition.dataset).train)
    per_epoch = -(-images // BATCH_SIZE)
    expected = _settings(reference, expected_suffix, epochs=plan.epochs, steps=plan.epochs * per_epoch)
    optimizer = getattr(suffix, "optimizer", None)
    steps = int(optimizer.iterations) if optimizer else 0
    got = _settings(model, suffix, epochs=history.params["epochs"], steps=steps)
    differs = [name for name in expected if expected[name] != got[name]]
    if differs:
        shown = [f"{name} (recipe {_short(expected[name])}, here {_short(got[name])})" for name in differs]
        print(f"Not kept for later chapters, since it differs from the recipe in {', '.join(shown)}.")
        return False
    folder = _folder(plan)
    with cache.lock(folder.name):
        _store(folder, model, history_table(history, phase=plan.phase, first_epoch=plan.first_epoch))
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


def _folder(plan: _Plan) -> Path:
    """Where a recipe's result lies: a name made from all that goes into it."""
    data = datasets.load_dataset(plan.edition.dataset)
    backbone = load_backbone(plan.edition.backbone)
    key = cache.content_key(
        plan.name,
        plan.seed,
        getattr(plan, "train_from", None),
        keras.version(),
        keras.backend.backend(),
        importlib.import_module(keras.backend.backend()).__version__,
        cache.library_digest(),
        *[keras.ops.convert_to_numpy(weight) for weight in backbone.weights],
        *[array for part in (data.train, data.validation) for array in (part.images, part.labels)],
    )
    return cache.cache_folder() / "recipes" / f"{plan.name}-{key[:32]}"


def _store(folder: Path, model: keras.Model, history: pd.DataFrame) -> None:
    if not folder.exists():
        with cache.atomic_folder(folder) as partial:
            model.save_weights(partial / "model.weights.h5")
            history.to_json(partial / "history.json", orient="records")


def _load(plan: _Plan, folder: Path) -> Trained:
    model = article_model(plan.edition, seed=plan.seed)
    model.load_weights(folder / "model.weights.h5")
    if isinstance(plan, _FineTune):
        freeze(model.get_layer("backbone"), train_from=plan.train_from, batch_norm="train")
    return Trained(model, pd.read_json(folder / "history.json", orient="records", precise_float=True))
