"""Letters and symbols drawn from matplotlib's bundled fonts, made to look handwritten.

No digit is among them: the target task (handwritten digits) must be new to the network. Characters
with a numeric value are left out, and so is every character that covers a digit's drawing well.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from scipy import ndimage

#: Fonts by file name in matplotlib's ``fonts/ttf`` folder. ``LastResort`` draws boxes with numbers in
#: them, and the ``NonUni`` and ``Siz`` fonts use private code points: both stay out.
FONTS: tuple[str, ...] = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Oblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
    "cmr10", "cmb10", "cmss10", "cmti10", "cmtt10", "cmmi10", "cmsy10",
)  # fmt: skip

#: Ranges (first, last) of the code points that may be drawn.
RANGES: tuple[tuple[int, int], ...] = (
    (0x41, 0x5A), (0x61, 0x7A),  # Latin
    (0x23, 0x26), (0x3F, 0x40), (0xA2, 0xA7), (0xB6, 0xB6), (0xDE, 0xDF), (0xE6, 0xE6), (0xFE, 0xFE),
    (0x0250, 0x02AF),  # phonetic letters
    (0x0391, 0x03C9), (0x03D0, 0x03F6),  # Greek
    (0x0402, 0x045F),  # Cyrillic
    (0x0531, 0x0556), (0x0561, 0x0586),  # Armenian
    (0x05D0, 0x05EA),  # Hebrew
    (0x0621, 0x064A),  # Arabic
    (0x10D0, 0x10F0),  # Georgian
    (0x1401, 0x1676),  # Canadian syllabics
    (0x2D30, 0x2D65),  # Tifinagh
    (0x20A0, 0x20B5),  # currency signs
    (0x2190, 0x21AF), (0x2200, 0x222A), (0x2295, 0x22A5), (0x2605, 0x2640), (0x2654, 0x266F),
    (0x1D400, 0x1D6A3),  # Latin letters in bold, italic, script, fraktur, sans, double-struck
)  # fmt: skip

DIGITS = "0123456789"
DIGIT_OVERLAP = 0.75  # a character that covers a digit this well, in any font, is not drawn at all
SAME_OVERLAP = 0.85  # characters that cover one another this well are one class (O, Greek O, ...)

MASTER = 48  # side of a clean drawing, pixels; the glyph's longer side fills 40 of them
FILL = 40
SIDE = 32  # side of an image, pixels
COARSE = 0.85  # share of the images that are sampled on the coarse grid and enlarged
GRID = 8  # side of the coarse grid: the resolution of scikit-learn's digits

Masks = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GlyphSet:
    """Clean drawings, each with its character, font and class, as distances in pixels, ready to be warped.

    `edge` (n, 48, 48) is the signed distance to the outline, positive inside; `pen`, of the same shape, the
    distance to the middle line of the strokes.
    """

    characters: tuple[str, ...]
    fonts: tuple[str, ...]
    labels: NDArray[np.int64]
    edge: NDArray[np.float16]
    pen: NDArray[np.float16]

    @property
    def class_count(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1


def is_number(character: str) -> bool:
    r"""Tell whether a character has a numeric value, itself or taken apart (superscript, circled, ...).

    Examples
    --------
    >>> [is_number(c) for c in ("7", "\N{SUPERSCRIPT TWO}", "\N{CIRCLED DIGIT ONE}", "B")]
    [True, True, True, False]
    """
    parts = character + unicodedata.normalize("NFKD", character)
    return any(unicodedata.numeric(part, None) is not None for part in parts)


def allowed(character: str, font_name: str) -> bool:
    """Tell whether a character may be drawn in a font."""
    if is_number(character):
        return False
    if font_name == "cmsy10":  # calligraphic capitals; its other places hold signs that differ from ASCII
        return "A" <= character <= "Z"
    if font_name.startswith("cm"):
        return character.isascii() and character.isalpha()
    return True


def open_font(name: str) -> FT2Font:
    """Open one of matplotlib's bundled fonts by its file name without ending."""
    return FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"))


def clean_drawing(font: FT2Font, character: str) -> Masks | None:
    """Draw one character, its longer side filling 40 of 48 pixels; None where there is hardly ink."""
    font.clear()
    font.set_size(128, 72)
    font.set_text(character)
    font.draw_glyphs_to_bitmap(antialiased=False)
    ink = np.asarray(font.get_image()) > 0
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if max(len(rows), len(columns)) < FILL // 2:
        return None
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = ndimage.zoom(
        ink.astype(np.float32), FILL / max(ink.shape), order=1, grid_mode=True, mode="nearest"
    )
    small = small[:FILL, :FILL] > 0.5
    top, left = ((MASTER - side) // 2 for side in small.shape)
    out = np.zeros((MASTER, MASTER), bool)
    out[top : top + small.shape[0], left : left + small.shape[1]] = small
    return out


def overlap(one: Masks, many: Masks) -> NDArray[np.float64]:
    """Shared area over joint area of one drawing (h, w) with each of many (n, h, w)."""
    shared: NDArray[np.float64] = (many & one).sum((1, 2)) / np.maximum((many | one).sum((1, 2)), 1)
    return shared


def thin(masks: Masks) -> Masks:
    """Thin strokes to about one pixel (Zhang and Suen, 1984), all drawings at once."""
    ink = masks.copy()
    active = np.arange(len(ink))
    while len(active):
        work = ink[active]
        before = work.sum((1, 2))
        for first in (True, False):
            p = np.pad(work, ((0, 0), (1, 1), (1, 1)))
            n, ne, e, se = p[:, :-2, 1:-1], p[:, :-2, 2:], p[:, 1:-1, 2:], p[:, 2:, 2:]
            s, sw, w, nw = p[:, 2:, 1:-1], p[:, 2:, :-2], p[:, 1:-1, :-2], p[:, :-2, :-2]
            ring = (n, ne, e, se, s, sw, w, nw)
            count = np.zeros(work.shape, np.int8)
            turns = np.zeros(work.shape, np.int8)
            for here, after in zip(ring, (*ring[1:], n), strict=True):
                count += here
                turns += ~here & after
            corner = ~(n & e & s) & ~(e & s & w) if first else ~(n & e & w) & ~(n & s & w)
            work = work & ~((count >= 2) & (count <= 6) & (turns == 1) & corner)
        ink[active] = work
        active = active[work.sum((1, 2)) < before]
    return ink


def class_of(characters: list[str], same: list[tuple[str, str]]) -> dict[str, int]:
    """Number the classes that follow from pairs of characters that are the same."""
    parent = {c: c for c in characters}

    def root(c: str) -> str:
        while parent[c] != c:
            c = parent[c]
        return c

    for one, other in same:
        parent[max(root(one), root(other))] = min(root(one), root(other))
    names = sorted({root(c) for c in characters})
    return {c: names.index(root(c)) for c in characters}


def draw_glyphs(fonts: tuple[str, ...] = FONTS) -> GlyphSet:
    """Draw every allowed character of the fonts once, cleanly.

    A character whose drawing covers a digit of the same font by ``DIGIT_OVERLAP`` or more, in any font,
    is left out in all of them, and with it the letter that it is a form of (bold, script, ...). Characters
    that look the same, and forms of one letter, share a class.
    """
    drawn: list[tuple[str, str, Masks]] = []
    dropped: set[str] = set()
    same: list[tuple[str, str]] = []
    for name in fonts:
        font = open_font(name)
        charmap = font.get_charmap()
        codes = [c for low, high in RANGES for c in range(low, high + 1) if c in charmap]
        pairs = [(chr(c), clean_drawing(font, chr(c))) for c in codes if allowed(chr(c), name)]
        found = [(character, mask) for character, mask in pairs if mask is not None]
        masks = np.stack([mask for _, mask in found])
        chars = [character for character, _ in found]
        if name not in ("cmmi10", "cmsy10"):  # they hold no plain digits
            for digit in DIGITS:
                clean = clean_drawing(font, digit)
                assert clean is not None
                dropped.update(chars[i] for i in np.flatnonzero(overlap(clean, masks) >= DIGIT_OVERLAP))
        if name == fonts[0]:
            for i in range(len(masks)):
                alike = np.flatnonzero(overlap(masks[i], masks[i + 1 :]) >= SAME_OVERLAP) + i + 1
                same += [(chars[i], chars[j]) for j in alike]
        drawn += [(character, name, mask) for character, mask in found]

    # A letter and its bold, script, ... forms are one class, and they go together.
    base = {c: unicodedata.normalize("NFKC", c) for c, _, _ in drawn}
    dropped |= {base[c] for c in dropped}
    kept = [(c, name, mask) for c, name, mask in drawn if c not in dropped and base[c] not in dropped]
    characters = sorted({c for c, _, _ in kept} | {base[c] for c, _, _ in kept})
    same = [(a, b) for a, b in same if a in characters and b in characters]
    labels = class_of(characters, same + [(c, base[c]) for c, _, _ in kept])
    masks = np.stack([mask for _, _, mask in kept])
    middle = thin(masks)
    inside = [ndimage.distance_transform_edt(m) - ndimage.distance_transform_edt(~m) for m in masks]
    pen = [ndimage.distance_transform_edt(~m) for m in middle]
    return GlyphSet(
        characters=tuple(c for c, _, _ in kept),
        fonts=tuple(name for _, name, _ in kept),
        labels=np.unique([labels[c] for c, _, _ in kept], return_inverse=True)[1].astype(np.int64),
        edge=np.asarray(inside, np.float16),
        pen=np.asarray(pen, np.float16),
    )


def enlarge_matrix(small: int, large: int) -> Floats:
    """Matrix (large, small) of bilinear enlargement, pixel centres at the halves (as Keras resizes)."""
    centre = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    weight = np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(small)))
    matrix: Floats = weight.astype(np.float32)
    return matrix


def smooth_matrix(small: int, large: int) -> Floats:
    """Matrix (large, small) of cubic B-spline weights: a smooth field from a few control points."""
    at = np.linspace(0, small - 1, large)[:, None] - np.arange(small)
    d = np.abs(at)
    weight = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.maximum(0, 2 - d) ** 3 / 6)
    matrix: Floats = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
    return matrix


def handwrite(glyphs: GlyphSet, which: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Make drawings look handwritten: warp them, draw them with a pen of random width, sample coarsely.

    Gives bright strokes on a dark ground, 0 to 255, one image for each place in `which`; the same state of
    `rng` gives the same images.
    """
    n = len(which)
    f = np.float32

    def uniform(low: float, high: float) -> Floats:
        return rng.uniform(low, high, (n, 1, 1)).astype(f)

    # Where in the clean drawing does each pixel of the image look?
    line = ((np.arange(SIDE) + 0.5) / SIDE - 0.5).astype(f)
    y0, x0 = line[None, :, None], line[None, None, :]
    turn = rng.normal(0, 0.15, (n, 1, 1)).astype(f)
    slant = rng.normal(0, 0.25, (n, 1, 1)).astype(f)
    zoom_y, zoom_x = uniform(0.9, 1.15) * FILL, uniform(0.9, 1.7) * FILL
    y1 = y0 * np.cos(turn) - x0 * np.sin(turn) + uniform(-0.07, 0.07)
    x1 = y0 * np.sin(turn) + x0 * np.cos(turn) + uniform(-0.07, 0.07) + slant * y1
    spread = smooth_matrix(5, SIDE)
    size = uniform(0.0, 5.0)
    wave = rng.normal(size=(2, n, 5, 5)).astype(f)
    middle = (MASTER - 1) / 2
    y = np.clip(y1 * zoom_y + size * (spread @ wave[0] @ spread.T) + middle, 0, MASTER - 1.001)
    x = np.clip(x1 * zoom_x + size * (spread @ wave[1] @ spread.T) + middle, 0, MASTER - 1.001)

    # Distance there, bilinear; then a pen: ink is what lies within its reach.
    pen = rng.random((n, 1, 1)) < 0.6
    iy, ix = y.astype(np.int32), x.astype(np.int32)
    fy, fx = y - iy, x - ix
    base = (np.arange(n) * MASTER * MASTER)[:, None, None] + iy * MASTER + ix
    reach = np.where(pen, uniform(1.6, 4.2), uniform(-0.5, 2.0))
    field = np.where(pen, -glyphs.pen[which], glyphs.edge[which]).astype(f).reshape(-1)
    upper = field[base] * (1 - fx) + field[base + 1] * fx
    lower = field[base + MASTER] * (1 - fx) + field[base + MASTER + 1] * fx
    depth = upper * (1 - fy) + lower * fy + reach
    ink = (depth > 0).astype(f)

    # Coarse sampling: black pixels are counted in blocks of 4x4, then the counts are enlarged.
    step = SIDE // GRID
    grid = ink.reshape(n, GRID, step, GRID, step).mean((2, 4))
    grid = np.clip(grid * uniform(0.85, 1.0) + rng.normal(0, 0.02, grid.shape).astype(f), 0, 1)
    enlarge = enlarge_matrix(GRID, SIDE)
    image = np.where(rng.random((n, 1, 1)) < COARSE, enlarge @ grid @ enlarge.T, np.clip(depth + 0.5, 0, 1))
    drawn: NDArray[np.uint8] = np.rint(image * 255).astype(np.uint8)
    return drawn
