"""The three wings keep apart; the core stays small, and its functions are told as the project tells them."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tlhelpers

PACKAGE = Path(__file__).resolve().parent.parent / "tlhelpers"
MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.stem != "__init__"
}
WINGS = ("page", "studies")
PUBLIC = [name for name in MODULES if "." not in name and not name.startswith("_")]
MOST_NAMES, MOST_ON_TOP = 60, 20
SHARED = ("skeleton", "recipes", "intervals", "closed_form", "boxes", "payments")
EXCEPTIONS = {
    "studies.strategies": {"studies.freezing_map"},  # advises a cell of the map
    "studies.spans": {"studies.answers"},  # looks for the words in the sentences of the same questions
    "studies.adviser": {"studies.strategies"},  # puts its advice on the page
    "studies.tuning": {"studies.sentiment"},  # takes its sentences
    "studies.__main__": {name for name in MODULES if name.startswith("studies.")},  # measures all of them
}


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
    known = (each for each in (*MODULES, *WINGS) if f"{name}.".startswith(f"{each}."))
    return max(known, key=len, default="")


@pytest.mark.parametrize("name", MODULES)
def test_the_wings_keep_apart(name: str) -> None:
    allowed = {
        "page": {"page"},
        "studies": {"page", *(f"studies.{name}" for name in SHARED)},
        "studies.skeleton": {"page"},
        "studies.recipes": {"page", "studies.skeleton"},
    }
    wing = name.partition(".")[0] if "." in name else ""
    found = {each if each.startswith("studies") else each.partition(".")[0] for each in imports(name)}
    beyond = {each for each in found if each.startswith(WINGS)} - allowed.get(name, allowed.get(wing, set()))
    assert beyond <= EXCEPTIONS.get(name, set())


@pytest.mark.parametrize("name", sorted({*MODULES} - {"_backend"}))
def test_only_one_module_asks_a_backend(name: str) -> None:
    asked = re.findall(r"^ *(?:import|from) (?:tensorflow|torch|jax)\b", MODULES[name].read_text(), re.M)
    assert asked == []


def test_no_module_needs_itself() -> None:
    order = TopologicalSorter({name: imports(name) - {*WINGS} for name in MODULES})
    assert len(list(order.static_order())) == len(MODULES)


@pytest.mark.parametrize(
    "text",
    [
        "from . import page",
        "from .page import glue",
        "from tlhelpers.page.published import stamp",
        "def f():\n    import tlhelpers as tl\n    return tl.page.stamp()",
    ],
)
def test_the_rule_finds_what_it_forbids(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.py").write_text(text)
    monkeypatch.setitem(MODULES, "bad", tmp_path / "bad.py")
    assert any(each.startswith("page") for each in imports("bad"))


HEAVY = ["tensorflow", "keras", "sklearn", "matplotlib", "pandas", "numpy", "scipy", "PIL", "requests"]


@pytest.mark.parametrize(
    ("line", "heavy"),
    [
        ("import tlhelpers", HEAVY),
        ("from tlhelpers import page, studies", HEAVY),
        ("import tlhelpers.evaluation, tlhelpers.plots", ["tensorflow", "keras"]),
    ],
)
def test_import_is_light(line: str, heavy: list[str]) -> None:
    code = f"import sys; {line}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_core_has_few_public_names() -> None:
    names = [each for name in PUBLIC for each in importlib.import_module(f"tlhelpers.{name}").__all__]
    assert len(names) <= MOST_NAMES, names
    assert len(set(tlhelpers.__all__) - {*MODULES}) <= MOST_ON_TOP


@pytest.mark.parametrize("name", ["", *WINGS, *[name for name in MODULES if name != "studies.__main__"]])
def test_every_public_name_exists(name: str) -> None:
    module = importlib.import_module(f"tlhelpers.{name}".rstrip("."))
    missing = [each for each in getattr(module, "__all__", []) if not hasattr(module, each)]
    assert missing == []


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_of_the_core_are_documented(name: str) -> None:
    # Whether a chapter has the title that is named, the build checks.
    module = importlib.import_module(f"tlhelpers.{name}")
    for function in filter(inspect.isfunction, (getattr(module, each) for each in module.__all__)):
        text, signature = inspect.getdoc(function) or "", inspect.signature(function)
        sections = ["Parameters"] * bool(signature.parameters) + ["Examples"]
        if str(signature.return_annotation) != "None":
            sections.append("Yields" if "yield " in inspect.getsource(function) else "Returns")
        assert [each for each in sections if f"\n{each}\n{'-' * len(each)}" not in text] == [], function
        told = re.search(r'Explained in the (chapters? "|reading guide)', " ".join(text.split()))
        assert told, f"{function}: names no chapter that explains it"
