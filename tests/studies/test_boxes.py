"""Boxes come back from their grid, and the measure is COCO's."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tlhelpers.studies import boxes, intervals

NOTHING = np.zeros((0, 5))


def answers(*rows):
    return np.array([[0, score, x, 0, x + 0.2, 0.2] for score, x in rows]).reshape(-1, 6)


def truths(*lefts):
    return np.array([[0, x, 0, x + 0.2, 0.2] for x in lefts]).reshape(-1, 5)


def some(seed, photos=12):
    """Boxes of three classes, and answers that miss some and find some twice."""
    rng, there, found = np.random.default_rng(seed), [], []
    for _ in range(photos):
        corners = rng.uniform(0, 0.7, (rng.integers(0, 9), 2))
        sizes = rng.uniform(0.05, 0.3, corners.shape)
        rows = np.column_stack([rng.integers(0, 3, len(corners)), corners, corners + sizes])
        there.append(rows)
        seen = rows[rng.integers(0, max(1, len(rows)), len(rows))]
        moved = seen[:, 1:] + rng.normal(0, 0.02, (len(seen), 4))
        found.append(np.column_stack([seen[:, 0], rng.random(len(seen)), moved]))
    return found, there


def test_what_the_grid_was_told_is_what_is_read_off():
    rng = np.random.default_rng(0)
    apart = np.array([[0, 0], [0.3, 0], [0, 0.5], [0.3, 0.5]])
    corners = apart + rng.uniform(0, 0.1, (6, 4, 2))
    there = [np.column_stack([[0, 1, 2, 0], low, low + rng.uniform(0.1, 0.2, (4, 2))]) for low in corners]
    said, weights = boxes.targets([*there, NOTHING], 20)
    assert said["what"].shape == (7, 20, 20)
    assert said["what"][-1].max() == 0
    # Each class counts alike, and nothing has no place.
    counted = [weights["where"][said["what"] == kind].sum() for kind in range(4)]
    assert counted == pytest.approx([0, *[said["what"].size / 3] * 3], rel=1e-5)
    found = boxes.read_off({"what": np.eye(4)[said["what"]], "where": said["where"]})
    assert len(found[-1]) == 0
    for rows, answer in zip(there, found, strict=False):
        order = np.lexsort(rows.T), np.lexsort(answer[:, [0, 2, 3, 4, 5]].T)
        assert answer[order[1]][:, [0, 2, 3, 4, 5]] == pytest.approx(rows[order[0]], abs=1e-6)


def test_the_smaller_of_two_boxes_has_the_middle_and_a_tiny_one_has_a_place():
    rows = np.array([[2, 0.49, 0.49, 0.5, 0.5], [0, 0, 0, 1, 1], [1, 0.45, 0.4, 0.55, 0.6]])
    what = boxes.targets([rows], 8)[0]["what"][0]
    assert set(what.ravel()) == {0, 1, 2, 3}
    assert np.argwhere(what == 3).tolist() == [[3, 3]]


def test_of_boxes_that_cover_each_other_the_surest_stays():
    what, where = np.zeros((1, 4, 4, 2)), np.zeros((1, 4, 4, 4))
    what[0, 1, 1:3, 1] = [0.9, 0.8]
    where[0, 1, 2, 0] = 4 * 6 * -0.25  # says that its box lies where the other one's does
    what[0, 3, 3, 1] = boxes.LEAST
    (found,) = boxes.read_off({"what": what, "where": where})
    assert found[:, 1].tolist() == [0.9]
    assert found[0, 2:] == pytest.approx(0.375 + np.array([-1, -1, 1, 1]) / 12)


@pytest.mark.parametrize(
    ("found", "there", "marks", "value"),
    [
        (answers((0.9, 0), (0.8, 0.5)), truths(0, 0.5), [1, 1], 1),
        (answers((0.5, 0), (0.9, 0)), truths(0), [0, 1], 1),  # found twice: the surer one counts
        (answers((0.9, 0.6), (0.8, 0)), truths(0), [0, 1], 0.5),  # a wrong one first
        (answers((0.9, 0)), truths(0, 0.5), [1], 51 / 101),  # recalls 0 to 0.5 of 101
        (answers((0.9, 0.06)), truths(0), [1], 1),  # IoU 0.54
        (answers((0.9, 0.07)), truths(0), [0], 0),  # IoU 0.48
        (answers((0.9, 0.09)), truths(0, 0.12), [1], 51 / 101),  # takes the one that it covers best
        (answers(), truths(0), [], 0),
    ],
)
def test_average_precision_of_cases_known_by_hand(found, there, marks, value):
    assert boxes.right([found], [there])[0].tolist() == marks
    first, *rest = boxes.average_precision([found], [there])
    assert first == pytest.approx(value)
    assert np.isnan(rest).all()  # classes without a box


@pytest.mark.parametrize(
    ("iou", "coco"),
    [(0.5, [0.277227723, 0.582013201, 0.397374737]), (0.75, [0.188118812, 0.066831683, 0.219959496])],
)
def test_average_precision_is_that_of_pycocotools(iou, coco):
    """Its COCOeval 2.0.11 gave these, with no limit on the number of answers."""
    assert boxes.average_precision(*some(1), iou=iou) == pytest.approx(coco, abs=1e-9)


def test_what_photos_add_gives_the_whole_and_a_width_like_the_bootstrap_s():
    found, there = some(2, photos=60)
    values = boxes.by_photo(found, there)
    whole = np.mean(boxes.average_precision(found, there))
    assert values.mean() == pytest.approx(whole)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 60, 60) for _ in range(100)]
    again = [np.mean(boxes.average_precision([found[i] for i in d], [there[i] for i in d])) for d in drawn]
    assert values.std(ddof=1) / 60**0.5 == pytest.approx(np.std(again), rel=0.4)
    low, high = intervals.interval(np.stack([values, values]))
    assert low < whole < high


FLAT = np.array([[0, 0.1, 0.1, 0.1, 0.4]])


@pytest.mark.parametrize(
    ("found", "there", "message"),
    [
        ([answers()], [truths(), truths()], "found: expected finite .* each of 2 photos, got 1 arrays"),
        ([], [], "found: expected .* each of 1 photos, got 0 arrays"),
        ([truths(0)], [truths(0)], r"found: expected .*\(k, 6\).*, got \(1, 5\)"),
        ([answers((np.nan, 0))], [truths(0)], "found: expected finite numbers"),
        ([answers()], [np.zeros(5)], r"boxes: expected .*\(k, 5\).*, got \(5,\)"),
        ([answers()], [FLAT], "boxes: expected left < right and top < bottom"),
    ],
)
def test_what_is_no_answer_or_no_box_is_refused(found, there, message):
    with pytest.raises(ValueError, match=message):
        boxes.average_precision(found, there)


def test_boxes_without_area_are_not_learned():
    with pytest.raises(ValueError, match="boxes: expected left < right and top < bottom"):
        boxes.targets([FLAT], 8)


def test_boxes_lie_where_they_are_drawn_and_wrong_ones_are_dashed():
    photos, rows = np.zeros((2, 30, 40, 3), np.uint8), np.array([[0, 0.5, 0, 1, 0.5], [2, 0, 0, 0.25, 1]])
    boxes.show(photos, [rows, NOTHING], ("a", "b", "c"), wrong=[np.array([False, True]), np.zeros(0, bool)])
    first, second = plt.gcf().axes
    drawn = [(patch.get_bbox().bounds, patch.get_linestyle()) for patch in first.patches]
    assert drawn == [((20, 0, 20, 15), "-"), ((0, 0, 10, 30), "--")]
    assert len(second.patches) == 0
    assert [text.get_text() for text in plt.gcf().legends[0].texts] == ["a", "b", "c"]
