"""The three wings keep apart; the core stays small, and its functions are told as the project tells them."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import FunctionType

import pytest

import tlhelpers

PACKAGE = Path(__file__).resolve().parent.parent / "tlhelpers"
MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.stem != "__init__"
}
WINGS = ("page", "studies")
CORE = [name for name in MODULES if "." not in name]
PUBLIC = [name for name in CORE if not name.startswith("_")]
STUDIES = [name for name in MODULES if name.startswith("studies.")]
MOST_NAMES = 60
EXCEPTIONS = {
    "studies.adviser": {"studies.strategies"},  # puts its advice on the page
    "studies.__main__": {name for name in STUDIES if name != "studies.__main__"},  # measures all of them
}


@cache
def imports(name: str) -> set[str]:
    """Our modules that a module imports, anywhere in it: ``"cache"``, ``"page"``, ``"studies.recipes"``."""
    package = ["tlhelpers", *name.split(".")[:-1]]
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found: set[str] = set()
    aliases = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            aliases |= {alias.asname or "tlhelpers" for alias in node.names if alias.name == "tlhelpers"}
    # `import tlhelpers as tl` and then tl.page.glue imports page as well.
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, *rest = ast.unparse(node).split(".")
            if first in aliases:
                found.add(".".join(["tlhelpers", *rest]))
    ours = {each.removeprefix("tlhelpers.") for each in found if each.startswith("tlhelpers.")}
    return {_module(each) for each in ours} - {name, ""}


def _module(name: str) -> str:
    """The module or wing that a dotted name lies in; nothing for the public face's own names."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if (known := ".".join(parts[:length])) in MODULES or known in WINGS:
            return known
    return ""


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_neither_wing(name: str) -> None:
    assert {each for each in imports(name) if each.startswith(WINGS)} == set()


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("page.")])
def test_the_page_imports_no_study(name: str) -> None:
    assert {each for each in imports(name) if each.startswith("studies")} == set()


@pytest.mark.parametrize("name", STUDIES)
def test_studies_meet_only_in_skeleton_and_recipes(name: str) -> None:
    allowed = {"studies.skeleton": set(), "studies.recipes": {"studies.skeleton"}}.get(
        name, {"studies.skeleton", "studies.recipes"} | EXCEPTIONS.get(name, set())
    )
    assert {each for each in imports(name) if each.startswith("studies")} <= allowed


def test_no_module_needs_itself() -> None:
    order = TopologicalSorter({name: imports(name) - {*WINGS} for name in MODULES})
    assert len(list(order.static_order())) == len(MODULES)


def test_the_rule_finds_what_it_forbids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (
        "from . import page",
        "from .page import glue",
        "from tlhelpers.page.published import stamp",
        "def f():\n    import tlhelpers as tl\n    return tl.page.stamp()",
    ):
        (tmp_path / "bad.py").write_text(text)
        monkeypatch.setitem(MODULES, "bad", tmp_path / "bad.py")
        imports.cache_clear()
        assert any(each.startswith("page") for each in imports("bad")), text


@pytest.mark.parametrize("line", ["import tlhelpers", "from tlhelpers import page, studies"])
def test_import_is_light(line: str) -> None:
    heavy = ["tensorflow", "keras", "sklearn", "matplotlib", "pandas", "numpy", "scipy", "PIL", "requests"]
    code = f"import sys; {line}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_core_has_few_public_names() -> None:
    names = {name: list(importlib.import_module(f"tlhelpers.{name}").__all__) for name in PUBLIC}
    number = sum(map(len, names.values()))
    assert number <= MOST_NAMES, f"expected at most {MOST_NAMES} public names, got {number}: {names}"


@pytest.mark.parametrize("name", ["", *WINGS, *[name for name in MODULES if name != "studies.__main__"]])
def test_every_public_name_exists(name: str) -> None:
    module = importlib.import_module(".".join(["tlhelpers", *([name] if name else [])]))
    missing = [each for each in getattr(module, "__all__", []) if not hasattr(module, each)]
    assert missing == []


def public_functions() -> dict[str, FunctionType]:
    found = {}
    for name in PUBLIC:
        module = importlib.import_module(f"tlhelpers.{name}")
        for each in module.__all__:
            if inspect.isfunction(function := getattr(module, each)):
                found[f"{name}.{each}"] = function
    return found


def test_public_functions_of_the_core_are_documented() -> None:
    # Whether a chapter has the title that is named, the build checks.
    faults = []
    for name, function in public_functions().items():
        text = inspect.getdoc(function) or ""
        signature = inspect.signature(function)
        gives = ["Yields" if "yield " in inspect.getsource(function) else "Returns"]
        sections = ["Parameters"] * bool(signature.parameters) + ["Examples"]
        sections += gives * (str(signature.return_annotation) != "None")
        faults += [
            f"{name}: no section {each}" for each in sections if f"\n{each}\n{'-' * len(each)}" not in text
        ]
        words = " ".join(text.split())
        if not re.search(r'Explained in the (chapters? "|reading guide)', words):
            faults.append(f"{name}: names no chapter that explains it")
    assert faults == []


def test_the_face_is_small() -> None:
    assert len([name for name in tlhelpers.__all__ if name not in MODULES]) <= 20
