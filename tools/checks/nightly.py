"""What is too long for each change: ``make nightly``, or some of it, ``make nightly ONLY="axe links"``."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tools import repository, setup_cell
from tools.book import build

ROOT = repository.ROOT
OLDEST_PYTHON = "3.11"
GONE = ("404 ", "410 ")  # how requests begins what Sphinx writes down


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> bool:
    print("+", *(str(part) for part in command), flush=True)
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=False)
    return done.returncode == 0


def _pytest(*arguments: str) -> bool:
    return _run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments)


def colab(_out: Path) -> bool:
    """Every chapter as Colab would run it, and the first one in an environment without any package."""
    script = (sys.executable, "-m", "tools.checks.as_colab")
    first = next(path for path in setup_cell.chapters() if path.parent.name == "mnist")
    every = _run(*script)
    return _run(*script, "--bare", first) and every


def exercises(out: Path) -> bool:
    """The solutions of all exercises, after their chapters, in the full edition; CI runs them in pocket."""
    full = {**os.environ, "TLHELPERS_EDITION": "full"}
    return _run("make", "execute", "SOLUTIONS=1", f"OUT={out / 'exercises'}", environment=full)


def graphs(_out: Path) -> bool:
    """A thousand networks drawn at random, cut and trained."""
    os.environ["GRAPHS"] = "1000"
    return _pytest("tests/test_random_graphs.py")


def inputs(_out: Path) -> bool:
    """Five thousand inputs of a wrong kind, and as many damaged files of images."""
    os.environ["INPUTS"] = "5000"
    return _pytest("tests/test_inputs.py")


def families(_out: Path) -> bool:
    """Networks of each family, cut, trained, exported: each ends as in the committed table."""
    return _run(sys.executable, "-m", "tools.checks.families")


def oldest(_out: Path) -> bool:
    """Unit tests with the oldest version of each dependency that pyproject.toml allows."""
    return _unit_tests_with("--resolution", "lowest-direct")


def newest(_out: Path) -> bool:
    """The same with the newest versions, pre-releases among them, and none older than the build's."""
    # Without a floor, a newer h5py draws an older TensorFlow, which does not mind it.
    pins = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    with tempfile.TemporaryDirectory(prefix="floor-") as scratch:
        floor = Path(scratch) / "floor.txt"
        floor.write_text("\n".join(f"{name}>={version}" for name, version in pins), encoding="utf-8")
        return _unit_tests_with("--prerelease", "allow", "--constraint", str(floor))


def backends(_out: Path) -> bool:
    """The core's tests on PyTorch; a few on JAX, and training in two processes; without TensorFlow."""
    every = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_*.py"))
    core = [name for name in every if name not in NOT_CORE]
    few = [f"tests/test_{name}.py" for name in ON_JAX]
    return _on("torch", "torch==2.13.0", *core, "tests/page/test_editions.py") and _on("jax", "jax", *few)


def engines(_out: Path) -> bool:
    """Passes by loky's, Dask's and the standard pool: the same bytes, also where a worker is killed."""
    with tempfile.TemporaryDirectory(prefix="engines-") as scratch:
        python = f"{scratch}/environment/bin/python"
        pocket = {**os.environ, "TLHELPERS_EDITION": "pocket"}
        return (
            _run(sys.executable, "-m", "venv", f"{scratch}/environment")
            and _run(python, "-m", "pip", "install", "-q", "loky", "--editable", f"{ROOT}[dask,tensorflow]")
            and _run(python, "-m", "tools.checks.engines", environment=pocket)
        )


NOT_CORE = [f"tests/test_{name}.py" for name in ("benchmarks", "pretraining", "project")]
ON_JAX = ("explain", "freezing", "hosts", "prefix")  # all of them take half an hour there


def _on(backend: str, package: str, *tests: str) -> bool:
    """Some tests on a backend of Keras', in an environment with no other."""
    with tempfile.TemporaryDirectory(prefix=f"{backend}-") as scratch:
        python = f"{scratch}/environment/bin/python"
        chosen = {**os.environ, "KERAS_BACKEND": backend}
        # The backend first: what its own files ask for is then there, and nothing newer of it is looked for.
        return (
            _run(sys.executable, "-m", "venv", f"{scratch}/environment")
            and _run(python, "-m", "pip", "install", "-q", package)
            and _run(python, "-m", "pip", "install", "-q", "--editable", f"{ROOT}[book,test]")
            and _run(python, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", *tests, environment=chosen)
        )


def _unit_tests_with(*versions: str) -> bool:
    """Unit tests in an environment of their own, whose versions uv chooses so."""
    with tempfile.TemporaryDirectory(prefix="versions-") as scratch:
        # pip only takes the newest; uv has the option, and its answer needs no list of ours.
        if not _run(sys.executable, "-m", "pip", "install", "-qq", "--target", f"{scratch}/uv", "uv"):
            return False
        uv = f"{scratch}/uv/bin/uv"
        program = shutil.which(f"python{OLDEST_PYTHON}") or sys.executable
        python = f"{scratch}/environment/bin/python"
        install = [uv, "pip", "install", "--quiet", "--python", python, *versions]
        # The tests alone: of what the caller set for another run, only the data counts.
        not_ours = ("PYTHONPATH", "TLHELPERS_EDITION", "TLHELPERS_CACHE")
        clean = {name: value for name, value in os.environ.items() if name not in not_ours}
        return (
            _run(uv, "venv", "--quiet", "--python", program, f"{scratch}/environment")
            and _run(*install, "--editable", ".[book,tensorflow,test,text]")
            and _run(python, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", environment=clean)
        )


def digits(out: Path) -> bool:
    """All 10,000 test digits in the browser."""
    return _pytest("tests/browser/test_digit.py", "--site", str(pages(out)), "--all-digits")


def axe(out: Path) -> bool:
    """axe-core on every page, at two widths and in two themes."""
    tests = "tests/browser/test_pages.py"
    return _pytest("-n", "2", tests, "-k", "test_accessible", "--site", str(pages(out)), "--every-view")


def links(out: Path) -> bool:
    """Every address that the book names; only one that answers that it is gone counts against it."""
    # Its status and warnings count what cannot be reached, too: -qq leaves them out.
    build.sphinx(out, "-q", "--builder", "custom", "--custom-builder", "linkcheck")
    answers = (out / "_build" / "linkcheck" / "output.json").read_text(encoding="utf-8").splitlines()
    found = [link for link in map(json.loads, answers) if link["uri"].startswith("http")]
    broken = [link for link in found if link["status"] == "broken"]
    lost = [link for link in broken if link["info"].startswith(GONE)]
    print(f"{len(found)} addresses, {len(broken) - len(lost)} not to be reached from here, {len(lost)} gone")
    print("\n".join(f"{link['filename']}:{link['lineno']}: {link['info']}" for link in lost))
    return bool(found) and not lost


def pages(out: Path) -> Path:
    """Where a run's built book lies."""
    return (out / "_build" / "html").resolve()


PARTS: dict[str, Callable[[Path], bool]] = {
    part.__name__: part
    for part in (
        links,
        axe,
        digits,
        exercises,
        graphs,
        inputs,
        families,
        backends,
        engines,
        oldest,
        newest,
        colab,
    )
}


def main() -> int:
    """Run the parts; see the module's docstring."""
    about = "\n".join([__doc__, *(f"{name}: {part.__doc__}" for name, part in PARTS.items())])
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"some of: {' '.join(PARTS)} (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="the run's folder (default: out)")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {' '.join(sorted(unknown))}; expected some of: {' '.join(PARTS)}")
    chosen = arguments.parts or list(PARTS)
    if set(chosen) & {"links", "axe", "digits"} and not (pages(arguments.out) / "index.html").is_file():
        parser.error(f"{arguments.out} holds no built book; run: make book OUT={arguments.out}")
    # Without data, tests that need it are skipped, and the browser reads only the digits in the project.
    if data := repository.data():
        os.environ["TLHELPERS_DATA"] = str(data)
    print(f"data: {data or 'none; TLHELPERS_DATA is unset and there is no ../shared/mirror'}")

    summary = []
    for name in chosen:
        print(f"\n== {name}", flush=True)
        began = time.monotonic()
        passed = PARTS[name](arguments.out)
        summary.append((name, passed, time.monotonic() - began))
    print("\n== summary")
    for name, passed, seconds in summary:
        print(f"{name}: {'passed' if passed else 'FAILED'}, {seconds:.0f} s")
    return int(not all(passed for _, passed, _ in summary))


if __name__ == "__main__":
    sys.exit(main())
