"""Weigh and time a teacher and the small network that it taught, as a reader's browser runs them.

    python -m benchmarks.distil

Trains both as the table "distil" says, the teacher of digits with 6,000 labels, and puts them into a page.
In Chromium, in Keras and in LiteRT (one thread, one example at a time) the two take turns on the same
examples, so that what else the machine does meets both. Also asked: the digits that somebody drew for the
tests of the page. Sentences are timed in Keras and LiteRT alone: the page's program knows no words. Needs
Chromium and the Python package playwright; writes book/measured/distil_speed.csv.
"""

import functools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tlhelpers import _graph, page
from tlhelpers.encoders import load_encoder
from tlhelpers.studies import balanced, distil

from .runtimes import __main__ as browser

Array = npt.NDArray[Any]
Timed = Callable[[Array], Any]
NAMES = ("teacher", "small")
EACH, ASKED = {"digits": 200, "sentences": 50}, 2_000
"""Examples for the time, and digits for the accuracy in LiteRT."""
TO_IMAGES = """async (drawn) => {
  const { toImage } = await import("./digit-model.js");
  return drawn.map((strokes) => Array.from(toImage(strokes, [28, 28])));
}"""


def digits(edition: page.Edition) -> dict[str, keras.Model]:
    """The recipe as a teacher with 6,000 labels and the small network, from raw digits to probabilities."""
    task = distil.load("digits", edition)
    x, truth = task.parts[0]
    teacher = distil.by_recipe(task, balanced(truth, 6_000, seed=0), edition, seed=0)
    said = teacher.predict(x, batch_size=250, verbose=0)
    images, which = distil.views(task, np.arange(len(x)), seed=0)
    settled = page.measured("distil").query("data == 'digits' and way == @distil.SOFT").iloc[0]
    how: dict[str, Any] = {"rate": settled.rate, "temperature": settled.temperature, "seed": 0}
    small = distil.train(task, images, said[which], passes=distil.PASSES["digits"], **how)
    small = keras.Model(small.inputs, keras.layers.Activation("softmax")(small.outputs[0]))
    return dict(zip(NAMES, (teacher, small), strict=True))


def sentences(edition: page.Edition) -> dict[str, keras.Model]:
    """The encoder with a probe and the small network, both untaught: for their weight and time alone."""
    encoder = load_encoder().model
    probe = keras.layers.Dense(2, activation="softmax")
    teacher = keras.Model(encoder.input, probe(encoder.output))
    return dict(zip(NAMES, (teacher, distil.load("sentences", edition).network()), strict=True))


def litert(model: keras.Model, path: Path, shape: tuple[int, ...], **how: Any) -> tuple[Interpreter, int]:
    """The model in LiteRT's form for one example, with one thread, and its bytes."""
    one = [keras.InputSpec(shape=(1, *shape), dtype=model.inputs[0].dtype)]
    inputs = keras.Input(batch_shape=one[0].shape, dtype=one[0].dtype)
    single = keras.Model(inputs, model(inputs, training=False))
    single.export(path, format="litert", input_signature=one, verbose=False, **how)
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter, path.stat().st_size


def ask(interpreter: Interpreter, example: Array) -> Array:
    """What LiteRT makes of one example."""
    place = interpreter.get_input_details()[0]
    interpreter.set_tensor(place["index"], example[None].astype(place["dtype"]))
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])


def called(model: keras.Model) -> Timed:
    """The model as a graph, for one example."""
    graph = tf.function(functools.partial(model, training=False))
    return lambda example: graph(tf.constant(example[None])).numpy()


def in_turns(ways: dict[str, Timed], examples: Array) -> dict[str, float]:
    """Median milliseconds of an example; all ways take one example before any takes the next."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for example in [*examples[:5], *examples]:
        for name, way in ways.items():
            began = time.perf_counter()
            way(example)
            spent[name].append(1000 * (time.perf_counter() - began))
    return {name: float(np.median(each[5:])) for name, each in spent.items()}


def in_browser(models: dict[str, keras.Model], test: Array, site: Path) -> dict[str, dict[str, float]]:
    """Bytes in the page's form, milliseconds a digit in Chromium, and drawn digits that are read."""
    from playwright.sync_api import sync_playwright

    drawn = json.loads((browser.ROOT / "tests" / "browser" / "strokes.json").read_text())
    found: dict[str, dict[str, float]] = {}
    ms: dict[str, list[float]] = {name: [] for name in models}
    for name, model in models.items():
        found[name] = {"page_kb": page.web.export(model, site / name).size / 1000}
        (site / name / "index.html").write_text(browser.PAGE)
        shutil.copy2(browser.HERE / "own.js", site / name / "main.js")
        shutil.copy2(browser.ROOT / "book" / "_static" / "digit-model.js", site / name)
    (site / "digits.bin").write_bytes(test.astype("uint8").tobytes())
    chromium = browser.program("chromium", "chromium-browser", "google-chrome")
    with browser.served(site) as address, sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tabs = {name: running.new_page() for name in models}
        for name, tab in tabs.items():
            tab.goto(f"{address}/{name}/")
            tab.wait_for_function("() => window.ask !== undefined")
            tab.evaluate("numbers => ask(numbers)", list(range(browser.WARM_UP)))
        for name, share in browser.turns(list(models), range(len(test)), browser.TURNS):
            tabs[name].bring_to_front()
            ms[name] += tabs[name].evaluate("numbers => ask(numbers)", share)["ms"]
        images = np.array(tabs[NAMES[0]].evaluate(TO_IMAGES, [each["strokes"] for each in drawn]))
        running.close()
    for name, model in models.items():
        answers = model.predict(images.reshape(-1, 28, 28), verbose=0).argmax(axis=1)
        read = int((answers == [each["digit"] for each in drawn]).sum())
        found[name] |= {"browser_ms": float(np.median(ms[name])), "drawn": len(drawn), "drawn_read": read}
    return found


def measure(data: str, edition: page.Edition, folder: Path) -> pd.DataFrame:
    """Rows of the table for one kind of data."""
    models = {"digits": digits, "sentences": sentences}[data](edition)
    test, labels = distil.load(data, edition).parts[2]
    rows: dict[str, dict[str, Any]] = {
        name: {"weights": model.count_params()} for name, model in models.items()
    }
    ways: dict[str, dict[str, Timed]] = {"keras_ms": {}, "litert_ms": {}, "litert_int8_ms": {}}
    for name, model in models.items():
        ways["keras_ms"][name] = called(model)
        for kind, how in {"litert": {}, "litert_int8": {"optimizations": [tf.lite.Optimize.DEFAULT]}}.items():
            interpreter, size = litert(model, folder / f"{name}-{kind}.tflite", test.shape[1:], **how)
            rows[name][f"{kind}_kb"] = size / 1000
            ways[f"{kind}_ms"][name] = functools.partial(ask, interpreter)
            if data == "digits":
                answers = np.array([ask(interpreter, each).argmax() for each in test[:ASKED]])
                rows[name][f"{kind}_accuracy"] = float((answers == labels[:ASKED]).mean())
    for column, each in ways.items():
        for name, spent in in_turns(each, test[: EACH[data]]).items():
            rows[name][column] = spent
    if data == "digits":
        for name, more in in_browser(models, test[: browser.DIGITS], folder / "site").items():
            rows[name] |= more
    return pd.DataFrame([{"data": data, "network": name, **row} for name, row in rows.items()])


def main() -> None:
    """Measure both kinds of data, and write the table."""
    os.environ["TLHELPERS_EDITION"] = "full"
    _graph.feed_arrays_plainly()
    stamp = page.stamp()
    path, tables = browser.ROOT / "book" / "measured" / "distil_speed.csv", []
    for data in EACH:
        with tempfile.TemporaryDirectory() as folder:
            tables.append(measure(data, page.current(), Path(folder)).assign(**stamp))
        pd.concat(tables).to_csv(path, index=False, float_format="%.6g")  # what is there is kept
    print(pd.concat(tables).T.to_string())


if __name__ == "__main__":
    main()
