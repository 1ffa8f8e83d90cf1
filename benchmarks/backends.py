"""Fine-tune the book's network on each backend, and in PyTorch without Keras, side by side.

    python -m benchmarks.backends

Every side has a process of its own, and they take turns, so that what else the machine does meets all of
them. All start from the same weights on the same batches; that their outputs agree is checked before anything
is timed. Trained is the second phase of the article (block 11 on, from precomputed features), or all layers;
BatchNorm trains. Timed as well: the frozen pass over prepared images, `tlhelpers.precompute` where there is
Keras. JAX and PyTorch have environments of their own: see `benchmarks.environments`. Writes
book/measured/backends.csv.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

import tlhelpers as tl
from tlhelpers import _graph, page

from . import environments

Array = npt.NDArray[Any]
SIDES = {
    "Keras on TensorFlow": "tensorflow",
    "Keras on JAX": "jax",
    "Keras on PyTorch": "torch",
    "PyTorch alone": "torch",
}
CUTS = {"block 11 on": "block_10_project_BN", "all layers": "three_channels"}
BATCHES, IMAGES, TURNS, RATE = (32, 128), 384, 3, 1e-4
PASSED = {"frozen pass": 512, "frozen pass, LiteRT": 4096}
"""From 4,096 images on, the library's pass on TensorFlow is LiteRT's; the others have none."""
LARGEST = 1e-4


def without_keras(graph: keras.Model) -> Any:
    """A Keras graph as a PyTorch module with the same weights, channels last."""
    import torch
    from torch import nn

    layers = keras.layers

    def weights(*arrays: Any) -> list[Any]:
        return [nn.Parameter(torch.tensor(np.array(keras.ops.convert_to_numpy(each)))) for each in arrays]

    def translated(layer: Any) -> Any:
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            depthwise = isinstance(layer, layers.DepthwiseConv2D)
            (kernel,) = weights(
                keras.ops.transpose(layer.kernel, (2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
            )
            size, stride = layer.kernel_size[0], layer.strides[0]
            groups = len(kernel) if depthwise else 1
            made = nn.Conv2d(kernel.shape[1] * groups, len(kernel), size, stride, groups=groups, bias=False)
            made.weight = kernel
            # "same" adds nothing before a step of two, as sizes here are even.
            before, after = (
                (0 if stride == 2 else size // 2, size // 2) if layer.padding == "same" else (0, 0)
            )
            return nn.Sequential(nn.ZeroPad2d((before, after) * 2), made) if before + after else made
        if isinstance(layer, layers.BatchNormalization):
            made = nn.BatchNorm2d(layer.gamma.shape[0], layer.epsilon, 1 - layer.momentum)
            made.weight, made.bias = weights(layer.gamma, layer.beta)
            made.running_mean, made.running_var = (
                each.data for each in weights(layer.moving_mean, layer.moving_variance)
            )
            return made
        if isinstance(layer, layers.Dense):
            made = nn.Linear(*layer.kernel.shape)
            made.weight, made.bias = weights(keras.ops.transpose(layer.kernel), layer.bias)
            return made
        if isinstance(layer, layers.ZeroPadding2D):
            (top, bottom), (left, right) = layer.padding
            return nn.ZeroPad2d((left, right, top, bottom))
        known = {layers.ReLU: nn.ReLU6, layers.Add: nn.Identity, layers.GlobalAveragePooling2D: nn.Identity}
        return known[type(layer)]()

    class Plain(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.calls = [node for node in _graph.nodes(graph) if not node.is_input]
            self.modules_ = nn.ModuleList([translated(node.operation) for node in self.calls])
            place = {id(graph.inputs[0]): 0}
            self.plan: list[tuple[Any, str, list[int]]] = []
            for module, node in zip(self.modules_, self.calls, strict=True):
                kind = type(node.operation).__name__
                self.plan.append((module, kind, [place[id(each)] for each in node.input_tensors]))
                place[id(node.outputs[0])] = len(place)
            self.last = [
                max(i for i, (_, _, of) in enumerate(self.plan) if n in of) for n in range(len(place) - 1)
            ]
            del self.calls

        def forward(self, x: Any) -> Any:
            """Logits, or what a graph without a head gives."""
            known: dict[int, Any] = {0: x}
            for number, (module, kind, of) in enumerate(self.plan):
                given = [known[each] for each in of]
                for each in of:
                    if self.last[each] == number:
                        del known[each]
                if kind == "Add":
                    x = given[0] + given[1]
                elif kind == "GlobalAveragePooling2D":
                    x = given[0].mean((2, 3))
                else:
                    x = module(given[0])
                known[number + 1] = x
            return x

    return Plain().to(memory_format=torch.channels_last)


class Keras:
    """What a side with Keras does."""

    def __init__(self, path: str) -> None:
        self.whole = keras.models.load_model(path)
        self.networks: dict[str, Any] = {}

    def build(self, what: str, x: Array) -> Array:
        """Compile what is to train, and say what it gives for some examples."""
        whole = keras.models.clone_model(self.whole)
        whole.set_weights(self.whole.get_weights())
        backbone = whole.get_layer("backbone")
        tl.freeze(backbone, train_from=100 if what == "block 11 on" else 0, batch_norm="train")
        _, network = tl.split(whole, at=CUTS[what])
        together = 3 if keras.backend.backend() == "tensorflow" else 1
        adam = keras.optimizers.Adam(RATE)
        network.compile(adam, "sparse_categorical_crossentropy", steps_per_execution=together)
        adam.build(network.trainable_variables)
        self.networks[what] = network
        return np.asarray(network.predict(x, verbose=0))

    def train(self, what: str, x: Array, y: Array, batch: int) -> None:
        """One epoch."""
        self.networks[what].fit(x, y, batch_size=batch, shuffle=False, verbose=0)

    def frozen(self, x: Array) -> Array:
        """The features that block 11 takes."""
        if "pass" not in self.networks:
            self.networks["pass"] = keras.Model(*graph_between(self.whole, *reversed(CUTS.values())))
        return np.asarray(tl.precompute(self.networks["pass"], x))


class Alone:
    """What PyTorch without Keras does; Keras only reads the file."""

    def __init__(self, path: str) -> None:
        import torch

        self.torch, self.whole = torch, keras.models.load_model(path)
        self.networks: dict[str, Any] = {}

    def _given(self, x: Array) -> Any:
        return self.torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2)  # so channels are last

    def build(self, what: str, x: Array) -> Array:
        """Carry the weights over, and say what the network gives for some examples."""
        network = without_keras(keras.Model(*graph_between(self.whole, CUTS[what], None)))
        self.networks[what] = network, self.torch.optim.Adam(network.parameters(), RATE, eps=1e-7)
        with self.torch.inference_mode():
            return np.asarray(network.eval()(self._given(x)).softmax(1))

    def train(self, what: str, x: Array, y: Array, batch: int) -> None:
        """One epoch."""
        network, optimizer = self.networks[what]
        network.train()
        labels = self.torch.from_numpy(y.astype("int64"))
        for first in range(0, len(x), batch):
            optimizer.zero_grad()
            part = slice(first, first + batch)
            said = network(self._given(x[part]))
            self.torch.nn.functional.cross_entropy(said, labels[part]).backward()
            optimizer.step()

    def frozen(self, x: Array) -> Array:
        """The features that block 11 takes."""
        if "pass" not in self.networks:
            between = graph_between(self.whole, *reversed(CUTS.values()))
            self.networks["pass"] = without_keras(keras.Model(*between)).eval()
        with self.torch.inference_mode():
            found = [self.networks["pass"](self._given(x[i : i + 64])) for i in range(0, len(x), 64)]
        return np.asarray(self.torch.cat(found).permute(0, 2, 3, 1))


def graph_between(model: keras.Model, first: str, last: str | None) -> tuple[Any, Any]:
    """Where a network begins and ends."""
    graph = _graph.flat(model)
    tensors = _graph.cuts(graph)
    return tensors[first], tensors[last] if last else graph.outputs[0]


def serve(side: str, folder: Path) -> None:
    """Do what comes in, a line each, and say how long it took."""
    does = (Alone if side == "PyTorch alone" else Keras)(str(folder / "network.keras"))
    images, features, labels = (np.load(folder / f"{name}.npy") for name in ("images", "features", "labels"))
    given = {"all layers": images[:IMAGES], "block 11 on": features}
    for line in sys.stdin:
        task, what, batch, turn = json.loads(line)
        # A pass takes others each turn, as what is computed is kept.
        x = given[what] if what in given else images[turn * batch : (turn + 1) * batch]
        began, cpu = time.perf_counter(), time.process_time()
        if task == "build":
            np.save(folder / f"{side}-{what}.npy", does.build(what, x[:64]))
        elif task == "train":
            does.train(what, x, labels[:IMAGES], batch)
        else:
            found = does.frozen(x)
        spent = time.perf_counter() - began, time.process_time() - cpu
        if task == "pass":
            np.save(folder / f"{side}-{what}.npy", found[:64])
        print("done", json.dumps(spent), flush=True)


class Side:
    """A side's process."""

    def __init__(self, name: str, folder: Path) -> None:
        backend = SIDES[name]
        environment = environments.environment(backend, TLHELPERS_CACHE=str(folder / backend))
        self.name, self.log = name, (folder / f"{name}.log").open("w")
        self.running = subprocess.Popen(
            [environments.python(backend), "-m", "benchmarks.backends", name, str(folder)],
            env=environment,
            cwd=environments.ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )

    def __call__(self, *task: Any) -> list[float]:
        """Seconds by the clock and by the processor for a task."""
        assert self.running.stdin
        assert self.running.stdout
        print(json.dumps(task), file=self.running.stdin, flush=True)
        for line in self.running.stdout:
            if line.startswith("done "):
                found: list[float] = json.loads(line.removeprefix("done "))
                return found
        raise SystemExit(f"{self.name} ended: {Path(self.log.name).read_text()[-2000:]}")


def prepare(folder: Path) -> None:
    """The article's network, prepared digits, and the features of block 10."""
    from tlhelpers.studies import recipes

    train = tl.load_dataset("mnist").train
    model = recipes.article_model(page.current())
    number = max((TURNS + 1) * max(PASSED.values()), IMAGES)
    ready, features = (
        tl.split(model, at=CUTS[what])[0].predict(train.images[:n], verbose=0)
        for what, n in (("all layers", number), ("block 11 on", IMAGES))
    )
    for name, array in (("images", ready), ("features", features), ("labels", train.labels[:number])):
        np.save(folder / f"{name}.npy", array)
    model.save(folder / "network.keras")


def difference(name: str, what: str, folder: Path) -> float:
    """The largest between a side's outputs and the first side's, as a part of the largest output."""
    ours, first = (np.load(folder / f"{each}-{what}.npy") for each in (name, next(iter(SIDES))))
    if (found := float(np.abs(ours - first).max() / np.abs(first).max())) > LARGEST:
        raise SystemExit(f"{name}, {what}: expected outputs that agree to {LARGEST}, got {found}.")
    return found


def measured(sides: dict[str, Side], folder: Path) -> pd.DataFrame:
    """A row for each side and task: images a second, least, median and most of the turns."""
    tasks = [("train", what, batch, IMAGES) for what in CUTS for batch in BATCHES]
    tasks += [("pass", what, n, n) for what, n in PASSED.items()]
    for what in CUTS:
        for side in sides.values():
            side("build", what, 0, 0)
            difference(side.name, what, folder)
    spent: dict[Any, list[list[float]]] = {}
    for turn in range(TURNS + 1):
        for task in tasks:
            for name, side in sides.items():
                if "LiteRT" in task[1] and SIDES[name] != "tensorflow":
                    continue
                seconds = side(task[0], task[1], task[2], turn)
                print(turn, *task, name, *(f"{each:.2f}" for each in seconds), flush=True)
                if turn:  # the first traces and compiles
                    spent.setdefault((name, *task), []).append(seconds)
    rows = []
    for (name, _, what, batch, number), turns in spent.items():
        clock, cpu = number / np.array(turns).T
        row = {"what": what, "batch": batch if what in CUTS else 64, "side": name, "images": number}
        for kind, rates in (("second", clock), ("cpu_second", cpu)):
            row |= {f"images_a_{kind}": np.median(rates)}
            row |= {f"images_a_{kind}_least": rates.min(), f"images_a_{kind}_most": rates.max()}
        row |= {"turns": len(turns), "difference": difference(name, what, folder)}
        rows.append(row | {"versions": environments.versions(SIDES[name])})
    return pd.DataFrame(rows)


def main() -> None:
    """Measure, and write the table; or be one of the sides."""
    if len(sys.argv) == 3:
        serve(sys.argv[1], Path(sys.argv[2]))
        return
    os.environ["TLHELPERS_EDITION"] = "full"
    stamp = page.stamp()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        sides = {name: Side(name, folder) for name in SIDES}
        table = measured(sides, folder)
        for side in sides.values():
            side.running.kill()
    path = environments.ROOT / "book" / "measured" / "backends.csv"
    table.assign(**stamp).to_csv(path, index=False, float_format="%.4g")
    print(table.to_string())


if __name__ == "__main__":
    main()
