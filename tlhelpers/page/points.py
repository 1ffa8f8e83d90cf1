"""The points of a figure as a table, from which the page's script makes controls to move in that figure."""

import json
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

__all__ = ["controls"]


def controls(
    rows: pd.DataFrame,
    axes: Axes | Sequence[Axes],
    boxes: npt.ArrayLike,
    *,
    start: tuple[str | int, ...],
    rival: str,
    form: str = "{:.1%}",
    guess: tuple[str, str, int, int] | None = None,
) -> str:
    """HTML of a closed table of a figure's points, for the cell after the figure's.

    With the page's script a reader chooses one and a rival, and sees both framed in the figure.

    Parameters
    ----------
    rows
        A row for each point. Index: who is compared, then what can be chosen for all, each a level.
        Columns: a share, the ends of its interval, and what else is to be said.
    axes
        Where the points stand: one for all, or one for each row, of the same figure.
    boxes
        What is framed, (rows, 4): left, lower, right and upper end, in the units of the axes.
    start, rival, form
        The row to begin with, who is compared with it, and how a share and its interval are written.
    guess
        Asked before the figure opens: the question, its answer as text that begins with a number, and the
        least and the most that a reader can say.

    Raises
    ------
    ValueError
        If rows share a name, a row has no box, a number is not finite, or `start` or `rival` names no row.
    """
    ends, places = np.asarray(boxes, float), [axes] * len(rows) if isinstance(axes, Axes) else axes
    if ends.shape != (len(rows), 4):
        raise ValueError(f"boxes: expected ({len(rows)}, 4), got {ends.shape}. Give one for each row.")
    if not rows.index.is_unique or not np.isfinite([*rows.iloc[:, :3].to_numpy().flat, *ends.flat]).all():
        raise ValueError("rows: expected names that differ and finite numbers, got others. Leave rows out.")
    for name, row in (("start", start), ("rival", (rival, *start[1:]))):
        if row not in rows.index:
            raise ValueError(f"{name}: expected the name of a row, got {row}. Choose one of rows.index.")
    figure = places[0].figure.canvas.figure  # the whole one, where there are figures within
    figure.draw_without_rendering()  # what notebooks show is the figure's tight box, with a margin
    picture = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
    framed = []
    for ax, corners in zip(places, ends.reshape(-1, 2, 2), strict=True):
        shares = (ax.transData.transform(corners) / figure.dpi - picture.min) / picture.size
        (left, low), (right, high) = 100 * np.sort(shares, axis=0)
        framed.append([round(each, 2) for each in (left, 100 - high, right - left, high - low)])
    given = {"start": [*map(str, start)], "rival": rival, "framed": framed, "guess": guess}
    shown = rows.assign(**{name: rows[name].map(form.format) for name in rows.columns[:3]})
    beside = "beside" if picture.width < 5.6 else "below"  # inches; a wide figure leaves no room
    return (
        f'<div class="figure-points" data-place="{beside}"><script type="application/json">'
        + json.dumps(given).replace("<", "\\u003c")
        + "</script><details><summary>All points as a table</summary>"
        + f"{shown.reset_index().to_html(index=False, border=0)}</details></div>"
    )
