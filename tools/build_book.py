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

import book_runs
import book_weight
import check_pages
import repository
import setup_cell
import yaml

ROOT = repository.ROOT
NEEDED = ("_config.yml", "_toc.yml", "pyproject.toml", "CITATION.cff")
# What a chapter makes for its page's scripts lies in a folder of this name beside it.
MADE = "web"
SKIP = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", "_build", ".DS_Store", MADE)
BRANCH = "main"
# The tag of the cell whose figure the front page shows, too; book/index.md names the file.
FRONT, FRONT_FILE = "front-page", "front-page.svg"
COLAB = "https://colab.research.google.com"


class BuildError(Exception):
    """The book cannot be built; the message says what to do."""


def copy(out: Path) -> None:
    """Copy the book's sources to ``out/src``, afresh."""
    source = out / "src"
    if "_build" in source.resolve().parts:
        raise BuildError(f"{source}: nbmake skips any path that contains _build. Choose another OUT.")
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in NEEDED:
        shutil.copy2(ROOT / name, source / name)
    shutil.copytree(ROOT / "book", source / "book", ignore=SKIP)
    shutil.copytree(ROOT / "tools", source / "tools", ignore=SKIP)
    record = json.dumps(machine(), indent=1)
    (source / book_runs.MACHINE).write_text(f"{record}\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Where the chapters are about to be executed; the built pages say so, wherever they are built."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # no GPU is an answer here, and no error
    import tensorflow as tf

    from tlhelpers import published

    stamp = published.stamp()
    gpus = len(tf.config.list_physical_devices("GPU"))
    return {
        "machine": stamp["machine"],
        "system": f"{platform.system()} {platform.machine()}",
        "gpus": gpus,
        "commit": stamp["commit"],
    }


def final_config(
    config: dict[str, Any], address: str | None, cells: set[str | None]
) -> tuple[dict[str, Any], list[str]]:
    """Fill in what follows from the repository's address.

    Parameters
    ----------
    config
        What ``_config.yml`` says.
    address
        The repository's web address, or None.
    cells
        The addresses that the chapters' set-up cells install from; None for a cell that has none.

    Returns
    -------
    config
        The configuration to build with.
    notes
        What the reader of the build's log should know.
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
        todo = "run python tools/setup_cell.py --write and commit"
        return config, [
            f"repository: {address}; its set-up cells lack that address, so no Colab buttons: {todo}"
        ]
    config["launch_buttons"] = {"colab_url": COLAB}
    return config, [f"repository: {address}"]


def front_figure(notebook: dict[str, Any]) -> str | None:
    """The figure of the cell that is tagged for the front page, as SVG; None if this chapter has none."""
    for cell in notebook["cells"]:
        if FRONT in cell["metadata"].get("tags", []):
            for output in cell["outputs"]:
                if "image/svg+xml" in output.get("data", {}):
                    return "".join(output["data"]["image/svg+xml"])
    return None


def executed_faults(notebook: dict[str, Any]) -> list[str]:
    """Why a notebook does not count as executed; an empty list if it does."""
    code = [c for c in notebook["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]
    wrong = []
    skipped = [
        c
        for c in code
        if c["execution_count"] is None and "skip-execution" not in c["metadata"].get("tags", [])
    ]
    if skipped:
        wrong.append(f"{len(skipped)} of {len(code)} code cells were not executed")
    failed = [o for c in code for o in c["outputs"] if o["output_type"] == "error"]
    if failed and not any("raises-exception" in c["metadata"].get("tags", []) for c in code):
        wrong.append(f"a cell failed: {failed[0]['ename']}: {failed[0]['evalue']}")
    return wrong


def build(out: Path) -> Path:
    """Build the book strictly from ``out/src`` and return the front page's path."""
    source = out / "src"
    again = f"run: make execute OUT={out}"
    notebooks = setup_cell.chapters(source)
    if not notebooks:
        raise BuildError(f"{source / 'book'} holds no chapter; {again}")
    cells = set()
    for path in notebooks:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for fault in executed_faults(notebook):
            raise BuildError(f"{path}: {fault}; {again}")
        cells.add(setup_cell.cell_address("".join(notebook["cells"][1]["source"])))
        if figure := front_figure(notebook):
            (source / "book" / FRONT_FILE).write_text(figure, encoding="utf-8")
    if not (source / book_runs.MACHINE).exists():
        raise BuildError(f"{source / book_runs.MACHINE} is missing: it says where the chapters ran; {again}")

    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config, notes = final_config(config, repository.address(), cells)
    (source / "_config.yml").write_text(
        yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )

    shutil.rmtree(out / "_build", ignore_errors=True)
    program = Path(sys.executable).with_name("jupyter-book")
    command = [str(program), "build", str(source), "--path-output", str(out)]
    done = subprocess.run([*command, "-W", "--keep-going", "-q"], check=False)
    if done.returncode:
        raise BuildError("the strict build failed: see the warnings above")

    pages = out / "_build" / "html"
    for made in sorted((source / "book").rglob(MADE)):
        # A model that Keras can read is for whoever runs the chapter; pages have no use for it.
        shutil.copytree(made, pages / made.relative_to(source), ignore=shutil.ignore_patterns("*.keras"))
    book_weight.lighten(pages)
    found = check_pages.check(pages)
    if found:
        raise BuildError("\n".join(["the pages are not as they should be:", *found]))
    for note in notes:
        print(note)
    return pages / "index.html"


def main() -> int:
    """Copy or build; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["copy", "build"])
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="the run's folder (default: out)")
    arguments = parser.parse_args()
    try:
        if arguments.what == "copy":
            copy(arguments.out)
        else:
            print(f"the book lies at {build(arguments.out).resolve()}")
    except (BuildError, book_weight.WeightError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
