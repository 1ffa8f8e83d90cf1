"""What is too long for each change: ``make nightly``, or some of it, ``make nightly ONLY="axe links"``.

colab
    every chapter as Colab would run it, and the first one in an environment without any package
oldest
    unit tests with the oldest version of each dependency that pyproject.toml allows
digits
    all 10,000 test digits in the browser
axe
    axe-core on every page, at two widths and in two themes
links
    every link of the built pages, outside the book what can be reached
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import repository
import setup_cell

ROOT = repository.ROOT
OLDEST_PYTHON = "3.11"


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> bool:
    print("+", *(str(part) for part in command), flush=True)
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=False)
    return done.returncode == 0


def _pytest(*arguments: str) -> bool:
    return _run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments)


def colab(_pages: Path) -> bool:
    """Every chapter as Colab would run it."""
    script = ROOT / "tools" / "as_colab.py"
    first = next(path for path in setup_cell.chapters() if path.parent.name == "mnist")
    every = _run(sys.executable, script)
    return _run(sys.executable, script, "--bare", first) and every


def oldest(_pages: Path) -> bool:
    """Unit tests with the oldest dependencies."""
    with tempfile.TemporaryDirectory(prefix="oldest-") as scratch:
        # pip only takes the newest; uv has the option, and its answer needs no list of ours.
        if not _run(sys.executable, "-m", "pip", "install", "-qq", "--target", f"{scratch}/uv", "uv"):
            return False
        uv = f"{scratch}/uv/bin/uv"
        program = shutil.which(f"python{OLDEST_PYTHON}") or sys.executable
        python = f"{scratch}/environment/bin/python"
        install = [uv, "pip", "install", "--quiet", "--python", python, "--resolution", "lowest-direct"]
        # The tests alone: of what the caller set for another run, only the data counts.
        clean = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "TLHELPERS_EDITION", "TLHELPERS_CACHE")
        }
        return (
            _run(uv, "venv", "--quiet", "--python", program, f"{scratch}/environment")
            and _run(*install, "--editable", ".[book,test,text]")
            and _run(python, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", environment=clean)
        )


def digits(pages: Path) -> bool:
    """All test digits in the browser."""
    return _pytest("tests/browser/test_digit.py", "--site", str(pages), "--all-digits")


def axe(pages: Path) -> bool:
    """axe-core on every page in every view."""
    tests = "tests/browser/test_pages.py"
    return _pytest("-n", "2", tests, "-k", "test_accessible", "--site", str(pages), "--every-view")


def links(pages: Path) -> bool:
    """Every link of the built pages."""
    return _run(sys.executable, ROOT / "tools" / "check_links.py", pages)


PARTS: dict[str, Callable[[Path], bool]] = {
    part.__name__: part for part in (links, axe, digits, oldest, colab)
}


def main() -> int:
    """Run the parts; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"some of: {' '.join(PARTS)} (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="the run's folder (default: out)")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {' '.join(sorted(unknown))}; expected some of: {' '.join(PARTS)}")
    pages = (arguments.out / "_build" / "html").resolve()
    chosen = arguments.parts or list(PARTS)
    if set(chosen) & {"links", "axe", "digits"} and not (pages / "index.html").is_file():
        parser.error(f"{pages} holds no built book; run: make book OUT={arguments.out}")
    # Without data, tests that need it are skipped, and the browser reads only the digits in the project.
    if data := repository.data():
        os.environ["TLHELPERS_DATA"] = str(data)
    print(f"data: {data or 'none; TLHELPERS_DATA is unset and there is no ../shared/data'}")

    summary = []
    for name in chosen:
        print(f"\n== {name}", flush=True)
        began = time.monotonic()
        passed = PARTS[name](pages)
        summary.append((name, passed, time.monotonic() - began))
    print("\n== summary")
    for name, passed, seconds in summary:
        print(f"{name}: {'passed' if passed else 'FAILED'}, {seconds:.0f} s")
    return int(not all(passed for _, passed, _ in summary))


if __name__ == "__main__":
    sys.exit(main())
