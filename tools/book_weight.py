"""Make the built pages light: what they use and no more, and what the reader does not see yet waits.

The theme brings more than half a megabyte of style sheets in a dozen files, most of it for parts that this
book lacks, fonts of two thousand icons, of which pages show fifteen, and eight scripts in front of the text:
seconds of white on a slow phone. After Sphinx is done, `lighten` joins the style sheets that all pages have
in common into one, leaves out rules for classes that occur nowhere (as PurgeCSS does, which would need npm)
and icons that no rule shows, and lets scripts wait for the text and pictures for the reader. Nothing else
changes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tinycss2
from fontTools import subset

_SHEET = re.compile(r'<link\b[^>]*\brel="stylesheet"[^>]*>')
_HREF = re.compile(r'\bhref="([^"?]*)[^"]*"')
# A script of its own file that does not wait yet. Inline scripts need what this one sets, so it stays first.
_SCRIPT = re.compile(
    r'<script (?![^>]*\b(?:defer|async|type)\b)(?=[^>]*\bsrc=")(?![^>]*documentation_options)'
)
_URL = re.compile(r"""url\(\s*['"]?(?!data:|#|https?:)([^'")]+)['"]?\s*\)""")
_IMPORT = re.compile(r"""@import\s+["']([^"']+)["']\s*;""")
_WORD = re.compile(r"[\w-]+")
_NAMES = re.compile(r"""\b(?:class|id|data-[\w-]+)=(?P<quote>["'])(?P<text>.*?)(?P=quote)""", re.DOTALL)
_INLINE = re.compile(r"<script\b[^>]*>(?P<text>.*?)</script>", re.DOTALL)
# What a rule shows. tinycss2 has made characters of escapes.
_SHOWN = re.compile(r"""(?:--fa|content)\s*:\s*"([^"]*)\"""")
_FONT = re.compile(r"""url\("(?P<name>[^"]+)\.woff2"\)\s*format\("woff2"\),url\("(?P=name)\.ttf"\)[^;}]*""")
_PICTURE = re.compile(
    r"""<img (?![^>]*\b(?:width|height|style|loading)=)[^>]*\bsrc="([^"]*_images/[^"]+\.svg)"[^>]*>"""
)
# Matplotlib's pictures say their size in points; CSS has 96 pixels where there are 72 points.
_SIZE = re.compile(r"""<svg [^>]*\bwidth="([\d.]+)pt" height="([\d.]+)pt\"""")
# Draws icons, which the font does here (book/_templates); it names every icon there is.
NOT_LOADED = "fontawesome.js"
# Classes that a script puts together from parts: Bootstrap's "bs-" + "tooltip" + "-auto".
COMPOSED = ("bs-",)
# Family, unique name, full name, PostScript name.
NAMES_OF_A_FONT = (1, 3, 4, 6)
GROUPS = {"media", "supports", "layer", "container"}


class WeightError(Exception):
    """The pages are not what this module expects."""


def words(html: Iterable[str], scripts: Iterable[str]) -> set[str]:
    """What may be a class or an identifier: of an element, or in a script.

    Examples
    --------
    >>> sorted(words(["<p class='a b' id='c'>no</p>"], ["box.classList.add('d')"]))
    ['a', 'add', 'b', 'box', 'c', 'classList', 'd']
    """
    found: set[str] = set()
    for page in html:
        for match in itertools.chain(_NAMES.finditer(page), _INLINE.finditer(page)):
            found.update(_WORD.findall(match["text"]))
    for script in scripts:
        found.update(_WORD.findall(script))
    return found


def _asked_for(selector: list[Any]) -> list[str]:
    # What stands inside :not(...), :is(...) and the like is no condition that can be read off one by one.
    names = [token.value for token in selector if token.type == "hash"]
    for before, token in itertools.pairwise(selector):
        if token.type == "ident" and before == ".":
            names.append(token.value)
    return names


def _selectors(prelude: list[Any]) -> list[list[Any]]:
    parts: list[list[Any]] = [[]]
    for token in prelude:
        if token == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _prune(rules: list[Any], used: set[str]) -> str:
    kept = []
    for rule in rules:
        if rule.type == "error":
            raise WeightError(f"a style sheet cannot be read: {rule.message}, line {rule.source_line}")
        if rule.type == "comment":
            # A licence says that it is to stay, by its exclamation mark.
            kept.append(rule.serialize() if rule.value.startswith("!") else "")
        elif rule.type == "qualified-rule":
            live = [
                tinycss2.serialize(selector).strip()
                for selector in _selectors(rule.prelude)
                if all(name in used or name.startswith(COMPOSED) for name in _asked_for(selector))
            ]
            kept.append(f"{','.join(live)}{{{tinycss2.serialize(rule.content).strip()}}}" if live else "")
        elif rule.lower_at_keyword in GROUPS and rule.content is not None:
            inner = _prune(tinycss2.parse_rule_list(rule.content, skip_whitespace=True), used)
            head = f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}"
            kept.append(f"{head}{{{inner}}}" if inner else "")
        elif rule.lower_at_keyword != "charset":
            kept.append(rule.serialize())
    return "".join(kept)


def prune(style: str, used: set[str]) -> str:
    """A style sheet without the rules whose classes or identifiers are not among ``used``.

    Examples
    --------
    >>> prune(".a, .b { color: red } @media print { .b p { top: 0 } } p:not(.b) { top: 1px }", {"a"})
    '.a{color: red}p:not(.b){top: 1px}'
    """
    return _prune(tinycss2.parse_stylesheet(style, skip_whitespace=True), used)


def read(sheet: Path, beside: Path) -> str:
    """A style sheet with what it imports, its addresses as seen from the folder ``beside``."""

    def moved(match: re.Match[str]) -> str:
        target = posixpath.join(sheet.parent.as_posix(), match[1].strip())
        return f'url("{posixpath.relpath(target, beside.as_posix())}")'

    text = _URL.sub(moved, sheet.read_text(encoding="utf-8"))
    return _IMPORT.sub(lambda match: read(sheet.parent / match[1], beside), text)


def few_icons(style: str, static: Path) -> str:
    """A style sheet as `prune` makes it, with the icons that it shows instead of fonts of all icons.

    A font that has a TrueType file beside its WOFF2 one is taken for one of icons, as Font Awesome comes.
    """
    shown = {ord(letter) for text in _SHOWN.findall(style) for letter in text}

    def few(match: re.Match[str]) -> str:
        options = subset.Options(flavor="woff")
        font = subset.load_font(static / f"{match['name']}.ttf", options)
        chosen = subset.Subsetter(options)
        chosen.populate(unicodes=shown)
        chosen.subset(font)
        # By its licence the whole font's name belongs to the whole font; the copyright's line (0) stays.
        for record in font["name"].names:
            if record.nameID in NAMES_OF_A_FONT:
                record.string = "BookIcons"
        written = io.BytesIO()
        subset.save_font(font, written, options)
        return f'url("data:font/woff;base64,{base64.b64encode(written.getvalue()).decode()}") format("woff")'

    return _FONT.sub(few, style)


def lighten(pages: Path) -> None:
    """Rewrite the pages of a built book, and write their common style sheet into ``_static``.

    Raises
    ------
    WeightError
        A style sheet is missing or cannot be read, or pages load the common ones in different orders.
    """
    static = pages / "_static"
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in sorted(pages.rglob("*.html"))
        if static not in path.parents
    }
    # The page that only leads to the front page has no style.
    texts = {path: text for path, text in texts.items() if _SHEET.search(text)}
    if not texts:
        raise WeightError(f"{pages} holds no page with a style sheet; expected a built book")
    sheets = {path: _sheets(path, text) for path, text in texts.items()}
    common = set.intersection(*(set(found) for found in sheets.values()))
    orders = {tuple(sheet for sheet in found if sheet in common) for found in sheets.values()}
    if len(orders) > 1:
        raise WeightError(f"pages load their style sheets in {len(orders)} different orders; expected one")
    (order,) = orders
    for sheet in order:
        if not sheet.is_file():
            raise WeightError(f"{sheet} is linked from every page and does not exist")

    scripts = [path for path in sorted(static.rglob("*.js")) if path.name != NOT_LOADED]
    used = words(texts.values(), (path.read_text(encoding="utf-8") for path in scripts))
    style = prune("\n".join(read(sheet, static) for sheet in order), used)
    style = few_icons(style, static)
    # Its name changes with what is in it, so that no reader keeps an old one.
    name = f"style.{hashlib.sha256(style.encode()).hexdigest()[:12]}.css"
    (static / name).write_text(style, encoding="utf-8")
    for path, text in texts.items():
        address = posixpath.relpath((static / name).as_posix(), path.parent.as_posix())
        path.write_text(_light(path, text, common, address), encoding="utf-8")


def _sheets(page: Path, text: str) -> list[Path]:
    found = (_HREF.search(link) for link in _SHEET.findall(text))
    return [Path(posixpath.normpath((page.parent / match[1]).as_posix())) for match in found if match]


def _light(page: Path, text: str, common: set[Path], address: str) -> str:
    links = [f'<link rel="stylesheet" href="{address}" />']

    def link(match: re.Match[str]) -> str:
        if _sheets(page, match[0])[0] not in common:
            return match[0]
        # The first one makes room for the joint one, the others for nothing.
        return links.pop() if links else ""

    return _wait(page, _SCRIPT.sub("<script defer ", _SHEET.sub(link, text)))


def _wait(page: Path, text: str) -> str:
    """Let each picture but the first wait until the reader comes near, with its place kept free meanwhile."""
    seen = itertools.count()

    def picture(match: re.Match[str]) -> str:
        with (page.parent / match[1]).open(encoding="utf-8") as file:
            size = _SIZE.search(file.read(2000))
        if size is None:
            raise WeightError(
                f"{page.parent / match[1]}: expected a picture by matplotlib, with a size in points"
            )
        width, height = (round(float(points) * 96 / 72) for points in size.groups())
        wait = ' loading="lazy"' if next(seen) else ""
        return f'<img width="{width}" height="{height}"{wait} {match[0].removeprefix("<img ")}'

    return _PICTURE.sub(picture, text)
