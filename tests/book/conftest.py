"""A chapter as a run leaves it, and a small book of such pages, built as strictly as the real one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import repository, setup_cell
from tools.book import build, families, links, runs

ADDRESS = "https://github.com/someone/a-book"
MACHINE = {"machine": "2 cores, Some Processor", "system": "Linux x86_64", "gpus": 0, "commit": "0123456789"}
FACTS = {
    **{"edition": "full", "dataset": "mnist", "backbone": "a_backbone", "seed": 0, "weights": "w.h5"},
    "versions": {"tensorflow": "2.21.0", "Python": "3.11.9"},
}
PROSE = """# Train the head

Text of the head, with $x^2$ and {glue:text}`a_share:.3f`. In the full edition {glue:text}`full.a_share:.4f`.

:::{only} full
Seen in full.
:::

:::{only} pocket
Seen in pocket.
:::

```{math}
:label: eq
y = 1
```"""
PASTED = """

```{glue:figure} a_figure
:figclass: front
:alt: A line that falls.

See it fall.
```"""
CODE = 'model = tl.history_table(a, phase="b")\npage.check("a_share", 0.55)'
LOOKS = {"image": {"alt": "A line that rises.", "classes": "picture"}, "figure": {"caption": "See it rise."}}
READ = '# Read\n\nText "quoted" & more, as {cite}`adebayo2018sanity` has it.\n\n```{bibliography}\n```\n'
GLOSSARY = "# Words\n\n```{glossary}\nhead\n  The new layers. Nothing else.\n```\n"
LIBRARY = """# Library

```{eval-rst}
.. autofunction:: tlhelpers.history_table
.. py:function:: tlhelpers.page.published.check(name, value)
.. py:class:: tlhelpers.page.Twin
.. py:function:: f(x: Twin)
```
"""


def _output(**data: str) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": data}


def _chapter(glued: dict[str, Any], *outputs: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    def code(text: str, minute: int, glued: dict[str, Any], *outputs: Any, **metadata: Any) -> dict[str, Any]:
        records = [_output(**{"application/papermill.record/text/plain": repr(v)}) for v in glued.values()]
        for name, record in zip(glued, records, strict=True):
            record["metadata"]["scrapbook"] = {"name": name, "mime_prefix": "application/papermill.record/"}
        metadata["execution"] = {
            "iopub.execute_input": f"2026-01-01T00:0{minute}:00.0Z",
            "shell.execute_reply": f"2026-01-01T00:0{minute + 1}:00.0Z",
        }
        cell = {"cell_type": "code", "source": text, "id": f"c{minute}", "execution_count": 1}
        return {**cell, "metadata": metadata, "outputs": [*records, *outputs]}

    return {
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": PROSE, "id": "m0"},
            code(setup_cell.cell_source(ADDRESS), 0, {runs.RUN: json.dumps(FACTS)}, tags=setup_cell.TAGS),
            code(CODE, 2, glued, *outputs, **metadata),
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@pytest.fixture
def chapter() -> Callable[..., dict[str, Any]]:
    """Makes a chapter that ran for three minutes; its last cell glued these values."""
    return _chapter


@pytest.fixture(scope="session")
def small_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small book's pages, ``OUT/_build/html``; its repository is one on GitHub."""
    out = tmp_path_factory.mktemp("small")
    source = out / "src"
    for name in ("_static", "_templates"):
        shutil.copytree(repository.ROOT / "book" / name, source / "book" / name)
    for name in ("references.bib", "published.toml"):
        shutil.copy2(repository.ROOT / "book" / name, source / "book" / name)
    figure = _output(**{"image/svg+xml": "<svg></svg>"})
    train = _chapter({"a_share": 0.55}, figure, figure, mystnb=LOOKS)
    pasted = _output(**{"application/papermill.record/image/svg+xml": "<svg></svg>"})
    pasted["metadata"]["scrapbook"] = {"name": "a_figure", "mime_prefix": "application/papermill.record/"}
    train["cells"][0]["source"] += PASTED
    train["cells"][-1]["outputs"].append(pasted)
    pages = {
        "book/index.md": "# A book\n\nText.\n",
        "book/part/01-train.ipynb": json.dumps(train),
        "book/part/02-read.md": READ,
        f"{links.GLOSSARY}.md": GLOSSARY,
        f"{runs.TIMES_PAGE}.md": "# Times\n",
        "book/reference/library.md": LIBRARY,
        f"{families.PAGE}.md": "# Networks\n",
    }
    listed = [{"file": name.rpartition(".")[0]} for name in list(pages)[1:]]
    toc = {"format": "jb-book", "root": "book/index", "parts": [{"caption": "Part", "chapters": listed}]}
    for name, text in {**pages, "_toc.yml": yaml.safe_dump(toc), runs.MACHINE: json.dumps(MACHINE)}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository, "address", lambda: ADDRESS)
        patch.setattr(repository, "is_release", lambda: True)
        return build.build(out).parent
