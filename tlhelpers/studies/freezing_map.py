"""The map: accuracy by where features are read out and how deep training goes, for few and many labels.

A cell is a network cut at one place, with a linear probe as its head, and then trained from one depth on. All
cells of a case share data, labels, epochs and seeds. Explained in the chapter "Map the choices".
"""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from tlhelpers import datasets
from tlhelpers._errors import check_name
from tlhelpers.backbones import feature_extractor
from tlhelpers.page.editions import Edition

from . import closed_form
from .intervals import judged
from .recipes import classic_network, probe_head
from .skeleton import SEEDS, Network, Study, best, draw, fit_with_cosine, in_proportion, in_words, parts

__all__ = ["CASES", "CUTS", "DEPTHS", "RATES", "STUDY", "Case", "case", "cell", "train_from"]

Array = npt.NDArray[Any]

CUTS = {"block 5": "block_5_add", "block 9": "block_9_add", "block 12": "block_12_add", "end": "out_relu"}
"""Where features are read out, from early to late: names, and the backbone's last layer that is kept."""

DEPTHS = ("frozen", "last block", "half", "everything")
"""How deep training goes, counted from the cut. "half" is the later half of the blocks before the cut."""

READOUTS = ("pooled", "all places")
"""Mean over height and width, or every number. The end is always pooled, as the classic network has it."""

RATES = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)
"""Learning rates, Adam's. A cell tries four of them, and goes on while the best is the last on its side."""
_FIRST_RATES = slice(3, 7)

IN_POCKET = ("frozen", "half")

PENALTIES = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001, 1e-4, 1e-5)
"""Of the linear probe, as `tlhelpers.studies.closed_form.ridge` takes them."""

CHOOSING = (0, 1)
"""Seeds over whose mean validation accuracy a cell's setting is chosen; it then serves all seeds."""

FROZEN_SEEDS = range(5)
_LAST_BLOCK = {"block 5": 5, "block 9": 9, "block 12": 12, "end": 16}


@dataclass(frozen=True)
class Case:
    """One map: everything that its cells have in common.

    Attributes
    ----------
    edition, data, labels
        Its name in the table: edition, data set, and ``"few"`` or ``"many"`` labels.
    similarity
        Whether the data is like what the backbone was pre-trained on.
    image_size
        The pixels that the backbone sees, on a side.
    examples, classes
        Training examples, and the classes they are of.
    epochs, batch_size
        How each cell trains. BatchNorm stays frozen.
    """

    edition: str
    data: str
    labels: Literal["few", "many"]
    similarity: Literal["similar", "different"]
    backbone: str
    image_size: int
    examples: int
    classes: int
    epochs: int
    batch_size: int


_IMAGENET, _GLYPHS = "mobilenet_v2_imagenet", "mobilenet_v2_glyphs"

# Flowers are photographs, as ImageNet's are. Letters and symbols are drawn strokes, as digits are.
CASES = (
    Case("full", "flowers", "few", "similar", _IMAGENET, 96, 50, 5, 20, 16),
    Case("full", "mnist", "few", "different", _IMAGENET, 64, 100, 10, 20, 16),
    Case("full", "pneumonia", "few", "different", _IMAGENET, 64, 50, 2, 20, 16),
    Case("full", "flowers", "many", "similar", _IMAGENET, 96, 650, 5, 6, 32),
    Case("full", "mnist", "many", "different", _IMAGENET, 64, 2000, 10, 3, 32),
    Case("full", "pneumonia", "many", "different", _IMAGENET, 64, 2000, 2, 3, 32),
    Case("pocket", "digits", "few", "similar", _GLYPHS, 32, 100, 10, 20, 16),
)
"""The data sets of the map, few and many labels of each.

:meta hide-value:
"""


def case(edition: str, data: str, labels: str) -> Case:
    """A case of the map by its name in the table."""
    names = {f"{c.edition}, {c.data}, {c.labels}": c for c in CASES}
    wanted = f"{edition}, {data}, {labels}"
    check_name("case of the map", wanted, names)
    return names[wanted]


def train_from(cut: str, depth: str) -> str | None:
    """The first backbone layer that trains in a cell, as `tlhelpers.freeze` takes it; None if it is frozen.

    Examples
    --------
    >>> from tlhelpers import studies
    >>> studies.freezing_map.train_from("block 9", "half")
    'block_5_expand'
    """
    for what, name, names in (("cut", cut, CUTS), ("depth", depth, DEPTHS)):
        check_name(what, name, names)
    last = _LAST_BLOCK[cut]
    first = {"last block": last, "half": last // 2 + 1}.get(depth)
    return f"block_{first}_expand" if first else "Conv1" if depth == "everything" else None


Setting = tuple[str, float, float]
"""One of `READOUTS`, the probe's penalty, and the learning rate; 0 where nothing trains."""
Run = Callable[[Setting, int], dict[str, Any]]
"""Takes a setting and a seed; gives a row's columns."""


def cell(case: Case, cut: str, depth: str) -> Run:
    """A cell of the map, ready to be run with any setting and seed.

    Each starts as a linear probe: ridge on the frozen features at the cut. That is all of a frozen cell. The
    others turn the probe into a softmax, its scale fitted to the validation images, and train from the depth
    on. The seed decides which examples are labelled, the dropout and the order of the batches. What comes
    out: accuracy on validation and on test, which test images were right (see
    `tlhelpers.studies.intervals.right_answers`), the AUC of two classes, and ``cpu_seconds`` of all cores
    together for the features of the labelled images and for one fit, not for building the network's graph.
    A frozen cell also has the `tlhelpers.studies.closed_form.SCORES` of its features.
    """
    first = train_from(cut, depth)
    return functools.cache(_trained(case, cut, first) if first else _frozen(case, cut))


def _draw(case: Case, seed: int) -> datasets.Split:
    return draw(parts(case.data)[0], case.examples, seed=seed, rule=in_proportion)


def _frozen(case: Case, cut: str) -> Run:
    train, validation, test = parts(case.data)
    see = feature_extractor(
        case.backbone, train.images.shape[1:], cuts=[CUTS[cut]], image_size=case.image_size
    )
    features = functools.partial(see.predict, batch_size=100, verbose=0)
    known = [features(part.images) for part in (validation, test)]

    @functools.cache
    def spans(readout: str, seed: int) -> tuple[list[Array], dict[str, float]]:
        few = _draw(case, seed)
        began = time.process_time()
        turned = closed_form.in_span(*(_read(each, readout) for each in (features(few.images), *known)))
        found = {"cpu_seconds": round(time.process_time() - began, 2)}
        with threadpool_limits(1):  # threads of small matrices wait for each other
            found |= {name: score(turned[0], few.labels) for name, score in closed_form.SCORES.items()}
        return turned, found

    def run(setting: Setting, seed: int) -> dict[str, Any]:
        (few, *rest), scores = spans(setting[0], seed)
        weights, level, _ = closed_form.ridge(few, _draw(case, seed).labels, setting[1])
        held, seen = (each @ weights + level for each in rest)
        return {**judged(held, validation.labels, seen, test.labels), **scores}

    return run


def _read(features: Array, readout: str) -> Array:
    return features.mean(axis=(1, 2)) if readout == "pooled" else features.reshape(len(features), -1)


def _trained(case: Case, cut: str, first: str) -> Run:
    train, validation, test = parts(case.data)

    @functools.cache
    def network(readout: str) -> tuple[Network, Array, Array]:
        shape, pooled = train.images.shape[1:], readout == "pooled"
        net = classic_network(
            case.backbone, shape, case.image_size, case.classes, first, cut=CUTS[cut], pooled=pooled
        )
        held, seen = (net.prefix.predict(part.images, verbose=0) for part in (validation, test))
        net.suffix.fit(held[:1], validation.labels[:1], verbose=0)  # builds the graph
        return net, held, seen

    @functools.cache
    def start(readout: str, penalty: float, seed: int) -> tuple[Array, Array, list[Array], float]:
        """What trains, its labels, the head's weights, and seconds."""
        (net, held, _), few = network(readout), _draw(case, seed)
        net.reset(0, seed)
        read = functools.partial(net.read.predict, batch_size=100, verbose=0)
        known = read(held)
        began = time.process_time()
        x = net.prefix.predict(few.images, verbose=0)
        head = probe_head(read(x), few.labels, known, validation.labels, penalty=penalty)
        return x, few.labels, head, time.process_time() - began

    def run(setting: Setting, seed: int) -> dict[str, Any]:
        (readout, penalty, rate), how = setting, {"epochs": case.epochs, "batch_size": case.batch_size}
        x, labels, head, once = start(readout, penalty, seed)
        net, *others = network(readout)
        net.reset(rate, seed)
        net.suffix.get_layer("head").set_weights(head)
        began = time.process_time()
        fit_with_cosine(net.suffix, x, labels, rate=rate, seed=seed, callbacks=(), **how)
        spent = once + time.process_time() - began
        held, seen = (net.suffix.predict(each, batch_size=250, verbose=0) for each in others)
        return {**judged(held, validation.labels, seen, test.labels), "cpu_seconds": round(spent, 2)}

    return run


def choose(run: Run, settings: Sequence[Setting], tried: slice) -> dict[Setting, float]:
    """Mean validation accuracy over `CHOOSING` of settings, in order; goes on while the best is at an edge.

    `tried` are those to begin with. Of equals the first is the best.
    """
    first, last, _ = tried.indices(len(settings))
    found: dict[Setting, float] = {}
    while True:
        for setting in settings[first:last]:
            if setting not in found:
                accuracies = [run(setting, seed)["validation_accuracy"] for seed in CHOOSING]
                found[setting] = float(np.mean(accuracies))
        top = settings.index(best({setting: found[setting] for setting in settings[first:last]}))
        if first == top > 0:
            first -= 1
        elif last - 1 == top < len(settings) - 1:
            last += 1
        else:
            return {setting: found[setting] for setting in settings[first:last]}


@functools.lru_cache(maxsize=1)
def _frozen_kept(case: Case, cut: str) -> tuple[Run, dict[Setting, float]]:
    run, readouts = cell(case, cut, "frozen"), READOUTS[: 1 if cut == "end" else 2]
    settings = [(readout, penalty, 0.0) for readout in readouts for penalty in PENALTIES]
    return run, choose(run, settings, slice(None))


def _kept(case: Case, cut: str, depth: str) -> tuple[Run, dict[Setting, float]]:
    """A cell, and what was tried there. Training starts from the probe that the frozen cell kept."""
    if depth == "frozen":
        return _frozen_kept(case, cut)
    readout, penalty, _ = best(_frozen_kept(case, cut)[1])
    run = cell(case, cut, depth)
    return run, choose(run, [(readout, penalty, rate) for rate in RATES], _FIRST_RATES)


def _row(edition: Edition, data: str, labels: str, cut: str, depth: str) -> pd.DataFrame:
    """All seeds of one cell, at the setting that it kept."""
    of = case(edition.name, data, labels)
    run, tried = _kept(of, cut, depth)
    readout, penalty, rate = kept = best(tried)
    about = {
        "examples": of.examples,
        "classes": of.classes,
        "similarity": of.similarity,
        "train_from": train_from(cut, depth),
        "readout": readout,
        "penalty": penalty,
        "learning_rate": rate,
        "tried": in_words({each[2] or each[1]: tried[each] for each in tried if each[0] == readout}),
    }
    seeds = FROZEN_SEEDS if depth == "frozen" else SEEDS
    return pd.DataFrame([{"seed": seed, **about, **run(kept, seed)} for seed in seeds])


def _grid(edition: Edition) -> list[tuple[str, str, str, str]]:
    depths = DEPTHS if edition.name == "full" else IN_POCKET
    of = [case for case in CASES if case.edition == edition.name]
    return [(case.data, case.labels, cut, depth) for case in of for cut in CUTS for depth in depths]


def _again(edition: Edition, row: "pd.Series[Any]") -> tuple[float, int]:
    run = cell(case(edition.name, row.data, row.labels), row.cut, row.depth)
    found = run((row.readout, float(row.penalty), float(row.learning_rate)), int(row.seed))
    return found["test_accuracy"], len(parts(row.data)[-1])


STUDY = Study(
    table="freezing_map",
    keys=("data", "labels", "cut", "depth"),
    grid=_grid,
    row=_row,
    again=_again,
    like=("data", "labels", "cut", "depth"),
    where="labels == 'few'",
    most_seconds=10,
)
