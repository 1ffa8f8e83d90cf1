"""Links between chapters, the library's pages and the glossary, made while Sphinx builds.

- ``tl.split``, ``page.check`` or ``studies.draw`` in a code cell leads to that function's description.
- ``Explained in the chapter "Train the head"`` in a docstring leads to the chapter, and each description ends
  with the chapters that use it.
- A term of the glossary is a link where a page's prose first uses it.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import tlhelpers
import tlhelpers.page
import tlhelpers.studies
from tools.book import runs

LOG = logging.getLogger(__name__)

GLOSSARY = "book/reference/glossary"
GUIDE = "book/reading-guide"

_NO_TERMS_IN = (
    *(nodes.title, nodes.caption, nodes.rubric, nodes.term, nodes.reference, addnodes.pending_xref),
    *(nodes.literal, nodes.FixedTextElement, nodes.raw, nodes.table, nodes.math),
    nodes.emphasis,  # titles of works
)
_NO_TERMS_CLASSES = {"cell", "sd-card", "run-card"}  # outputs, what is a link as a whole, and the run's card
# Too common, or with another sense elsewhere in the book, to be a link by themselves.
NOT_LINKED = {"accuracy", "label", "loss", "pooling", "precision", "recall"}
NOT_LINKED |= {"published result", "transfer learning"}

_EXPLAINED = re.compile(r'\bin\s+the\s+chapters?\s+"[^"]+"(?:(?:,|,?\s+and)\s+"[^"]+")*')
_CLASSES = ("class", "exception")
_QUOTED = re.compile(r'"([^"]+)"')
_NAME = re.compile(
    r"(?<![`:\w])(?::(?:func|class|data|mod|obj):)?`(?P<text>(?P<name>[A-Za-z_][\w.]*)[^`\n]*)`(?![`_])"
)
# What chapters import: the library as tl, and its two wings.
_WINGS = ("page", "studies")
_USED = re.compile(r"(?<![\w.])(?:tl\.(\w+(?:\.\w+)?)|((?:page|studies)(?:\.\w+){1,2}))")
# Pygments' way to write tl.split.
_CODE = re.compile(
    r'<span class="n">(?:tl|page|studies)</span>(?:<span class="o">\.</span><span class="n">\w+</span>)+'
)
_PART = re.compile(r'<span class="n">(\w+)</span>')


@dataclass(frozen=True)
class Entry:
    """A glossary entry: its terms, its address, and what a link to it says."""

    terms: tuple[str, ...]
    address: str
    says: str


@functools.cache
def _chapters(source: Path) -> dict[str, str]:
    """Page by title, in the book's order."""
    return {runs.title(notebook): page for page, notebook in runs.chapters(source).items()}


def used(notebook: runs.Notebook) -> set[str]:
    """The names of the library in a chapter's code, as seen from its top: "split", "page.check"."""
    code = "\n".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code")
    return {core or wing for core, wing in _USED.findall(code)}


@functools.cache
def uses(source: Path) -> dict[str, list[str]]:
    """The pages whose code uses a name of the library, by its full name."""
    found: dict[str, list[str]] = {}
    for page, notebook in runs.chapters(source).items():
        for name in {public_name(tlhelpers, name) for name in used(notebook)} - {None}:
            found.setdefault(str(name), []).append(page)
    return found


def public_name(module: ModuleType, name: str) -> str | None:
    """The full name under which the library's pages describe a name of a module, or None.

    In `tlhelpers`, "prefix.split" gives "tlhelpers.split", and "page.check" "tlhelpers.page.published.check".
    """
    first, _, rest = name.partition(".")
    if first not in getattr(module, "__all__", ()) and not (module is tlhelpers and first in _WINGS):
        return None
    thing = getattr(module, first)
    if inspect.ismodule(thing):
        return public_name(thing, rest) if rest else thing.__name__
    if getattr(tlhelpers, first, None) is thing:
        base = f"tlhelpers.{first}"
    else:
        # A wing's face shows what its modules hold, and that is described there.
        shown = [getattr(module, other) for other in module.__all__]
        homes = [each.__name__ for each in shown if first in getattr(each, "__all__", ())]
        base = f"{[*homes, module.__name__][0]}.{first}"
    return f"{base}.{rest}" if rest else base


def _link_names(text: str, full: str, thing: Any) -> str:
    """Names in single backquotes become links where the library describes them, else code."""
    parts = full.split(".")
    longest = (".".join(parts[:number]) for number in range(len(parts), 1, -1))
    module = next((sys.modules[name] for name in longest if name in sys.modules), inspect.getmodule(thing))
    taken = set(inspect.signature(thing).parameters) if inspect.isfunction(thing) else set()

    def link(match: re.Match[str]) -> str:
        name, shown = match["name"].rstrip("."), match["text"]
        target = None
        if name.startswith("tlhelpers."):
            target = public_name(tlhelpers, name.removeprefix("tlhelpers."))
        elif name not in taken:
            target = (module and public_name(module, name)) or public_name(tlhelpers, name)
        return f":py:obj:`{shown} <{target}>`" if target else f"``{shown}``"

    return _NAME.sub(link, text)


def _on_docstring(app: Sphinx, _what: str, full: str, thing: Any, _options: Any, lines: list[str]) -> None:
    source = Path(app.srcdir)
    titles = _chapters(source)
    text = _link_names("\n".join(lines), full, thing)

    def link(match: re.Match[str]) -> str:
        title = " ".join(match[1].split())
        if title not in titles:
            LOG.warning("%s: no chapter has the title %r", full, title)
            return match[0]
        return f":doc:`{title} </{titles[title]}>`"

    text = _EXPLAINED.sub(lambda said: _QUOTED.sub(link, said[0]), text)
    text = re.sub(r"\bin\s+the\s+reading\s+guide\b", f"in the :doc:`reading guide </{GUIDE}>`", text)
    lines[:] = text.split("\n")

    pages = uses(source).get(full, [])
    if not pages or inspect.ismodule(thing):
        return
    if len(pages) == len(titles):
        where = "every chapter"
    else:
        names = {page: title for title, page in titles.items()}
        where = ", ".join(f":doc:`{names[page]} </{page}>`" for page in pages)
    lines += ["", ".. container:: used-in", "", f"   Used in {where}.", ""]


def _on_skip(_app: Sphinx, _what: str, name: str, thing: Any, skip: bool, _options: Any) -> bool | None:
    """What the library offers at its top is described there, and not once more with its module."""
    on_top = not inspect.ismodule(thing) and name in tlhelpers.__all__ and getattr(tlhelpers, name) is thing
    return True if on_top else None


def _on_missing(app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, shown: Any) -> Any:
    """Where a name without a description of its own leads.

    `_link_names` asks for what there is, so what holds it is described. A class that is named without its
    module is taken for the only one of that name.
    """
    objects, asked = env.domains["py"].objects, node["reftarget"]
    found = [asked.rpartition(".")[0]]
    if node["reftype"] != "obj":
        found = [n for n, at in objects.items() if n.endswith(f".{asked}") and at.objtype in _CLASSES]
    if len(found) != 1 or node["reftype"] not in ("class", "exc", "obj") or found[0] not in objects:
        return None
    at = objects[found[0]]
    uri = app.builder.get_relative_uri(node["refdoc"], at.docname)
    return nodes.reference("", "", shown, internal=True, refuri=f"{uri}#{at.node_id}")


def link_code(html: str, address_of: Callable[[str], str | None]) -> str:
    """Make ``tl.name`` in highlighted code a link, for each name that has an address."""

    def link(match: re.Match[str]) -> str:
        spans = match[0].split('<span class="o">')
        parts = _PART.findall(match[0])
        for taken in range(len(parts), 1, -1):
            if address := address_of(".".join(parts[:taken]).removeprefix("tl.")):
                inside = '<span class="o">'.join(spans[:taken])
                rest = "".join(f'<span class="o">{span}' for span in spans[taken:])
                return f'<a class="api-link" href="{address}">{inside}</a>{rest}'
        return match[0]

    return _CODE.sub(link, html)


def _on_page(app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    objects = app.env.domains["py"].objects

    def address_of(name: str) -> str | None:
        at = objects.get(public_name(tlhelpers, name) or "")
        return f"{app.builder.get_relative_uri(page, at.docname)}#{at.node_id}" if at else None

    if "body" in context:
        context["body"] = link_code(context["body"], address_of)


def first_sentence(text: str) -> str:
    """The first sentence of a definition, with its full stop and a capital letter."""
    sentence = re.split(r"(?<=[.!?])\s|;\s", " ".join(text.split()), maxsplit=1)[0].rstrip(".;")
    return f"{sentence[0].upper()}{sentence[1:]}."


def read_glossary(document: nodes.document, address: str) -> list[Entry]:
    """The glossary's entries, but for terms that stay plain; `address` is its page's."""
    found = []
    for item in document.findall(nodes.definition_list_item):
        terms = [node.astext() for node in item.children if isinstance(node, nodes.term)]
        definition = item.next_node(nodes.definition)
        assert definition is not None  # docutils' own rule for such an item
        if linked := tuple(term for term in terms if term not in NOT_LINKED):
            anchor = item.children[0]["ids"][0]
            found.append(Entry(linked, f"{address}#{anchor}", first_sentence(definition.astext())))
    return found


def _prose(node: nodes.Element, inside: bool = False) -> Iterator[tuple[nodes.Element, nodes.Text]]:
    """The texts of paragraphs, each with what holds it."""
    for child in node.children:
        if isinstance(child, nodes.Text):
            if inside:
                yield node, child
        elif not isinstance(child, _NO_TERMS_IN) and not _NO_TERMS_CLASSES & set(child.get("classes", [])):
            yield from _prose(child, inside or isinstance(child, nodes.paragraph))


def link_terms(document: nodes.document, entries: list[Entry]) -> None:
    """Make the first use of each entry in the running prose a link: whole words, singular or plural."""
    # The longest first: "feature extraction" before "feature".
    entries = sorted(entries, key=lambda entry: -max(map(len, entry.terms)))
    groups = (f"({'|'.join(re.escape(term) for term in entry.terms)})" for entry in entries)
    either = "|".join(groups).replace(r"\ ", r"\s+")
    left = dict(enumerate(entries, start=1))
    for parent, text in list(_prose(document)):
        words, at = text.astext(), 0
        parts: list[nodes.Node] = []
        for match in re.finditer(rf"(?<![\w-])(?:{either})s?(?![\w-])", words, re.IGNORECASE):
            entry = left.pop(match.lastindex or 0, None)
            if entry is not None:
                about = {"refuri": entry.address, "reftitle": entry.says, "classes": ["term-link"]}
                link = nodes.reference("", match[0], internal=True, **about)
                parts += [nodes.Text(words[at : match.start()]), link]
                at = match.end()
        if parts:
            parent.replace(text, [*parts, nodes.Text(words[at:])])


def _on_resolved(app: Sphinx, document: nodes.document, page: str) -> None:
    # Pages of the reference explain words or functions themselves.
    if not page.startswith("book/reference/") and GLOSSARY in app.env.found_docs:
        address = app.builder.get_relative_uri(page, GLOSSARY)
        link_terms(document, read_glossary(app.env.get_doctree(GLOSSARY), address))


def setup(app: Sphinx) -> None:
    """Called by pages."""
    # After napoleon, which is an extension before this one.
    app.connect("autodoc-process-docstring", _on_docstring)
    app.connect("autodoc-skip-member", _on_skip)
    app.connect("missing-reference", _on_missing)
    app.connect("html-page-context", _on_page)
    app.connect("doctree-resolved", _on_resolved)
