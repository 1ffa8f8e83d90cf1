"""The points that a reader can choose: where they are in the picture, what is said, what is refused."""

import io
import json
import re
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tlhelpers import page

COLUMNS = ["share", "least", "most", "runs"]


@pytest.fixture(autouse=True)
def _no_window() -> Any:
    with mpl.rc_context({"backend": "agg"}):
        yield
    plt.close("all")


def points(**columns: Any) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples([("a<b", 10), ("a<b", 100), ("c", 10)], names=["who", "labels"])
    numbers = [[0.5, 0.4, 0.6, 3], [0.25, 0.2, 0.3, 3], [0.125, 0.125, 0.125, 1]]
    return pd.DataFrame(numbers, index, COLUMNS).astype({"runs": int}).assign(**columns)


def given(made: str) -> Any:
    """What the page's script reads."""
    return json.loads(re.findall(r'<script type="application/json">(.*?)</script>', made)[0])


def test_a_box_is_framed_where_it_is_drawn() -> None:
    # A table of squares on two kinds of axes, one of them upside down, each found again in the saved picture.
    figure, axes = plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
    axes[0].set(xscale="log", yscale="log", xlim=(1, 1000), ylim=(0.01, 1), ylabel="a label\nof two lines")
    axes[1].set(xlim=(0, 4), ylim=(4, 0), title="a title")
    boxes = [(10, 0.1, 20, 0.3), (200, 0.02, 500, 0.05), (1, 2, 2, 3)]
    places = [axes[0], axes[0], axes[1]]
    drawn = {"start": ("c", 10), "rival": "a<b"}
    framed = given(page.points.controls(points(), places, boxes, **drawn))["framed"]
    for ax, (left, low, right, high), (x, y, width, height) in zip(places, boxes, framed, strict=True):
        patch = ax.fill([left, right, right, left], [low, low, high, high], color="red", lw=0)[0]
        saved = io.BytesIO()
        figure.savefig(saved, dpi=200, bbox_inches="tight")
        patch.remove()
        pixels = np.asarray(Image.open(saved).convert("RGB")).astype(int)
        rows, columns = np.nonzero((pixels[..., 0] > 200) & (pixels[..., 1:] < 60).all(axis=-1))
        found = np.array([columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1])
        sizes = np.tile(pixels.shape[1::-1], 2)
        assert [x, y, width, height] == pytest.approx((100 * found / sizes).tolist(), abs=0.8)


def test_the_table_says_what_the_rows_say() -> None:
    ax = plt.subplots(figsize=(4, 3))[1]
    boxes = [(0, 0, 0, 1)] * 3
    made = page.points.controls(points(), ax, boxes, start=("a<b", 10), rival="c", form="{:.2%}")
    cells = re.findall(r"<t[hd]>(.*?)</t[hd]>", made)
    assert cells[:6] == ["who", "labels", *COLUMNS]
    assert cells[6:12] == ["a&lt;b", "10", "50.00%", "40.00%", "60.00%", "3"]
    assert given(made)["start"] == ["a<b", "10"]
    assert given(made)["guess"] is None
    assert 'data-place="beside"' in made
    wide = plt.subplots(figsize=(8, 3))[1]
    guess = ("How many? </script>", "+1.0 (0.5 to 1.5)", 0, 9)
    made = page.points.controls(points(), wide, boxes, start=("a<b", 10), rival="c", guess=guess)
    assert given(made)["guess"] == [*guess]
    assert 'data-place="below"' in made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": ("a<b", 11)}, r"start: expected the name of a row, got \('a<b', 11\)"),
        ({"rival": "d"}, r"rival: expected the name of a row, got \('d', 10\)"),
        ({"rows": points(most=np.nan)}, "rows: expected names that differ and finite numbers"),
        ({"rows": points().iloc[[0, 2, 2]]}, "rows: expected names"),
        ({"boxes": [(0, 0, 0, np.inf)] * 3}, "rows: expected names that differ and finite numbers"),
        ({"boxes": [(0, 0, 0, 1)] * 2}, r"boxes: expected \(3, 4\), got \(2, 4\)"),
    ],
)
def test_what_has_no_place_is_refused(change: dict[str, Any], message: str) -> None:
    ax = plt.subplots()[1]
    known = {"rows": points(), "axes": ax, "boxes": [(0, 0, 0, 1)] * 3, "start": ("a<b", 10), "rival": "c"}
    with pytest.raises(ValueError, match=message):
        page.points.controls(**{**known, **change})
