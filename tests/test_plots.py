"""What is on the Axes: artists, words and marks; not how it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tlhelpers import evaluation, plots

RAW = (np.arange(4 * 28 * 28).reshape(4, 28, 28) % 256).astype(np.uint8)
PREPARED = np.repeat(np.linspace(-1, 1, 4 * 32 * 32).reshape(4, 32, 32, 1), 3, axis=3).astype(np.float32)
PARTS = pd.DataFrame(
    [("input", 1, 0, 0), ("block_1", 8, 5136, 0), ("block_2", 9, 118272, 59136), ("head", 1, 12810, 12810)],
    columns=["part", "layers", "parameters", "trainable"],
)
CURVES = pd.DataFrame(
    [(1, 0.4, 1.6, 0.5, 1.3), (2, 0.6, 1.2, 0.6, 1.1), (3, 0.5, 1.4, 0.2, 9.0)],
    columns=["epoch", "accuracy", "loss", "val_accuracy", "val_loss"],
)
POINTS = pd.DataFrame(
    {"epoch": [1, 2, 3], "val_accuracy": [0.6, np.nan, 0.1], "accuracy": [0.4, 0.5, np.nan]}
)
COUNTS = pd.DataFrame([[990, 10, 0], [1, 99, 0], [0, 0, 0]], index=list("abc"), columns=list("abc"))
RESULT = evaluation.evaluate([0, 1, 1, 0], [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.95, 0.05]], ["a", "b"])
RACE = pd.DataFrame(
    {"side": [*"aaaabbbb"], "seed": [0, 0, 1, 1] * 2, "images": [10, 20] * 4, "seconds": [*range(1, 7), 5, 6]}
)

DRAWINGS = [
    partial(plots.images, RAW, captions=list("abcd"), wrong=np.eye(4, dtype=bool)[0]),
    partial(plots.heat_maps, RAW, RAW / 255),
    partial(plots.before_after, RAW, PREPARED),
    partial(plots.model_diagram, PARTS),
    partial(plots.learning_curves, CURVES, others={"theirs": POINTS}, unfrozen_after=2),
    partial(plots.lines, RACE, x="images", y="seconds", hue="side"),
    partial(plots.confusion_matrix, COUNTS),
    partial(plots.reliability, RESULT),
    partial(plots.embedding, np.eye(4)[:, :2], [0, 1, 2, 0], list("abc")),
    partial(
        plots.transfer_diagram,
        ("clients with university or more", "default on next month's payment?"),
        ("clients with high school, few labels", "the same question"),
        carried="two hidden layers, and\nhow to prepare a table",
        new="the last layer, or all by small steps",
    ),
]
each_drawing = pytest.mark.parametrize("draw", DRAWINGS, ids=[draw.func.__name__ for draw in DRAWINGS])


@pytest.fixture
def ax() -> Axes:
    """Return Axes that pyplot does not know."""
    return Figure().subplots()


@pytest.fixture(autouse=True)
def _no_styles_kept() -> Iterator[None]:
    yield
    plots.set_styles({})


def words(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


def data(line: Any) -> tuple[list[float], list[float]]:
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


@each_drawing
def test_draws_on_the_axes_given(draw: partial[Axes], ax: Axes) -> None:
    assert draw(ax=ax) is ax
    assert plt.get_fignums() == []
    assert ax.has_data() or draw.func is plots.transfer_diagram


@each_drawing
@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning", "error::FutureWarning")
def test_makes_one_figure_whose_words_are_large_enough_and_fit(
    draw: partial[Axes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plt, "show", lambda *args, **more: pytest.fail("plt.show was called"))
    before = dict(mpl.rcParams)
    drawn = draw()
    assert len(plt.get_fignums()) == 1
    assert dict(mpl.rcParams) == before
    figure = drawn.figure
    figure.canvas.draw()  # a missing glyph or a layout that fails would warn
    assert isinstance(figure, Figure)
    assert figure.get_size_inches()[0] <= 5  # ten points stay readable on a phone
    inside = [*drawn.texts, drawn.title]
    around = [drawn.xaxis.label, drawn.yaxis.label, *drawn.get_xticklabels()]
    shown = [text for text in inside + around if text.get_text() and text.get_visible()]
    assert all(float(text.get_fontsize()) >= 9 for text in shown)
    box = figure.bbox.padded(2)
    for text in inside:
        extent = text.get_window_extent()
        assert not text.get_text() or (box.x0 <= extent.x0 and extent.x1 <= box.x1), text.get_text()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (partial(plots.images, RAW[0]), r"images: .* got uint8 \(28, 28\)"),
        (partial(plots.images, np.zeros((2, 8, 8, 2))), r"got \(2, 8, 8, 2\)"),
        (partial(plots.images, RAW.astype(float)), "from 0.0 to 255.0"),
        (partial(plots.images, RAW, captions=["one"]), "captions: expected 4, got 1"),
        (partial(plots.images, RAW, wrong=[True]), "wrong: expected 4 truth values"),
        (partial(plots.images, RAW, wrong=[0, 1, 0, 0]), "int64"),  # numbers of images would pass for marks
        (partial(plots.images, RAW, columns=0), "columns: expected 1 or more, got 0"),
        (partial(plots.heat_maps, RAW, RAW[:, :14] / 255), r"maps: .* shape \(4, 28, 28\).* \(4, 14, 28\)"),
        (partial(plots.heat_maps, RAW, RAW), r"maps: .* from 0 to 1, got uint8 \(4, 28, 28\) from 0 to 255"),
        (partial(plots.before_after, RAW, PREPARED[:3]), "after: expected 4 images as before, got 3"),
        (partial(plots.model_diagram, PARTS[:0]), "parts: expected the columns part, layers, .* 0 rows"),
        (partial(plots.model_diagram, PARTS.assign(trainable=1)), "parts: .* got 1 of 0 in 'input'"),
        (partial(plots.learning_curves, CURVES[:0]), "table: expected the columns epoch and at least one"),
        (
            partial(plots.learning_curves, CURVES, metric="loss", others={"theirs": POINTS}),
            r"others\['theirs'\]: expected a column loss or val_loss, got ep",
        ),
        (partial(plots.set_styles, {"x": 7}), "places: expected 0 to 6, got 7"),
        (partial(plots.lines, RACE.reset_index(), x="seed", y="seed", hue="index"), "at most 7, got 8"),
        (partial(plots.lines, RACE, x="images", y="second", hue="side"), "table: .* images, second, side"),
        (partial(plots.confusion_matrix, COUNTS[:2]), r"confusion: expected a square table .* \(2, 3\)"),
        (partial(plots.confusion_matrix, pd.DataFrame()), "confusion: .* 0 rows"),
        (partial(plots.confusion_matrix, COUNTS - 1), "confusion: .* counts of 0 or more, .* from -1"),
        (partial(plots.embedding, np.zeros((2, 3)), [0, 1], ["a", "b"]), r"points: .* \(n, 2\).* \(2, 3\)"),
        (partial(plots.embedding, np.eye(2), [0], ["a", "b"]), "labels: expected 2 whole numbers"),
        (partial(plots.embedding, np.eye(2), [-1, 2], ["a", "b"]), "labels: expected 0 to 1, got -1 to 2"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_figure_is_made(draw: Callable[[], Axes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 8, 8, 1), (5, 8, 8, 3)])
def test_images_in_rows(shape: tuple[int, ...], ax: Axes) -> None:
    plots.images(np.random.default_rng(0).random(shape), columns=2, ax=ax)
    lefts, _, _, tops = zip(*(image.get_extent() for image in ax.images), strict=True)
    assert (len(tops), len(set(lefts)), len(set(tops))) == (5, 2, 3)
    assert tops[0] < tops[4] < ax.get_ylim()[0]  # the first row on top, all inside


def test_long_captions_do_not_run_into_each_other() -> None:
    drawn = plots.images(np.zeros((6, 28, 28)), captions=["hypertension"] * 6, columns=6)
    drawn.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in drawn.texts]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_images_keep_their_pixels_and_their_brightness(ax: Axes) -> None:
    plots.images(np.full((1, 28, 28), 51, dtype=np.uint8), ax=ax)
    plots.images(np.zeros((1, 96, 96)), ax=ax)
    small, large = ax.images
    assert (small.get_interpolation(), large.get_interpolation()) == ("none", "antialiased")
    assert float(np.asarray(small.get_array()).max()) == pytest.approx(0.2)
    assert small.get_clim() == (0, 1)


def test_wrong_images_have_a_colour_and_a_cross(ax: Axes) -> None:
    plots.images(RAW, captions=["0", "1", "2→7", "3"], wrong=np.arange(4) == 2, ax=ax)
    assert words(ax) == ["0", "1", "✗ 2→7", "3"]
    frames = [same_color(patch.get_edgecolor(), plots.WRONG) for patch in ax.patches]
    assert frames == [False, False, True, False]
    bare = plots.images(RAW, wrong=np.array([True, False, False, True]))
    assert words(bare) == ["✗", "✗"]


def test_heat_maps_light_what_is_high_and_draw_its_border(ax: Axes) -> None:
    heat = np.zeros((1, 8, 8))
    heat[0, :, 4:] = 1.0
    plots.heat_maps(np.full((1, 8, 8), 0.5), heat, captions=["a"], ax=ax)
    shown = np.asarray(ax.images[0].get_array())
    assert shown.shape == (8, 8, 3)
    # dark, a black line, a white line, the picture as it is
    assert shown[3, :, 0].tolist() == pytest.approx([0.2, 0.2, 0.2, 0.0, 1.0, 0.5, 0.5, 0.5])
    assert words(ax) == ["a"]


def test_before_after_says_size_and_range(ax: Axes) -> None:
    plots.before_after(RAW, PREPARED, ax=ax)
    assert words(ax) == ["Before: 28 x 28 x 1, uint8, 0 to 255", "After: 32 x 32 x 3, float32, -1.00 to 1.00"]
    widths = [image.get_extent()[1] - image.get_extent()[0] for image in ax.images]
    assert widths == pytest.approx([28] * 4 + [32] * 4)  # one scale for both rows
    shown = np.stack([np.asarray(image.get_array()) for image in ax.images[4:]])
    assert (shown.min(), shown.max()) == (0, 1)


def test_model_diagram_says_what_is_trained(ax: Axes) -> None:
    plots.model_diagram(PARTS, ax=ax)
    assert words(ax) == ["no parameters", "❄ 5,136 frozen", "59,136 of 118,272 trained", "12,810 trained"]
    assert ax.get_title() == "71,946 of 136,218 parameters trained"
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["input", "block_1 (8 layers)", "block_2 (9 layers)", "head"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the input is on top
    empty, frozen, part, trained = (patch for patch in ax.patches if isinstance(patch, Rectangle))
    assert part.get_facecolor() == trained.get_facecolor() != frozen.get_facecolor()
    assert len({box.get_hatch() for box in (frozen, part, trained)}) == 3  # told apart without colour
    assert empty.get_width() < frozen.get_width() < trained.get_width() < part.get_width()


def test_model_diagram_of_twenty_parts_is_legible() -> None:
    drawn = plots.model_diagram(pd.concat([PARTS] * 5, ignore_index=True))
    drawn.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in drawn.texts if text.get_text()]
    assert len(boxes) == 20
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))


def test_learning_curves_beside_another_run(ax: Axes) -> None:
    plots.set_styles({"theirs": 0})
    plots.learning_curves(CURVES, others={"theirs": POINTS}, unfrozen_after=2, ax=ax)
    lines = {str(line.get_label()): line for line in ax.lines}
    assert data(lines["training"]) == ([1, 2, 3], [0.4, 0.6, 0.5])
    assert data(lines["validation"]) == ([1, 2, 3], [0.5, 0.6, 0.2])
    assert data(lines["theirs, training"]) == ([1, 2], [0.4, 0.5])
    assert data(lines["theirs, validation"]) == ([1, 3], [0.6, 0.1])
    shown = [lines[name].get_linestyle() for name in ("training", "validation", "theirs, validation")]
    assert shown == ["--", "-", "None"]
    assert lines["theirs, validation"].get_markerfacecolor() != lines["validation"].get_color()
    assert [2.5, 2.5] in [data(line)[0] for line in ax.lines]
    assert words(ax) == ["layers unfrozen"]  # the vertical line carries its own words


def test_learning_curves_of_the_loss_alone_and_of_a_run_that_says_less(ax: Axes) -> None:
    plots.learning_curves(CURVES, metric="loss", ax=ax)
    assert (len(ax.lines), words(ax), ax.get_ylabel()) == (2, [], "loss (nats)")
    less = plots.learning_curves(CURVES, others={"theirs": POINTS.assign(accuracy=np.nan)})
    assert [line.get_label() for line in less.lines] == ["training", "validation", "theirs, validation"]
    with pytest.raises(LookupError, match=r"unknown metric 'acuracy': .* did you mean 'accuracy'"):
        plots.learning_curves(CURVES, metric="acuracy")


def test_lines_draw_the_mean_and_its_range_or_each_run_by_itself(ax: Axes) -> None:
    plots.lines(RACE, x="images", y="seconds", hue="side", ax=ax)
    assert data(ax.lines[0]) == ([10, 20], [2, 3])
    assert ax.collections[0].get_paths()[0].vertices[:, 1].tolist() == [1, 3]
    each = plots.lines(RACE, x="images", y="seconds", hue="side", units="seed")
    drawn = [data(line)[1] for line in each.lines if data(line)[0]]
    assert drawn == [[1, 2], [3, 4], [5, 6], [5, 6]]
    assert not each.collections


def test_lines_keep_the_order_of_texts_in_the_table() -> None:
    cuts = pd.DataFrame({"cut": ["b2", "b1"] * 2, "value": [1, 2, 3, 4], "kind": ["x", "x", "y", "y"]})
    drawn = plots.lines(cuts, x="cut", y="value", hue="kind")
    assert [label.get_text() for label in drawn.get_xticklabels()] == ["b2", "b1"]


def looks(*names: str) -> dict[str, tuple[Any, ...]]:
    table = pd.DataFrame({"x": [1, 2] * len(names), "y": 0.5, "way": np.repeat(names, 2)})
    drawn = plots.lines(table, x="x", y="y", hue="way", ax=Figure().subplots()).get_legend()
    assert drawn is not None
    return {
        text.get_text(): (line.get_color(), line.get_marker(), line.get_linestyle())
        for text, line in zip(drawn.get_texts(), drawn.get_lines(), strict=True)
    }


@pytest.mark.parametrize("height", [2.2, 5.0])
def test_the_legend_stands_under_the_label_however_high_the_chart_is(height: float) -> None:
    figure = Figure(figsize=(5, height), layout="constrained")
    table = pd.DataFrame({"x": [1, 2], "y": [1, 2], "way": ["a", "b"]})
    ax = plots.lines(table, x="x", y="y", hue="way", ax=figure.subplots())
    figure.draw_without_rendering()
    legend = ax.get_legend().get_window_extent()
    assert legend.y1 < ax.xaxis.label.get_window_extent().y0
    assert legend.y0 > 0


def test_a_name_with_a_style_looks_the_same_in_each_picture_and_different_from_the_others() -> None:
    plots.set_styles({"ours": 0, "theirs": 1, "oldest": 6, "also ours": 0})
    first, second = looks("theirs", "new", "ours"), looks("new", "newer", "ours", "oldest", "theirs")
    seven = looks(*"abcdefg")
    assert first["theirs"] == second["theirs"] == seven["b"]
    assert first["ours"] == second["ours"] == seven["a"]
    assert second["oldest"] == seven["g"]
    for picture in (first, second, looks("also ours", "ours"), seven):
        colors, markers, _ = zip(*picture.values(), strict=True)
        assert len(set(colors)) == len(set(markers)) == len(picture)
    assert [look[2] for look in seven.values()][:2] == ["-", "--"]
    plots.set_styles({})
    assert looks("theirs", "new")["theirs"] == first["ours"]


def test_a_line_of_equal_values_has_no_bar_and_no_error(ax: Axes) -> None:
    # The mean of three times 0.8311 is a rounding error less than 0.8311.
    table = pd.DataFrame({"x": [1, 1, 1, 2, 2, 2], "y": [0.8311] * 3 + [0.1, 0.2, 0.3], "side": "a"})
    plots.lines(table, x="x", y="y", hue="side", ax=ax)
    bars = [segment for lines in ax.collections for segment in lines.get_segments()]
    assert np.ptp(bars[0][:, 1]) == pytest.approx(0, abs=1e-12)
    assert bars[1][:, 1].tolist() == pytest.approx([0.1, 0.3])


def test_confusion_matrix_has_true_classes_in_rows_and_shades_a_single_mistake(ax: Axes) -> None:
    plots.confusion_matrix(COUNTS, ax=ax)
    assert [text.get_text() for text in ax.texts] == ["990", "10", "", "1", "99", "", "", "", ""]
    assert [text.get_position() for text in ax.texts[:4:3]] == [(0.5, 0.5), (0.5, 1.5)]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    none, one, most = np.asarray(ax.collections[0].norm(np.array([0.0, 1.0, 990.0])))
    assert (none, most) == (0, 1)
    assert one > 0.08
    assert same_color(ax.texts[0].get_color(), "white")
    assert same_color(ax.texts[3].get_color(), "black")
    # In percentages, a class without images stays blank, without a division by zero.
    assert words(plots.confusion_matrix(COUNTS, normalize=True)) == ["99.0", "1.0", "1.0", "99.0"]


def test_confusion_matrix_of_many_classes() -> None:
    counts = np.full((10, 10), 999)
    np.fill_diagonal(counts, 1135)
    drawn = plots.confusion_matrix(pd.DataFrame(counts))
    drawn.figure.canvas.draw()
    assert max(text.get_window_extent().width for text in drawn.texts) < drawn.get_window_extent().width / 10
    more = plots.confusion_matrix(pd.DataFrame(np.eye(21, dtype=int)))
    assert (words(more), len(more.figure.axes)) == ([], 2)  # a colour bar instead


def test_reliability_leaves_empty_bins_out(ax: Axes) -> None:
    plots.reliability(RESULT, ax=ax)
    x, y = next(data(line) for line in ax.lines if line.get_label() == "accuracy")
    assert x == pytest.approx([0.6, 0.7, 0.9, 0.95])
    assert y == [1, 0, 1, 1]
    bars = [bar for bar in ax.patches if isinstance(bar, Rectangle) and bar.get_height()]
    assert [bar.get_height() for bar in bars] == [0.25] * 4
    assert f"{RESULT.calibration_error:.3f}" in ax.get_title()


def test_embedding_writes_each_class_at_its_point(ax: Axes) -> None:
    points = np.array([[0.0, 0.0], [-30.0, 4.0], [50.0, 2.0]])
    plots.embedding(points, np.array([1, 0, 1]), ["0", "1", "2"], ax=ax)
    assert [text.get_position() for text in ax.texts] == [*map(tuple, points)]
    assert words(ax) == ["1", "0", "1"]
    left, right = ax.get_xlim()
    assert left < -30 < 50 < right  # all of it is in sight
    first, second, third = (text.get_color() for text in ax.texts)
    assert first == third != second


def test_embedding_can_be_read_on_white_whatever_the_number_of_classes(ax: Axes) -> None:
    ten = plots.embedding(np.arange(20).reshape(10, 2), range(10), list("0123456789"))
    colours = [to_rgba(text.get_color()) for text in ten.texts]
    assert len(set(colours)) == 10
    # Contrast with white, as WCAG defines it, for large marks.
    assert all(1.05 / (sns.utils.relative_luminance(colour) + 0.05) >= 3 for colour in colours)
    plots.embedding(np.zeros((12, 2)), range(12), list("abcdefghijkl"), ax=ax)
    assert {text.get_color() for text in ax.texts} == {plots.NEUTRAL}
