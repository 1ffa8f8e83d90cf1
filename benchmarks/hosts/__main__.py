"""Run every way to train in two processes on this machine, and write what happened.

    python -m benchmarks.hosts

Each is compared with one process on the same batches, in float64. Processes meet on loopback; each has a core
of its own. JAX and PyTorch have environments of their own: see `benchmarks.environments`.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlhelpers import page

from .. import environments
from .ways import WAIT

LIMIT = 180
ALL = sorted(os.sched_getaffinity(0))
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "OMP_NUM_THREADS": "1"}
TWO = {"DEVICES": "2", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
WAYS = (
    ("DataParallel, two processes", "jax", "jax_processes", 2),
    ("DataParallel, two devices of one process", "jax", "jax_processes", 1),
    ("MirroredStrategy, two devices of one process", "tensorflow", "mirrored", 1),
    ("MultiWorkerMirroredStrategy, two processes", "tensorflow", "multi_worker", 2),
    ("DistributedDataParallel, two processes, own loop", "torch", "torch_processes", 2),
)
Said = dict[str, Any]


def free_port() -> int:
    """A port that is free, and so is the next."""
    with contextlib.ExitStack() as held:
        for first in range(20_000, 60_000, 7):
            with contextlib.suppress(OSError):
                for port in (first, first + 1):
                    held.enter_context(socket.socket()).bind(("localhost", port))
                return first
    raise SystemExit("expected two free ports, found none.")


@contextlib.contextmanager
def group(
    backend: str, way: str, at: list[int], of: int, port: int, task: str, folder: Path
) -> Iterator[Any]:
    """Some processes of a group; those that still run at the end are killed."""
    more = TWO if task != "alone" and of == 1 else {}
    running = []
    try:
        for process in at:
            # A host is played by one core; two devices of one process have all cores.
            cores = ALL if more else ALL[process % len(ALL) :][:1]
            command = ["taskset", "--cpu-list", ",".join(map(str, cores))]
            command += [
                environments.python(backend),
                "-m",
                "benchmarks.hosts.ways",
                way,
                str(process),
                str(of),
            ]
            running.append(
                subprocess.Popen(
                    [*command, str(port), task, str(folder)],
                    env=environments.environment(backend, **QUIET, **more),
                    stdout=subprocess.DEVNULL,
                    stderr=(folder / f"{process}.log").open("a"),
                )
            )
        yield running
    finally:
        for each in running:
            each.kill()
            each.wait()


def ended(running: list[Any], limit: float = LIMIT) -> float | None:
    """Seconds until all have ended, or None where the limit came first."""
    began = time.perf_counter()
    for each in running:
        try:
            each.wait(max(0.1, limit - (time.perf_counter() - began)))
        except subprocess.TimeoutExpired:
            return None
    return time.perf_counter() - began


def said(folder: Path, process: int) -> Said:
    """What a process wrote."""
    path = folder / f"{process}.json"
    found: Said = json.loads(path.read_text()) if path.exists() else {}
    return found


def difference(a: Path, b: Path) -> float:
    """The largest of two files' weights, or NaN where one is missing."""
    if not (a.exists() and b.exists()):
        return np.nan
    with np.load(a) as left, np.load(b) as right:
        return max(float(np.abs(left[name] - right[name]).max()) for name in left.files)


def word(folder: Path, running: Any, step: str) -> str:
    """What the first process said of a step; or how it ended, with the first line that speaks of an error."""
    if (found := said(folder, 0).get(step, "ok")) != "ok":
        return str(found)
    lines = (folder / "0.log").read_text().splitlines()
    wrong = [line for line in lines if re.search("error|fail|deadline|what()|reset|closed", line, re.I)]
    return f"ends with {running[0].returncode}: {(wrong or ['no word'])[0][-160:].strip()}"


def row(name: str, backend: str, way: str, of: int, root: Path) -> Said:
    """One line of the table."""

    def fresh(task: str) -> Path:
        (folder := root / f"{way}-{of}-{task}").mkdir()
        return folder

    one, both, killed, missing, taken = map(fresh, ("alone", "both", "killed", "missing", "taken"))
    with group(backend, way, [0], 1, free_port(), "alone", one) as running:
        ended(running)
    with group(backend, way, [*range(of)], of, free_port(), "both", both) as running:
        ended(running)
    alone, found = said(one, 0), said(both, 0)
    row: Said = {"way": name, "backend": backend, "versions": environments.versions(backend), "processes": of}
    row |= {step: found.get(step, "no answer") for step in ("fit", "evaluate", "predict")}
    for norm in ("trained", "frozen"):
        row[f"differs_norm_{norm}"] = difference(one / f"{norm}-0.npz", both / f"{norm}-0.npz")
        if of > 1:
            row[f"apart_norm_{norm}"] = difference(both / f"{norm}-0.npz", both / f"{norm}-1.npz")
    for name in ("seconds", "cpu_seconds"):  # an epoch's; of one of the processes
        row[f"{name}_ratio"] = found.get(name, np.nan) / alone[name]
    if row["fit"] == "ok":
        with group(backend, way, [*range(of)], of, free_port(), "killed", killed) as running:
            running[-1].wait(LIMIT)
            row["killed"] = running[-1].returncode == -signal.SIGKILL
            seconds = ended(running)
        if of > 1:
            row["after_kill"] = "waits on" if seconds is None else word(killed, running, "fit")
            row["after_kill_s"] = np.nan if seconds is None else seconds
        row["kept_epochs"] = len([*killed.glob("epoch-*.keras")])
        with group(backend, way, [*range(of)], of, free_port(), "killed", killed) as running:
            ended(running)
        row["resumed_differs"] = difference(both / "frozen-0.npz", killed / "frozen-0.npz")
    if of > 1:
        with group(backend, way, [0], of, free_port(), "missing", missing) as running:
            seconds = ended(running, 4 * WAIT)
        row["one_missing"] = "waits on" if seconds is None else word(missing, running, "start")
        row["one_missing_s"] = np.nan if seconds is None else seconds
        with socket.socket() as holder:
            holder.bind(("localhost", 0))
            holder.listen()
            port = holder.getsockname()[1]
            with group(backend, way, [0], of, port, "taken", taken) as running:
                seconds = ended(running, 4 * WAIT)
        row["port_taken"] = "waits on" if seconds is None else word(taken, running, "start")
    return row


def main() -> None:
    """Run all ways, and write the table."""
    stamp, rows = page.stamp(), []
    with tempfile.TemporaryDirectory() as root:
        for each in WAYS:
            rows.append(row(*each, Path(root)))
            print(pd.Series(rows[-1]).to_string(), flush=True)
    table = pd.DataFrame(rows).assign(**stamp)
    table.to_csv(environments.ROOT / "book" / "measured" / "hosts.csv", index=False, float_format="%.3g")


if __name__ == "__main__":
    main()
