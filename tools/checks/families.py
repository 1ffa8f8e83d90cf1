"""Networks of each family, tried with the library: ``python -m tools.checks.families [NAME ...]``.

The smallest of each family of ``keras.applications``, and each backbone of keras-hub in a tiny size with a
head of its own, all with random weights; ``families.toml`` says how small. A cell of the table says
``works``, ``refuses: ...`` in the library's words, or ``FAILS: ...``: wrong numbers, or an error that is not
promised. Fails where a cell says that, or ends otherwise than in ``book/measured/families.csv``; ``--write``
writes the table.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import re
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tools import repository

TABLE = repository.ROOT / "book" / "measured" / "families.csv"
TRIED = ("split", "freeze", "once", "export", "explain")
LISTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
REFUSAL = re.compile(r"[\w./]+: (expected .+, got .+)")
POOLS = {3: "GlobalAveragePooling1D", 4: "GlobalAveragePooling2D", 5: "GlobalAveragePooling3D"}


class Wrong(Exception):
    """What the library gives is not what it promises."""


def families() -> list[tuple[str, str]]:
    """What is tried: the library that a family is of, and its name there."""
    import keras_hub

    every = [each for each in vars(keras_hub.models).values() if inspect.isclass(each)]
    hub = {each.__name__ for each in every if issubclass(each, keras_hub.models.Backbone)} - {"Backbone"}
    return [("keras", name) for name in LISTS["applications"]] + [("keras-hub", name) for name in sorted(hub)]


def tiny(name: str) -> Any:
    """A tiny backbone of keras-hub."""
    import keras_hub

    def value(given: Any) -> Any:
        if isinstance(given, str) and given.startswith("@"):
            return tiny(given[1:])
        return (
            tuple(given)
            if isinstance(given, list) and all(isinstance(each, int) for each in given)
            else given
        )

    own = dict(LISTS["own"].get(name.removesuffix("Backbone"), {}))
    kind = getattr(keras_hub.models, own.pop("class", name))
    takes = inspect.signature(kind.__init__).parameters
    given = {key: small for key, small in LISTS["small"].items() if key in takes} | own
    return kind(**{key: value(each) for key, each in given.items() if each != "default"})


def classifier(library: str, name: str) -> Any:
    """The network, with random weights and three classes."""
    import keras

    keras.utils.set_random_seed(0)
    if library == "keras":
        size = LISTS["applications"][name]
        return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=3)

    def again(old: Any) -> Any:
        return keras.Input(batch_shape=old.shape, dtype=old.dtype, name=old.name)

    body = tiny(name)
    inputs = keras.tree.map_structure(again, body.input)
    output = keras.tree.flatten(body(inputs))[0]
    if len(output.shape) in POOLS:
        output = getattr(keras.layers, POOLS[len(output.shape)])(name="pooled")(output)
    tensors = keras.tree.flatten(inputs)
    inputs = tensors[0] if len(tensors) == 1 else inputs
    return keras.Model(inputs, keras.layers.Dense(3, "softmax", name="head")(output))


def examples(model: Any) -> Any:
    """Four examples: tokens, raw pixels where the network scales them, else normal numbers."""
    import keras

    from tlhelpers._graph import walk

    rng = np.random.default_rng(0)
    scales = any(isinstance(each, keras.layers.Rescaling) for each in walk(model))

    def of(tensor: Any) -> Any:
        shape = (4, *(each or 16 for each in tensor.shape[1:]))
        if "mask" in tensor.name:
            return np.ones(shape, tensor.dtype)
        if "int" in tensor.dtype:
            return rng.integers(0, 2 if "segment" in tensor.name else 16, shape, tensor.dtype)
        return (rng.integers(0, 256, shape) if scales else rng.normal(size=shape)).astype("float32")

    return keras.tree.map_structure(of, model.input)


def same(given: Any, expected: Any, what: str, largest: float | None = None) -> None:
    """Whether two arrays are the same but for rounding."""
    largest = float(np.abs(expected).max(initial=0)) if largest is None else largest
    if not (far := np.abs(given - expected).max(initial=0)) <= 1e-3 * largest:
        raise Wrong(f"{what}, by {far:.2g} of {largest:.2g}")


@contextlib.contextmanager
def trying(ends: dict[str, str], column: str) -> Iterator[None]:
    """Say under `column` how the block ends, in a word or two."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        ends[column] = "works"
    except Wrong as error:
        ends[column] = f"FAILS: {error}"
    except Exception as error:
        said = " ".join(str(error).split())
        refusal = REFUSAL.match(said)
        if refusal and isinstance(error, (LookupError, TypeError, ValueError)):
            ends[column] = f"refuses: {refusal[1].partition('. ')[0].rstrip('.')}"
        else:
            ends[column] = f"FAILS: {type(error).__name__}: {said[:200]}"


def row(library: str, name: str) -> dict[str, str]:
    """Try one network: the number of its cut points, and how each use of it ends."""
    import keras

    import tlhelpers as tl
    from tlhelpers import page
    from tlhelpers._graph import walk

    ends = {"library": library, "family": name}
    ends |= dict.fromkeys(("layers", "cuts", *TRIED), "not tried")
    try:
        model = classifier(library, name)
    except (TypeError, ValueError):  # families.toml has nothing for it
        return ends
    ends["layers"] = str(len(walk(model)) - 1)
    x, y = examples(model), np.arange(4) % 3
    start = [(variable, np.array(variable)) for variable in model.variables]  # seeds, too
    weights = model.get_weights()

    def train(network: Any, inputs: Any) -> list[Any]:
        for variable, value in start:
            variable.assign(value)
        # To trace hundreds of layers for one step would take most of the time.
        network.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", run_eagerly=True)
        network.fit(inputs, y, epochs=1, verbose=0)
        return [now - before for now, before in zip(model.get_weights(), weights, strict=True)]

    cuts: list[str] = []
    with trying(ends, "cuts"):
        cuts = tl.cut_points(model)
    if ends["cuts"] == "works":
        ends["cuts"] = str(len(cuts))
    at = cuts[len(cuts) // 2] if cuts else model.layers[-2].name
    with trying(ends, "split"):
        prefix, suffix = tl.split(model, at=at)
        parts, whole = suffix(prefix(x, training=False), training=False), model(x, training=False)
        same(np.array(parts), np.array(whole), "suffix(prefix(x)) is not model(x)")
    if ends["split"] == "works":
        with trying(ends, "freeze"):
            tl.freeze(model, train_from=suffix.layers[1].name)
            with tl.unchanged(model):
                steps = train(model, x)
            if not any(map(np.any, steps)):
                raise Wrong("nothing was trained")
    if ends["freeze"] == "works":
        with trying(ends, "once"):
            features = tl.precompute(prefix, x)
            same(features, prefix.predict(x, verbose=0), "features are not what the prefix predicts")
            largest = max(float(np.abs(step).max(initial=0)) for step in steps)
            for part, step in zip(train(suffix, features), steps, strict=True):
                same(part, step, "the suffix trains otherwise than the model", largest)
    with trying(ends, "export"), tempfile.TemporaryDirectory() as folder:
        page.web.export(model, folder)
    with trying(ends, "explain"):
        # A layer inside another layer has no output of its own.
        outputs = {each.name: getattr(each, "output", None) for each in walk(model)}
        maps = [place for place in cuts if len(getattr(outputs.get(place), "shape", ())) == 4]
        found = tl.explain.grad_cam(model, x, at=maps[-1] if maps else at)
        if found.shape != x.shape[:3] or not 0 <= found.min() <= found.max() <= 1:
            raise Wrong(f"expected shares of shape {x.shape[:3]}, got {found.shape}")
    return ends


def differences(found: pd.DataFrame, before: pd.DataFrame) -> list[str]:
    """What ends otherwise than in the table, its words aside, and what fails."""
    tables = {"was": before, "now": found}
    cells = {name: table.set_index("family")[["cuts", *TRIED]].stack() for name, table in tables.items()}
    ends = pd.DataFrame({name: each.str.partition(":")[0] for name, each in cells.items()})
    bad = ends.fillna("not there").query("was != now or now == 'FAILS'")
    return [f"{cell}: {now}; in the table: {was}" for cell, was, now in bad.itertuples(name=None)]


def read() -> pd.DataFrame:
    """The table in the repository."""
    return pd.read_csv(TABLE, dtype=str, keep_default_na=False)


def main() -> int:
    """Run it; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="some of the families (default: all)")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.relative_to(repository.ROOT)}")
    arguments = parser.parse_args()
    if arguments.write and arguments.names:
        parser.error("--write: expected all families, got some; they would be the whole table")
    import keras
    import keras_hub

    from tlhelpers import page

    chosen = [each for each in families() if not arguments.names or each[1] in arguments.names]
    rows = []
    with tempfile.TemporaryDirectory(prefix="families-") as scratch:
        os.environ |= {"TLHELPERS_CACHE": scratch, "TQDM_DISABLE": "1"}
        # A few in a process, so that memory comes back.
        for few in (chosen[start : start + 8] for start in range(0, len(chosen), 8)):
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                for each in pool.map(row, *zip(*few, strict=True)):
                    print(*each.values(), sep=" | ", flush=True)
                    rows.append(each)
    versions = {"keras": keras.version(), "keras_hub": keras_hub.__version__}
    found = pd.DataFrame(rows).assign(**versions, **page.stamp())
    if arguments.write:
        found.to_csv(TABLE, index=False)
    before = read()
    lines = differences(found, before[before.family.isin(found.family)] if arguments.names else before)
    print(*lines, sep="\n")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
