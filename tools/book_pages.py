"""A Sphinx extension for this book: native MathML, and theme options that Jupyter Book has no key for.

It also sets up what `book_runs` and `book_links` add to the pages.
"""

from __future__ import annotations

from typing import Any

import book_links
import book_runs
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.math import get_node_equation_number

THEME_OPTIONS: dict[str, Any] = {
    # Without this the theme shows a second search field on wide screens.
    "navbar_persistent": [],
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


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    # Browsers draw MathML by themselves, so no page has to fetch a script for its formulas.
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("config-inited", _theme_options)
    book_runs.setup(app)
    book_links.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
