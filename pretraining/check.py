"""Is the packaged backbone worth transferring? Run ``python -m pretraining.check`` in the repository's root.

The target task: scikit-learn's handwritten digits, 8x8 pixels enlarged to 32x32, 100 of them labelled.
Three contenders read them out with the same logistic regression: features of the pre-trained network,
features of the same network with random weights, and the raw pixels. Where to cut a network is chosen on
360 validation digits, for each contender on its own. The test digits are neither those nor the labelled
ones, and choose nothing. All is done twice: with features pooled, as the chapters' heads do, and flattened.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is loaded, or it has no effect

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from . import train
from .glyphs import SIDE

FIGURES = Path(__file__).with_name("figures.json")
RUN = Path(__file__).with_name("run.json")
CARD = train.WEIGHTS.with_suffix(".md")

LABELLED = 100
VALIDATION = 360
SEEDS = (0, 1, 2, 3, 4)
STRENGTH = 0.1  # C of the logistic regression; 0.01 to 1 give the same within half a point
VIEWS = ("pooled", "flattened")
#: What is claimed: gains in accuracy over the others at their best place, as fractions. Flattened, random
#: filters keep the pixels, so that random weights are as good as no network: the claim is smaller there.
CLAIMED = {
    "pooled": {"random": 0.07, "raw": 0.04},
    "flattened": {"random": 0.05, "raw": 0.04},
}

#: Layers to cut after: those where all that the later layers need passes through.
CUTS: tuple[str, ...] = (
    "Conv1_relu", "expanded_conv_project_BN", "block_1_expand_relu", "block_1_project_BN", "block_2_add",
    "block_3_expand_relu", "block_3_project_BN", "block_4_add", "block_5_add",
    "block_6_expand_relu", "block_6_project_BN", "block_7_add", "block_8_add", "block_9_add",
    "block_10_expand_relu", "block_10_project_BN", "block_11_add", "block_12_add",
    "block_13_expand_relu", "block_13_project_BN", "block_14_add", "block_15_add",
    "block_16_expand_relu", "block_16_project_BN", "out_relu",
)  # fmt: skip

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Scores = tuple[float, float]
Features = tuple[str, str, Floats]


def target_digits() -> tuple[Floats, Floats, Labels]:
    """Scikit-learn's digits: pixels (1797, 8, 8) in [0, 1], enlarged (1797, 32, 32, 3), and labels."""
    digits = load_digits()
    pixels = (digits.images / 16).astype(np.float32)
    large = keras.ops.image.resize(pixels[..., None], (SIDE, SIDE), interpolation="bilinear")
    return pixels, np.repeat(np.asarray(large), 3, axis=-1), digits.target.astype(np.int64)


def split(labels: Labels, seed: int) -> tuple[Labels, Labels, Labels]:
    """Indices (labelled, validation, test), stratified; the validation part is the same for every seed."""
    rest, validation = train_test_split(
        np.arange(len(labels)), test_size=VALIDATION, stratify=labels, random_state=0
    )
    labelled, test = train_test_split(rest, train_size=LABELLED, stratify=labels[rest], random_state=seed)
    return labelled, validation, test


def read_out(features: Floats, labels: Labels, seed: int) -> Scores:
    """Accuracy of logistic regression on validation and on test digits, trained on 100.

    Features are centred and divided by one number, their root mean variance, so that one strength of
    regularisation suits features of any scale (random weights shrink them a millionfold). The turn into
    the 100 directions that the labelled digits span changes no prediction and saves most of the time.
    """
    labelled, validation, test = split(labels, seed)
    flat = features.reshape(len(features), -1)
    known = flat[labelled]
    scale = np.sqrt(known.var(0).mean())
    if scale == 0:  # nothing varies: any guess
        return 0.1, 0.1
    turn = PCA(svd_solver="full").fit(known / scale)
    model = LogisticRegression(C=STRENGTH, max_iter=1000)
    model.fit(turn.transform(known / scale), labels[labelled])
    scores = [float(model.score(turn.transform(flat[i] / scale), labels[i])) for i in (validation, test)]
    return scores[0], scores[1]


def features_of(backbone: keras.Model, images: Floats, cuts: tuple[str, ...] = CUTS) -> Iterator[Features]:
    """Cut, view ("pooled" or "flattened") and features (n, values); BatchNorm in inference mode."""
    taps = keras.Model(backbone.input, [backbone.get_layer(cut).output for cut in cuts])
    outputs = taps.predict(images, batch_size=256, verbose=0)
    for cut, output in zip(cuts, outputs if len(cuts) > 1 else [outputs], strict=True):
        yield cut, "pooled", output.mean((1, 2))
        yield cut, "flattened", output.reshape(len(output), -1)


def random_backbone(seed: int) -> keras.Model:
    """The same network with random weights."""
    keras.utils.set_random_seed(seed)
    return train.fresh_backbone()


def mean_of(pairs: list[Scores], which: int) -> float:
    """Mean accuracy over the seeds on validation (0) or test (1), to four places."""
    return round(float(np.mean([pair[which] for pair in pairs])), 4)


def best(scores: dict[str, list[Scores]], which: int) -> str:
    """Name of the place with the best mean accuracy on validation (0) or test (1); the first of equals."""
    return max(scores, key=lambda place: mean_of(scores[place], which))


def measure() -> dict[str, Any]:
    """Measure all contenders with five seeds; a random network is drawn anew for each."""
    pixels, images, labels = target_digits()
    raw = {
        place: [read_out(found, labels, seed) for seed in SEEDS]
        for place, found in (("8x8", pixels), ("32x32", images[..., 0]))
    }
    scores: dict[str, dict[str, dict[str, list[Scores]]]] = {
        view: {"pretrained": {}, "random": {}, "raw": raw} for view in VIEWS
    }
    for cut, view, found in features_of(train.set_weights(train.fresh_backbone()), images):
        scores[view]["pretrained"][cut] = [read_out(found, labels, seed) for seed in SEEDS]
    for seed in SEEDS:
        for cut, view, found in features_of(random_backbone(seed), images):
            scores[view]["random"].setdefault(cut, []).append(read_out(found, labels, seed))

    figures: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": "2-core CPU",
        "labelled": LABELLED,
        "validation": VALIDATION,
        "test": len(labels) - LABELLED - VALIDATION,
        "seeds": list(SEEDS),
    }
    for view in VIEWS:
        contenders = {who: summary(places) for who, places in scores[view].items()}
        ours = contenders["pretrained"]["test_mean"]
        figures[view] = {
            "contenders": contenders,
            # Over the others even where they do best on the test digits, which they could not have known.
            "gains": {who: round(ours - contenders[who]["best_on_test"]["mean"], 4) for who in CLAIMED[view]},
            "cuts": {
                cut: {who: mean_of(scores[view][who][cut], 1) for who in ("pretrained", "random")}
                for cut in CUTS
            },
        }
    return figures


def summary(places: dict[str, list[Scores]]) -> dict[str, Any]:
    """One contender's figures: at the place that validation chose, and at the best one on test."""
    at, best_at = best(places, 0), best(places, 1)
    test = [round(pair[1], 4) for pair in places[at]]
    return {
        "at": at,
        "validation_mean": mean_of(places[at], 0),
        "test": test,
        "test_mean": round(float(np.mean(test)), 4),
        "best_on_test": {"at": best_at, "mean": mean_of(places[best_at], 1)},
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    words = {"pretrained": "pre-trained, frozen", "random": "random weights, frozen", "raw": "raw pixels"}
    lines = [
        (
            f"Accuracy with {figures['labelled']} labelled digits, mean of {len(figures['seeds'])} seeds, on "
            f"{figures['test']} test digits; read-out place chosen on {figures['validation']} others."
        ),
        "",
        "| view | features | read out at | accuracy | of each seed |",
        "|---|---|---|---|---|",
    ]
    for view in VIEWS:
        for who, found in figures[view]["contenders"].items():
            each = ", ".join(f"{value:.3f}" for value in found["test"])
            lines.append(f"| {view} | {words[who]} | {found['at']} | {found['test_mean']:.3f} | {each} |")
    lines += [
        "",
        "Gains in points, over the others wherever these do best on the test digits:",
        "",
        "| view | over random weights | claimed | over raw pixels | claimed |",
        "|---|---|---|---|---|",
    ]
    for view in VIEWS:
        gains, claims = figures[view]["gains"], CLAIMED[view]
        cells = [f"{100 * gains[who]:.1f} | {100 * claims[who]:.0f}" for who in ("random", "raw")]
        lines.append(f"| {view} | {' | '.join(cells)} |")
    lines += [
        "",
        "| cut after | pre-trained, pooled | random, pooled | pre-trained, flattened | random, flattened |",
        "|---|---|---|---|---|",
    ]
    for cut in CUTS:
        values = [
            f"{figures[view]['cuts'][cut][who]:.3f}" for view in VIEWS for who in ("pretrained", "random")
        ]
        lines.append(f"| {cut} | {' | '.join(values)} |")
    return "\n".join(lines)


def recipe(run: dict[str, Any]) -> str:
    """One line on the run that made the packaged weights."""
    return (
        f"{run['images']} images of {run['drawings']} drawings ({run['characters']} characters, "
        f"{run['classes']} classes), {run['epochs']} epochs, {run['seconds']} s in all on a {run['machine']}."
    )


def fill(text: str, mark: str, content: str) -> str:
    """Put content between ``<!-- mark -->`` and ``<!-- /mark -->``."""
    found, count = re.subn(
        rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", lambda m: f"{m[1]}{content}\n{m[2]}", text, flags=re.S
    )
    if count != 1:
        raise ValueError(f"model card: expected one place marked {mark!r}, got {count}.")
    return found


def main() -> None:
    """Measure, print, and write the figures and the model card's tables."""
    print("Takes about three minutes on two idle CPU cores.", flush=True)
    figures = measure()
    print(table(figures))
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    if CARD.exists():
        text = fill(CARD.read_text(), "figures", table(figures))
        if RUN.exists():
            text = fill(text, "run", recipe(json.loads(RUN.read_text())))
        CARD.write_text(text)
    short = [
        f"{who} ({view})"
        for view in VIEWS
        for who, least in CLAIMED[view].items()
        if figures[view]["gains"][who] < least
    ]
    if short:
        raise SystemExit(f"The gain over {' and '.join(short)} is smaller than claimed: see above.")


if __name__ == "__main__":
    main()
