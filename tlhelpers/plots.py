"""Pictures of data, models and results, each drawn on one matplotlib Axes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation
from scipy import ndimage

from . import _inputs
from ._errors import check_name

if TYPE_CHECKING:  # at run time a picture needs no scikit-learn
    from .evaluation import Evaluation

__all__ = [
    "NEUTRAL",
    "WRONG",
    "before_after",
    "confusion_matrix",
    "embedding",
    "heat_maps",
    "images",
    "learning_curves",
    "lines",
    "model_diagram",
    "reliability",
    "set_styles",
    "transfer_diagram",
]

# One meaning, one colour, in every picture; and a hatch, dash or marker, so that it can be read in grey.
_COLORS: list[str] = sns.color_palette("colorblind").as_hex()
_TRAINED, _FROZEN, WRONG, NEUTRAL = _COLORS[1], _COLORS[9], _COLORS[3], "#595959"

# The styles of lines. A style is a place in these three.
# The palette's brown is as light as its orange, so it is taken darker.
_LINE_COLORS = [*(_COLORS[i] for i in (0, 1, 2, 7, 4)), "#6f4518", _COLORS[9]]
_MARKERS = ["o", "s", "D", "v", "^", "P", "X"]
_DASHES: list[tuple[float, ...] | str] = ["", (4, 1.5), (1, 1), (5, 1, 1, 1), (3, 1, 1.5, 1), (2, 2), (6, 2)]
_kept_styles: dict[object, int] = {}

# At 5 inches, shown 390 pixels wide on a phone, 10 points are 10 pixels.
_WIDTH = 5.0
_TEXT = 11
_SMALL = 10

_Extent = tuple[float, float, float, float]
_Drawing = TypeVar("_Drawing", bound=Callable[..., Axes])

_ENDING = """\
ax : matplotlib.axes.Axes, optional
    Where to draw. Without it, a new figure is made.

Returns
-------
matplotlib.axes.Axes
    The Axes drawn on; scales, limits and labels can still be set.

Raises
------
LookupError, TypeError, ValueError
    If a name is not known, or something does not fit what is said above, or the rest.

Notes
-----
Explained in the {chapters}.

Examples
--------
>>> from tlhelpers import plots
"""


def _drawing(chapters: str) -> Callable[[_Drawing], _Drawing]:
    """Complete a drawing's docstring by what all of them share, for help(), the book's pages and doctest."""

    def complete(draw: _Drawing) -> _Drawing:
        text = inspect.cleandoc(draw.__doc__ or "")
        draw.__doc__ = text.replace("\nExamples\n--------\n", _ENDING.replace("{chapters}", chapters))
        return draw

    return complete


def set_styles(places: Mapping[str, int]) -> None:
    """Say which names keep one colour, marker and dash in all pictures to come, whatever stands beside them.

    Parameters
    ----------
    places : mapping of str to int
        For a name in a legend, one of the seven styles of lines, 0 to 6. A name that is not in it, or whose
        style is taken in the same picture, gets one that is left. Other numbers are a ValueError, and what
        is no mapping to numbers a TypeError.

    Notes
    -----
    Explained in the chapter "Measure the recipe".

    Examples
    --------
    >>> from tlhelpers import plots
    >>> plots.set_styles({"mine": 1})
    >>> table = pd.DataFrame({"images": [1, 2], "seconds": [3, 4], "way": "mine"})
    >>> plots.lines(table, x="images", y="seconds", hue="way").lines[0].get_marker()
    's'
    >>> plots.set_styles({})  # as it was
    """
    if not isinstance(places, Mapping):
        raise TypeError(
            f"places: expected a dictionary, got {type(places).__name__}. Name each line's style."
        )
    checked = {name: _inputs.whole("places", place, 0, len(_MARKERS) - 1) for name, place in places.items()}
    _kept_styles.clear()
    _kept_styles.update(checked)


@_drawing('chapter "Look at the mistakes"')
def images(
    images: npt.ArrayLike,
    *,
    captions: Sequence[str] | None = None,
    wrong: npt.ArrayLike | None = None,
    columns: int = 8,
    ax: Axes | None = None,
) -> Axes:
    """Show images side by side, with a caption under each.

    Parameters
    ----------
    images : array_like, shape (n, h, w), (n, h, w, 1) or (n, h, w, 3)
        Grey or colour images: whole numbers from 0 to 255 or floating-point numbers from 0 to 1.
    captions : sequence of str, length n, optional
        Text under each image; may have several lines. A line that is too wide makes all of them smaller.
    wrong : array_like of bool, shape (n,), optional
        Images to mark as mistakes: with a coloured frame and a cross.
    columns : int, optional
        Images in a row.

    Examples
    --------
    >>> [text.get_text() for text in plots.images(np.zeros((2, 8, 8)), captions=["0", "1"]).texts]
    ['0', '1']
    """
    pictures = _pictures(images, "images")
    n = len(pictures)
    columns = min(_inputs.whole("columns", columns, 1, advice="Leave it out to get 8."), n)
    texts = [] if captions is None else _inputs.names("captions", captions, n)
    marked = np.zeros(n, dtype=bool)
    if wrong is not None:
        expected, advice = f"{n} truth values", "Give predicted != labels for the same images."
        marked = _inputs.array("wrong", wrong, expected, advice, ndim=(1,), kinds="b", n=n)
    words = [f"✗ {text}" if bad else text for text, bad in zip(texts, marked, strict=False)]

    # One unit is the side of an image; a caption's height in units follows from the width of a column.
    pitch = 1.12
    width = columns * pitch
    inches = _inches(ax, min(_WIDTH, 1.5 * columns))
    size = _caption_size(words, bool(marked.any()), 72 * 0.92 * inches / columns)
    lines = max((text.count("\n") + 1 for text in words), default=0)
    drop = pitch + lines * 1.35 * size / 72 / (inches / width)
    height = -(-n // columns) * drop
    ax = _axes(ax, (inches, inches * height / width))
    for i, (picture, bad) in enumerate(zip(pictures, marked, strict=True)):
        x, y = (i % columns) * pitch, (i // columns) * drop
        _imshow(ax, picture, (x, x + 1, y + 1, y), wrong=bad)
        if words:
            ax.annotate(
                words[i], (x + 0.5, y + 1), xytext=(0, -3), textcoords="offset points", ha="center", va="top",
                fontsize=size, fontweight="bold" if bad else "normal",
            )  # fmt: skip
        elif bad:
            ax.text(
                x + 0.06, y + 0.06, "✗", ha="left", va="top", fontsize=_TEXT, color="white",
                bbox={"boxstyle": "square,pad=0.1", "facecolor": WRONG, "edgecolor": "none"},
            )  # fmt: skip
    _frame_images(ax, width, height)
    return ax


_show = images  # the name is taken where images are a parameter


@_drawing('chapter "Recognise flowers"')
def heat_maps(
    images: npt.ArrayLike,
    maps: npt.ArrayLike,
    *,
    captions: Sequence[str] | None = None,
    columns: int = 4,
    ax: Axes | None = None,
) -> Axes:
    """Show images lit where a map is high: bright there, dark elsewhere, with a line at half height.

    Parameters
    ----------
    images, captions, columns
        As in `tlhelpers.plots.images`.
    maps : array_like of float, shape (n, h, w)
        From 0 to 1, as `tlhelpers.explain.grad_cam` returns them.

    Examples
    --------
    >>> len(plots.heat_maps(np.ones((1, 8, 8)), np.eye(8)[np.newaxis]).images)
    1
    """
    pictures = _pictures(images, "images")
    expected = f"numbers of shape {pictures.shape[:3]}, like the images, from 0 to 1"
    advice = "Give what grad_cam returned for the same images."
    heat = _inputs.array("maps", maps, expected, advice, ndim=(3,), low=0, high=1)
    if heat.shape != pictures.shape[:3]:
        raise ValueError(f"maps: expected {expected}, got {heat.shape}. {advice}")
    if pictures.ndim == 3:
        pictures = np.repeat(pictures[..., np.newaxis], 3, axis=3)
    lit = pictures * (0.4 + 0.6 * heat[..., np.newaxis])
    # A white line inside and a black one outside show on any ground.
    inside = heat >= 0.5
    beside = ndimage.generate_binary_structure(2, 1)[np.newaxis]
    lit[inside & ndimage.binary_dilation(~inside, beside)] = 1.0
    lit[~inside & ndimage.binary_dilation(inside, beside)] = 0.0
    return _show(lit, captions=captions, columns=columns, ax=ax)


@_drawing('chapter "Prepare the data"')
def before_after(before: npt.ArrayLike, after: npt.ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Show raw images over the same images prepared for the backbone, with size and range.

    Both rows have one scale, so that the larger size shows. Each is shaded from its own lowest value to its
    own highest one.

    Parameters
    ----------
    before, after : array_like, shape (n, h, w), (n, h, w, 1) or (n, h, w, 3)
        The same n images in the same order, before and after preparation; any size, dtype and finite range.

    Examples
    --------
    >>> raw, prepared = np.zeros((4, 28, 28), dtype="uint8"), np.ones((4, 32, 32, 3))
    >>> print(plots.before_after(raw, prepared).texts[0].get_text())
    Before: 28 x 28 x 1, uint8, 0 to 0
    """
    upper, lower = _pictures(before, "before", rescale=True), _pictures(after, "after", rescale=True)
    first, second = np.asarray(before), np.asarray(after)
    n = len(upper)
    if n != len(lower):
        raise ValueError(f"after: expected {n} images as before, got {len(lower)}. Prepare what is shown.")
    # One unit is a pixel; both rows share columns as wide as the larger images.
    side = max(upper.shape[2], lower.shape[2])
    pitch = 1.08 * side
    width = max(n, 4) * pitch  # room for the words, also over a single image
    inches = _inches(ax, _WIDTH)
    label = 2.2 * _TEXT / 72 / (inches / width)
    height = 2 * label + upper.shape[1] + lower.shape[1] + 0.16 * side
    ax = _axes(ax, (inches, inches * height / width))
    y = label
    for word, raw, pictures in (("Before", first, upper), ("After", second, lower)):
        h, w = pictures.shape[1:3]
        digits = "d" if np.issubdtype(raw.dtype, np.integer) else ".2f"
        span = f"{raw.dtype}, {raw.min():{digits}} to {raw.max():{digits}}"
        words = f"{word}: {h} x {w} x {raw.shape[3] if raw.ndim == 4 else 1}, {span}"
        ax.text(0, y - 0.2 * label, words, ha="left", va="bottom", fontsize=_TEXT)
        for i, picture in enumerate(pictures):
            x = i * pitch + (side - w) / 2
            _imshow(ax, picture, (x, x + w, y + h, y))
        y += h + 0.08 * side + label
    _frame_images(ax, width, height)
    return ax


@_drawing('chapter "Build the model"')
def model_diagram(parts: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw a model as a stack of boxes, from input to output, and say which of them are trained.

    A box is as long as the logarithm of the part's number of parameters; the exact number stands beside it.

    Parameters
    ----------
    parts : pandas.DataFrame
        A row for each part, in the order of the data's way, as `tlhelpers.freezing.parts` makes it: columns
        part (name), layers (number of layers), parameters (number), trainable (how many of them are trained).

    Examples
    --------
    >>> rows = [("backbone", 154, 2257984, 0), ("head", 1, 12810, 12810)]
    >>> table = pd.DataFrame(rows, columns=["part", "layers", "parameters", "trainable"])
    >>> [text.get_text() for text in plots.model_diagram(table).texts if text.get_text()]
    ['❄ 2,257,984 frozen', '12,810 trained']
    """
    _require_columns(parts, ["part", "layers", "parameters", "trainable"], "parts")
    total, trained = (
        _inputs.array(f"parts[{name!r}]", parts[name], "whole numbers", "", ndim=(1,), kinds="iu")
        for name in ("parameters", "trainable")
    )
    wrong = parts[(trained > total) | (trained < 0)]
    if len(wrong):
        row = wrong.iloc[0]
        raise ValueError(
            f"parts: expected at most as many trained parameters as there are, got {row['trainable']} of "
            f"{row['parameters']} in {row['part']!r}. Give the number of them, not yes or no."
        )
    n = len(parts)
    ax = _axes(ax, (_WIDTH, 1.0 + 0.2 * n))
    longest = np.log10(max(int(total.max()), 10))
    for y, (have, learn) in enumerate(zip(total.tolist(), trained.tolist(), strict=True)):
        length = 0.38 * np.log10(have + 1) / longest if have else 0.03
        style, words = _part_style(have, learn)
        ax.barh(y, length, height=0.62, edgecolor="black", linewidth=0.8, **style)
        ax.text(length + 0.02, y, words, ha="left", va="center", fontsize=_SMALL)
        if y + 1 < n:  # the data's way, drawn beside the boxes so that it crosses no text
            arrow = {"arrowstyle": "-|>", "color": "black"}
            ax.annotate("", (0.015, y + 0.69), (0.015, y + 0.31), arrowprops=arrow)
    pairs = zip(parts["part"], parts["layers"], strict=True)
    names = [str(part) if layers == 1 else f"{part} ({layers} layers)" for part, layers in pairs]
    ax.set_yticks(range(n), names, fontsize=_SMALL)
    ax.tick_params(length=0)
    ax.grid(visible=False)  # a theme's lines would strike the words out
    ax.set(xticks=[], xlim=(0, 1.05), ylim=(n - 0.4, -0.6))
    ax.spines[:].set_visible(False)
    ax.set_title(f"{trained.sum():,} of {total.sum():,} parameters trained", fontsize=_TEXT)
    ax.set_xlabel("box length: logarithm of parameters", fontsize=_SMALL)
    return ax


@_drawing('chapters "Train the head" and "Fine-tune the top"')
def learning_curves(
    table: pd.DataFrame,
    *,
    metric: str = "accuracy",
    others: Mapping[str, pd.DataFrame] | None = None,
    unfrozen_after: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a metric by epoch, in training and validation, over all phases.

    Parameters
    ----------
    table : pandas.DataFrame
        A row for each epoch, as `tlhelpers.evaluation.history_table` makes it (join phases with
        `pandas.concat`): columns epoch, the metric, and the metric with ``val_`` before it.
    metric : str, optional
        Column to draw: ``"accuracy"`` (a share) or ``"loss"`` (nats).
    others : mapping of str to pandas.DataFrame, optional
        Points of other runs to compare with, by their names: column epoch, and the metric's two columns or
        one of them. NaN is left out.
    unfrozen_after : int, optional
        Mark the unfreezing of layers after this epoch.

    Examples
    --------
    >>> table = pd.DataFrame({"epoch": [1, 2], "accuracy": [0.4, 0.6], "val_accuracy": [0.5, 0.6]})
    >>> [line.get_label() for line in plots.learning_curves(table).lines]
    ['training', 'validation']
    """
    _require_columns(table, ["epoch"], "table")
    validation = f"val_{metric}"
    metrics = [name for name in map(str, table.columns) if f"val_{name}" in table]
    check_name("metric", metric, metrics)
    others = others or {}
    for name, points in others.items():
        _require_columns(points, ["epoch"], f"others[{name!r}]")
        if not {metric, validation} & set(points.columns):
            raise ValueError(
                f"others[{name!r}]: expected a column {metric} or {validation}, got "
                f"{', '.join(map(str, points.columns))}. Leave it out if nothing is known."
            )
    ax = _axes(ax, (_WIDTH, 3.6))
    own, epochs = _LINE_COLORS[0], table["epoch"]
    ax.plot(epochs, table[metric], "--", marker="s", markersize=4, color=own, label="training")
    ax.plot(epochs, table[validation], "-", marker="o", markersize=5, color=own, label="validation")
    for place, (name, points) in zip(_line_places(list(others), taken=(0, 1)), others.items(), strict=True):
        color = _LINE_COLORS[place]
        # Hollow for training and filled for validation, on top of the curves that they are compared with.
        for column, part, face, edge, width in (
            (metric, "training", "white", color, 1.8),
            (validation, "validation", color, "black", 0.8),
        ):
            known = points.reindex(columns=["epoch", column]).dropna(subset=[column])
            if len(known):
                ax.plot(
                    known["epoch"], known[column], linestyle="none", marker=_MARKERS[place], markersize=7,
                    markerfacecolor=face, markeredgecolor=edge, markeredgewidth=width, zorder=3,
                    label=f"{name}, {part}",
                )  # fmt: skip
    if unfrozen_after is not None:
        ax.axvline(unfrozen_after + 0.5, color=_TRAINED, linestyle="-.", linewidth=2, zorder=1)
        ax.annotate(
            "layers unfrozen", (unfrozen_after + 0.5, 1), xycoords=("data", "axes fraction"),
            xytext=(0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=_SMALL,
        )  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", alpha=0.3)
    _finish(ax, "epoch", "loss (nats)" if metric == "loss" else metric, legend=True)
    return ax


@_drawing('chapter "Go beyond the article"')
def lines(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    hue: str,
    units: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one column against another, a line for each group, with seaborn's `lineplot`.

    Points of one group with the same x are drawn as their mean, with a bar from least to most.

    Parameters
    ----------
    table : pandas.DataFrame
        A row for each point.
    x, y : str
        Columns of the axes. Texts on x stand in the order of the table.
    hue : str
        Column that names the group; each has a colour, marker and dash of its own, see `set_styles`.
    units : str, optional
        Column that tells repeated runs (seeds) apart: each is then a line of its own, and no means are taken.

    Examples
    --------
    >>> table = pd.DataFrame({"images": [1, 2, 1, 2], "s": [1, 2, 5, 9], "side": ["a", "a", "b", "b"]})
    >>> ax = plots.lines(table, x="images", y="s", hue="side")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['a', 'b']
    """
    _require_columns(table, [x, y, hue, *([units] if units else [])], "table")
    groups = list(dict.fromkeys(table[hue]))
    looks = [(_LINE_COLORS[place], _MARKERS[place], _DASHES[place]) for place in _line_places(groups)]
    colors, markers, dashes = map(list, zip(*looks, strict=True))
    summary = {"estimator": "mean", "errorbar": _least_to_most, "err_style": "bars"}
    ax = _axes(ax, (_WIDTH, 3.6))
    sns.lineplot(
        table, x=x, y=y, hue=hue, hue_order=groups, palette=colors,
        style=hue, style_order=groups, markers=markers, dashes=dashes,
        units=units, ax=ax, **(summary if units is None else {"estimator": None}),
    )  # fmt: skip
    _finish(ax, x, y, legend=True)
    return ax


@_drawing('chapter "See how it works"')
def embedding(
    points: npt.ArrayLike, labels: npt.ArrayLike, class_names: Sequence[str], *, ax: Axes | None = None
) -> Axes:
    """Draw images as points in the plane, each point written as the name of its class.

    Up to ten classes also have a colour each.

    Parameters
    ----------
    points : array_like of float, shape (n, 2)
        Where each image lies, as PCA or t-SNE gives it. The axes have no unit and are left blank.
    labels : array_like of int, shape (n,)
        Positions in `class_names`.
    class_names : sequence of str
        Short names, best of one letter or digit.

    Examples
    --------
    >>> [text.get_text() for text in plots.embedding([[0, 0], [1, 2]], [1, 0], ["a", "b"]).texts]
    ['b', 'a']
    """
    names = _inputs.names("class_names", class_names)
    k, large, expected = len(names), _inputs.LARGE, "finite numbers of shape (n, 2) with n of 1 or more"
    advice = "Bring the features down to two numbers an image first, for example with scikit-learn's PCA."
    places = _inputs.array("points", points, expected, advice, ndim=(2,), low=-large, high=large)
    if places.shape[1] != 2:
        raise ValueError(f"points: expected {expected}, got {places.shape}. {advice}")
    classes = _inputs.labels("labels", labels, len(places), k)
    ax = _axes(ax, (_WIDTH, 4.2))
    # Dark enough for text on white: bright colours of the palette are mixed with black.
    colours = [sns.blend_palette([color, "black"], 4).as_hex()[1] for color in _COLORS[:k]]
    for (x, y), label in zip(places.tolist(), classes.tolist(), strict=True):
        colour = colours[label] if k <= len(colours) else NEUTRAL
        ax.text(x, y, names[label], color=colour, ha="center", va="center", fontsize=_SMALL)
    ax.scatter(places[:, 0], places[:, 1], s=0)  # text alone would not set the limits
    ax.margins(0.05)
    ax.set(xticks=[], yticks=[])
    return ax


@_drawing('chapter "Recognise flowers"')
def transfer_diagram(
    source: tuple[str, str], target: tuple[str, str], *, carried: str, new: str, ax: Axes | None = None
) -> Axes:
    """Draw what is transferred from where to where: the source above, the target below, an arrow between.

    Parameters
    ----------
    source, target : tuple of two str
        The data, and the task, of either side.
    carried : str
        What is taken over; stands beside the arrow.
    new : str
        What the target adds and trains.

    Examples
    --------
    >>> sides = ("photos", "which of a thousand things?"), ("X-rays", "pneumonia or not?")
    >>> ax = plots.transfer_diagram(*sides, carried="weights, up to a cut", new="a head")
    >>> [text.get_text().splitlines()[0] for text in ax.texts if text.get_text()]
    ['source: photos', 'target: X-rays', 'carried over: weights, up to a cut']
    """
    ax = _axes(ax, (_WIDTH, 2.6))
    box = {"boxstyle": "round,pad=0.5", "edgecolor": "black", "linewidth": 0.8}
    above = f"source: {source[0]}\n{source[1]}"
    below = f"target: {target[0]}\n{target[1]}\nnew here: {new}"
    for y, words, color in ((0.86, above, "#cfe3f2"), (0.16, below, "#fbe3bd")):
        ax.text(0.5, y, words, ha="center", va="center", fontsize=_SMALL, bbox={**box, "facecolor": color})
    ax.text(0.53, 0.56, f"carried over: {carried}", ha="left", va="center", fontsize=_SMALL)
    arrow = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.5}
    ax.annotate("", (0.5, 0.4), (0.5, 0.7), arrowprops=arrow)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.axis("off")
    return ax


@_drawing('chapter "Read the confusion matrix"')
def confusion_matrix(confusion: pd.DataFrame, *, normalize: bool = False, ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix, shaded by logarithm so that rare mistakes show.

    Zeros are left blank. Above 20 classes the numbers are left out and a colour bar is added.

    Parameters
    ----------
    confusion : pandas.DataFrame, shape (k, k)
        Counts: a row for each true class, a column for each predicted class, as in `Evaluation.confusion`.
    normalize : bool, optional
        Show percentages of each row (of the images of a true class) instead of counts.

    Examples
    --------
    >>> counts = pd.DataFrame([[3, 1], [0, 4]], index=["cat", "dog"], columns=["cat", "dog"])
    >>> [text.get_text() for text in plots.confusion_matrix(counts, normalize=True).texts]
    ['75.0', '25.0', '', '100']
    """
    _require_columns(confusion, [], "confusion")
    expected, advice = "a square table of counts of 0 or more", "Give the .confusion of an Evaluation."
    counts = _inputs.array("confusion", confusion, expected, advice, ndim=(2,), low=0, high=2**62).astype(
        float
    )
    k = len(counts)
    if counts.shape != (k, k):
        raise ValueError(f"confusion: expected {expected}, got {counts.shape}. {advice}")
    if normalize:  # a class without images stays blank
        counts = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    written = k <= 20
    side = max(_WIDTH, 0.45 * k) if written else 7.0
    # Numbers make the colour bar needless, and its width is needed on a phone.
    ax = _axes(ax, (side, side * (0.95 if written else 0.85)))
    sns.heatmap(
        pd.DataFrame(counts, index=confusion.index, columns=confusion.columns),
        # log(1 + x): one mistake in a thousand images is seen, and zero has a colour.
        norm=FuncNorm((np.log1p, np.expm1), vmin=0, vmax=max(counts.max(), 1.0)),
        cmap=sns.light_palette(_COLORS[0], as_cmap=True), cbar=not written, square=True, ax=ax,
        annot=[[_cell(value, percent=normalize) for value in row] for row in counts] if written else False,
        annot_kws={"fontsize": _SMALL}, fmt="", linewidths=0.5 if written else 0, linecolor="#d9d9d9",
    )  # fmt: skip
    for text, value in zip(ax.texts[-(k * k) :] if written else [], counts.flat, strict=False):
        # Black or white, whichever stands out more: they are equal at a luminance of 0.18.
        shade = ax.collections[-1].to_rgba(value)
        text.set_color("black" if sns.utils.relative_luminance(shade) > 0.18 else "white")
    longest = max(len(str(name)) for name in confusion.columns)
    ax.tick_params(axis="x", length=0, labelrotation=90 if longest > 3 else 0)
    ax.tick_params(axis="y", length=0, labelrotation=0)
    _finish(ax, "predicted", "true", title="Percent of each true class" if normalize else "Number of images")
    return ax


@_drawing('chapter "Evaluate on the test set"')
def reliability(evaluation: Evaluation, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against confidence: a calibrated model lies on the diagonal.

    Bars say which share of the images lies in each bin of confidence, on the same axis from 0 to 1. As in Guo
    et al., "On calibration of modern neural networks", ICML 2017.

    Parameters
    ----------
    evaluation : Evaluation
        What `tlhelpers.evaluation.evaluate` returned.

    Examples
    --------
    >>> from tlhelpers import evaluation
    >>> result = evaluation.evaluate([0, 1], [[0.9, 0.1], [0.4, 0.6]], ["cat", "dog"])
    >>> plots.reliability(result).get_title()
    'Calibration error 0.250 (2 images)'
    """
    table = evaluation.reliability
    filled = table[table["count"] > 0]
    ax = _axes(ax, (_WIDTH, 4.4))
    ax.bar(
        table["low"], table["count"] / evaluation.n, width=table["high"] - table["low"], align="edge",
        color="#e0e0e0", edgecolor="#8c8c8c", label="share of images",
    )  # fmt: skip
    ax.plot([0, 1], [0, 1], ":", color=NEUTRAL, linewidth=1.5, label="perfect calibration")
    ax.plot(filled["confidence"], filled["accuracy"], "-o", color=_COLORS[0], markersize=6, label="accuracy")
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    title = f"Calibration error {evaluation.calibration_error:.3f} ({evaluation.n:,} images)"
    _finish(ax, "confidence of the prediction", "accuracy, share of images", title=title, legend=True)
    return ax


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the Axes given, or those of a new figure of this size in inches."""
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def _inches(ax: Axes | None, new: float) -> float:
    """Return how wide the Axes given are, or new ones will be."""
    return new if ax is None else ax.get_window_extent().width / ax.figure.dpi


def _finish(ax: Axes, x: str, y: str, *, title: str = "", legend: bool = False) -> None:
    """Write what stands around a chart, in letters of the same sizes in all of them."""
    ax.set_xlabel(x, fontsize=_TEXT)
    ax.set_ylabel(y, fontsize=_TEXT)
    ax.tick_params(labelsize=_SMALL)
    if title:
        ax.set_title(title, fontsize=_TEXT)
    if legend:  # under the label, however high the axes are, where no line can run behind it
        below: Any = ax.transAxes + ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)  # in inches
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            bbox_transform=below,
            ncols=2,
            frameon=False,
            fontsize=_SMALL,
        )


def _line_places(names: list[Any], taken: Collection[int] = ()) -> list[int]:
    """Return each name's place among colours, markers and dashes: its own, else one that is left."""
    left = [place for place in range(len(_MARKERS)) if place not in taken]
    room = len(left)
    if len(names) > room:
        raise ValueError(f"names: expected at most {room}, got {len(names)}: {names}. Draw fewer at once.")
    own: dict[Any, int] = {}
    for name in names:
        if _kept_styles.get(name) in left:
            own[name] = _kept_styles[name]
            left.remove(own[name])
    return [own[name] if name in own else left.pop(0) for name in names]


def _least_to_most(values: pd.Series[float]) -> tuple[float, float]:
    """Ends of a bar; the mean of equal values may lie a rounding error outside of them."""
    return min(values.min(), values.mean()), max(values.max(), values.mean())


def _imshow(ax: Axes, picture: npt.NDArray[Any], extent: _Extent, *, wrong: bool = False) -> None:
    """Draw one image in a frame."""
    # The pixels of a small one stay as they are, sharp at any size and few to store.
    interpolation = "none" if max(picture.shape[:2]) <= 64 else "antialiased"
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation=interpolation)
    x, right, bottom, y = extent
    color, linewidth = (WRONG, 3.0) if wrong else (NEUTRAL, 0.5)
    ax.add_patch(Rectangle((x, y), right - x, bottom - y, fill=False, edgecolor=color, linewidth=linewidth))


def _caption_size(captions: Sequence[str], bold: bool, room: float) -> float:
    """Return the size in points at which no line is wider than its column of so many points."""
    font = FontProperties(weight="bold" if bold else "normal")
    lines = [line for caption in captions for line in caption.splitlines() if line.strip()]
    widest = max((TextPath((0, 0), line, size=1, prop=font).get_extents().width for line in lines), default=0)
    # Older Matplotlib moves letters to whole pixels, which makes a line up to a point wider.
    return min(_SMALL, (room - 4) / widest) if widest else _SMALL


def _frame_images(ax: Axes, width: float, height: float) -> None:
    """Show all images of a montage, right way up, without the frame of a chart."""
    ax.set(xlim=(-0.02 * width, width), ylim=(height, -0.02 * height), aspect="equal")
    ax.set_axis_off()


def _pictures(images: npt.ArrayLike, name: str, *, rescale: bool = False) -> npt.NDArray[Any]:
    """Return images ready for ``imshow``: (n, h, w) or (n, h, w, 3), from 0 to 1."""
    expected = "shape (n, h, w), (n, h, w, 1) or (n, h, w, 3) with n of 1 or more"
    advice, large = f"For a single image, give {name}[:1].", _inputs.LARGE
    pictures = _inputs.array(name, images, expected, advice, ndim=(3, 4))
    if pictures.ndim == 4 and pictures.shape[3] == 1:
        pictures = pictures[..., 0]
    if pictures.shape[3:] not in ((), (3,)):
        raise ValueError(f"{name}: expected {expected}, got {pictures.shape}. {advice}")
    top = 255 if np.issubdtype(pictures.dtype, np.integer) else 1
    low, high = float(pictures.min()), float(pictures.max())
    if rescale and -large <= low <= high <= large:
        return (pictures.astype(float) - low) / (high - low or 1.0)
    if rescale or not (low >= 0 and high <= top):
        wanted = "finite numbers" if rescale else "whole numbers from 0 to 255 or floats from 0 to 1"
        raise ValueError(
            f"{name}: expected {wanted}, got {pictures.dtype} from {low} to {high}. Rescale them first."
        )
    return pictures / top


def _require_columns(table: pd.DataFrame, columns: list[str], name: str) -> None:
    """Refuse what is no table, or one that is empty or lacks a column."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"{name}: expected a pandas.DataFrame, got {type(table).__name__}. Make one of it.")
    if table.empty or not set(columns) <= set(table.columns):
        raise ValueError(
            f"{name}: expected the columns {', '.join(columns)} and at least one row, got the columns "
            f"{', '.join(map(str, table.columns)) or 'none'} and {len(table)} rows. Add what is missing."
        )


def _part_style(have: int, learn: int) -> tuple[dict[str, Any], str]:
    """Return how a part of a model is drawn and described: frozen, trained, both or neither."""
    if have == 0:
        return {"color": "#e0e0e0"}, "no parameters"
    if learn == 0:
        return {"color": _FROZEN, "hatch": "////"}, f"❄ {have:,} frozen"
    if learn == have:
        return {"color": _TRAINED}, f"{have:,} trained"
    return {"color": _TRAINED, "hatch": "...."}, f"{learn:,} of {have:,} trained"


def _cell(value: float, *, percent: bool) -> str:
    """Write a count or a percentage in at most four characters; nothing for zero."""
    return "" if value == 0 else f"{value:.1f}" if percent and value < 100 else f"{value:.0f}"
