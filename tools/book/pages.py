"""A Sphinx extension for this book: MathML, live boxes, folds, descriptions, and options Jupyter Book lacks.

It also sets up what `access`, `full`, `links` and `runs` add to the pages.
"""

from __future__ import annotations

import html
import json
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.math import get_node_equation_number

from tools import repository
from tools.book import access, full, links, runs

THEME_OPTIONS: dict[str, Any] = {
    # Without this the theme shows a second search field on wide screens.
    "navbar_persistent": [],
}

AT_ONCE = ("documentation_options.js", "doctools.js")

# Boxes that a script brings to life: the class that a page's HTML gives them, and what such a page loads.
LIVE_BOXES = {
    "digit-pad": ("digit-pad.js", "digit-pad.css"),
    "freezing-adviser": ("adviser.js", "adviser.css"),
    "figure-points": ("points.js", "points.css"),
}


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node.get("number"):
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(tex2mathml(node.astext(), as_block=True))
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def _theme_options(_app: Sphinx, config: Config) -> None:
    # Setting html_theme_options in _config.yml would replace Jupyter Book's own, Colab button and all.
    config.html_theme_options = {**config.html_theme_options, **THEME_OPTIONS}
    # Sphinx takes it from the folder that it was called in.
    config.html_search_scorer = str(repository.ROOT / "book/_static/search-score.js")


def _live_boxes(app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    """Load a box's script and style on the pages that hold one, and on no other."""
    for name, (script, style) in LIVE_BOXES.items():
        # With its bracket: a docstring that shows such a box has &lt; there.
        if f'<div class="{name}"' in context.get("body", ""):
            app.add_js_file(script, type="module")
            app.add_css_file(style)


def _wait(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    """Scripts wait for the text, but for those that inline scripts and the search page's own need."""
    for script in context["script_files"]:
        if script.filename and not str(script.filename).endswith(AT_ONCE):
            script.attributes.setdefault("defer", "defer")


def _colab(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    """Colab opens a notebook at the tag that its set-up cell installs; other buttons lead to the branch."""
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if "colab" in button.get("url", ""):
                button["url"] = button["url"].replace("/blob/main/", f"/blob/{repository.release()}/", 1)


def _lazy(_app: Sphinx, tree: nodes.document, _page: str) -> None:
    """Each picture but the first waits until the reader comes near."""
    for picture in list(tree.findall(nodes.image))[1:]:
        picture["loading"] = "lazy"


def fold(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cells of which those that are folded, and stand together with one output at most, are one."""
    found: list[dict[str, Any]] = []
    for cell in cells:
        if found and _folded(found[-1]) and _folded(cell) and not (_seen(found[-1]) and _seen(cell)):
            last = found.pop()
            source = f"{''.join(last['source'])}\n\n{''.join(cell['source'])}"
            outputs = last["outputs"] + cell["outputs"]
            cell = {**(last if _seen(last) else cell), "source": source, "outputs": outputs}
        found.append(cell)
    return found


def _folded(cell: dict[str, Any]) -> bool:
    return cell["cell_type"] == "code" and "hide-input" in cell["metadata"].get("tags", [])


def _seen(cell: dict[str, Any]) -> bool:
    """Whether something stands below it; what is glued stands elsewhere."""
    return any("scrapbook" not in output.get("metadata", {}) for output in cell["outputs"])


def _fold(app: Sphinx, page: str, text: list[str]) -> None:
    if app.env.doc2path(page).endswith(".ipynb"):
        notebook = json.loads(text[0])
        text[0] = json.dumps({**notebook, "cells": fold(notebook["cells"])})


def describe(tree: nodes.document) -> str | None:
    """What a page is about, for lists of search results: its first paragraph, as whole sentences.

    Results show some 160 characters. The line in italics that says how long a chapter ran is not its subject.
    """
    for paragraph in tree.findall(nodes.paragraph):
        in_italics = all(isinstance(child, nodes.emphasis) for child in paragraph.children)
        if isinstance(paragraph.parent, nodes.section) and not in_italics:
            text = " ".join(paragraph.astext().split())
            end = text.rfind(". ", 0, 200) + 1
            return text[:end] if len(text) > 200 and end else text
    return None


def _description(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], tree: nodes.document | None
) -> None:
    if tree is not None and (text := describe(tree)):
        tag = f'<meta name="description" content="{html.escape(text)}" />'
        context["metatags"] = context.get("metatags", "") + tag


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    # Browsers draw MathML by themselves, so no page has to fetch a script for its formulas.
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("config-inited", _theme_options)
    app.connect("html-page-context", _live_boxes)
    app.connect("html-page-context", _description)
    app.connect("html-page-context", _wait, priority=900)
    app.connect("html-page-context", _colab, priority=900)
    app.connect("doctree-resolved", _lazy)
    for part in (access, links, runs, full):
        part.setup(app)
    app.connect("source-read", _fold, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
