"""Links between chapters, the library's pages and the glossary, made while Sphinx builds.

- ``tl.split`` in a code cell leads to that function's description.
- ``Explained in the chapter "Train the head"`` in a docstring leads to the chapter, and each description ends
  with the chapters that use it.
- A term of the glossary is a link where a page's prose first uses it.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import book_runs
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

LOG = logging.getLogger(__name__)

GLOSSARY = "book/reference/glossary"
GUIDE = "book/reading-guide"

# Pages that explain words or functions themselves.
_NO_TERMS_ON = ("book/reference/",)
_NO_TERMS_IN = (
    nodes.title,
    nodes.reference,
    nodes.literal,
    nodes.emphasis,  # titles of works
    nodes.FixedTextElement,
    nodes.raw,
    nodes.table,
    nodes.math,
    nodes.caption,
    nodes.term,
    nodes.rubric,
    addnodes.pending_xref,
)

_NO_TERMS_CLASSES = {"cell", "sd-card", "run-card"}  # outputs, what is a link as a whole, and the run's card
# Too common, or with another sense elsewhere in the book, to be a link by themselves.
NOT_LINKED = {
    "accuracy",
    "glue",
    "label",
    "loss",
    "pooling",
    "precision",
    "published result",
    "recall",
    "transfer learning",
}

_EXPLAINED = re.compile(r'\bin\s+the\s+chapters?\s+"[^"]+"(?:(?:,|,?\s+and)\s+"[^"]+")*')
_QUOTED = re.compile(r'"([^"]+)"')
_NAME = re.compile(
    r"(?<![`:\w])(?::(?:func|class|data|mod|obj):)?`(?P<text>(?P<name>[A-Za-z_][\w.]*)[^`\n]*)`(?![`_])"
)
_USED = re.compile(r"\btl\.(\w+(?:\.\w+)?)")
# Pygments' way to write tl.split.
_CODE = re.compile(r'<span class="n">tl</span>((?:<span class="o">\.</span><span class="n">\w+</span>)+)')
_PART = re.compile(r'<span class="o">\.</span><span class="n">(\w+)</span>')


@dataclass(frozen=True)
class Entry:
    """A glossary entry: what it looks like in prose, its address, and what a link to it says."""

    pattern: re.Pattern[str]
    address: str
    says: str


@functools.cache
def _chapters(source: Path) -> dict[str, str]:
    """Page by title, in the book's order."""
    return {book_runs.title(notebook): page for page, notebook in book_runs.chapters(source).items()}


@functools.cache
def uses(source: Path) -> dict[str, list[str]]:
    """The pages whose code uses a name of the library, by name without ``tl.``."""
    found: dict[str, list[str]] = {}
    for page, notebook in book_runs.chapters(source).items():
        code = "\n".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code")
        for name in sorted(set(_USED.findall(code))):
            found.setdefault(name, []).append(page)
    return found


def quoted_chapters(text: str) -> list[str]:
    """The titles of the chapters that a docstring says explain its function."""
    said = [title for match in _EXPLAINED.findall(text) for title in _QUOTED.findall(match)]
    return [" ".join(title.split()) for title in said]


def public_name(module: ModuleType, name: str) -> str | None:
    """The full name under which the library's pages describe a name of a module, or None."""
    import tlhelpers

    first, _, rest = name.partition(".")
    if first not in getattr(module, "__all__", ()):
        return None
    thing = getattr(module, first)
    on_top = not inspect.ismodule(thing) and getattr(tlhelpers, first, None) is thing
    base = f"{'tlhelpers' if on_top else module.__name__}.{first}"
    return f"{base}.{rest}" if rest else base


def _link_names(text: str, full: str, thing: Any) -> str:
    """Names in single backquotes become links where the library describes them, else code."""
    import tlhelpers

    module = getattr(tlhelpers, full.split(".")[1], None)
    if not inspect.ismodule(module):
        module = inspect.getmodule(thing) or tlhelpers
    taken = set(inspect.signature(thing).parameters) if inspect.isfunction(thing) else set()

    def link(match: re.Match[str]) -> str:
        name, shown = match["name"].rstrip("."), match["text"]
        target = None
        if name.startswith("tlhelpers."):
            inside, _, last = name.rpartition(".")
            parent = tlhelpers if inside == "tlhelpers" else getattr(tlhelpers, inside.split(".")[1])
            target = public_name(parent, last)
        elif name not in taken:
            target = public_name(module, name) or public_name(tlhelpers, name)
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

    pages = uses(source).get(full.removeprefix("tlhelpers."), [])
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
    import tlhelpers

    on_top = not inspect.ismodule(thing) and name in tlhelpers.__all__ and getattr(tlhelpers, name) is thing
    return True if on_top else None


def _on_missing(_app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, shown: Any) -> Any:
    """A class that a docstring names without its module, where only one class has that name."""
    if node.get("reftype") not in ("class", "exc"):
        return None
    objects = env.domains["py"].objects
    ending = "." + node["reftarget"]
    found = [n for n, o in objects.items() if n.endswith(ending) and o.objtype in ("class", "exception")]
    if len(found) != 1:
        return None
    at = objects[found[0]]
    uri = _app.builder.get_relative_uri(node["refdoc"], at.docname)
    return nodes.reference("", "", shown, internal=True, refuri=f"{uri}#{at.node_id}")


def link_code(html: str, addresses: dict[str, str]) -> str:
    """Make ``tl.name`` in highlighted code a link, for each name that has an address."""

    def link(match: re.Match[str]) -> str:
        parts = _PART.findall(match[1])
        for taken in range(len(parts), 0, -1):
            address = addresses.get(".".join(parts[:taken]))
            if address:
                spans = match[0].split('<span class="o">')
                inside = '<span class="o">'.join(spans[: taken + 1])
                rest = "".join(f'<span class="o">{span}' for span in spans[taken + 1 :])
                return f'<a class="api-link" href="{address}">{inside}</a>{rest}'
        return match[0]

    return _CODE.sub(link, html)


def _on_page(app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    if "body" not in context:
        return
    objects = app.env.domains["py"].objects
    addresses = {}
    for name, at in objects.items():
        if name.startswith("tlhelpers."):
            uri = app.builder.get_relative_uri(page, at.docname)
            addresses[name.removeprefix("tlhelpers.")] = f"{uri}#{at.node_id}"
    context["body"] = link_code(context["body"], addresses)


def first_sentence(text: str) -> str:
    """The first sentence of a definition, with its full stop and a capital letter."""
    sentence = re.split(r"(?<=[.!?])\s|;\s", " ".join(text.split()), maxsplit=1)[0].rstrip(".;")
    return f"{sentence[0].upper()}{sentence[1:]}."


def read_glossary(document: nodes.document) -> list[tuple[list[str], str, str]]:
    """The glossary's entries: terms, the anchor of the first, the first sentence of the definition."""
    found = []
    for item in document.findall(nodes.definition_list_item):
        terms = [node for node in item.children if isinstance(node, nodes.term)]
        if terms and terms[0]["ids"]:
            definition = item.next_node(nodes.definition)
            assert definition is not None  # docutils' own rule for such an item
            text = first_sentence(definition.astext())
            found.append(([term.astext() for term in terms], terms[0]["ids"][0], text))
    return found


def term_pattern(terms: list[str]) -> re.Pattern[str]:
    """Whole words, singular or plural, with any space between them."""
    either = "|".join(r"\s+".join(map(re.escape, term.split())) for term in terms)
    return re.compile(rf"(?<![\w-])(?:{either})s?(?![\w-])", re.IGNORECASE)


def _prose(node: nodes.Element, inside: bool = False) -> Iterator[tuple[nodes.Element, nodes.Text]]:
    """The texts of paragraphs, each with what holds it."""
    for child in node.children:
        if isinstance(child, nodes.Text):
            if inside:
                yield node, child
        elif not isinstance(child, _NO_TERMS_IN) and not _NO_TERMS_CLASSES & set(child.get("classes", [])):
            yield from _prose(child, inside or isinstance(child, nodes.paragraph))


def link_terms(document: nodes.document, entries: list[Entry]) -> None:
    """Make the first use of each entry in the running prose a link."""
    left = list(entries)
    for parent, text in list(_prose(document)):
        used = _find(text.astext(), left)
        parts: list[nodes.Node] = []
        at = 0
        for begin, end, entry in used:
            link = nodes.reference("", text[begin:end], internal=True, refuri=entry.address)
            link["reftitle"] = entry.says
            link["classes"].append("term-link")
            parts += [nodes.Text(text[at:begin]), link]
            at = end
        if used:
            parent.replace(text, [*parts, nodes.Text(text[at:])])
            done = [entry for _, _, entry in used]
            left = [entry for entry in left if entry not in done]


def _find(words: str, entries: list[Entry]) -> list[tuple[int, int, Entry]]:
    """Where the first match of each entry lies, none over another, in the order of the words."""
    found: list[tuple[int, int, Entry]] = []
    for entry in entries:
        for match in entry.pattern.finditer(words):
            if all(match.end() <= begin or match.start() >= end for begin, end, _ in found):
                found.append((match.start(), match.end(), entry))
                break
    return sorted(found, key=lambda span: span[0])


def _on_resolved(app: Sphinx, document: nodes.document, page: str) -> None:
    if page.startswith(_NO_TERMS_ON) or GLOSSARY not in app.env.found_docs:
        return
    uri = app.builder.get_relative_uri(page, GLOSSARY)
    entries = []
    for terms, anchor, says in read_glossary(app.env.get_doctree(GLOSSARY)):
        if linked := [term for term in terms if term not in NOT_LINKED]:
            entries.append(Entry(term_pattern(linked), f"{uri}#{anchor}", says))
    # The longest first: "feature extraction" before "feature".
    link_terms(document, sorted(entries, key=lambda entry: -len(entry.pattern.pattern)))


def setup(app: Sphinx) -> None:
    """Called by book_pages."""
    # After napoleon, which is an extension before this one.
    app.connect("autodoc-process-docstring", _on_docstring)
    app.connect("autodoc-skip-member", _on_skip)
    app.connect("missing-reference", _on_missing)
    app.connect("html-page-context", _on_page)
    app.connect("doctree-resolved", _on_resolved)
