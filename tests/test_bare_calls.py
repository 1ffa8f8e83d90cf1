"""No model is called on data without ``training=``.

Up to Keras 3.15 such a call is one in training where a Resizing layer comes first, whose own default leaks
to the layers after it: BatchNorm takes the batch's statistics and moves its own (Keras issue 23166).
"""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tlhelpers", "tools", "benchmarks", "pretraining", "tests", "book")

NAMES = {"model", "prefix", "suffix", "backbone", "head"}
"""What models are called in this project; what is bound to a call of one of `MAKERS` is one, too."""
MAKERS = {"Model", "Sequential", "clone_model", "load_model", "load_backbone", "preparation", "split"}
MAKERS |= {"feature_extractor", "small_convnet"}
DELIBERATE = "# bare on purpose"
"""Ends the line of a call that shows what goes wrong."""
SYMBOLS = {"Input", "input", "inputs", "output", "outputs"}


def _last(node: Any) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


def _makes_model(node: Any) -> bool:
    return isinstance(node, ast.Call) and _last(node.func) in MAKERS


class Search(ast.NodeVisitor):
    """Finds calls of models on what is no symbol: what comes from a ``keras.Input`` builds a graph."""

    def __init__(self) -> None:
        self.models, self.symbols = set(NAMES), set[str]()
        self.found: list[str] = []

    def symbolic(self, node: ast.AST) -> bool:
        def one(each: ast.AST) -> bool:
            if isinstance(each, ast.Attribute):
                return each.attr in SYMBOLS
            return isinstance(each, ast.Name) and each.id in self.symbols

        return any(map(one, ast.walk(node)))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        kept = self.models, self.symbols
        own = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
        self.models, self.symbols = set(self.models), self.symbols - own
        self.generic_visit(node)
        self.models, self.symbols = kept

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        names = {n.id for each in node.targets for n in ast.walk(each) if isinstance(n, ast.Name)}
        made = _makes_model(node.value)
        self.models |= names if made else set()
        self.symbols = (
            self.symbols | names if self.symbolic(node.value) and not made else self.symbols - names
        )

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called = node.func.value if isinstance(node.func, ast.Subscript) else node.func
        named = isinstance(called, ast.Name) and called.id in self.models
        model = named or getattr(called, "attr", "") == "model" or _makes_model(called)
        said = any(keyword.arg in ("training", None) for keyword in node.keywords)
        if model and node.args and not said and not any(map(self.symbolic, node.args)):
            self.found.append(f"{node.lineno}: {ast.unparse(node)}")


def bare_calls(text: str) -> list[str]:
    search = Search()
    search.visit(ast.parse(text))
    lines = text.splitlines()
    return [each for each in search.found if not lines[int(each.split(":")[0]) - 1].endswith(DELIBERATE)]


def code(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "\n".join(
        "".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_model_is_called_on_data_without_training(folder: str) -> None:
    paths = [path for kind in ("*.py", "*.ipynb") for path in (ROOT / folder).rglob(kind)]
    found = {path.relative_to(ROOT).as_posix(): bare_calls(code(path)) for path in paths}
    assert {name: calls for name, calls in found.items() if calls} == {}, (
        "say training=False, or use predict; a graph is built from keras.Input"
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("model(images)", 1),
        ("np.array(encoder.model(tokens))", 1),
        ("early, middle = tl.split(backbone, at='a')\nmiddle(early(x))", 2),
        ("tl.split(model, 'a')[0](image)", 1),
        ("tl.preparation(name, shape)(digits)", 1),
        ("inputs = keras.Input((4,))\ndef use(inputs):\n    return model(inputs)", 1),
        ("model(images, training=False)\nmodel(images, **options)\nmodel.predict(images)\nframe.head(5)", 0),
        (
            "inputs = keras.Input((4,))\nx = backbone(prepare(inputs))\nmodel = keras.Model(inputs, head(x))",
            0,
        ),
        ("model(images)  # bare on purpose\nmodel(images)", 1),
        ("keras.Model(model.input, head(model.get_layer('a').output))", 0),
    ],
)
def test_the_search_finds_what_it_is_for(text: str, number: int) -> None:
    assert len(bare_calls(text)) == number
