"""The measurements. Each runs in a process of its own, with an empty cache unless it says otherwise.

    python -m benchmarks.pieces NAME '{"argument": value}' RESULT.json

Times begin after the imports: both sides import the same. Every function returns plain numbers, lists
and texts; arrays named "predictions" are compared by `__main__` and not printed.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tlhelpers as tl
from benchmarks.meter import Laps, Peak
from tlhelpers import _backend, _graph, _workers, page
from tlhelpers.studies import recipes

Result = dict[str, Any]
IMAGES = 60_000
SUFFIX_CUT = "block_10_project_BN"


def _parts(images: int) -> tuple[tl.datasets.Split, tl.datasets.Split, tl.datasets.Split]:
    """The first so many images, four fifths for training, and the test images."""
    data = tl.load_dataset("mnist")
    n = images * 4 // 5

    def first(part: tl.datasets.Split, k: int) -> tl.datasets.Split:
        return part.take(np.arange(len(part))[:k])

    return first(data.train, n), first(data.validation, images - n), data.test


class _Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Seconds of each epoch, its validation included."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.epochs: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(time.perf_counter() - self._began)


def _accuracy(probabilities: Any, labels: Any) -> float:
    return float((np.asarray(probabilities).argmax(axis=1) == labels).mean())


# -- the article's recipe, plain and cached ------------------------------------------------------


def plain(images: int = IMAGES, head_epochs: int = 10, tune_epochs: int = 5, seed: int = 0) -> Result:
    """The article's recipe as it stands there: arrays prepared in memory, `fit` on the whole network."""
    return _article(images, head_epochs, tune_epochs, seed, once=False)


def cached(images: int = IMAGES, head_epochs: int = 10, tune_epochs: int = 5, seed: int = 0) -> Result:
    """The same recipe with the frozen part computed once and the steps fused."""
    return _article(images, head_epochs, tune_epochs, seed, once=True)


def _article(images: int, head_epochs: int, tune_epochs: int, seed: int, *, once: bool) -> Result:
    laps = Laps()
    result: Result = {}
    with Peak() as peak:
        train, validation, test = _parts(images)
        whole = recipes.article_model(_edition(), seed=seed)
        if not once:
            x, x_validation = (_prepared(part.images) for part in (train, validation))
            trained = _plain_model(whole)
        laps.lap("prepare")
        for phase, epochs, cut in (("head", head_epochs, "pool"), ("tune", tune_epochs, SUFFIX_CUT)):
            if phase == "tune":
                tl.freeze(whole.get_layer("backbone"), train_from=100, batch_norm="train")
            if once:
                prefix, trained = tl.split(whole, at=cut)
                x, x_validation = (tl.precompute(prefix, part.images) for part in (train, validation))
                laps.lap(f"{phase} prefix")
                recipes.compile_as_article(trained)
                if phase == "tune":
                    tl.fuse(trained)
            else:
                trained.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            clock = _Clock()
            keras.utils.set_random_seed(seed)
            fitted = trained.fit(
                x,
                train.labels,
                validation_data=(x_validation, validation.labels),
                batch_size=32,
                epochs=epochs,
                verbose=0,
                callbacks=[clock],
            )
            laps.lap(phase)
            predictions = whole.predict(test.images, batch_size=256, verbose=0)
            result[phase] = {
                "history": {
                    key: [float(value) for value in values] for key, values in fitted.history.items()
                },
                "epochs": clock.epochs,
                "test": _accuracy(predictions, test.labels),
                "predictions": predictions.argmax(axis=1).tolist(),
            }
            laps.skip()
    # The figure without BatchNorm's lag, as the chapter "Fine-tune the top" has it.
    tl.refresh_batch_norm(whole, train.images[:5120])
    result["refreshed_test"] = _accuracy(whole.predict(test.images, batch_size=256, verbose=0), test.labels)
    return {**result, "seconds": laps.seconds, "peak_mb": peak.mb}


def _prepared(images: Any, size: int = 32) -> Any:
    """The images as the backbone takes them, all in memory, as the article has them."""
    return _preparation(size).predict(images, batch_size=256, verbose=0)


def _preparation(size: int = 32) -> keras.Model:
    """Raw digits to what the article gives the backbone."""
    return tl.preparation(
        "mobilenet_v2_imagenet", (28, 28), image_size=size, pixel_range=recipes.ARTICLE_RANGE
    )


def _plain_model(whole: keras.Model, size: int = 32) -> keras.Model:
    """The classifier without its preparation; layers are shared."""
    inputs = keras.Input((size, size, 3))
    backbone = whole.get_layer("backbone")
    return keras.Model(inputs, whole.get_layer("head")(whole.get_layer("pool")(backbone(inputs))))


# -- ours ----------------------------------------------------------------------------------------


def quick(seed: int = 0) -> Result:
    """The least that beats the article's 84.34%: 2,000 digits through the first blocks, one linear layer."""
    laps = Laps()
    data = tl.load_dataset("mnist")
    images, labels = data.train.images[:2000], data.train.labels[:2000]
    backbone = tl.load_backbone("mobilenet_v2_imagenet")
    tl.freeze(backbone)
    inputs = keras.Input((28, 28))
    features = keras.Model(backbone.inputs, backbone.get_layer("block_5_add").output)
    x = keras.layers.Flatten(name="flatten")(features(_preparation()(inputs)))
    initial = keras.initializers.GlorotUniform(seed=seed)
    head = keras.layers.Dense(10, activation="softmax", kernel_initializer=initial)
    model = keras.Model(inputs, head(x))
    prefix, suffix = tl.split(model, at="flatten")
    suffix.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", steps_per_execution=20)
    keras.utils.set_random_seed(seed)
    suffix.fit(tl.precompute(prefix, images), labels, batch_size=32, epochs=5, verbose=0)
    laps.lap("all")
    predictions = model.predict(data.test.images, batch_size=256, verbose=0)
    return {"seconds": laps.seconds, "test": _accuracy(predictions, data.test.labels)}


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Accuracy on the validation digits four times an epoch, its own seconds left out of the laps."""

    def __init__(self, laps: Laps, steps: int, x: Any, labels: Any) -> None:
        super().__init__()
        self.laps, self.steps, self.x, self.labels = laps, steps, x, labels
        self.points: list[tuple[float, float]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.due = [self.steps * quarter // 4 for quarter in (1, 2, 3, 4)]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Keras calls this after the last of the steps it runs together.
        if not self.due or batch + 1 < self.due[0]:
            return
        self.due.pop(0)
        self.laps.lap("train")
        answers = self.model.predict(self.x, batch_size=250, verbose=0)
        self.points.append((sum(self.laps.seconds.values()), _accuracy(answers, self.labels)))
        self.laps.skip()


def best(images: int = IMAGES, seed: int = 0) -> Result:
    """Our recipe from nothing, as the chapter "Go beyond the article" has it."""
    laps = Laps()
    with Peak() as peak:
        digits, validation, test = _parts(images)
        copies, labels = recipes.augmented(digits.images, digits.labels, seed=seed)
        laps.lap("copies")
        model = recipes.our_model(_edition(), seed=seed)
        prefix, suffix = tl.split(model, at=recipes.OURS_CUT)
        x, x_validation = (tl.precompute(prefix, each) for each in (copies, validation.images))
        laps.lap("prefix")
        fitted = _fit_ours(suffix, x, labels, x_validation, validation.labels, laps, seed=seed)
    predictions = model.predict(test.images, batch_size=256, verbose=0)
    return {**fitted, "test": _accuracy(predictions, test.labels), "peak_mb": peak.mb}


def _fit_ours(
    model: keras.Model,
    x: Any,
    labels: Any,
    x_validation: Any,
    labels_validation: Any,
    laps: Laps,
    *,
    seed: int,
    epochs: int = 2,
    batch_size: int = recipes.OURS_BATCH_SIZE,
) -> Result:
    steps = -(-len(x) // batch_size)
    recipes.compile_as_ours(model, steps=epochs * steps)
    tl.fuse(model)
    watch = _Watch(laps, steps, x_validation, labels_validation)
    keras.utils.set_random_seed(seed)
    model.fit(x, labels, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=[watch])
    laps.lap("train")
    return {"points": watch.points, "validation": watch.points[-1][1], "seconds": laps.seconds}


def convnet(budget_s: float, images: int = IMAGES, seed: int = 0) -> Result:
    """A small convolutional network from scratch, with the same copies, schedule and number of seconds."""
    laps = Laps()
    with Peak() as peak:
        digits, validation, test = _parts(images)
        copies, labels = recipes.augmented(digits.images, digits.labels, seed=seed)
        laps.lap("copies")
        # Seconds of a step, from a short run that counts as spent.
        trial = tl.backbones.small_convnet((28, 28), seed=seed)
        recipes.compile_as_ours(trial, steps=100)
        tl.fuse(trial)
        trial.fit(copies[:2560], labels[:2560], batch_size=128, verbose=0)
        began = time.perf_counter()
        trial.fit(copies[: 60 * 128], labels[: 60 * 128], batch_size=128, verbose=0)
        a_step = (time.perf_counter() - began) / 60
        laps.lap("trial")
        steps = int((budget_s - sum(laps.seconds.values())) / a_step)
        per_epoch = -(-len(copies) // 128)
        # Whole epochs of equal size that fill the budget.
        epochs = -(-steps // per_epoch)
        used = min(len(copies), steps // epochs * 128)
        shuffled = np.random.default_rng(seed).permutation(len(copies))[:used]
        model = tl.backbones.small_convnet((28, 28), seed=seed)
        fitted = _fit_ours(
            model,
            copies[shuffled],
            labels[shuffled],
            validation.images,
            validation.labels,
            laps,
            seed=seed,
            epochs=epochs,
        )
    predictions = model.predict(test.images, batch_size=256, verbose=0)
    fitted.update(epochs=epochs, parameters=model.count_params(), peak_mb=peak.mb)
    return {**fitted, "test": _accuracy(predictions, test.labels)}


def tuned(seed: int, once: bool, images: int = IMAGES) -> Result:
    """The second phase alone, five epochs, from the same first phase on both sides."""
    train, _, test = _parts(images)
    whole = recipes.article_head(_edition(), seed=seed).model
    trained, inputs = _second_phase(whole, (train.images,), once=once)
    keras.utils.set_random_seed(seed)
    trained.fit(inputs[0], train.labels, batch_size=32, epochs=5, verbose=0)
    as_is = _accuracy(whole.predict(test.images, batch_size=256, verbose=0), test.labels)
    tl.refresh_batch_norm(whole, train.images[:5120])
    refreshed = _accuracy(whole.predict(test.images, batch_size=256, verbose=0), test.labels)
    return {"test": as_is, "refreshed_test": refreshed}


def first_steps(dtype: str, seed: int = 0, steps: int = 50, nudge: float = 1e-7) -> Result:
    """The losses of the second phase's first steps: plain, cached, and plain with its start nudged.

    Rounding differs between the two ways to compute the frozen part, and these steps magnify any
    difference. In float64 rounding is too small to show; the nudge shows what float32 alone would do.
    """
    train = tl.load_dataset("mnist").train
    images, labels = train.images[: 32 * steps], train.labels[: 32 * steps]
    head = recipes.article_head(_edition(), seed=seed).model.get_weights()
    # Both: the policy took its value from floatx when the first layer was made.
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    result: Result = {}
    for side in ("plain", "cached", "plain, nudged"):
        whole = recipes.article_model(_edition(), seed=seed)
        whole.set_weights(head)
        trained, (x,) = _second_phase(whole, (images,), once=side == "cached", keep=dtype == "float32")
        if side == "plain, nudged":
            rng = np.random.default_rng(0)
            for weight in whole.trainable_weights:
                weight.assign(weight * (1 + nudge * rng.standard_normal(weight.shape)))
        losses = []
        for first in range(0, len(x), 32):
            trained.reset_metrics()
            part = slice(first, first + 32)
            losses.append(float(trained.train_on_batch(x[part], labels[part])[0]))
        result[side] = losses
    return result


def _second_phase(
    whole: keras.Model, parts: tuple[Any, ...], *, once: bool, keep: bool = True
) -> tuple[keras.Model, list[Any]]:
    """The model to train, compiled, and its inputs: prepared images, or the frozen part's activations."""
    tl.freeze(whole.get_layer("backbone"), train_from=100, batch_norm="train")
    if once:
        prefix, trained = tl.split(whole, at=SUFFIX_CUT)
        # Files hold float32 at most; in float64 the prefix' activations stay in memory.
        inputs = [tl.precompute(prefix, part) if keep else prefix.predict(part, verbose=0) for part in parts]
        recipes.compile_as_article(trained)
    else:
        trained, inputs = _plain_model(whole), [_prepared(part) for part in parts]
        trained.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return trained, inputs


# -- how it grows --------------------------------------------------------------------------------


def grows(images: int, size: int, once: bool) -> Result:
    """Seconds and memory of ten epochs of the first phase, for so many images of so many pixels a side.

    Plain epochs take equally long, so two are run: the first, and the second for the nine others.
    """
    train, _, _ = _parts(IMAGES)
    pictures, labels = (np.resize(each, (images, *each.shape[1:])) for each in (train.images, train.labels))
    laps = Laps()
    with Peak() as peak:
        prepare = _preparation(size)
        backbone = tl.load_backbone("mobilenet_v2_imagenet", image_size=size)
        tl.freeze(backbone)
        inputs = keras.Input((28, 28))
        x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(prepare(inputs)))
        whole = keras.Model(inputs, keras.layers.Dense(10, activation="softmax", name="head")(x))
        clock = _Clock()
        if once:
            prefix, trained = tl.split(whole, at="pool")
            x = tl.precompute(prefix, pictures)
            recipes.compile_as_article(trained)
        else:
            x = _prepared(pictures, size)
            trained = _plain_model(whole, size)
            trained.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        laps.lap("prepare")
        trained.fit(x, labels, batch_size=32, epochs=10 if once else 2, verbose=0, callbacks=[clock])
    epochs = sum(clock.epochs) if once else clock.epochs[0] + 9 * clock.epochs[1]
    return {"seconds": laps.seconds["prepare"] + epochs, "peak_mb": peak.mb}


def chapters() -> Result:
    """The MNIST chapters as CI runs them, in the cache folder of this process."""
    command = [sys.executable, "-m", "pytest", "--nbmake", "-q", "-p", "no:cacheprovider", "book/mnist"]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return {"seconds": time.perf_counter() - began}


# -- why it is quick -----------------------------------------------------------------------------


def matrix_rate(size: int = 2048, repeats: int = 20) -> Result:
    """The machine's single-precision matrix rate, in multiply-adds a second: the best of many products."""
    a = tf.random.normal((size, size))
    product = tf.function(lambda: a @ a)
    product()
    return {"macs_per_s": size**3 / min(_seconds(product) for _ in range(repeats))}


def _seconds(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def multiply_adds(model: keras.Model) -> int:
    """Multiply-adds of one image through the convolutions and dense layers."""
    total = 0
    for layer in tl.freezing.leaves(model):
        places = int(np.prod(layer.output.shape[1:-1])) if hasattr(layer, "output") else 1
        if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D | keras.layers.Dense):
            total += places * int(np.prod(layer.kernel.shape))
    return total


def passes(images: int = 8192, repeats: int = 3) -> Result:
    """Images a second of the frozen pass: Keras compiled, by batch size, and LiteRT; turn by turn."""
    pictures = tl.load_dataset("mnist").train.images[:images]
    model = recipes.article_model(_edition())
    result: Result = {}
    for cut in ("pool", "block_2_add"):
        prefix, _ = tl.split(model, at=cut)
        runs: dict[str, tuple[int, Any]] = {}
        for size in (32, 64, 128, 256):
            runs[f"keras {size}"] = (
                size,
                lambda batch, prefix=prefix: np.asarray(prefix.predict_on_batch(batch)),
            )
        began = time.perf_counter()
        converted = _workers.interpreter(_backend.litert(prefix, (28, 28)), threads=os.cpu_count())
        conversion = time.perf_counter() - began
        runs["litert 64"] = (64, lambda batch, run=converted: run(batch)[0])
        best: dict[str, float] = {}
        outputs: dict[str, Any] = {}
        for _ in range(repeats):
            for name, (size, run) in runs.items():
                run(pictures[:size])
                began = time.perf_counter()
                outputs[name] = np.concatenate([run(pictures[i : i + size]) for i in range(0, images, size)])
                best[name] = max(best.get(name, 0.0), images / (time.perf_counter() - began))
        reference = outputs["keras 64"]
        result[cut] = {
            "images_per_s": best,
            "conversion_s": conversion,
            "difference": float(np.abs(outputs["litert 64"] - reference).max() / np.abs(reference).max()),
            "multiply_adds": multiply_adds(prefix),
        }
    return result


def steps(images: int = 1600, repeats: int = 5) -> Result:
    """Milliseconds of a training step of the second phase: 1x1 convolutions as such or as products."""
    train, _, _ = _parts(IMAGES)
    model = recipes.article_model(_edition())
    tl.freeze(model.get_layer("backbone"), train_from=100, batch_norm="train")
    prefix, product = tl.split(model, at=SUFFIX_CUT)
    x = np.asarray(tl.precompute(prefix, train.images[:images]))
    # The same cut without the library's stand-ins.
    flat = _graph.flat(model)
    convolution = keras.Model(_graph.cuts(flat)[SUFFIX_CUT], flat.outputs[0])
    found: dict[str, list[float]] = {}
    sides = {
        f"{name}, {together} step{'s' * (together > 1)} a call": (suffix, together)
        for name, suffix in (("convolution", convolution), ("matrix product", product))
        for together in (1, 20)
    }
    for _ in range(repeats):
        for name, (suffix, together) in sides.items():
            suffix.compile("adam", "sparse_categorical_crossentropy", steps_per_execution=together)
            suffix.fit(x[:640], train.labels[:640], batch_size=32, verbose=0)
            began = time.perf_counter()
            suffix.fit(x, train.labels[:images], batch_size=32, verbose=0)
            found.setdefault(name, []).append(1000 * (time.perf_counter() - began) / (images / 32))
    return {name: float(np.median(values)) for name, values in found.items()}


def fused_steps(
    number: int = 60, repeats: int = 3, nudge: float = 1e-7, *, one_thread: bool = False
) -> Result:
    """Steps as Keras makes them, as this book did, and fused: milliseconds, by clock and by processor.

    With one thread each operation has one, and operations still run beside each other.

    Sides take turns. And the losses of the first 50 steps, with those of a start that was nudged: these steps
    magnify any difference, so fused ones should part from plain ones no more than nudged ones do.
    """
    if one_thread:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    train, _, _ = _parts(IMAGES)
    result: Result = {}
    for recipe, cut, batch in (
        ("article", SUFFIX_CUT, 32),
        ("ours", recipes.OURS_CUT, recipes.OURS_BATCH_SIZE),
    ):
        sides: dict[str, keras.Model] = {}
        for side in ("keras", "plain", "fused", "nudged"):
            model = (
                recipes.article_model(_edition()) if recipe == "article" else recipes.our_model(_edition())
            )
            if recipe == "article":
                tl.freeze(model.get_layer("backbone"), train_from=100, batch_norm="train")
            prefix, suffix = tl.split(model, at=cut)
            if side == "keras":  # without the library's stand-ins
                flat = _graph.flat(model)
                suffix = keras.Model(_graph.cuts(flat)[cut], flat.outputs[0])
            if side == "nudged":
                rng = np.random.default_rng(0)
                for weight in suffix.trainable_weights:
                    weight.assign(weight * (1 + nudge * rng.standard_normal(weight.shape)))
            together = 1 if side == "keras" else 20
            suffix.compile("adam", "sparse_categorical_crossentropy", steps_per_execution=together)
            if side == "fused":
                tl.fuse(suffix)
            sides[side] = suffix
        x = np.array(tl.precompute(prefix, train.images[: batch * number]))
        y = train.labels[: len(x)]
        losses: dict[str, list[float]] = {side: [] for side in ("plain", "fused", "nudged")}
        for side, several in losses.items():
            for first in range(0, 50 * batch, batch):
                sides[side].reset_metrics()
                part = slice(first, first + batch)
                several.append(float(sides[side].train_on_batch(x[part], y[part])))
        del sides["nudged"]
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for turn in range(repeats + 1):
            for side, suffix in sides.items():
                began, spent = time.perf_counter(), time.process_time()
                suffix.fit(x, y, batch_size=batch, verbose=0)
                if turn:  # the first one traces
                    took = (time.perf_counter() - began, time.process_time() - spent)
                    found[side].append((1000 * took[0] / number, 1000 * took[1] / number))
        result[recipe] = {
            "losses": losses,
            **{side: [float(each) for each in np.median(turns, axis=0)] for side, turns in found.items()},
        }
    return result


def array_feed(plainly: bool = False, fits: int = 10, epochs: int = 30) -> Result:
    """Ten short fits of a small network, and how long each blocks after its last epoch."""
    if plainly:
        _graph.feed_arrays_plainly()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2000, 64)).astype("float32"), np.arange(2000) % 10
    layers = keras.layers
    model = keras.Sequential([keras.Input((64,)), layers.Dense(256, "relu"), layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=1, verbose=0)
    seconds, waited = [], []
    for _ in range(fits):
        ended: list[float] = []
        end = keras.callbacks.LambdaCallback(
            on_train_end=lambda logs=None, e=ended: e.append(time.perf_counter())
        )
        began = time.perf_counter()
        model.fit(x, y, epochs=epochs, validation_data=(x, y), verbose=0, callbacks=[end])
        seconds.append(time.perf_counter() - began)
        waited.append(began + seconds[-1] - ended[0])
    return {"seconds": seconds, "waited": waited}


def _edition() -> page.Edition:
    edition = page.current()
    if edition.name != "full":
        raise SystemExit("benchmarks: expected the full edition's data, got the pocket edition.")
    return edition


def main() -> None:
    """Run one measurement and write what it returns."""
    name, arguments, path = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
    if name not in PIECES:
        raise SystemExit(f"piece: expected one of {', '.join(PIECES)}, got {name!r}.")
    result = {**PIECES[name](**arguments), "commit": page.stamp()["commit"]}
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(result))
    partial.replace(path)


PIECES: dict[str, Any] = {
    piece.__name__: piece
    for piece in (
        plain,
        cached,
        quick,
        best,
        convnet,
        tuned,
        first_steps,
        grows,
        chapters,
        matrix_rate,
        passes,
        steps,
        fused_steps,
        array_feed,
    )
}

if __name__ == "__main__":
    main()
