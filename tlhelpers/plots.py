"""Pictures of data, models and results, each drawn on one matplotlib Axes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:  # at run time a picture needs no scikit-learn
    from tlhelpers.evaluation import Evaluation

__all__ = [
    "ARTICLE",
    "FROZEN",
    "NEUTRAL",
    "OURS",
    "SCRATCH",
    "TRAINED",
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
    "transfer_diagram",
]

# One meaning, one colour, in every figure. Each also has a hatch, line style or marker of its own, so that
# the figures can be read in grey.
_COLORBLIND: list[str] = sns.color_palette("colorblind").as_hex()
OURS = _COLORBLIND[0]
TRAINED = _COLORBLIND[1]
ARTICLE = _COLORBLIND[2]
WRONG = _COLORBLIND[3]
SCRATCH = _COLORBLIND[4]
FROZEN = _COLORBLIND[9]
NEUTRAL = "#595959"

# What many chapters compare keeps its colour, marker and dash in each of them; what only one compares gets
# those that are left.
_PLACES: dict[object, int] = {
    "frozen": 0,
    "fine-tuned": 1,
    "raw pixels": 3,
    "pixels": 3,
    "from scratch": 4,
    "network from scratch": 4,
    "small network, from scratch": 4,
}
_LINE_COLORS = [OURS, TRAINED, ARTICLE, _COLORBLIND[7], SCRATCH, _COLORBLIND[5]]
_MARKERS = ["o", "s", "D", "v", "^", "P"]
_DASHES: list[tuple[float, ...] | str] = ["", (4, 1.5), (1, 1), (5, 1, 1, 1), (3, 1, 1.5, 1), (2, 2)]

# At 5 inches, shown 390 pixels wide on a phone, 10 points are 10 pixels.
_WIDTH = 5.0
_TEXT = 11
_SMALL = 10

_TRAINED_HATCH = ""
_FROZEN_HATCH = "////"
_PART_HATCH = "...."


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
        Text under each image; may have several lines. Keep a line to about six characters in eight columns.
    wrong : array_like of bool, shape (n,), optional
        Images to mark as mistakes: with a coloured frame and a cross.
    columns : int, optional
        Images in a row.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Without it, a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    ValueError
        If shape or range is none of the above, there is no image, or the lengths differ.

    Notes
    -----
    Explained in the chapter "Look at the mistakes".

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from tlhelpers import plots
    >>> ax = plots.images(np.zeros((2, 8, 8)), captions=["0", "1"], ax=Figure().subplots())
    >>> [text.get_text() for text in ax.texts]
    ['0', '1']
    """
    pictures = _pictures(images, "images")
    n = len(pictures)
    if columns < 1:
        raise ValueError(f"Expected at least 1 column, got columns={columns}. Leave it out to get 8.")
    if captions is not None and len(captions) != n:
        raise ValueError(
            f"Expected a caption for each of {n} images, got {len(captions)}. Give one for each."
        )
    marked = np.zeros(n, dtype=bool) if wrong is None else np.asarray(wrong)
    if marked.dtype != bool or marked.shape != (n,):
        raise ValueError(
            f"Expected wrong as {n} truth values, one for each image, got shape {marked.shape} of "
            f"{marked.dtype}. Give predicted != labels for the same images."
        )
    columns = min(columns, n)
    rows = -(-n // columns)
    lines = 0 if captions is None else max(caption.count("\n") + 1 for caption in captions)

    # One unit is the side of an image; a caption's height in units follows from the width of a column.
    inches = min(_WIDTH, 1.5 * columns) if ax is None else ax.get_window_extent().width / ax.figure.dpi
    pitch = 1.12
    words = [f"✗ {text}" if bad else text for text, bad in zip(captions or [], marked.tolist(), strict=False)]
    size = _caption_size(words, bool(marked.any()), 72 * 0.92 * inches / columns)
    line = 1.35 * size / 72 / (inches / (columns * pitch))
    drop = pitch + lines * line
    ax = _axes(ax, (inches, inches * rows * drop / (columns * pitch)))
    for i, picture in enumerate(pictures):
        x, y = (i % columns) * pitch, (i // columns) * drop
        _imshow(ax, picture, (x, x + 1, y + 1, y))
        colour, width = (WRONG, 3.0) if marked[i] else (NEUTRAL, 0.5)
        ax.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=colour, linewidth=width))
        if captions is not None:
            ax.annotate(
                words[i],
                (x + 0.5, y + 1),
                xytext=(0, -3),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=size,
                fontweight="bold" if marked[i] else "normal",
            )
        elif marked[i]:
            ax.text(
                x + 0.06, y + 0.06, "✗", ha="left", va="top", fontsize=_TEXT, color="white",
                bbox={"boxstyle": "square,pad=0.1", "facecolor": WRONG, "edgecolor": "none"},
            )  # fmt: skip
    _frame_images(ax, columns * pitch, rows * drop)
    return ax


def heat_maps(
    images: npt.ArrayLike,
    maps: npt.ArrayLike,
    *,
    captions: Sequence[str] | None = None,
    wrong: npt.ArrayLike | None = None,
    columns: int = 4,
    ax: Axes | None = None,
) -> Axes:
    """Show images lit where a map is high: bright there, dark elsewhere, with a line at half height.

    Light and dark need no colour, so the picture keeps its own, and can be read in grey.

    Parameters
    ----------
    images : array_like, shape (n, h, w), (n, h, w, 1) or (n, h, w, 3)
        As for `images`.
    maps : array_like of float, shape (n, h, w)
        From 0 to 1, as `tlhelpers.evaluation.grad_cam` returns them.
    captions, wrong, columns, ax
        As for `images`.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    ValueError
        If the maps do not fit the images or leave 0 to 1; and as for `images`.

    Notes
    -----
    Explained in the chapter "Recognise flowers".

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from tlhelpers import plots
    >>> ax = plots.heat_maps(np.ones((1, 8, 8)), np.eye(8)[np.newaxis], ax=Figure().subplots())
    >>> len(ax.images)
    1
    """
    pictures = _pictures(images, "images")
    heat = np.asarray(maps, dtype=float)
    if heat.shape != pictures.shape[:3] or not (heat.min() >= 0 and heat.max() <= 1):
        raise ValueError(
            f"Expected maps of shape {pictures.shape[:3]}, like the images, from 0 to 1, got {heat.shape} "
            f"from {heat.min()} to {heat.max()}. Give what grad_cam returned for the same images."
        )
    if pictures.ndim == 3:
        pictures = np.repeat(pictures[..., np.newaxis], 3, axis=3)
    lit = pictures * (0.4 + 0.6 * heat[..., np.newaxis])
    # A white line inside and a black one outside show on any ground.
    inside = heat >= 0.5
    lit[inside & _touches(~inside)] = 1.0
    lit[~inside & _touches(inside)] = 0.0
    return _show(lit, captions=captions, wrong=wrong, columns=columns, ax=ax)


_show = images  # the name is taken where images are a parameter


def _touches(area: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Cells that have a neighbour above, below or beside them in the area, shape (n, h, w)."""
    found = np.zeros_like(area)
    found[:, 1:] |= area[:, :-1]
    found[:, :-1] |= area[:, 1:]
    found[:, :, 1:] |= area[:, :, :-1]
    found[:, :, :-1] |= area[:, :, 1:]
    return found


def before_after(before: npt.ArrayLike, after: npt.ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Show raw images over the same images prepared for the backbone, with size and range.

    Both rows are drawn at the same scale, so that the larger size shows. Each row is
    shaded from its own lowest value to its own highest one, whatever they are.

    Parameters
    ----------
    before, after : array_like, shape (n, h, w), (n, h, w, 1) or (n, h, w, 3)
        The same n images in the same order, before and after preparation; any size, dtype and finite range.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Without it, a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    ValueError
        If a shape is none of the above, there is no image, or the two have different lengths.

    Notes
    -----
    Explained in the chapter "Prepare the data".

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from tlhelpers import plots
    >>> raw, prepared = np.zeros((4, 28, 28), dtype="uint8"), np.ones((4, 32, 32, 3))
    >>> ax = plots.before_after(raw, prepared, ax=Figure().subplots())
    >>> print(ax.texts[0].get_text())
    Before: 28 x 28 x 1, uint8, 0 to 0
    """
    first, second = np.asarray(before), np.asarray(after)
    upper, lower = _pictures(first, "before", rescale=True), _pictures(second, "after", rescale=True)
    n = len(upper)
    if n != len(lower):
        raise ValueError(
            f"Expected the same images before and after, got {n} and {len(lower)}. Prepare what is shown."
        )
    # One unit is a pixel; both rows share columns as wide as the larger images.
    side = max(upper.shape[2], lower.shape[2])
    pitch = 1.08 * side
    width = max(n, 4) * pitch  # room for the words, also over a single image
    inches = _WIDTH if ax is None else ax.get_window_extent().width / ax.figure.dpi
    label = 2.2 * _TEXT / 72 / (inches / width)
    height = 2 * label + upper.shape[1] + lower.shape[1] + 0.16 * side
    ax = _axes(ax, (inches, inches * height / width))
    y = label
    for word, raw, pictures in (("Before", first, upper), ("After", second, lower)):
        h, w = pictures.shape[1:3]
        ax.text(0, y - 0.2 * label, f"{word}: {_described(raw)}", ha="left", va="bottom", fontsize=_TEXT)
        for i, picture in enumerate(pictures):
            x = i * pitch + (side - w) / 2
            _imshow(ax, picture, (x, x + w, y + h, y))
            ax.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=NEUTRAL, linewidth=0.5))
        y += h + 0.08 * side + label
    _frame_images(ax, width, height)
    return ax


def model_diagram(parts: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw a model as a stack of boxes, from input to output, and say which of them are trained.

    A box is as long as the logarithm of the part's number of parameters; the exact number stands beside it.

    Parameters
    ----------
    parts : pandas.DataFrame
        A row for each part, in the order of the data's way, as `tlhelpers.freezing.parts` makes it: columns
        part (name), layers (number of layers), parameters (number), trainable (how many of them are trained).
    ax : matplotlib.axes.Axes, optional
        Where to draw. Without it, a new figure is made, the taller the more parts there are.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    ValueError
        If a column is missing, there is no part, or more parameters are trained than there are.

    Notes
    -----
    Explained in the chapter "Build the model".

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> from tlhelpers import plots
    >>> table = pd.DataFrame(
    ...     {
    ...         "part": ["backbone", "head"],
    ...         "layers": [154, 1],
    ...         "parameters": [2257984, 12810],
    ...         "trainable": [0, 12810],
    ...     }
    ... )
    >>> ax = plots.model_diagram(table, ax=Figure().subplots())
    >>> [text.get_text() for text in ax.texts if text.get_text()]
    ['❄ 2,257,984 frozen', '12,810 trained']
    """
    _require_columns(parts, ["part", "layers", "parameters", "trainable"], "parts")
    total, trained = parts["parameters"].to_numpy(np.int64), parts["trainable"].to_numpy(np.int64)
    if (trained > total).any() or (trained < 0).any():
        row = parts.iloc[int(np.flatnonzero((trained > total) | (trained < 0))[0])]
        raise ValueError(
            f"Expected at most as many trained parameters as there are, got {row['trainable']} of "
            f"{row['parameters']} in part {row['part']!r}. Give the number of them, not yes or no."
        )
    n = len(parts)
    ax = _axes(ax, (_WIDTH, 1.1 + 0.31 * n))
    longest = np.log10(max(int(total.max()), 10))
    for y, (have, learn) in enumerate(zip(total.tolist(), trained.tolist(), strict=True)):
        length = 0.38 * np.log10(have + 1) / longest if have else 0.03
        style, words = _part_style(have, learn)
        ax.barh(y, length, height=0.62, edgecolor="black", linewidth=0.8, **style)
        ax.text(length + 0.02, y, words, ha="left", va="center", fontsize=_SMALL)
        if y + 1 < n:  # the data's way, drawn beside the boxes so that it crosses no text
            ax.annotate(
                "", (0.015, y + 0.69), (0.015, y + 0.31), arrowprops={"arrowstyle": "-|>", "color": "black"}
            )
    ax.set_yticks(range(n), [_part_name(row.part, row.layers) for row in parts.itertuples()], fontsize=_SMALL)
    ax.tick_params(length=0)
    ax.grid(visible=False)  # a theme's lines would strike the words out
    ax.set_xticks([])
    ax.set_xlim(0, 1.05)
    ax.set_ylim(n - 0.4, -0.6)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(f"{trained.sum():,} of {total.sum():,} parameters trained", fontsize=_TEXT)
    ax.set_xlabel("box length: logarithm of parameters", fontsize=_SMALL)
    return ax


def learning_curves(
    table: pd.DataFrame,
    *,
    metric: str = "accuracy",
    published: pd.DataFrame | None = None,
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
    published : pandas.DataFrame, optional
        The article's points: column epoch, and the metric's two columns or one of them. NaN is left out.
    unfrozen_after : int, optional
        Mark the unfreezing of layers after this epoch.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Without it, a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on. For a loss that collapses, ``ax.set_yscale("log")`` helps.

    Raises
    ------
    LookupError
        If the table has no such metric.
    ValueError
        If a table is empty or has no column epoch, or `published` has nothing of the metric.

    Notes
    -----
    Explained in the chapters "Train the head" and "Fine-tune the top".

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> from tlhelpers import plots
    >>> table = pd.DataFrame({"epoch": [1, 2], "accuracy": [0.4, 0.6], "val_accuracy": [0.5, 0.6]})
    >>> ax = plots.learning_curves(table, unfrozen_after=1, ax=Figure().subplots())
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['training', 'validation']
    """
    _require_columns(table, ["epoch"], "table")
    validation = f"val_{metric}"
    if not {metric, validation} <= set(table.columns):
        known = [name[4:] for name in map(str, table.columns) if name.startswith("val_")]
        near = difflib.get_close_matches(metric, known, n=1)
        raise LookupError(
            f"Expected a metric with columns {metric} and {validation}, got columns "
            f"{', '.join(map(str, table.columns))}. "
            + (f"Did you mean {near[0]!r}?" if near else f"Choose from: {', '.join(known) or 'none'}.")
        )
    if published is not None:
        _require_columns(published, ["epoch"], "published")
        if not {metric, validation} & set(published.columns):
            raise ValueError(
                f"Expected a column {metric} or {validation} in published, got "
                f"{', '.join(map(str, published.columns))}. Leave published out if nothing is known."
            )
    ax = _axes(ax, (_WIDTH, 3.6))
    ax.plot(table["epoch"], table[metric], "--", marker="s", markersize=4, color=OURS, label="training")
    ax.plot(table["epoch"], table[validation], "-", marker="o", markersize=5, color=OURS, label="validation")
    if published is not None:
        # Hollow for training and filled for validation, on top of the curves that they are compared with.
        for column, words, face in (
            (metric, "article, training", "white"),
            (validation, "article, validation", ARTICLE),
        ):
            known_points = published.dropna(subset=[column]) if column in published else published.head(0)
            if len(known_points):
                ax.plot(
                    known_points["epoch"], known_points[column], linestyle="none", marker="D", markersize=7,
                    markerfacecolor=face, markeredgecolor="black" if face == ARTICLE else ARTICLE,
                    markeredgewidth=0.8 if face == ARTICLE else 1.8, label=words, zorder=3,
                )  # fmt: skip
    if unfrozen_after is not None:
        ax.axvline(unfrozen_after + 0.5, color=TRAINED, linestyle="-.", linewidth=2, zorder=1)
        ax.annotate(
            "layers unfrozen",
            (unfrozen_after + 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=_SMALL,
        )
    ax.set_xlabel("epoch", fontsize=_TEXT)
    ax.set_ylabel("loss (nats)" if metric == "loss" else metric, fontsize=_TEXT)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.tick_params(labelsize=_SMALL)
    ax.grid(axis="y", alpha=0.3)
    # Under the axes, where no curve can run behind it.
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False, fontsize=_SMALL)
    return ax


def lines(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str,
    run: str | None = None,
    path: bool = False,
    colors: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one column against another, a line for each group.

    Parameters
    ----------
    table : pandas.DataFrame
        A row for each point.
    x, y : str
        Columns of the axes. Texts on x stand in the order of the table.
    by : str
        Column that names the group; each has a colour, marker and dash of its own.
    run : str, optional
        Column that tells repeated runs (seeds) apart: each is then a line of its own. Without it,
        points of one group with the same x are drawn as their mean, with a bar from least to most.
    path : bool, optional
        Join each group's points in the order of the table, not from left to right; no means are taken.
    colors : mapping of str to str, optional
        A colour for each group.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Without it, a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on; ``ax.set_xscale("log")`` and the like are the caller's.

    Raises
    ------
    ValueError
        If the table is empty or lacks a column, there are more than six groups, or a group has no colour in
        `colors`.

    Notes
    -----
    Explained in the chapter "Go beyond the article".

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> from tlhelpers import plots
    >>> table = pd.DataFrame({"images": [1, 2, 1, 2], "s": [1, 2, 5, 9], "side": ["a", "a", "b", "b"]})
    >>> ax = plots.lines(table, x="images", y="s", by="side", ax=Figure().subplots())
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['a', 'b']
    """
    _require_columns(table, [x, y, by, *([run] if run else [])], "table")
    groups = list(dict.fromkeys(table[by]))
    missing = [group for group in groups if colors is not None and group not in colors]
    if missing:
        raise ValueError(f"Expected a colour for each of {groups}, got none for {missing}. Add them.")
    places = _line_places(groups)
    ax = _axes(ax, (_WIDTH, 3.6))
    sns.lineplot(
        table,
        x=x,
        y=y,
        hue=by,
        style=by,
        hue_order=groups,
        style_order=groups,
        palette=dict(colors) if colors is not None else [_LINE_COLORS[i] for i in places],
        markers=[_MARKERS[i] for i in places],
        dashes=[_DASHES[i] for i in places],
        units=run,
        estimator=None if run or path else "mean",
        errorbar=None if run or path else _least_to_most,
        err_style="bars",
        sort=pd.api.types.is_numeric_dtype(table[x]) and not path,
        ax=ax,
    )
    ax.set_xlabel(x, fontsize=_TEXT)
    ax.set_ylabel(y, fontsize=_TEXT)
    ax.tick_params(labelsize=_SMALL)
    # Under the axes, where no line can run behind it.
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=_SMALL)
    return ax


def _line_places(groups: list[Any]) -> list[int]:
    """Return each group's place among colours, markers and dashes."""
    if len(groups) > len(_MARKERS):
        raise ValueError(
            f"Expected at most {len(_MARKERS)} groups, got {len(groups)}: {groups}. Draw fewer lines at once."
        )
    taken: list[int | None] = []
    for group in groups:
        place = _PLACES.get(group)
        taken.append(None if place in taken else place)
    free = (place for place in range(len(_MARKERS)) if place not in taken)
    return [next(free) if place is None else place for place in taken]


def _least_to_most(values: pd.Series[float]) -> tuple[float, float]:
    """Ends of a bar; the mean of equal values may lie a rounding error outside of them."""
    return min(values.min(), values.mean()), max(values.max(), values.mean())


def embedding(
    points: npt.ArrayLike, labels: npt.ArrayLike, class_names: Sequence[str], *, ax: Axes | None = None
) -> Axes:
    """Draw images as points in the plane, each point written as the name of its class.

    The names make the classes readable in grey; each class also has a colour of its own where there are
    ten or fewer.

    Parameters
    ----------
    points : array_like of float, shape (n, 2)
        Where each image lies, as PCA or t-SNE gives it. The axes have no unit and are left blank.
    labels : array_like of int, shape (n,)
        Positions in `class_names`.
    class_names : sequence of str
        Short names, best of one letter or digit.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Without it, a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    ValueError
        If the points are not pairs of finite numbers, the lengths differ, or a label has no name.

    Notes
    -----
    Explained in the chapter "See how it works".

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tlhelpers import plots
    >>> ax = plots.embedding([[0.0, 0.0], [1.0, 2.0]], [1, 0], ["a", "b"], ax=Figure().subplots())
    >>> [text.get_text() for text in ax.texts]
    ['b', 'a']
    """
    places, classes = np.asarray(points, dtype=float), np.asarray(labels)
    if places.ndim != 2 or places.shape[1] != 2 or len(places) == 0 or not np.isfinite(places).all():
        raise ValueError(
            f"Expected points as finite numbers of shape (n, 2) with n of 1 or more, got {places.shape}. "
            "Bring the features down to two numbers an image first, for example with scikit-learn's PCA."
        )
    if classes.shape != (len(places),):
        raise ValueError(
            f"Expected a label for each of {len(places)} points, got {classes.shape}. Give one for each."
        )
    k = len(class_names)
    if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= k:
        raise ValueError(
            f"Expected labels as whole numbers from 0 to {k - 1}, one for each class name, got "
            f"{classes.dtype} from {classes.min()} to {classes.max()}. Name every class."
        )
    ax = _axes(ax, (_WIDTH, 4.2))
    # Dark enough for text on white: bright colours of the palette are mixed with black.
    colours = sns.color_palette([sns.blend_palette([c, "black"], 4).as_hex()[1] for c in _COLORBLIND[:k]])
    for (x, y), label in zip(places.tolist(), classes.tolist(), strict=True):
        colour = colours[label] if k <= len(colours) else NEUTRAL
        ax.text(x, y, class_names[label], color=colour, ha="center", va="center", fontsize=_SMALL)
    ax.scatter(places[:, 0], places[:, 1], s=0)  # text alone would not set the limits
    ax.margins(0.05)
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


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
    ax : matplotlib.axes.Axes, optional
        Where to draw. Without it, a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    ValueError
        If one of the texts is empty.

    Notes
    -----
    Explained in the chapter "Recognise flowers".

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tlhelpers import plots
    >>> ax = plots.transfer_diagram(
    ...     ("photos", "which of a thousand things?"),
    ...     ("X-rays", "pneumonia or not?"),
    ...     carried="weights, up to a cut",
    ...     new="a head",
    ...     ax=Figure().subplots(),
    ... )
    >>> [text.get_text().split(chr(10))[0] for text in ax.texts]
    ['source: photos', 'target: X-rays', 'carried over: weights, up to a cut', '']
    """
    if not all(text.strip() for text in (*source, *target, carried, new)):
        raise ValueError("Expected a text for each part of the diagram, got an empty one. Say what it is.")
    ax = _axes(ax, (_WIDTH, 2.6))
    box = {"boxstyle": "round,pad=0.5", "edgecolor": "black", "linewidth": 0.8}
    above, below = (
        f"source: {source[0]}\n{source[1]}",
        f"target: {target[0]}\n{target[1]}\nnew here: {new}",
    )
    for y, words, color in ((0.86, above, "#cfe3f2"), (0.16, below, "#fbe3bd")):
        ax.text(0.5, y, words, ha="center", va="center", fontsize=_SMALL, bbox={**box, "facecolor": color})
    ax.text(0.53, 0.56, f"carried over: {carried}", ha="left", va="center", fontsize=_SMALL)
    arrow = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.5}
    ax.annotate("", (0.5, 0.4), (0.5, 0.7), arrowprops=arrow)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.axis("off")
    return ax


def confusion_matrix(confusion: pd.DataFrame, *, normalize: bool = False, ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix, shaded by logarithm so that rare mistakes show.

    Zeros are left blank. Above 20 classes the numbers are left out and a colour bar is added.

    Parameters
    ----------
    confusion : pandas.DataFrame, shape (k, k)
        Counts: a row for each true class, a column for each predicted class, as in `Evaluation.confusion`.
    normalize : bool, optional
        Show percentages of each row (of the images of a true class) instead of counts.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Without it, a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    ValueError
        If the table is empty or not square, or holds negative numbers.

    Notes
    -----
    Explained in the chapter "Read the confusion matrix".

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> from tlhelpers import plots
    >>> counts = pd.DataFrame([[3, 1], [0, 4]], index=["cat", "dog"], columns=["cat", "dog"])
    >>> ax = plots.confusion_matrix(counts, normalize=True, ax=Figure().subplots())
    >>> [text.get_text() for text in ax.texts]
    ['75.0', '25.0', '', '100']
    """
    counts = confusion.to_numpy(dtype=float)
    k = len(counts)
    if k == 0 or counts.shape != (k, k):
        raise ValueError(
            f"Expected a square table of counts, got {counts.shape}. Give the .confusion of an Evaluation."
        )
    if not (counts >= 0).all():
        raise ValueError("Expected counts of 0 or more, got negative or missing ones. Count images.")
    if normalize:
        images_of_class = counts.sum(axis=1, keepdims=True)
        counts = 100 * counts / np.maximum(images_of_class, 1)  # a class without images stays blank
    written = k <= 20
    side = max(_WIDTH, 0.45 * k) if written else 7.0
    # Numbers make the colour bar needless, and its width is needed on a phone.
    ax = _axes(ax, (side, side * (0.95 if written else 0.85)))
    sns.heatmap(
        pd.DataFrame(counts, index=confusion.index, columns=confusion.columns),
        ax=ax,
        # log(1 + x): one mistake in a thousand images is seen, and zero has a colour.
        norm=FuncNorm((np.log1p, np.expm1), vmin=0, vmax=max(counts.max(), 1.0)),
        cmap=sns.light_palette(OURS, as_cmap=True),
        annot=np.vectorize(_percentage if normalize else _count, otypes=[str])(counts) if written else False,
        fmt="",
        annot_kws={"fontsize": _SMALL},
        cbar=not written,
        square=True,
        linewidths=0.5 if written else 0,
        linecolor="#d9d9d9",
    )
    ax.set_xlabel("predicted", fontsize=_TEXT)
    ax.set_ylabel("true", fontsize=_TEXT)
    ax.set_title("Percent of each true class" if normalize else "Number of images", fontsize=_TEXT)
    for text, value in zip(ax.texts[-(k * k) :] if written else [], counts.flat, strict=False):
        # Black or white, whichever stands out more: they are equal at a luminance of 0.18.
        shade = ax.collections[-1].to_rgba(value)
        text.set_color("black" if sns.utils.relative_luminance(shade) > 0.18 else "white")
    longest = max(len(str(name)) for name in confusion.columns)
    ax.tick_params(labelsize=_SMALL, length=0)
    ax.tick_params(axis="x", labelrotation=90 if longest > 3 else 0)
    ax.tick_params(axis="y", labelrotation=0)
    return ax


def reliability(evaluation: Evaluation, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against confidence: a calibrated model lies on the diagonal.

    Parameters
    ----------
    evaluation : Evaluation
        What `tlhelpers.evaluation.evaluate` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Without it, a new figure is made.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on. Bars: share of the images in each bin of confidence, on the same axis from 0 to 1.

    Notes
    -----
    A reliability diagram as in Guo et al., "On calibration of modern neural networks", ICML 2017.

    Explained in the chapter "Evaluate on the test set".

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from tlhelpers import evaluation, plots
    >>> result = evaluation.evaluate([0, 1], [[0.9, 0.1], [0.4, 0.6]], ["cat", "dog"])
    >>> ax = plots.reliability(result, ax=Figure().subplots())
    >>> ax.get_title()
    'Calibration error 0.250 (2 images)'
    """
    table = evaluation.reliability
    filled = table[table["count"] > 0]
    ax = _axes(ax, (_WIDTH, 4.4))
    ax.bar(
        table["low"],
        table["count"] / evaluation.n,
        width=table["high"] - table["low"],
        align="edge",
        color="#e0e0e0",
        edgecolor="#8c8c8c",
        label="share of images",
    )
    ax.plot([0, 1], [0, 1], ":", color=NEUTRAL, linewidth=1.5, label="perfect calibration")
    ax.plot(filled["confidence"], filled["accuracy"], "-o", color=OURS, markersize=6, label="accuracy")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("confidence of the prediction", fontsize=_TEXT)
    ax.set_ylabel("accuracy, share of images", fontsize=_TEXT)
    ax.tick_params(labelsize=_SMALL)
    ax.set_title(
        f"Calibration error {evaluation.calibration_error:.3f} ({evaluation.n:,} images)", fontsize=_TEXT
    )
    # Under the axes, where no line can run behind it.
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False, fontsize=_SMALL)
    return ax


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the Axes given, or those of a new figure of this size in inches."""
    if ax is not None:
        return ax
    new: Axes = plt.subplots(figsize=size, layout="constrained")[1]
    return new


def _imshow(ax: Axes, picture: npt.NDArray[Any], extent: tuple[float, float, float, float]) -> None:
    """Draw one image; the pixels of a small one stay as they are, sharp at any size and few to store."""
    ax.imshow(
        picture, cmap="gray", vmin=0, vmax=1, extent=extent,
        interpolation="none" if max(picture.shape[:2]) <= 64 else "antialiased",
    )  # fmt: skip


def _caption_size(captions: Sequence[str], bold: bool, room: float) -> float:
    """Return the size in points at which no line is wider than its column of so many points."""
    font = FontProperties(weight="bold" if bold else "normal")
    lines = [line for caption in captions for line in caption.splitlines() if line.strip()]
    widest = max((TextPath((0, 0), line, size=1, prop=font).get_extents().width for line in lines), default=0)
    # Older Matplotlib moves letters to whole pixels, which makes a line up to a point wider.
    return min(_SMALL, (room - 4) / widest) if widest else _SMALL


def _frame_images(ax: Axes, width: float, height: float) -> None:
    """Show all images of a montage, right way up, without the frame of a chart."""
    ax.set_xlim(-0.02 * width, width)
    ax.set_ylim(height, -0.02 * height)
    ax.set_aspect("equal")
    ax.set_axis_off()


def _pictures(images: npt.ArrayLike, name: str, *, rescale: bool = False) -> npt.NDArray[Any]:
    """Return images ready for ``imshow``: (n, h, w) or (n, h, w, 3), from 0 to 1."""
    pictures = np.asarray(images)
    if pictures.ndim == 4 and pictures.shape[3] == 1:
        pictures = pictures[..., 0]
    if not (pictures.ndim == 3 or (pictures.ndim == 4 and pictures.shape[3] == 3)) or pictures.size == 0:
        raise ValueError(
            f"Expected {name} of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3) with n of 1 or more, got "
            f"{pictures.shape}. For a single image, give {name}[:1]."
        )
    top = 255 if np.issubdtype(pictures.dtype, np.integer) else 1
    low, high = pictures.min(), pictures.max()
    if rescale and np.isfinite(low) and np.isfinite(high):
        return (pictures.astype(float) - float(low)) / (float(high) - float(low) or 1.0)
    if not (low >= 0 and high <= top):
        raise ValueError(
            f"Expected {name} as whole numbers from 0 to 255 or as floats from 0 to 1, got {pictures.dtype} "
            f"from {low} to {high}. Rescale them first."
        )
    return pictures / top


def _described(raw: npt.NDArray[Any]) -> str:
    """Return size, dtype and range of images in words."""
    channels = raw.shape[3] if raw.ndim == 4 else 1
    digits = "d" if np.issubdtype(raw.dtype, np.integer) else ".2f"
    span = f"{raw.min():{digits}} to {raw.max():{digits}}"
    return f"{raw.shape[1]} x {raw.shape[2]} x {channels}, {raw.dtype}, {span}"


def _require_columns(table: pd.DataFrame, columns: list[str], name: str) -> None:
    """Refuse a table that is empty or lacks a column."""
    missing = [column for column in columns if column not in table.columns]
    if missing or table.empty:
        raise ValueError(
            f"Expected {name} with columns {', '.join(columns)} and at least one row, got columns "
            f"{', '.join(map(str, table.columns)) or 'none'} and {len(table)} rows. Add what is missing."
        )


def _part_style(have: int, learn: int) -> tuple[dict[str, Any], str]:
    """Return how a part of a model is drawn and described: frozen, trained, both or neither."""
    if have == 0:
        return {"color": "#e0e0e0"}, "no parameters"
    if learn == 0:
        return {"color": FROZEN, "hatch": _FROZEN_HATCH}, f"❄ {have:,} frozen"
    if learn == have:
        return {"color": TRAINED, "hatch": _TRAINED_HATCH}, f"{have:,} trained"
    return {"color": TRAINED, "hatch": _PART_HATCH}, f"{learn:,} of {have:,} trained"


def _part_name(part: object, layers: object) -> str:
    """Return a part's label; a part of a single layer needs no count."""
    return str(part) if layers == 1 else f"{part} ({layers} layers)"


def _count(value: float) -> str:
    """Write a count; nothing for zero."""
    return f"{value:.0f}" if value else ""


def _percentage(value: float) -> str:
    """Write a percentage in at most four characters; nothing for zero."""
    if value == 0:
        return ""
    return "100" if value == 100 else f"{value:.1f}"
