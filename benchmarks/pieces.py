"""The measurements. Each runs in a process of its own, with an empty cache unless it says otherwise.

    python -m benchmarks.pieces NAME '{"argument": value}' RESULT.json

Times begin after the imports: both sides import the same. Every function returns plain numbers, lists
and texts; arrays named "predictions" are compared by `__main__` and not printed.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tlhelpers as tl
from benchmarks.meter import Laps, Peak
from tlhelpers._forward import _litert
from tlhelpers.prefix import _cuts, _flat

Result = dict[str, Any]
IMAGES = 60_000
SUFFIX_CUT = "block_10_project_BN"


def _parts(images: int) -> tuple[tl.datasets.Split, tl.datasets.Split, tl.datasets.Split]:
    """The first so many images, four fifths for training, and the test images."""
    data = tl.load_dataset("mnist")
    n = images * 4 // 5

    def first(part: tl.datasets.Split, k: int) -> tl.datasets.Split:
        return tl.datasets.Split(part.images[:k].copy(), part.labels[:k].copy(), part.indices[:k].copy())

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
    """The same recipe with the frozen part computed once."""
    return _article(images, head_epochs, tune_epochs, seed, once=True)


def _article(images: int, head_epochs: int, tune_epochs: int, seed: int, *, once: bool) -> Result:
    laps = Laps()
    result: Result = {}
    with Peak() as peak:
        train, validation, test = _parts(images)
        whole = tl.recipes.article_model(_edition(), seed=seed)
        if not once:
            prepare = tl.preparation((28, 28))
            x, x_validation = (
                prepare.predict(part.images, batch_size=256, verbose=0) for part in (train, validation)
            )
            inputs = keras.Input((32, 32, 3))
            pooled = whole.get_layer("pool")(whole.get_layer("backbone")(inputs))
            trained = keras.Model(inputs, whole.get_layer("head")(pooled))
        laps.lap("prepare")
        for phase, epochs, cut in (("head", head_epochs, "pool"), ("tune", tune_epochs, SUFFIX_CUT)):
            if phase == "tune":
                tl.freeze(whole.get_layer("backbone"), train_from=100, batch_norm="train")
            if once:
                prefix, trained = tl.split(whole, at=cut)
                x, x_validation = (tl.precompute(prefix, part.images) for part in (train, validation))
                laps.lap(f"{phase} prefix")
                tl.recipes.compile_as_article(trained)
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
    x = keras.layers.Flatten(name="flatten")(features(tl.preparation((28, 28))(inputs)))
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
    model = tl.recipes.article_model(_edition())
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
        converted = _litert(prefix, (28, 28))
        conversion = time.perf_counter() - began
        runs["litert 64"] = (64, converted)
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
    model = tl.recipes.article_model(_edition())
    tl.freeze(model.get_layer("backbone"), train_from=100, batch_norm="train")
    prefix, product = tl.split(model, at=SUFFIX_CUT)
    x = np.asarray(tl.precompute(prefix, train.images[:images]))
    # The same cut without the library's stand-ins.
    flat = _flat(model)
    convolution = keras.Model(_cuts(flat)[SUFFIX_CUT], flat.outputs[0])
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


def _edition() -> tl.editions.Edition:
    edition = tl.editions.current()
    if edition.name != "full":
        raise SystemExit("benchmarks: expected the full edition's data, got the pocket edition.")
    return edition


def main() -> None:
    """Run one measurement and write what it returns."""
    name, arguments, path = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
    if name not in PIECES:
        raise SystemExit(f"piece: expected one of {', '.join(PIECES)}, got {name!r}.")
    result = PIECES[name](**arguments)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(result))
    partial.replace(path)


PIECES: dict[str, Any] = {
    piece.__name__: piece for piece in (plain, cached, quick, matrix_rate, passes, steps)
}

if __name__ == "__main__":
    main()
