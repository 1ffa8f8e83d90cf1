"""Run chapters the way Colab does: a fresh environment, an empty folder, nothing but the notebook.

The environment gets Colab's versions of the main packages first. Then the notebook's set-up cell installs
``tlhelpers`` with pip from a git address and a tag, which here are this repository and its own commit. Each
chapter starts with an empty cache, as on a new Colab machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools import repository, setup_cell

PYTHON = "3.13"
# What a Colab machine brings. pip must leave the pinned ones as they are.
PINNED = {"tensorflow": "2.20", "keras": "3.13", "numpy": "2.1"}
UNPINNED = (
    *("h5py", "ipykernel", "jinja2", "matplotlib", "pandas", "pillow"),
    *("requests", "scikit-learn", "scipy", "seaborn", "tqdm"),
)
CELL_SECONDS = 1200
# What this process has and a Colab machine does not.
NOT_THERE = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "TLHELPERS_DATA")


def find_python() -> str:
    """Colab's Python if this machine has it, else the one that runs this."""
    program = shutil.which(f"python{PYTHON}")
    # A version manager may put a name on the path that only says it is not installed.
    if program and subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0:
        return program
    return sys.executable


def make_environment(folder: Path, *, bare: bool) -> Path:
    """A virtual environment with what Colab brings, or with no more than a kernel; its Python."""
    subprocess.run([find_python(), "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    wanted = ["ipykernel"] if bare else [f"{name}=={version}.*" for name, version in PINNED.items()]
    wanted += [] if bare else UNPINNED
    # Colab's pip is a current one; what Python brings may be too old to take a git address on this machine.
    command = [str(python), "-m", "pip", "install", "-qq", "--no-compile", "--upgrade"]
    subprocess.run([*command, "pip"], check=True)
    subprocess.run([*command, *wanted], check=True)
    kernel = [str(python), "-m", "ipykernel", "install", "--sys-prefix", "--name", "colab"]
    subprocess.run(kernel, check=True, capture_output=True)
    return python


def versions(python: Path) -> dict[str, str]:
    """The main packages in an environment."""
    listed = json.loads(subprocess.check_output([python, "-m", "pip", "list", "--format", "json"]))
    return {each["name"]: each["version"] for each in listed if each["name"] in PINNED}


def commit() -> str:
    """The commit that is checked out."""
    return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=repository.ROOT, text=True).strip()


def run_chapter(notebook: Path, *, environment: Path, edition: str, data: Path | None) -> bool:
    """Execute a chapter alone in an empty folder; whether no cell failed."""
    with tempfile.TemporaryDirectory(prefix="as-colab-") as scratch:
        content = Path(scratch) / "content"
        content.mkdir()
        copy = content / notebook.name
        shutil.copy2(notebook, copy)
        setup_cell.write(copy, address=repository.ROOT.as_uri(), tag=commit())
        variables = {name: value for name, value in os.environ.items() if name not in NOT_THERE}
        variables |= {"TLHELPERS_EDITION": edition, "TLHELPERS_CACHE": f"{scratch}/cache"}
        variables |= {"TLHELPERS_DATA": str(data)} if data else {}
        variables["JUPYTER_PATH"] = str(environment / "share" / "jupyter")  # its kernel
        how = ["--nbmake", "--nbmake-kernel=colab", f"--nbmake-timeout={CELL_SECONDS}", "-qq"]
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *how, copy.name]
        return subprocess.run(command, cwd=content, env=variables, check=False).returncode == 0


def main() -> int:
    """Run chapters; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chapters", nargs="*", type=Path, help="notebooks (default: every chapter)")
    parser.add_argument("--edition", choices=["full", "pocket"], help="default: full where the data is")
    parser.add_argument("--bare", action="store_true", help="an environment with a kernel and no package")
    arguments = parser.parse_args()

    data = repository.data()
    edition = arguments.edition or ("full" if data else "pocket")
    data = data if edition == "full" else None
    chapters = [path.resolve() for path in arguments.chapters] or setup_cell.chapters()
    if missing := [str(path) for path in chapters if not path.is_file()]:
        parser.error(f"no such chapter: {', '.join(missing)}")
    changes = ["git", "status", "--porcelain", "--", "tlhelpers", "pyproject.toml"]
    if subprocess.check_output(changes, cwd=repository.ROOT):
        print("note: tlhelpers has changes that are not committed; the last commit is what is installed")

    failed = 0
    with tempfile.TemporaryDirectory(prefix="as-colab-") as scratch:
        environment = Path(scratch) / "environment"
        began = time.monotonic()
        python = make_environment(environment, bare=arguments.bare)
        before = versions(python)
        seconds = f"{time.monotonic() - began:.0f} s"
        print(f"as Colab, {edition} edition: {seconds} to make an environment, {before}")
        for path in chapters:
            began = time.monotonic()
            passed = run_chapter(path, environment=environment, edition=edition, data=data)
            failed += not passed
            outcome = "passed" if passed else "FAILED"
            print(f"{path.stem}: {outcome}, {time.monotonic() - began:.0f} s", flush=True)
        after = versions(python)
        changed = {name: (old, after[name]) for name, old in before.items() if after[name] != old}
        if changed:
            print(f"FAILED: the set-up cell made pip change what Colab brings: {changed}")
    print(f"{len(chapters) - failed} passed, {failed} failed")
    return int(failed > 0 or bool(changed))


if __name__ == "__main__":
    sys.exit(main())
