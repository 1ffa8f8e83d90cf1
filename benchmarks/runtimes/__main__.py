"""Measure the ways to run the book's own classifier in a reader's browser.

    python -m benchmarks.runtimes

Trains the classifier of "Go beyond the article" once, puts it into a page in four ways, and asks each for
the same test digits in Chromium: bytes that the page fetches, agreement with Keras, milliseconds a digit.
The contestants take turns, so that what else the machine does meets all of them. WebAssembly has one
thread: more need headers that static hosts do not send. The newest versions come from npm, and are written
down. Needs npm, Chromium, and the Python packages playwright and tf2onnx; writes book/measured/runtimes.csv.
"""

import argparse
import contextlib
import functools
import gzip
import http.server
import importlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

import tlhelpers as tl
from tlhelpers import page, studies

if TYPE_CHECKING:
    from playwright.sync_api import Request

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DIGITS, TURNS, WARM_UP = 500, 10, 25
MODEL_FILES = {"model.json", "weights.bin", "model.tflite", "model.onnx"}

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Contestant:
    """One way: its program, packages on npm (the first gives version, date, licence), what a build needs."""

    name: str
    program: str
    packages: tuple[str, ...]
    needs: str
    copied: tuple[str, ...] = ()
    """Files of the packages that its program fetches, relative to node_modules; a folder with its name."""


CONTESTANTS = (
    Contestant("plain JavaScript", "own", (), "nothing"),
    Contestant(
        "TensorFlow.js, wasm",
        "tfjs",
        ("@tensorflow/tfjs-core", "@tensorflow/tfjs-backend-wasm"),
        "npm, a bundler; layers by hand",
        tuple(f"@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm{kind}.wasm" for kind in ("", "-simd")),
    ),
    Contestant("LiteRT.js, wasm", "litert", ("@litertjs/core",), "npm, a bundler", ("@litertjs/core/wasm",)),
    Contestant(
        "onnxruntime-web, wasm",
        "onnx",
        ("onnxruntime-web",),
        "npm, a bundler, tf2onnx",
        tuple(f"onnxruntime-web/dist/ort-wasm-simd-threaded.{kind}" for kind in ("mjs", "wasm")),
    ),
)

PAGE = """<!doctype html><title>runtime</title><link rel="icon" href="data:,"><script type="module">
import { load } from "./main.js";
const run = await load(".");
const digits = new Uint8Array(await (await fetch("../digits.bin")).arrayBuffer());
window.ask = async (numbers) => {
  const ms = [], found = [];
  for (const i of numbers) {
    const image = Float32Array.from(digits.subarray(i * 784, (i + 1) * 784));
    const began = performance.now();
    const answer = await run(image);
    ms.push(performance.now() - began);
    found.push([...answer]);
  }
  return { ms, found };
};
</script>"""


def program(*names: str) -> str:
    """The first of these programs that is installed."""
    for name in names:
        if found := shutil.which(name):
            return found
    raise SystemExit(f"expected {' or '.join(names)} on the PATH, found none. Install it and run this again.")


def install(folder: Path) -> Path:
    """The newest packages of all contestants and a bundler; gives node_modules."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n')
    names = [f"{name}@latest" for each in CONTESTANTS for name in each.packages]
    quiet = ["--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
    subprocess.run([program("npm"), "install", *quiet, *names, "esbuild@latest"], cwd=folder, check=True)
    return folder / "node_modules"


def from_npm(package: str, node_modules: Path) -> dict[str, str]:
    """Version, day of its release, and licence of an installed package."""
    own = json.loads((node_modules / package / "package.json").read_text())
    asked = [program("npm"), "view", package, "time", "--json"]
    times = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    return {"version": own["version"], "released": times[own["version"]][:10], "licence": own["license"]}


def put(contestant: Contestant, model: keras.Model, site: Path, node_modules: Path) -> None:
    """Write the contestant's page: its program, what that fetches, and the model in its format."""
    name = contestant.program
    folder = site / name
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    for path in (node_modules / each for each in contestant.copied):
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, folder / path.name)
    if contestant.packages:
        bundle = ["--bundle", "--minify", "--format=esm", f"--outfile={folder}/main.js", "--log-level=error"]
        command = [str(node_modules / ".bin" / "esbuild"), str(HERE / f"{name}.js"), *bundle]
        subprocess.run(command, check=True, env={**os.environ, "NODE_PATH": str(node_modules)})
    else:
        shutil.copy2(HERE / "own.js", folder / "main.js")
        shutil.copy2(ROOT / "book" / "_static" / "digit-model.js", folder)
    if name in ("own", "tfjs"):
        page.web.export(model, folder)
        return
    # One digit at a time: LiteRT.js takes no batch of any size. And in inference, said here: the ONNX export
    # of a bare model traces BatchNorm as in training, and then many digits come out wrong.
    one = [keras.InputSpec(shape=(1, *model.inputs[0].shape[1:]), dtype="float32")]
    digit = keras.Input(batch_shape=one[0].shape)
    single = keras.Model(digit, model(digit, training=False))
    if name == "litert":
        single.export(folder / "model.tflite", format="litert", input_signature=one, verbose=False)
    else:
        # Keras refuses a model that was never called.
        single(np.zeros(one[0].shape, "float32"), training=False)
        single.export(folder / "model.onnx", format="onnx", input_signature=one, verbose=False)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A web server for a folder, as plain as a static host; gives its address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def turns(names: list[str], numbers: range, count: int) -> Iterator[tuple[str, list[int]]]:
    """Whose turn it is, and for which digits: each in a new order of the contestants, a share at a time."""
    for turn in range(count):
        share = [int(i) for i in np.array_split(numbers, count)[turn]]
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            yield name, share


def weigh(fetched: list[str], folder: Path) -> dict[str, int]:
    """Bytes of what a page fetched from its folder, and as a host would send them; page and digits apart."""
    sizes = dict.fromkeys(("bytes", "gzip_bytes", "model_bytes", "model_gzip_bytes"), 0)
    for name in dict.fromkeys(fetched):
        path = folder / name
        if path.name in ("", "index.html") or path.is_dir():
            continue
        content = path.read_bytes()
        for part in ("", "model_") if path.name in MODEL_FILES else ("",):
            sizes[f"{part}bytes"] += len(content)
            sizes[f"{part}gzip_bytes"] += len(gzip.compress(content, 9))
    return sizes


def judge(found: Array, expected: Array, ms: Array) -> dict[str, float]:
    """Agreement with Keras and time, over all digits."""
    return {
        "digits": len(expected),
        "largest_difference": float(np.abs(found - expected).max()),
        "other_classes": int((found.argmax(axis=1) != expected.argmax(axis=1)).sum()),
        "median_ms": float(np.median(ms)),
        "p95_ms": float(np.quantile(ms, 0.95)),
    }


def measure(site: Path, expected: Array) -> dict[str, dict[str, Any]]:
    """Let the contestants take turns in one browser, each in a page of its own."""
    from playwright.sync_api import sync_playwright

    chromium = program("chromium", "chromium-browser", "google-chrome")
    names = [each.program for each in CONTESTANTS]
    ms: dict[str, list[float]] = {name: [] for name in names}
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    fetched: dict[str, list[str]] = {name: [] for name in names}
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        pages = {}
        for name in names:
            pages[name] = tab = browser.new_page()
            start = f"{address}/{name}/"
            tab.on("requestfinished", functools.partial(_keep, fetched[name], start))
            tab.goto(start)
            tab.wait_for_function("() => window.ask !== undefined")
            tab.evaluate("numbers => ask(numbers)", list(range(WARM_UP)))
        for name, share in turns(names, range(len(expected)), TURNS):
            pages[name].bring_to_front()
            answer = pages[name].evaluate("numbers => ask(numbers)", share)
            ms[name] += answer["ms"]
            found[name] += answer["found"]
        version = browser.version
        browser.close()
    return {
        name: {
            **weigh([url for url in fetched[name] if "//" not in url], site / name),
            **judge(np.array(found[name]), expected, np.array(ms[name])),
            "browser": f"Chromium {version}",
        }
        for name in names
    }


def _keep(urls: list[str], start: str, request: "Request") -> None:
    urls.append(request.url.removeprefix(start))


def main() -> None:
    """Train, put, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="a saved classifier, instead of training one")
    arguments = parser.parse_args()
    for name in ("playwright", "tf2onnx"):
        importlib.import_module(name)  # what is missing is said before the minutes of training, not after
    os.environ["TLHELPERS_EDITION"] = "full"
    stamp = page.stamp()
    work = ROOT / "out" / "bench" / "runtimes"
    site = work / "site"
    node_modules = install(work / "npm")
    if arguments.model:
        model = keras.models.load_model(arguments.model)
    else:
        model = studies.recipes.our_classifier(page.current(), limit=6000).model
    digits = tl.load_dataset("mnist").test.images[:DIGITS]
    expected = model.predict(digits, verbose=0)
    shutil.rmtree(site, ignore_errors=True)
    for contestant in CONTESTANTS:
        put(contestant, model, site, node_modules)
    (site / "digits.bin").write_bytes(digits.astype("uint8").tobytes())
    measured = measure(site, expected)
    own = {"version": "", "released": "", "licence": "BSD-3-Clause"}
    rows = [
        {
            "runtime": each.name,
            **measured[each.program],
            "build_needs": each.needs,
            **(from_npm(each.packages[0], node_modules) if each.packages else own),
            **stamp,
        }
        for each in CONTESTANTS
    ]
    table = pd.DataFrame(rows)
    print(table.T.to_string())
    table.to_csv(ROOT / "book" / "measured" / "runtimes.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
