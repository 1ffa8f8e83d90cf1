"""The library's pages: they describe all of it, and their examples run on a reader's own model."""

import inspect
import operator
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import page, studies
from tools import repository, setup_cell
from tools.book import links
from tools.checks import notebooks

REFERENCE = repository.ROOT / "book" / "reference"
TOP = (REFERENCE / "library.md").read_text(encoding="utf-8")
WINGS: dict[str, ModuleType] = {"": tl, "page.": page, "studies.": studies}
MODULES = [
    f"{wing}{name}"
    for wing, module in WINGS.items()
    for name in module.__all__
    if inspect.ismodule(getattr(module, name))
]
DOZEN = (
    *("load_backbone", "preparation", "load_encoder", "load_dataset", "freeze", "unchanged", "cut_points"),
    *("split", "precompute", "linear_probe", "evaluate", "recommend_strategy"),
)


def test_the_pages_describe_all_of_it() -> None:
    described = re.findall(r"^\.\. autofunction:: tlhelpers\.(\w+)$", TOP, re.MULTILINE)
    assert sorted(described) == sorted(set(tl.__all__) - set(MODULES))
    assert tuple(described[: len(DOZEN)]) == DOZEN
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (REFERENCE / "library").glob("*.md"))
    modules = re.findall(r"^\.\. automodule:: tlhelpers\.(\S+)$", pages, re.MULTILINE)
    assert sorted(modules) == sorted([*MODULES, "page", "studies"])


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_examples_run_on_a_model_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import keras

    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path))
    keras.utils.set_random_seed(0)
    body = [keras.layers.Flatten(), keras.layers.Dense(8, "relu"), keras.layers.BatchNormalization()]
    head = keras.layers.Dense(2, "softmax", name="head")
    model = keras.Sequential([keras.Input((10, 10)), keras.layers.Rescaling(1 / 255), *body, head])
    images = np.random.default_rng(0).integers(0, 256, (40, 10, 10), "uint8")
    labels = np.arange(40) % 2
    images[labels == 1, :5] //= 4  # something to find
    names: dict[str, Any] = {"model": model, "images": images, "labels": labels}
    names |= {"test_images": images[::-1], "test_labels": labels[::-1]}
    before = model.get_weights()
    shown = re.split(r"^\.\. autofunction:: tlhelpers\.(\w+)$", TOP, flags=re.MULTILINE)
    used = set()
    for text, name in zip(shown[::2], shown[1::2], strict=False):
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for block in blocks:
            exec(compile(block, f"example of {name}", "exec"), names)
        if any(f"tl.{name}(" in block for block in blocks):
            used.add(name)
    assert used == set(DOZEN)
    # Frozen, but for the head's kernel and bias.
    same = [np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert same == [True] * (len(before) - 2) + [False, False]
    assert names["result"].n == 40


def test_chapters_call_what_there_is() -> None:
    for path in setup_cell.chapters():
        for name in links.used(notebooks.load(path)):
            operator.attrgetter(name)(tl)


def test_names_lead_where_they_are_described() -> None:
    for module, name, full in (
        (tl, "plots.lines", "tlhelpers.plots.lines"),
        (tl.prefix, "split", "tlhelpers.split"),
        (tl, "page.check", "tlhelpers.page.published.check"),
        (tl, "page.published.check", "tlhelpers.page.published.check"),
        (tl, "studies.strategies.recommend_strategy", "tlhelpers.recommend_strategy"),
        (tl, "studies.flowers", "tlhelpers.studies.flowers"),
        (page.published, "no_such_name", None),
    ):
        assert links.public_name(module, name) == full


def test_code_leads_to_the_library() -> None:
    def spans(*names: str) -> str:
        return '<span class="o">.</span>'.join(f'<span class="n">{name}</span>' for name in names)

    addresses = {"plots": "p.html#plots", "plots.lines": "p.html#lines"}
    lines = links.link_code(f"{spans('tl', 'plots', 'lines')}(", addresses.get)
    assert lines == f'<a class="api-link" href="p.html#lines">{spans("tl", "plots", "lines")}</a>('
    # What has no description of its own leads to what holds it; a stranger leads nowhere.
    outer = links.link_code(spans("tl", "plots", "other"), addresses.get)
    inside = f'<a class="api-link" href="p.html#plots">{spans("tl", "plots")}</a>'
    assert outer == f'{inside}<span class="o">.</span><span class="n">other</span>'
    for stranger in (("tl", "unknown"), ("page", "other"), ("other", "split")):
        assert links.link_code(spans(*stranger), addresses.get) == spans(*stranger)
