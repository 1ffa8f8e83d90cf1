"""What is on the Axes: artists, words and marks; not how it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

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
    {
        "part": ["input", "block_1", "block_2", "head"],
        "layers": [1, 8, 9, 1],
        "parameters": [0, 5136, 118272, 12810],
        "trainable": [0, 0, 59136, 12810],
    }
)
CURVES = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "phase": ["frozen", "frozen", "fine-tuned"],
        "accuracy": [0.4, 0.6, 0.5],
        "loss": [1.6, 1.2, 1.4],
        "val_accuracy": [0.5, 0.6, 0.2],
        "val_loss": [1.3, 1.1, 9.0],
    }
)
PUBLISHED = pd.DataFrame(
    {"epoch": [1, 2, 3], "val_accuracy": [0.6, np.nan, 0.1], "accuracy": [0.4, 0.5, np.nan]}
)
COUNTS = pd.DataFrame([[990, 10, 0], [1, 99, 0], [0, 0, 0]], index=list("abc"), columns=list("abc"))
RESULT = evaluation.evaluate([0, 1, 1, 0], [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.95, 0.05]], ["a", "b"])

DRAWINGS: dict[str, Callable[..., Axes]] = {
    "images": lambda **more: plots.images(RAW, captions=list("abcd"), wrong=np.eye(4, dtype=bool)[0], **more),
    "before_after": lambda **more: plots.before_after(RAW, PREPARED, **more),
    "model_diagram": lambda **more: plots.model_diagram(PARTS, **more),
    "learning_curves": lambda **more: plots.learning_curves(
        CURVES, published=PUBLISHED, unfrozen_after=2, **more
    ),
    "confusion_matrix": lambda **more: plots.confusion_matrix(COUNTS, **more),
    "reliability": lambda **more: plots.reliability(RESULT, **more),
    "embedding": lambda **more: plots.embedding(np.eye(4)[:, :2], [0, 1, 2, 0], list("abc"), **more),
}


@pytest.fixture
def ax() -> Axes:
    """Return Axes that pyplot does not know."""
    axes: Axes = Figure().subplots()
    return axes


@pytest.fixture(autouse=True)
def _close_what_was_opened() -> Iterator[None]:
    yield
    plt.close("all")


def words(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


@pytest.mark.parametrize("name", DRAWINGS)
def test_draws_on_the_axes_given(name: str, ax: Axes) -> None:
    assert DRAWINGS[name](ax=ax) is ax
    assert plt.get_fignums() == []
    assert ax.has_data()


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning", "error::FutureWarning")
def test_makes_one_figure_and_leaves_settings_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plt, "show", lambda *args, **more: pytest.fail("plt.show was called"))
    before = dict(mpl.rcParams)
    drawn = DRAWINGS[name]()
    assert len(plt.get_fignums()) == 1
    assert dict(mpl.rcParams) == before
    drawn.figure.canvas.draw()  # a missing glyph or a layout that fails would warn


@pytest.mark.parametrize("name", DRAWINGS)
def test_words_are_large_enough_and_fit(name: str) -> None:
    drawn = DRAWINGS[name]()
    figure = drawn.figure
    figure.canvas.draw()
    assert isinstance(figure, Figure)
    assert figure.get_size_inches()[0] <= 5  # ten points stay readable on a phone
    shown = [
        text
        for text in [
            *drawn.texts,
            drawn.title,
            drawn.xaxis.label,
            drawn.yaxis.label,
            *drawn.get_xticklabels(),
        ]
        if text.get_text() and text.get_visible()
    ]
    assert all(float(text.get_fontsize()) >= 9 for text in shown)
    box = figure.bbox.padded(2)
    for text in [*drawn.texts, drawn.title]:
        extent = text.get_window_extent()
        assert not text.get_text() or (box.x0 <= extent.x0 and extent.x1 <= box.x1), text.get_text()


def test_palette_is_distinct() -> None:
    chosen = [plots.OURS, plots.ARTICLE, plots.FROZEN, plots.TRAINED, plots.WRONG, plots.NEUTRAL]
    assert len({to_rgba(colour) for colour in chosen}) == 6


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 8, 8, 1), (5, 8, 8, 3)])
def test_images_in_rows(shape: tuple[int, ...], ax: Axes) -> None:
    plots.images(np.random.default_rng(0).random(shape), columns=2, ax=ax)
    extents = [image.get_extent() for image in ax.images]
    assert len(extents) == 5
    assert len({left for left, *_ in extents}) == 2
    assert len({top for *_, top in extents}) == 3
    assert extents[0][3] < extents[4][3] < ax.get_ylim()[0]  # the first row on top, all inside


def test_long_captions_do_not_run_into_each_other() -> None:
    drawn = plots.images(np.zeros((6, 28, 28)), captions=["hypertension"] * 6, columns=6)
    drawn.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in drawn.texts]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_pixels_of_small_images_are_kept(ax: Axes) -> None:
    plots.images(np.zeros((2, 28, 28)), ax=ax)
    assert [image.get_interpolation() for image in ax.images] == ["none"] * 2
    plots.images(np.zeros((1, 96, 96)), ax=ax)
    assert ax.images[-1].get_interpolation() == "antialiased"


def test_images_are_not_stretched_in_brightness(ax: Axes) -> None:
    plots.images(np.full((1, 4, 4), 51, dtype=np.uint8), ax=ax)
    image = ax.images[0]
    assert float(np.asarray(image.get_array()).max()) == pytest.approx(0.2)
    assert image.get_clim() == (0, 1)


def test_wrong_images_have_a_colour_and_a_cross(ax: Axes) -> None:
    plots.images(RAW, captions=["0", "1", "2→7", "3"], wrong=[False, False, True, False], ax=ax)
    assert words(ax) == ["0", "1", "✗ 2→7", "3"]
    frames = [same_color(patch.get_edgecolor(), plots.WRONG) for patch in ax.patches]
    assert frames == [False, False, True, False]


def test_wrong_images_without_captions(ax: Axes) -> None:
    plots.images(RAW, wrong=np.array([True, False, False, True]), ax=ax)
    assert words(ax) == ["✗", "✗"]


@pytest.mark.parametrize(
    ("pictures", "more", "message"),
    [
        (RAW[0], {}, r"got \(28, 28\)"),
        (RAW[:0], {}, r"got \(0, 28, 28\)"),
        (np.zeros((2, 8, 8, 2)), {}, r"got \(2, 8, 8, 2\)"),
        (PREPARED, {}, "from -1.0 to 1.0"),
        (RAW.astype(float), {}, "from 0.0 to 255.0"),
        (np.full((1, 2, 2), np.nan), {}, "from nan"),
        (RAW, {"captions": ["one"]}, "caption for each of 4 images, got 1"),
        (RAW, {"wrong": [True]}, "wrong as 4 truth values"),
        (RAW, {"wrong": [0, 1, 0, 0]}, "int64"),
        (RAW, {"columns": 0}, "columns=0"),
    ],
)
def test_images_refuse(pictures: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.images(pictures, **more)
    assert plt.get_fignums() == []


def test_before_after_says_size_and_range(ax: Axes) -> None:
    plots.before_after(RAW, PREPARED, ax=ax)
    assert words(ax) == ["Before: 28 x 28 x 1, uint8, 0 to 255", "After: 32 x 32 x 3, float32, -1.00 to 1.00"]
    widths = [image.get_extent()[1] - image.get_extent()[0] for image in ax.images]
    assert widths == pytest.approx([28] * 4 + [32] * 4)  # one scale for both rows
    for image in ax.images:
        shown = np.asarray(image.get_array())
        assert shown.min() >= 0
        assert shown.max() <= 1


def test_before_after_refuses_different_lengths() -> None:
    with pytest.raises(ValueError, match="got 4 and 3"):
        plots.before_after(RAW, PREPARED[:3])


def test_model_diagram_says_what_is_trained(ax: Axes) -> None:
    plots.model_diagram(PARTS, ax=ax)
    assert words(ax) == [
        "no parameters", "❄ 5,136 frozen", "59,136 of 118,272 trained", "12,810 trained",
    ]  # fmt: skip
    assert ax.get_title() == "71,946 of 136,218 parameters trained"
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["input", "block_1 (8 layers)", "block_2 (9 layers)", "head"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the input is on top
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert [same_color(box.get_facecolor(), plots.FROZEN) for box in boxes] == [False, True, False, False]
    assert len({box.get_hatch() for box in boxes[1:]}) == 3  # told apart without colour
    lengths = [box.get_width() for box in boxes]
    assert lengths[0] < lengths[1] < lengths[3] < lengths[2]


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning", "error::FutureWarning")
def test_model_diagram_of_twenty_parts_is_legible() -> None:
    widest = PARTS.assign(
        part=["input", "block_1", "last convolution", "head"],
        parameters=[0, 5136, 414720, 12810],
        trainable=[0, 0, 412160, 12810],
    )
    drawn = plots.model_diagram(pd.concat([widest] * 5, ignore_index=True))
    drawn.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in drawn.texts if text.get_text()]
    assert len(boxes) == 20
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))
    assert max(box.x1 for box in boxes) <= drawn.figure.bbox.x1


def test_model_diagram_refuses() -> None:
    with pytest.raises(ValueError, match="columns part, layers, parameters, trainable"):
        plots.model_diagram(PARTS.drop(columns="trainable"))
    with pytest.raises(ValueError, match="0 rows"):
        plots.model_diagram(PARTS[:0])
    with pytest.raises(ValueError, match="got 1 of 0 in part 'input'"):
        plots.model_diagram(PARTS.assign(trainable=1))


def test_transfer_diagram_keeps_its_words_apart_and_inside() -> None:
    drawn = plots.transfer_diagram(
        ("clients with university or more", "default on next month's payment?"),
        ("clients with high school, few labels", "the same question"),
        carried="two hidden layers, and\nhow to prepare a table",
        new="the last layer, or all by small steps",
    )
    drawn.figure.canvas.draw()
    source, target, carried = (text.get_window_extent() for text in drawn.texts[:3])
    assert source.y0 > carried.y1 > carried.y0 > target.y1
    for box in (source, target, carried):
        assert drawn.figure.bbox.x0 <= box.x0
        assert box.x1 <= drawn.figure.bbox.x1
    with pytest.raises(ValueError, match="got an empty one"):
        plots.transfer_diagram(("photos", " "), ("X-rays", "ill?"), carried="weights", new="a head")


def test_learning_curves_with_the_article(ax: Axes) -> None:
    plots.learning_curves(CURVES, published=PUBLISHED, unfrozen_after=2, ax=ax)
    lines = {str(line.get_label()): line for line in ax.lines}
    assert lines["training"].get_linestyle() == "--"
    assert lines["validation"].get_linestyle() == "-"
    assert list(lines["validation"].get_ydata()) == [0.5, 0.6, 0.2]  # type: ignore[arg-type]
    assert list(lines["article, validation"].get_xdata()) == [1, 3]  # type: ignore[arg-type]
    assert list(lines["article, training"].get_ydata()) == [0.4, 0.5]  # type: ignore[arg-type]
    assert lines["article, validation"].get_linestyle() == "None"
    vertical = [line for line in ax.lines if list(line.get_xdata()) == [2.5, 2.5]]  # type: ignore[arg-type]
    assert len(vertical) == 1
    assert words(ax) == ["layers unfrozen"]
    legend = ax.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 4  # the vertical line carries its own words


def test_learning_curves_of_one_phase_of_the_loss(ax: Axes) -> None:
    plots.learning_curves(CURVES, metric="loss", ax=ax)
    assert len(ax.lines) == 2
    assert words(ax) == []
    assert ax.get_ylabel() == "loss (nats)"


def test_published_column_without_a_value_is_left_out(ax: Axes) -> None:
    plots.learning_curves(CURVES, published=PUBLISHED.assign(accuracy=np.nan), ax=ax)
    assert "article, training" not in [line.get_label() for line in ax.lines]


def test_learning_curves_refuse() -> None:
    with pytest.raises(LookupError, match="Did you mean 'accuracy'"):
        plots.learning_curves(CURVES, metric="acuracy")
    with pytest.raises(LookupError, match="Choose from: accuracy, loss"):
        plots.learning_curves(CURVES, metric="zzz")
    with pytest.raises(ValueError, match="table with columns epoch and at least one row"):
        plots.learning_curves(CURVES[:0])
    with pytest.raises(ValueError, match="column loss or val_loss in published"):
        plots.learning_curves(CURVES, metric="loss", published=PUBLISHED)
    assert plt.get_fignums() == []


def test_confusion_matrix_in_counts(ax: Axes) -> None:
    plots.confusion_matrix(COUNTS, ax=ax)
    assert [text.get_text() for text in ax.texts] == ["990", "10", "", "1", "99", "", "", "", ""]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    shades = np.asarray(ax.collections[0].norm(np.array([0.0, 1.0, 990.0])))
    assert shades[0] == 0
    assert shades[1] > 0.08  # a single mistake among a thousand is shaded
    assert shades[2] == 1


def test_confusion_matrix_in_row_percentages(ax: Axes) -> None:
    plots.confusion_matrix(COUNTS, normalize=True, ax=ax)
    # A class without images stays blank, without a division by zero.
    assert [text.get_text() for text in ax.texts] == ["99.0", "1.0", "", "1.0", "99.0", "", "", "", ""]


def test_confusion_matrix_numbers_stand_out(ax: Axes) -> None:
    plots.confusion_matrix(COUNTS, ax=ax)
    assert same_color(ax.texts[0].get_color(), "white")
    assert same_color(ax.texts[3].get_color(), "black")


def test_confusion_matrix_of_ten_classes_fits_its_cells() -> None:
    counts = np.full((10, 10), 999)
    np.fill_diagonal(counts, 1135)
    drawn = plots.confusion_matrix(pd.DataFrame(counts))
    drawn.figure.canvas.draw()
    cell = drawn.get_window_extent().width / 10
    assert max(text.get_window_extent().width for text in drawn.texts) < cell


def test_confusion_matrix_of_many_classes_has_a_colour_bar() -> None:
    drawn = plots.confusion_matrix(pd.DataFrame(np.eye(21, dtype=int)))
    assert words(drawn) == []
    assert len(drawn.figure.axes) == 2


def test_confusion_matrix_refuses() -> None:
    with pytest.raises(ValueError, match=r"square table of counts, got \(2, 3\)"):
        plots.confusion_matrix(COUNTS[:2])
    with pytest.raises(ValueError, match="square"):
        plots.confusion_matrix(pd.DataFrame())
    with pytest.raises(ValueError, match="counts of 0 or more"):
        plots.confusion_matrix(COUNTS - 1)


def test_reliability_leaves_empty_bins_out(ax: Axes) -> None:
    plots.reliability(RESULT, ax=ax)
    line = next(line for line in ax.lines if line.get_label() == "accuracy")
    assert len(np.asarray(line.get_xdata())) == 4
    assert np.isfinite(np.asarray(line.get_ydata(), dtype=float)).all()
    heights = [bar.get_height() for bar in ax.patches if isinstance(bar, Rectangle)]
    assert sum(heights) == pytest.approx(1)
    assert f"{RESULT.calibration_error:.3f}" in ax.get_title()


RACE = pd.DataFrame(
    {
        "side": ["a"] * 4 + ["b"] * 4,
        "seed": [0, 0, 1, 1] * 2,
        "images": [10, 20] * 4,
        "seconds": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 5.0, 6.0],
    }
)


def test_lines_draw_the_mean_and_its_range(ax: Axes) -> None:
    plots.lines(RACE, x="images", y="seconds", by="side", ax=ax)
    drawn = [line for line in ax.lines if len(np.asarray(line.get_xdata())) == 2]
    np.testing.assert_allclose(np.asarray(drawn[0].get_ydata(), dtype=float), [2, 3])
    bars = ax.collections[0].get_paths()
    np.testing.assert_allclose(bars[0].vertices[:, 1], [1, 3])


def test_lines_draw_each_run_by_itself(ax: Axes) -> None:
    plots.lines(RACE, x="images", y="seconds", by="side", run="seed", ax=ax)
    drawn = [line for line in ax.lines if len(np.asarray(line.get_xdata())) == 2]
    assert len(drawn) == 4
    np.testing.assert_allclose(np.asarray(drawn[1].get_ydata(), dtype=float), [3, 4])


def test_a_path_keeps_the_order_of_the_table(ax: Axes) -> None:
    table = pd.DataFrame({"seconds": [3.0, 1.0, 2.0, 2.0], "wrong": [0.4, 0.3, 0.2, 0.1], "side": "a"})
    plots.lines(table, x="seconds", y="wrong", by="side", path=True, ax=ax)
    np.testing.assert_allclose(np.asarray(ax.lines[0].get_xdata(), dtype=float), table.seconds)


def test_lines_keep_the_order_of_texts_and_tell_groups_apart_in_grey(ax: Axes) -> None:
    table = pd.DataFrame(
        {"cut": ["b2", "b1", "b2", "b1"], "value": [1, 2, 3, 4], "kind": ["x", "x", "y", "y"]}
    )
    plots.lines(table, x="cut", y="value", by="kind", colors={"x": plots.OURS, "y": plots.ARTICLE}, ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["b2", "b1"]
    first, second = (line for line in ax.lines if line.get_marker() != "None" and len(line.get_xdata()))
    assert same_color(first.get_color(), plots.OURS)
    assert first.get_marker() != second.get_marker()


def test_what_chapters_compare_looks_the_same_in_each() -> None:
    looks = []
    for order in (["frozen", "fine-tuned", "mine"], ["mine", "raw pixels", "fine-tuned", "frozen"]):
        table = pd.DataFrame({"x": [1, 2] * len(order), "y": 0.5, "way": np.repeat(order, 2)})
        drawn = plots.lines(table, x="x", y="y", by="way", ax=Figure().subplots()).get_legend()
        assert drawn is not None
        looks.append(
            {
                text.get_text(): (line.get_color(), line.get_marker(), line.get_linestyle())
                for text, line in zip(drawn.get_texts(), drawn.get_lines(), strict=True)
            }
        )
    first, second = looks
    assert first["frozen"] == second["frozen"]
    assert first["fine-tuned"] == second["fine-tuned"]
    assert len({look[0] for look in second.values()}) == len({look[1] for look in second.values()}) == 4


def test_two_names_of_one_kind_are_told_apart() -> None:
    table = pd.DataFrame(
        {"x": [1, 2] * 2, "y": 0.5, "way": np.repeat(["from scratch", "network from scratch"], 2)}
    )
    drawn = plots.lines(table, x="x", y="y", by="way", ax=Figure().subplots())
    markers = {line.get_marker() for line in drawn.lines} - {"None"}
    assert len(markers) == 2


def test_lines_refuse() -> None:
    seven = pd.DataFrame({"x": 1, "y": 2, "way": list("abcdefg")})
    with pytest.raises(ValueError, match="at most 6 groups, got 7"):
        plots.lines(seven, x="x", y="y", by="way")
    with pytest.raises(ValueError, match="columns images, second, side"):
        plots.lines(RACE, x="images", y="second", by="side")
    with pytest.raises(ValueError, match=r"got none for \['b'\]"):
        plots.lines(RACE, x="images", y="seconds", by="side", colors={"a": "black"})


def test_a_line_of_equal_values_has_no_bar_and_no_error():
    # The mean of three times 0.8311 is a rounding error less than 0.8311.
    table = pd.DataFrame({"x": [1, 1, 1, 2, 2, 2], "y": [0.8311] * 3 + [0.1, 0.2, 0.3], "side": "a"})
    ax = plots.lines(table, x="x", y="y", by="side", ax=Figure().subplots())
    bars = [segment for lines in ax.collections for segment in lines.get_segments()]
    assert np.ptp(bars[0][:, 1]) == pytest.approx(0, abs=1e-12)
    assert bars[1][:, 1].tolist() == pytest.approx([0.1, 0.3])


def test_embedding_writes_each_class_at_its_point(ax: Axes) -> None:
    points = np.array([[0.0, 0.0], [-30.0, 4.0], [50.0, 2.0]])
    plots.embedding(points, np.array([1, 0, 1]), ["0", "1"], ax=ax)
    written = {text.get_position(): text for text in ax.texts}
    assert {place: text.get_text() for place, text in written.items()} == {
        (0.0, 0.0): "1",
        (-30.0, 4.0): "0",
        (50.0, 2.0): "1",
    }
    left, right = ax.get_xlim()
    assert left < -30 < 50 < right  # all of it is in sight
    assert written[0.0, 0.0].get_color() == written[50.0, 2.0].get_color()
    assert written[0.0, 0.0].get_color() != written[-30.0, 4.0].get_color()


def test_embedding_of_ten_classes_can_be_read_on_white() -> None:
    ax = plots.embedding(np.arange(20).reshape(10, 2), range(10), list("0123456789"))
    colours = [to_rgba(text.get_color()) for text in ax.texts]
    assert len(set(colours)) == 10
    # Contrast with white, as WCAG defines it, for large marks.
    assert all(1.05 / (sns.utils.relative_luminance(colour) + 0.05) >= 3 for colour in colours)


def test_embedding_of_many_classes_has_one_colour(ax: Axes) -> None:
    plots.embedding(np.zeros((12, 2)), range(12), list("abcdefghijkl"), ax=ax)
    assert len({text.get_color() for text in ax.texts}) == 1


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (np.zeros((2, 3)), [0, 1], r"shape \(n, 2\).*got \(2, 3\)"),
        (np.zeros((0, 2)), [], "n of 1 or more"),
        ([[0.0, np.nan]], [0], "finite"),
        (np.zeros((2, 2)), [0], "label for each of 2 points"),
        (np.zeros((2, 2)), [0, 2], "from 0 to 1.*from 0 to 2"),
        (np.zeros((2, 2)), [-1, 0], "from -1 to 0"),
        (np.zeros((2, 2)), [0.0, 1.0], "whole numbers"),
    ],
)
def test_embedding_refuses(points: Any, labels: Any, message: str, ax: Axes) -> None:
    with pytest.raises(ValueError, match=message):
        plots.embedding(points, labels, ["a", "b"], ax=ax)


def test_heat_maps_light_what_is_high_and_draw_its_border() -> None:
    picture = np.full((1, 8, 8), 0.5)
    heat = np.zeros((1, 8, 8))
    heat[0, :, 4:] = 1.0
    ax = plots.heat_maps(picture, heat, captions=["a"], wrong=[True], ax=Figure().subplots())
    shown = np.asarray(ax.images[0].get_array())
    assert shown.shape == (8, 8, 3)
    # dark, a black line, a white line, the picture as it is
    assert shown[3, :, 0].tolist() == pytest.approx([0.2, 0.2, 0.2, 0.0, 1.0, 0.5, 0.5, 0.5])
    assert [text.get_text() for text in ax.texts] == ["✗ a"]


def test_heat_maps_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"Expected maps of shape \(1, 8, 8\)"):
        plots.heat_maps(np.zeros((1, 8, 8)), np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match=r"from 0 to 1, got \(1, 8, 8\) from 2.0 to 2.0"):
        plots.heat_maps(np.zeros((1, 8, 8)), np.full((1, 8, 8), 2.0))
