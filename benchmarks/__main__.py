"""Run the benchmarks and put the figures together.

    make bench                    all of it (an hour and more; can be interrupted)
    make bench ONLY=phase1_speedup
    make bench QUICK=1            a tenth of the data, marked as such, kept apart

Every measurement runs in a fresh process and is kept in out/bench once it is whole, so an interrupted
call goes on where it stopped. Ratios compare what was measured on this machine with this code: kept
measurements of another library version or machine are not used. Remove out/bench to measure all again.
"""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

import tlhelpers as tl
from tlhelpers import page

ROOT = Path(__file__).resolve().parent.parent
ARTICLE_ACCURACY = page.ARTICLE_TEST["accuracy"]
SEEDS = (0, 1, 2)
COMPUTES = (
    "backbones",
    "datasets",
    "evaluation",
    "freezing",
    "fused",
    "images",
    "studies/recipes",
    "studies/skeleton",
)
"""Modules that decide what is measured, besides those that `tlhelpers.cache.code_key` knows."""
Result = dict[str, Any]


class Bench:
    """Runs measurements, or reads those that this code has made on this machine."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.images = 6_000 if quick else 60_000
        self.folder = ROOT / "out" / "bench" / ("quick" if quick else "full")
        self.data = self.folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        for name in page.editions.FULL_FILES:
            file = tl.downloads.fetch(name)
            # A mirror folder says itself what its files are.
            for source in (file, file.with_name("mirror.toml")):
                if source.exists():
                    shutil.copyfile(source, self.data / source.name)
        own = "\n".join(file.read_text() for file in sorted((ROOT / "benchmarks").glob("*.py")))
        code = tl.cache.code_key(*COMPUTES)
        self.code = tl.cache.content_key(code, own, page.stamp()["machine"])[:12]
        self.seeds = SEEDS[:1] if quick else SEEDS
        self.used: dict[str, Result] = {}
        self.tables: dict[str, pd.DataFrame] = {}

    def __call__(self, piece: str, *, cache: Path | None = None, **arguments: Any) -> Result:
        """One measurement, in a process of its own with an empty cache folder, or with the one given."""
        key = tl.cache.content_key(self.code, piece, arguments, cache is None)[:12]
        path = self.folder / f"{piece}-{key}.json"
        if not path.exists():
            said = ", ".join(f"{name}={value}" for name, value in arguments.items())
            print(f"  {piece}({said}) ...", end="", flush=True)
            began = time.perf_counter()
            with tempfile.TemporaryDirectory(prefix="tlhelpers-bench-") as empty:
                environment = {
                    **os.environ,
                    "TLHELPERS_EDITION": "full",
                    "TLHELPERS_DATA": str(self.data),
                    "TLHELPERS_CACHE": str(cache or empty),
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                }
                command = [sys.executable, "-m", "benchmarks.pieces", piece, json.dumps(arguments), str(path)]
                with (self.folder / "log.txt").open("a") as log:
                    done = subprocess.run(
                        command, env=environment, cwd=ROOT, stdout=log, stderr=log, check=False
                    )
            if done.returncode:
                raise SystemExit(f"\n{piece} ended with {done.returncode}; see {self.folder / 'log.txt'}")
            print(f" {time.perf_counter() - began:.0f} s")
        result: Result = json.loads(path.read_text())
        shown = {name: value for name, value in result.items() if name not in ("head", "tune")}
        self.used[f"{piece} {json.dumps(arguments)}{' (warm)' if cache else ''}"] = shown
        return result

    # -- measurements that several figures share ---------------------------------------------------

    def plain(self) -> Result:
        """The article's recipe, plain."""
        return self("plain", images=self.images)

    def cached(self) -> Result:
        """The same, the prefix computed once."""
        return self("cached", images=self.images)


def article_seconds(result: Result, *, phases: tuple[str, ...] = ("head", "tune")) -> float:
    """Seconds of the article's recipe on one side, preparation and prefixes included."""
    seconds = result["seconds"]
    names = ["prepare", *phases, *(f"{phase} prefix" for phase in phases)]
    return float(sum(seconds.get(name, 0.0) for name in names))


# -- the figures -----------------------------------------------------------------------------------

Figures = dict[str, float]


def phase1_speedup(bench: Bench) -> Figures:
    """Phase 1, and that both sides end in the same."""
    plain, cached = bench.plain(), bench.cached()
    a, b = plain["head"], cached["head"]
    same = statistics.mean(x == y for x, y in zip(a["predictions"], b["predictions"], strict=True))
    losses = [
        abs(y - x) / x
        for name in ("loss", "val_loss")
        for x, y in zip(a["history"][name], b["history"][name], strict=True)
    ]
    return {
        "phase1_speedup": article_seconds(plain, phases=("head",))
        / article_seconds(cached, phases=("head",)),
        "phase1_same_predictions": same,
        "phase1_largest_loss_difference": max(losses),
    }


def recipe_speedup(bench: Bench) -> Figures:
    """The whole recipe of the article, cold; and with the features on disk already."""
    plain, cached = article_seconds(bench.plain()), article_seconds(bench.cached())
    # A cache folder that stays, so that an interrupted call still finds it warm.
    cache, one_epoch = bench.folder / f"warm-{bench.code}", {"head_epochs": 1, "tune_epochs": 1}
    bench("cached", cache=cache, images=bench.images, **one_epoch, seed=0)
    warm = bench("cached", cache=cache, images=bench.images, **one_epoch, seed=1)
    seconds = bench.cached()["seconds"]
    saved = sum(seconds[f"{phase} prefix"] - warm["seconds"][f"{phase} prefix"] for phase in ("head", "tune"))
    return {"recipe_speedup": plain / cached, "recipe_speedup_warm": plain / (cached - saved)}


def time_to_article_accuracy_speedup(bench: Bench) -> Figures:
    """The article's whole recipe over the least of ours that beats its accuracy on test."""
    runs = [bench("quick", seed=seed) for seed in bench.seeds]
    worst = min(run["test"] for run in runs)
    if worst < ARTICLE_ACCURACY:
        raise SystemExit(f"quick: expected a test accuracy of {ARTICLE_ACCURACY} or more, got {worst}.")
    seconds = statistics.median(run["seconds"]["all"] for run in runs)
    return {
        "time_to_article_accuracy_speedup": article_seconds(bench.plain()) / seconds,
        "time_to_article_accuracy_s": seconds,
        "time_to_article_accuracy_test": worst,
    }


def peak_memory_ratio(bench: Bench) -> Figures:
    """Anonymous memory of a fresh process that runs an epoch of each phase, ours over plain."""
    epochs: Result = {"head_epochs": 1, "tune_epochs": 1}
    whole = bench("cached", images=bench.images, **epochs)["peak_mb"]
    sixth = bench("cached", images=bench.images // 6, **epochs)["peak_mb"]
    return {
        "peak_memory_ratio": whole / bench("plain", images=bench.images, **epochs)["peak_mb"],
        "peak_memory_mb": whole,
        "memory_growth": whole / sixth,
    }


def matrix_peak_share(bench: Bench) -> Figures:
    """The frozen pass against what the machine can do, and LiteRT against the best of Keras."""
    rate = bench("matrix_rate")["macs_per_s"]
    figures: Figures = {}
    passes = bench("passes")
    for cut in ("pool", "block_2_add"):
        found = passes[cut]
        litert = found["images_per_s"]["litert 64"]
        keras = max(value for name, value in found["images_per_s"].items() if name.startswith("keras"))
        figures[f"litert_speedup_{cut}"] = litert / keras
        figures[f"litert_difference_{cut}"] = found["difference"]
        if cut == "pool":
            figures["matrix_peak_share"] = litert * found["multiply_adds"] / rate
    return figures


def pointwise_step_speedup(bench: Bench) -> Figures:
    """A training step with 1x1 convolutions as matrix products, over one with convolutions."""
    ms = bench("steps")
    return {
        "pointwise_step_speedup": ms["convolution, 20 steps a call"] / ms["matrix product, 20 steps a call"],
        "twenty_steps_a_call_speedup": ms["matrix product, 1 step a call"]
        / ms["matrix product, 20 steps a call"],
    }


def fused_step_speedup(bench: Bench) -> Figures:
    """A training step as Keras makes it, and as this book did, over a fused one; losses beside a nudge's."""
    figures: Figures = {}
    measured = bench("fused_steps", one_thread=False)
    for recipe in ("article", "ours"):
        found = measured[recipe]
        for at, clock in enumerate(("", "_processor")):
            figures[f"fused_step_speedup_{recipe}{clock}"] = found["plain"][at] / found["fused"][at]
            figures[f"fused_step_speedup_{recipe}{clock}_over_keras"] = (
                found["keras"][at] / found["fused"][at]
            )
        for side in ("fused", "nudged"):
            figures[f"{side}_first_50_steps_{recipe}"] = _largest_difference(found["losses"], side)
    return figures


def one_thread_step_speedup(bench: Bench) -> Figures:
    """A training step by the clock with TensorFlow's threads, over one with a single thread an operation."""
    several, one = (bench("fused_steps", one_thread=alone) for alone in (False, True))
    figures: Figures = {}
    for recipe in ("article", "ours"):
        keras_s, fused_s = (several[recipe][side][0] for side in ("keras", "fused"))
        figures[f"one_thread_step_speedup_{recipe}_keras"] = keras_s / one[recipe]["keras"][0]
        figures[f"one_thread_step_speedup_{recipe}_fused"] = fused_s / one[recipe]["fused"][0]
        figures[f"one_thread_step_speedup_{recipe}_both"] = keras_s / one[recipe]["fused"][0]
    return figures


def array_feed_speedup(bench: Bench) -> Figures:
    """Short fits on arrays without tf.data's autotuning over the same with it, as Keras has it."""
    tuned, plain = (bench("array_feed", plainly=plainly) for plainly in (False, True))
    return {
        "array_feed_speedup": sum(tuned["seconds"]) / sum(plain["seconds"]),
        "array_feed_waited_share": sum(tuned["waited"]) / sum(tuned["seconds"]),
        "array_feed_waited_share_plainly": sum(plain["waited"]) / sum(plain["seconds"]),
    }


def best_accuracy(bench: Bench) -> Figures:
    """Our recipe with three seeds, beside the article's seconds and a small network from scratch."""
    runs = [bench("best", images=bench.images, seed=seed) for seed in bench.seeds]
    seconds = statistics.median(_all_seconds(run) for run in runs)
    scratch = [
        bench("convnet", budget_s=round(seconds), images=bench.images, seed=seed) for seed in bench.seeds
    ]
    bench.tables["race"] = _race(bench.plain(), bench.cached(), runs, scratch)
    return {
        "best_accuracy": statistics.median(run["test"] for run in runs),
        "best_accuracy_least": min(run["test"] for run in runs),
        "best_recipe_speedup": article_seconds(bench.plain()) / seconds,
        "best_recipe_s": seconds,
        "convnet_accuracy": statistics.median(run["test"] for run in scratch),
        "convnet_s": statistics.median(_all_seconds(run) for run in scratch),
    }


def _all_seconds(run: Result) -> float:
    return float(sum(run["seconds"].values()))


def _race(plain: Result, cached: Result, ours: list[Result], scratch: list[Result]) -> pd.DataFrame:
    """Accuracy on the validation digits against seconds since the start."""
    rows = []
    for contestant, result in (("article, plain", plain), ("article, prefix once", cached)):
        seconds = result["seconds"]["prepare"]
        for phase in ("head", "tune"):
            seconds += result["seconds"].get(f"{phase} prefix", 0.0)
            values = result[phase]["history"]["val_accuracy"]
            for epoch_s, value in zip(result[phase]["epochs"], values, strict=True):
                seconds += epoch_s
                rows.append((contestant, 0, phase, seconds, value))
    for contestant, runs in (("ours", ours), ("small network, from scratch", scratch)):
        for seed, run in enumerate(runs):
            rows += [(contestant, seed, "all", seconds, value) for seconds, value in run["points"]]
    return pd.DataFrame(rows, columns=["contestant", "seed", "phase", "seconds", "val_accuracy"])


def phase2_first_steps(bench: Bench) -> Figures:
    """Losses of the second phase's first 50 steps: plain against cached, in float64 and in float32."""
    cache = bench.folder / f"heads-{bench.code}"
    exact, single = (bench("first_steps", cache=cache, dtype=dtype) for dtype in ("float64", "float32"))
    return {
        "phase2_first_50_steps_difference": _largest_difference(exact, "cached"),
        "phase2_first_50_steps_difference_float32": _largest_difference(single, "cached"),
        "phase2_first_50_steps_nudged_float32": _largest_difference(single, "plain, nudged"),
    }


def _largest_difference(losses: Result, side: str) -> float:
    return float(max(abs(a - b) / a for a, b in zip(losses["plain"], losses[side], strict=True)))


def phase2_seeds(bench: Bench) -> Figures:
    """Test accuracy (averages refreshed) after the second phase, plain and cached, by seed.

    Three seeds a side on all images. Runs of one seed part by more than their rounding, and three say
    little of a spread, so ten seeds a side on a tenth of the images ask whether one side is better.
    """
    cache = bench.folder / f"heads-{bench.code}"

    def ends(once: bool, seeds: Iterable[int], images: int) -> list[float]:
        return [
            bench("tuned", cache=cache, images=images, seed=seed, once=once)["refreshed_test"]
            for seed in seeds
        ]

    figures: Figures = {}
    for side, once in (("plain", False), ("cached", True)):
        found = ends(once, bench.seeds, bench.images)
        figures[f"phase2_{side}_least"], figures[f"phase2_{side}_most"] = min(found), max(found)
    if not bench.quick:
        plain, cached = (ends(once, range(10), bench.images // 10) for once in (False, True))
        paired = [b - a for a, b in zip(plain, cached, strict=True)]
        mean = statistics.mean(paired)
        half = stats.t.ppf(0.975, len(paired) - 1) * statistics.stdev(paired) / math.sqrt(len(paired))
        figures["phase2_tenth_plain"] = statistics.mean(plain)
        figures["phase2_tenth_cached_minus_plain"] = mean
        figures["phase2_tenth_low"], figures["phase2_tenth_high"] = mean - half, mean + half
    return figures


def growth(bench: Bench) -> Figures:
    """Seconds and memory of the first phase by number and size of images, plain and cached."""
    largest = bench.images
    numbers = [(n, 32) for n in (1_000, 3_000, 10_000, 30_000, 60_000) if n <= largest]
    sizes = [(2_000, size) for size in ((32, 64) if bench.quick else (32, 64, 96, 128))]
    rows = []
    for images, size in dict.fromkeys(numbers + sizes):
        for once in (False, True):
            found = bench("grows", images=images, size=size, once=once)
            rows.append(
                (images, size, "prefix once" if once else "plain", found["seconds"], found["peak_mb"])
            )
    table = pd.DataFrame(rows, columns=["images", "size", "side", "seconds", "peak_mb"])
    bench.tables["growth"] = table
    wide = table.pivot_table(index=["images", "size"], columns="side", values="seconds")
    ratio = wide["plain"] / wide["prefix once"]
    return {f"phase1_speedup_{n}_images_{size}px": float(ratio[n, size]) for n, size in ratio.index}


def mnist_part_minutes(bench: Bench) -> Figures:
    """The MNIST chapters, one after the other, full edition, an empty cache folder."""
    return {"mnist_part_minutes": bench("chapters")["seconds"] / 60}


FIGURES: dict[str, Callable[[Bench], Figures]] = {
    figure.__name__: figure
    for figure in (
        matrix_peak_share,
        pointwise_step_speedup,
        fused_step_speedup,
        one_thread_step_speedup,
        array_feed_speedup,
        time_to_article_accuracy_speedup,
        phase1_speedup,
        recipe_speedup,
        peak_memory_ratio,
        best_accuracy,
        growth,
        mnist_part_minutes,
        phase2_first_steps,
        phase2_seeds,
    )
}
ALSO_FROM = {"memory_growth": "peak_memory_ratio", "best_recipe_speedup": "best_accuracy"}
# (must reach, reach for); a name in AT_MOST is better when smaller.
TARGETS: dict[str, tuple[float | None, float]] = {
    "phase2_first_50_steps_difference": (1e-4, 0.0),
    "phase1_speedup": (8, 15),
    "phase1_same_predictions": (0.999, 1.0),
    "recipe_speedup": (2.3, 4),
    "time_to_article_accuracy_speedup": (50, 200),
    "best_accuracy": (0.994, 0.997),
    "best_recipe_speedup": (3, 8),
    "peak_memory_ratio": (0.5, 0.25),
    "memory_growth": (1.15, 1.0),
    "mnist_part_minutes": (8, 5),
    "matrix_peak_share": (None, 0.5),
}
AT_MOST = {"peak_memory_ratio", "memory_growth", "mnist_part_minutes", "phase2_first_50_steps_difference"}


# -- what is written -------------------------------------------------------------------------------


def main() -> None:
    """Measure what is asked for, print the ratios, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data")
    options = parser.parse_args()
    wanted = [ALSO_FROM.get(name, name) for name in options.only] or list(FIGURES)
    if options.quick and not options.only:
        wanted.remove("mnist_part_minutes")  # chapters have no tenth
    for name in wanted:
        if name not in FIGURES:
            raise SystemExit(f"ONLY: expected some of {', '.join([*FIGURES, *ALSO_FROM])}, got {name!r}.")
    os.environ.setdefault("TLHELPERS_EDITION", "full")
    bench = Bench(quick=options.quick)
    stamp = page.stamp()
    scale = "QUICK: a tenth of the data, no figure to publish" if options.quick else "full MNIST"
    print(f"benchmarks, {scale}; {stamp['machine']}")
    target = bench.folder / "results.json" if options.quick else ROOT / "benchmarks" / "results.json"
    kept = target.exists() and options.only
    results: dict[str, float] = json.loads(target.read_text()) if kept else {}
    path = target.with_name("details.json")
    before: Result = json.loads(path.read_text()) if kept and path.exists() else {}
    # Each figure says when and where it was measured: a later call may add one on another machine.
    stamps: dict[str, dict[str, str]] = before.get("stamps", {})
    details: Result = {
        "quick": options.quick,
        "stamps": stamps,
        "python": platform.python_version(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("tensorflow", "keras", "numpy", "ai-edge-litert")
        },
        "measurements": before.get("measurements", {}),
    }
    for name in wanted:
        print(f"{name}: {(FIGURES[name].__doc__ or '').splitlines()[0]}")
        found = FIGURES[name](bench)
        results.update({key: float(f"{value:.5g}") for key, value in found.items()})
        stamps.update(dict.fromkeys(found, stamp))
        for key, value in found.items():
            must, reach = TARGETS.get(key, (None, None))
            asked = "" if reach is None else f"   must {must}, reach for {reach}"
            print(f"    {key} = {value:.4g}{asked}")
        details["measurements"].update(bench.used)
        target.write_text(json.dumps(results, indent=1) + "\n")
        path.write_text(json.dumps(details, indent=1) + "\n")
    measured = bench.folder if options.quick else ROOT / "book" / "measured"
    bench.tables["benchmarks"] = pd.DataFrame(
        [
            (name, value, *TARGETS.get(name, (None, None)), *stamps[name].values())
            for name, value in results.items()
        ],
        columns=["name", "value", "must_reach", "reach_for", *stamp],
    )
    for name, table in bench.tables.items():
        # The table of figures has its stamps; the others were made just now.
        table = table if name == "benchmarks" else table.assign(**stamp)
        table.to_csv(measured / f"{name}.csv", index=False, float_format="%.6g")
    missed = []
    for name, value in results.items():
        must = TARGETS.get(name, (None, None))[0]
        if must is not None and (value > must if name in AT_MOST else value < must):
            missed.append(name)
    if missed and not options.quick:
        raise SystemExit(f"below what they must reach: {', '.join(missed)}")


if __name__ == "__main__":
    main()
