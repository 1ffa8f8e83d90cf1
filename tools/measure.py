"""Measure what is too dear for each run, and write what the chapters check against.

    python tools/measure.py

Runs, in the current edition, the article's recipe with several seeds and three readings of "the last few
layers", and the `STUDIES`; `--table NAME ...` runs some of these alone. Each finished run is appended to a
table in book/measured (so an interrupted call goes on where it stopped; delete rows to measure them again).
Then book/published.toml is written from these tables. Each table's minutes are printed at the end.
"""

import argparse
import time
from pathlib import Path
from types import ModuleType

import keras
import measure_applications
import measure_beyond
import measure_curve
import measure_ladder
import measure_limits
import measure_readouts
import measure_sentences
import measure_unfreezing
import pandas as pd

import tlhelpers as tl

BOOK = Path(__file__).parent.parent / "book"
FINE_TUNING = BOOK / "measured" / "fine_tuning.csv"
BEYOND = BOOK / "measured" / "beyond.csv"
STUDIES: dict[str, ModuleType] = {
    "beyond": measure_beyond,
    "readouts": measure_readouts,
    "curve": measure_curve,
    "ladder": measure_ladder,
    "limits": measure_limits,
    "unfreezing": measure_unfreezing,
    "applications": measure_applications,
    "sentences": measure_sentences,
}
"""Tables of which each row is measured by itself: modules with `KEYS`, `wanted` and `run`."""
SEEDS = (0, 1, 2)
CHOICES = (100, 134, 151)
"""First layer that trains: from block 11 on (a tutorial's choice), the last twenty, the last three."""


def main() -> None:
    """Measure what the table lacks, then write the published values."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables = ["fine_tuning", *STUDIES]
    parser.add_argument("--table", nargs="+", choices=tables, default=tables, help="only these")
    chosen = parser.parse_args().table
    edition = tl.editions.current()
    print(f"{edition.name} edition: {edition.reason}")
    minutes = {}
    for name in chosen:
        began = time.perf_counter()
        if name == "fine_tuning":
            _measure_fine_tuning(edition)
        else:
            _measure(name, STUDIES[name], edition)
        minutes[name] = (time.perf_counter() - began) / 60
    if {"fine_tuning", "beyond"} & set(chosen):
        write_published(pd.read_csv(FINE_TUNING), pd.read_csv(BEYOND), BOOK / "published.toml")
    print(f"minutes, {sum(minutes.values()):.1f} in all:")
    for name, spent in minutes.items():
        print(f"    {name}: {spent:.1f}")


def _measure_fine_tuning(edition: tl.editions.Edition) -> None:
    # The other two choices get one seed in the full edition: each run there takes minutes.
    wanted = [(tl.recipes.TRAIN_FROM, seed) for seed in SEEDS]
    others = SEEDS if edition.name == "pocket" else SEEDS[:1]
    wanted += [(choice, seed) for choice in CHOICES if choice != tl.recipes.TRAIN_FROM for seed in others]
    for train_from, seed in wanted:
        if not _have(FINE_TUNING, edition=edition.name, train_from=train_from, seed=seed):
            print(f"layers {train_from} and up, seed {seed} ...", flush=True)
            _append(FINE_TUNING, _run(edition, train_from, seed))


def _measure(name: str, study: ModuleType, edition: tl.editions.Edition) -> None:
    path = BOOK / "measured" / f"{name}.csv"
    for values in study.wanted(edition):
        row = dict(zip(study.KEYS, values, strict=True))
        if not _have(path, edition=edition.name, **row):
            print(f"{name}: {', '.join(map(str, values))} ...", flush=True)
            _append(path, study.run(edition, *values))


def _have(path: Path, **row: object) -> bool:
    if not path.exists():
        return False
    table = pd.read_csv(path)
    return bool((table[list(row)] == pd.Series(row)).all(axis=1).any())


def _append(path: Path, rows: pd.DataFrame) -> None:
    path.parent.mkdir(exist_ok=True)
    whole = pd.concat([pd.read_csv(path, dtype={"commit": str}), rows]) if path.exists() else rows
    partial = path.with_suffix(".partial")
    whole.to_csv(partial, index=False, float_format="%.6g")
    partial.replace(path)


def _run(edition: tl.editions.Edition, train_from: int, seed: int) -> pd.DataFrame:
    head = tl.recipes.article_head(edition, seed=seed)
    started = time.perf_counter()
    tuned = tl.recipes.article_fine_tuned(edition, train_from=train_from, seed=seed)
    minutes = round((time.perf_counter() - started) / 60, 1)
    data = tl.load_dataset(edition.dataset)
    rows = pd.concat([head.history, tuned.history])
    rows["test_accuracy"], rows["test_loss"] = _scores(tuned.model, data.test)
    tl.refresh_batch_norm(tuned.model, data.train.images[:5120])
    rows["refreshed_val_accuracy"], _ = _scores(tuned.model, data.validation)
    rows["refreshed_test_accuracy"], rows["refreshed_test_loss"] = _scores(tuned.model, data.test)
    rows["minutes"] = minutes
    rows.insert(0, "edition", edition.name)
    rows.insert(1, "train_from", train_from)
    rows.insert(2, "seed", seed)
    for name, value in tl.published.stamp().items():
        rows[name] = value
    return rows


def _scores(model: keras.Model, split: tl.datasets.Split) -> tuple[float, float]:
    """Accuracy and loss on raw digits."""
    probabilities = model.predict(split.images, batch_size=64, verbose=0)
    result = tl.evaluate(split.labels, probabilities, tuple("0123456789"))
    return result.accuracy, result.loss


def write_published(fine_tuning: pd.DataFrame, beyond: pd.DataFrame, path: Path) -> None:
    """Values and tolerances from the tables, for every edition that is in them."""
    kept = fine_tuning[fine_tuning.train_from == tl.recipes.TRAIN_FROM]
    results: dict[str, dict[str, object]] = {}
    for edition, runs in kept.groupby("edition"):
        data = tl.load_dataset({"full": "mnist", "pocket": "digits"}[str(edition)])
        n_validation, n_test = len(data.validation), len(data.test)
        at = {epoch: rows.sort_values("seed") for epoch, rows in runs.groupby("epoch")}
        head, end = at[10], at[15]
        # A gap is the distance to the value that the page says this one differs from; the pocket edition
        # claims nothing against the article, or for fine-tuning. What lagging averages give is chance,
        # so no value is published for it: the chapters assert what they say of it instead.
        gain = over_article = None
        if edition == "full":
            gain = abs(end.refreshed_val_accuracy.mean() - head.val_accuracy.mean())
            over_article = abs(end.refreshed_test_accuracy.mean() - tl.published.ARTICLE_TEST["accuracy"])
        ours = beyond[(beyond.edition == edition) & (beyond.study == "ours")].sort_values("seed")
        # In the full edition the page says that ours, on an eighth of the digits, beats the article.
        over = abs(ours.test_accuracy.mean() - tl.published.ARTICLE_TEST["accuracy"]) if gain else None
        share, of_test = "share of the validation digits", "share of the test digits"
        for name, what, unit, values, n, gap in (
            ("head_validation_accuracy", "Validation accuracy, backbone frozen", share,
             head.val_accuracy, n_validation, gain),
            ("head_validation_loss", "Validation loss, backbone frozen", "nats", head.val_loss, None, None),
            ("refreshed_validation_accuracy", "Validation accuracy, fine-tuned, averages refreshed", share,
             end.refreshed_val_accuracy, n_validation, gain),
            ("refreshed_test_accuracy", "Test accuracy, averages refreshed", of_test,
             end.refreshed_test_accuracy, n_test, over_article),
            ("refreshed_test_loss", "Test loss, averages refreshed", "nats",
             end.refreshed_test_loss, None, None),
            ("our_test_accuracy", "Test accuracy, our recipe as run here", of_test,
             ours.test_accuracy, n_test, over),
        ):  # fmt: skip
            value = float(values.mean())
            allowed = tl.published.tolerance(list(values), examples=n, gap=gap)
            if (abs(values - value) > allowed).any():
                raise SystemExit(
                    f"{name}, {edition} edition: the seeds {list(values.round(4))} lie further apart than "
                    f"the tolerance {allowed:.4f} that its claim allows. Measure more, or claim less."
                )
            entry = results.setdefault(name, {"what": what, "unit": unit})
            entry[str(edition)] = {
                "value": float(f"{value:.5g}"),
                "tolerance": float(f"{allowed:.3g}"),
                "seeds": [int(seed) for seed in head.seed],
            }
    path.write_text(_toml(results))


def _toml(results: dict[str, dict[str, object]]) -> str:
    lines = [
        "# Written by `make measure` from the tables in measured/; see tlhelpers.published.tolerance.",
        "",
    ]
    for name, entry in results.items():
        lines += [f"[{name}]", f'what = "{entry["what"]}"', f'unit = "{entry["unit"]}"']
        for edition, there in entry.items():
            if isinstance(there, dict):
                numbers = ", ".join(f"{key} = {value}" for key, value in there.items())
                lines.append(f"{edition} = {{ {numbers} }}")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
