"""Boxes on a grid: what a network should say at each place, what it found, and how right that is.

A photo becomes a grid of places. In the middle of a box a place says which class is there, how far off the
box's centre lies, and how large the box is. Boxes are (k, 5), answers (k, 6): see `targets` and `read_off`.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.patches import Rectangle

__all__ = ["average_precision", "by_photo", "read_off", "right", "show", "targets"]

Numbers = npt.NDArray[Any]

UNIT = 1 / 6
"""Boxes are learned in parts of this share of the photo, about the size of a red blood cell."""
MIDDLE, THINGS, LEAST, OVERLAP = 0.4, 0.3, 0.05, 0.4
"""The share of a box that counts as its middle; the weight of all things beside that of the background; the
least score; the IoU above which the lower of two boxes is left out. Chosen on validation, with seed 0."""


def targets(boxes: list[Numbers], grid: int) -> tuple[dict[str, Numbers], dict[str, Numbers]]:
    """What a head should say of each photo, and how much each place counts: (n, grid, grid) and (.., 4).

    "what" is 0 for nothing and 1 + class in the middle of a box, the smaller one where two meet. "where" says
    how far the box's centre lies from there, and its size. Each class counts alike, whatever its number.
    """
    _check("boxes", boxes, 5, len(boxes))
    what = np.zeros((len(boxes), grid, grid), np.int32)
    where = np.zeros((*what.shape, 4), np.float32)
    places = (np.arange(grid) + 0.5) / grid
    for photo, rows in enumerate(boxes):
        for kind, *ends in rows[np.argsort(-np.prod(rows[:, 3:] - rows[:, 1:3], axis=1))]:
            low, high = np.array(ends[:2]), np.array(ends[2:])
            centre, size = (low + high) / 2, high - low
            near = np.abs(places[:, None] - centre) <= MIDDLE / 2 * size
            near[(centre * grid).astype(int).clip(0, grid - 1), [0, 1]] = True
            across, down = near.T
            x, y = np.meshgrid(places[across], places[down])
            offset = 4 / UNIT * np.stack([centre[0] - x, centre[1] - y], axis=-1)
            here = np.ix_(down, across)
            what[photo][here] = 1 + kind
            where[photo][here] = np.concatenate([offset, np.log(size / UNIT) + 0 * offset], axis=-1)
    counts = np.bincount(what.ravel(), minlength=2)
    share: Numbers = what.size / counts.clip(1)
    share[1:] /= max(1, int((counts[1:] > 0).sum()))
    thing = what > 0
    weights = {"what": np.where(thing, THINGS, 1) * share[what] / (1 + THINGS), "where": thing * share[what]}
    return {"what": what, "where": where}, {k: v.astype(np.float32) for k, v in weights.items()}


def read_off(said: dict[str, Numbers]) -> list[Numbers]:
    """What a head found in each photo: (k, 6), class, score, left, top, right, bottom, highest scores first.

    Of boxes of one class that cover each other the one with the highest score stays.
    """
    what, where = np.asarray(said["what"]), np.asarray(said["where"], np.float64)
    grid = what.shape[1]
    places = (np.arange(grid) + 0.5) / grid
    centre = where[..., :2] * UNIT / 4 + np.stack(np.meshgrid(places, places), axis=-1)
    half = UNIT / 2 * np.exp(where[..., 2:].clip(-5, 3))
    boxes = np.concatenate([centre - half, centre + half], axis=-1).clip(0, 1).reshape(len(what), -1, 4)
    found = []
    for scores, at in zip(what.reshape(len(what), grid * grid, -1), boxes, strict=True):
        rows = []
        for kind, score in enumerate(scores.T[1:]):
            order = np.argsort(-score, kind="stable")[:200]
            order = order[score[order] > LEAST]
            covers = _iou(at[order], at[order]) > OVERLAP
            stays = np.ones(len(order), bool)
            for place in range(len(order)):
                if stays[place]:
                    stays[place + 1 :] &= ~covers[place, place + 1 :]
            kept = order[stays]
            rows.append(np.column_stack([np.full(len(kept), kind), score[kept], at[kept]]))
        whole = np.concatenate(rows)
        found.append(whole[np.argsort(-whole[:, 1], kind="stable")])
    return found


def _iou(first: Numbers, second: Numbers) -> Numbers:
    """Intersection over union of each box with each other one."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = (high - low).clip(0).prod(axis=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=-1) for boxes in (first, second)]
    shares: Numbers = both / np.maximum(areas[0][:, None] + areas[1] - both, 1e-12)
    return shares


# -- the measure ----------------------------------------------------------------------------------


def right(found: list[Numbers], boxes: list[Numbers], *, iou: float = 0.5) -> list[Numbers]:
    """Which answers are right, for each photo: bool (k,), in the order of `found`.

    An answer is right if it shares `iou` of their union with a box of its class that no answer with a higher
    score has taken; of several boxes it takes the one that it covers best.
    """
    _check("found", found, 6, len(boxes))
    _check("boxes", boxes, 5, len(boxes))
    marks: list[Numbers] = []
    for answers, truths in zip(found, boxes, strict=True):
        shares = _iou(answers[:, 2:], truths[:, 1:]) * (answers[:, :1] == truths[:, 0])
        mark = np.zeros(len(answers), bool)
        for place in np.argsort(-answers[:, 1], kind="stable") if len(truths) else ():
            best = shares[place].argmax()
            mark[place] = shares[place, best] >= iou
            if mark[place]:
                shares[:, best] = 0
        marks.append(mark)
    return marks


def average_precision(
    found: list[Numbers], boxes: list[Numbers], *, classes: int = 3, iou: float = 0.5
) -> list[float]:
    """Average precision of each class: how right the answers are, over all thresholds that one may set.

    `found` has what `read_off` gives; `boxes` are (k, 5) for each photo. It is the mean over 101 recalls of
    the best precision at that recall or a higher one; not a number for a class without a box. The mean over
    classes is the usual figure. Source: Lin et al., *Microsoft COCO: Common Objects in Context*, 2014, and
    its code.
    """
    return _precisions(classes, found, right(found, boxes, iou=iou), boxes)


def _precisions(
    classes: int, found: list[Numbers], marks: list[Numbers], boxes: list[Numbers]
) -> list[float]:
    answers, truths = np.concatenate(found), np.concatenate(boxes)[:, 0]
    order = np.argsort(-answers[:, 1], kind="stable")
    kinds, hits = answers[order, 0], np.concatenate(marks)[order]
    precisions = []
    for kind in range(classes):
        hit = hits[kinds == kind].cumsum()
        precise = np.append(np.maximum.accumulate((hit / np.arange(1, len(hit) + 1))[::-1])[::-1], 0)
        if total := np.count_nonzero(truths == kind):
            at = np.searchsorted(hit / total, np.linspace(0, 1, 101))
            precisions.append(float(precise[at].mean()))
        else:
            precisions.append(float("nan"))
    return precisions


def by_photo(
    found: list[Numbers], boxes: list[Numbers], *, classes: int = 3, iou: float = 0.5
) -> npt.NDArray[np.float64]:
    """What each test photo says of the mean average precision: (n,), for `intervals.interval`.

    The measure is no mean over photos. The jackknife makes it one: how much it falls without a photo, times
    n - 1, is that photo's distance from the mean. Source: Efron and Stein, *The jackknife estimate of
    variance*, 1981.
    """
    marks = right(found, boxes, iou=iou)
    less = np.zeros(len(boxes))
    for photo in range(len(boxes)):
        rest = [place for place in range(len(boxes)) if place != photo]
        parts = [[part[place] for place in rest] for part in (found, marks, boxes)]
        less[photo] = np.nanmean(_precisions(classes, *parts))
    whole = np.nanmean(_precisions(classes, found, marks, boxes))
    return np.asarray(whole + (len(boxes) - 1) * (less.mean() - less))


def _check(name: str, rows: list[Numbers], width: int, photos: int) -> None:
    """One array a photo; boxes of the data have an area."""
    expected = f"{name}: expected finite numbers, (k, {width}) for each of {max(1, photos)} photos"
    if len(rows) != max(1, photos):
        raise ValueError(f"{expected}, got {len(rows)} arrays. Give one a photo.")
    for each in rows:
        if np.ndim(each) != 2 or np.shape(each)[1] != width or not np.isfinite(each).all():
            raise ValueError(f"{expected}, got {np.shape(each)}. Give (0, {width}) where there is none.")
        if width == 5 and not (each[:, 3:] > each[:, 1:3]).all():
            raise ValueError(f"{name}: expected left < right and top < bottom, got others. Leave those out.")


COLOURS = ("#00e5ff", "#ffe000", "#ff5cf0")


def show(
    images: npt.NDArray[np.uint8],
    boxes: list[Numbers],
    names: Sequence[str],
    *,
    wrong: list[Numbers] | None = None,
) -> None:
    """Draw boxes or answers on photos side by side: a colour for each class, dashed where `wrong` says so."""
    size = (3.4 * len(images), 2.9)
    figure, axes = plt.subplots(1, len(images), figsize=size, squeeze=False, layout="constrained")
    height, width = images.shape[1:3]
    for photo, ax in enumerate(axes[0]):
        ax.imshow(images[photo], interpolation="none")  # few bytes in the page
        ax.axis("off")
        for place, row in enumerate(boxes[photo]):
            left, top, right, bottom = row[-4:] * (width, height, width, height)
            dashed = "--" if wrong is not None and wrong[photo][place] else "-"
            sides, colour = (right - left, bottom - top), COLOURS[int(row[0])]
            frame = Rectangle((left, top), *sides, fill=False, edgecolor=colour, linestyle=dashed)
            ax.add_patch(frame).set_linewidth(1.5)
    for name, colour in zip(names, COLOURS, strict=False):
        axes[0][0].plot([], [], color=colour, label=name)
    figure.legend(loc="outside lower center", ncols=len(names), frameon=False)
