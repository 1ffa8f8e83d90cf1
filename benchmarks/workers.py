"""How many images a second a frozen network sees: one process with threads, and workers of one core each.

    python -m benchmarks.workers                     both networks; writes book/measured/workers.csv
    python -m benchmarks.workers --network FILE --images N --workers 1 2 4 8 16 --out FILE

With `--network`, a file in LiteRT's format for uint8 images, it needs numpy, ai-edge-litert and this folder's
`tlhelpers`, and neither Keras nor TensorFlow. All ways take turns in one call, so compare rows of one call.
"""

import argparse
import csv
import datetime
import importlib.util
import multiprocessing
import os
import pickle
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tlhelpers import _workers

ROOT = Path(__file__).resolve().parent.parent
BATCH, TURNS = 64, 3
IMAGES = {"photos, 96 px": 4_096, "digits, 32 px": 16_384}
PART_IMAGES, PART_BYTES = 1_024, 1 << 24  # as in tlhelpers/features.py
Row = dict[str, Any]


def in_turns(network: bytes, images: _workers.Array, workers: Sequence[int]) -> list[Row]:
    """A row for each way: images a second (median, least and most), and what a pass by workers needs."""
    alone = {threads: _workers.interpreter(network, threads=threads) for threads in {1, *workers}}
    outputs = alone[1](images[:BATCH])
    most = max(each.nbytes for each in outputs)
    rows = BATCH * max(1, min(PART_IMAGES // BATCH, PART_BYTES // most))
    parts = [images[at : at + rows] for at in range(0, len(images), rows)]
    ways: dict[tuple[str, int], Callable[[], Row]] = {}
    for threads, run in sorted(alone.items()):
        ways["threads", threads] = lambda run=run: _by_threads(run, images)  # type: ignore[misc]
        if threads in workers:
            ways["workers", threads] = lambda number=threads: _by_workers(network, parts, number, alone[1])  # type: ignore[misc]
    found: dict[tuple[str, int], list[Row]] = {way: [] for way in ways}
    for turn in range(TURNS):
        for key, measure in ways.items():
            found[key].append(measure())
            print(turn, *key, found[key][-1], flush=True)
    asked = pickle.dumps((_workers.work, (_workers.here(), network, parts[0], BATCH), {}), -1)
    returned = sum(each.nbytes for each in outputs) / BATCH
    table = []
    for (way, number), measured in found.items():
        rates = [each.pop("rate") for each in measured]
        row: Row = {"way": way, "number": number, "images_per_s": statistics.median(rates)}
        row |= {"least": min(rates), "most": max(rates), "images": len(images), "part_images": len(parts[0])}
        if way == "workers":
            row |= {"sent_bytes": len(asked) / len(parts[0]), "returned_bytes": returned}
            row |= {name: statistics.median(each[name] for each in measured) for name in measured[0]}
        table.append(row)
    return table


def _by_threads(run: _workers.Run, images: _workers.Array) -> Row:
    run(images[:BATCH])
    began = time.perf_counter()
    _workers.joined(run(images[at : at + BATCH]) for at in range(0, len(images), BATCH))
    return {"rate": len(images) / (time.perf_counter() - began)}


def _by_workers(network: bytes, parts: list[_workers.Array], number: int, check: _workers.Run) -> Row:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(number, mp_context=spawn) as pool:
        began = time.perf_counter()
        pool.submit(_workers.work, _workers.here(), network, parts[0][:1], BATCH).result()
        start = time.perf_counter() - began
        list(pool.map(time.sleep, [1.0] * number))  # until the others are there, too
        tasks: Iterator[tuple[int, _workers.Array]] = iter(enumerate(parts))
        began, spent = time.perf_counter(), time.process_time()
        done = sum(len(x[0]) for _, x in _workers.spread(tasks, pool, network, BATCH, check))
        seconds, caller = time.perf_counter() - began, time.process_time() - spent
    assert done == sum(map(len, parts))
    return {"rate": done / seconds, "start_s": start, "caller_s_a_part": caller / len(parts)}


def network_bytes(name: str) -> bytes:
    """The networks of the table: the backbone up to its pooled end, and digits up to block 2."""
    import tlhelpers as tl
    from tlhelpers import _backend

    shape: tuple[int, ...] = (96, 96, 3) if name.startswith("photos") else (28, 28)
    cut = {"cuts": ["out_relu"], "pool": True} if len(shape) == 3 else {"cuts": ["block_2_add"]}
    size = 96 if len(shape) == 3 else 32
    how: dict[str, Any] = {"image_size": size, "weights": "random", **cut}  # the speed of any weights
    network = tl.backbones.feature_extractor("mobilenet_v2_imagenet", shape, **how)
    return _backend.litert(network, shape)


def stamp() -> dict[str, str]:
    """As `page.stamp`, where that can be imported; without it, the commit is not known."""
    if importlib.util.find_spec("pandas"):
        from tlhelpers import page

        return page.stamp()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"commit": "none", "date": today, "machine": f"{os.cpu_count()} cores, {processor}"}


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.workers", description=__doc__.splitlines()[0])
    parser.add_argument("--network", type=Path, help="a network in LiteRT's format (default: the book's two)")
    parser.add_argument("--name", help="what its rows are called (default: its file's name)")
    parser.add_argument("--images", type=int, help="how many; a part (1,024) or more for each worker")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "book" / "measured" / "workers.csv")
    parser.add_argument("--save", type=Path, help="write the book's two networks to this folder, and stop")
    asked = parser.parse_args()
    origin = stamp()
    if asked.network:
        networks = {asked.name or asked.network.stem: asked.network.read_bytes()}
    else:
        networks = {name: network_bytes(name) for name in IMAGES}
    table: list[Row] = []
    for name, network in networks.items():
        if asked.save:
            (asked.save / f"{name}.tflite").write_bytes(network)
            continue
        print(f"{name}: {len(network)} bytes", flush=True)
        shape = Interpreter(model_content=network).get_input_details()[0]["shape"][1:]
        number = asked.images or IMAGES.get(name, 2_048)
        images = np.random.default_rng(0).integers(0, 256, (number, *shape), dtype=np.uint8)
        rows = in_turns(network, images, asked.workers)
        table += [{"network": name, "network_bytes": len(network), **row, **origin} for row in rows]
    if table:
        columns = list(dict.fromkeys(column for row in table for column in row if column not in origin))
        with asked.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*columns, *origin], lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in table
            )


if __name__ == "__main__":
    main()
