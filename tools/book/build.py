"""Copy the chapters to be executed, and build the book from the executed copy.

The tree never holds outputs: ``copy`` puts the chapters into OUT/src, where ``pytest --nbmake --overwrite``
fills them in, and ``build`` makes OUT/_build/html of exactly that run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import yaml

from tools import repository, setup_cell
from tools.book import runs, scripts
from tools.checks import notebooks as notebooks_check
from tools.checks import pages as pages_check

ROOT = repository.ROOT
NEEDED = ("_config.yml", "_toc.yml", "pyproject.toml", "CITATION.cff")
# What a chapter makes for its page's scripts lies in a folder of this name beside it.
MADE = "web"
SKIP = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", "_build", ".DS_Store", MADE)
BRANCH = "main"
COLAB = "https://colab.research.google.com"


class BuildError(Exception):
    """The book cannot be built; the message says what to do."""


def copy(out: Path, *, solutions: bool = False) -> None:
    """Copy the book's sources to ``out/src``, afresh; if asked, with the solutions as hidden cells."""
    source = out / "src"
    if "_build" in source.resolve().parts:
        raise BuildError(f"{source}: nbmake skips any path that contains _build. Choose another OUT.")
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in NEEDED:
        shutil.copy2(ROOT / name, source / name)
    shutil.copytree(ROOT / "book", source / "book", ignore=SKIP)
    for path in setup_cell.chapters(source) if solutions else ():
        notebook = notebooks_check.load(path)
        add_solutions(notebook)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    record = json.dumps(machine(), indent=1)
    (source / runs.MACHINE).write_text(f"{record}\n", encoding="utf-8")


def add_solutions(notebook: dict[str, Any]) -> None:
    """Have the code of the solutions run after the chapter, in cells that its page leaves out."""
    for number, code in enumerate(notebooks_check.solutions(notebook), start=1):
        about = {"id": f"solution-{number}", "metadata": {"tags": ["remove-cell", runs.SOLUTION]}}
        cell = nbformat.v4.new_code_cell(code, **about)  # type: ignore[no-untyped-call]
        notebook["cells"].append(cell)


def machine() -> dict[str, Any]:
    """Where the chapters are about to be executed; the built pages say so, wherever they are built."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # no GPU is an answer here, and no error
    import tensorflow as tf

    from tlhelpers import page

    stamp = page.stamp()
    gpus = len(tf.config.list_physical_devices("GPU"))
    system = f"{platform.system()} {platform.machine()}"
    return {"machine": stamp["machine"], "system": system, "gpus": gpus, "commit": stamp["commit"]}


def final_config(
    config: dict[str, Any], address: str | None, cells: set[str | None], *, released: bool
) -> tuple[dict[str, Any], list[str]]:
    """The configuration to build with and notes for the build's log, as the repository's address has it.

    `cells` holds the addresses that the chapters' set-up cells install from; None for a cell that has none.
    `released`: what is built is what those cells install, by its tag.
    """
    if address is None:
        return config, [repository.UNSET]
    config = {**config, "html": {**config.get("html", {})}}
    config["repository"] = {"url": address, "branch": BRANCH, "path_to_book": ""}
    config["html"] |= {"use_repository_button": True, "use_edit_page_button": True, "use_issues_button": True}
    if "github.com" not in address:
        return config, [f"repository: {address}; Colab opens GitHub's notebooks only, so no Colab buttons"]
    # A Colab button that leads to a first cell which cannot install anything helps nobody.
    if None in cells:
        why = "its set-up cells lack that address, so no Colab buttons"
        return config, [f"repository: {address}; {why}: run python -m tools.setup_cell and commit"]
    if not released:
        why = f"the tag {repository.release()}, which its set-up cells install, is not on what is built"
        return config, [f"repository: {address}; {why}, so no Colab buttons"]
    config["launch_buttons"] = {"colab_url": COLAB}
    return config, [f"repository: {address}"]


def executed_faults(notebook: dict[str, Any]) -> list[str]:
    """Why a notebook does not count as executed; an empty list if it does."""
    code = [c for c in notebook["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]
    wrong = []
    if skipped := sum(c["execution_count"] is None for c in code):
        wrong.append(f"{skipped} of {len(code)} code cells were not executed")
    failed = [o for c in code for o in c["outputs"] if o["output_type"] == "error"]
    return wrong + [f"a cell failed: {o['ename']}: {o['evalue']}" for o in failed]


def sphinx(out: Path, *how: str) -> int:
    """Have Jupyter Book build ``out/src``; its exit status."""
    program = Path(sys.executable).with_name("jupyter-book")
    command = [str(program), "build", str(out / "src"), "--path-output", str(out), "-q", *how]
    # Where Sphinx finds tools.book.pages.
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode


def build(out: Path) -> Path:
    """Build the book strictly from ``out/src`` and return the front page's path."""
    source = out / "src"
    again = f"run: make execute OUT={out}"
    notebooks = setup_cell.chapters(source)
    if not notebooks:
        raise BuildError(f"{source / 'book'} holds no chapter; {again}")
    cells = set()
    for path in notebooks:
        notebook = notebooks_check.load(path)
        for fault in executed_faults(notebook):
            raise BuildError(f"{path}: {fault}; {again}")
        cells.add(setup_cell.cell_address("".join(notebook["cells"][1]["source"])))
    if not (source / runs.MACHINE).exists():
        raise BuildError(f"{source / runs.MACHINE} is missing: it says where the chapters ran; {again}")

    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config, notes = final_config(config, repository.address(), cells, released=repository.is_release())
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (source / "_config.yml").write_text(text, encoding="utf-8")

    shutil.rmtree(out / "_build", ignore_errors=True)
    if sphinx(out, "-W", "--keep-going"):
        raise BuildError("the strict build failed: see the warnings above")

    pages = out / "_build" / "html"
    for made in sorted((source / "book").rglob(MADE)):
        # A model that Keras can read is for whoever runs the chapter; pages have no use for it.
        shutil.copytree(made, pages / made.relative_to(source), ignore=shutil.ignore_patterns("*.keras"))
    scripts.move(pages)
    if found := pages_check.check(pages):
        raise BuildError("\n".join(["the pages are not as they should be:", *found]))
    for note in notes:
        print(note)
    return pages / "index.html"


def main() -> None:
    """Copy or build; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["copy", "build"])
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="the run's folder (default: out)")
    parser.add_argument("--solutions", action="store_true", help="copy: the exercises' solutions run, too")
    arguments = parser.parse_args()
    try:
        if arguments.what == "copy":
            copy(arguments.out, solutions=arguments.solutions)
        else:
            print(f"the book lies at {build(arguments.out).resolve()}")
    except BuildError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
