"""Blood cells: boxes without area are counted, validation chooses, a seed draws photos and head."""

import functools
import io

import numpy as np
import pytest
from PIL import Image

from tlhelpers import _formats, downloads, page
from tlhelpers.studies import cells

FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    monkeypatch.setattr(cells, "STEPS", {5: 4, 20: 4})
    for kept in (cells._learn, cells._network):
        kept.cache_clear()


def test_the_table_is_the_grid_and_what_is_measured_again_is_cheap():
    table = page.measured("cells")
    rows = table[list(cells.STUDY.keys)].itertuples(index=False, name=None)
    assert {*rows} == {*cells.STUDY.grid(FULL)}
    assert {*cells.STUDY.grid(POCKET)} == set()
    assert {*table.query(cells.STUDY.where).method} == {"frozen"}
    shares = table.by_photo.str.split().map(lambda each: np.array(each, float))
    assert {*shares.map(len)} == {72}
    assert shares.map(np.mean).to_numpy() == pytest.approx(table.value, abs=1e-4)
    assert table[["red_cell", "white_cell", "platelet"]].mean(axis=1).to_numpy() == pytest.approx(
        table.value, abs=1e-5
    )
    for method, rates in cells.RATES.items():  # none at the edge
        assert {*table[table.method == method].rate} == {sorted(rates)[1]}


def test_no_digit_of_the_stand_in_is_in_two_parts_and_boxes_hold_them():
    data = cells.load(POCKET)
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [24, 6, 6]
    digits = []
    for part in parts:
        for image, boxes in zip(part.images, part.boxes, strict=True):
            left = image.copy()
            for x, y, right, bottom in np.rint(boxes[:, 1:] * (96, 72, 96, 72)).astype(int):
                digits.append(image[y:bottom, x:right].tobytes())
                left[y:bottom, x:right] = 30
            assert (left == 30).all()
    assert len(set(digits)) == len(digits) == 36 * 6
    assert {*np.concatenate(data.test.boxes)[:, 0]} == {0, 1, 2}


@pytest.fixture
def file(monkeypatch):
    """Let a parser of the official file give something else."""

    def file(*size):
        Image.new("RGB", size, "red").save(jpeg := io.BytesIO(), "JPEG")
        boxes = np.array([[0, 64, 48, 128, 96], [1, 5, 5, 5, 9], [2, 0, 0, 640, 480], [2, 9, 9, 8, 10]])
        part = (jpeg.getvalue(),) * 2, (boxes, boxes[:1])
        parts = dict.fromkeys(("train", "val", "test"), part)
        monkeypatch.setattr(downloads, "fetch", lambda name: name)
        monkeypatch.setattr(downloads, "describe", lambda name: name)
        monkeypatch.setattr(_formats, "blood_cells", {"bccd_dataset.tar.gz": parts}.__getitem__)

    return file


def test_boxes_without_area_are_left_out_and_counted_on_the_card(file):
    file(640, 480)
    data = cells.load.__wrapped__(FULL)
    assert data.test.images.shape == (2, 240, 320, 3)
    assert data.test.images[0, 0, 0].tolist() == pytest.approx([254, 0, 0], abs=3)
    first, second = data.train.boxes
    assert first.tolist() == [[0, 0.1, 0.1, 0.2, 0.2], [2, 0, 0, 1, 1]]
    assert second.tolist() == [[0, 0.1, 0.1, 0.2, 0.2]]
    words = (
        "2 train, 2 validation, 2 test",
        "6 red cells",
        "3 platelets. 6 more have no area",
        "no box",
        "MIT",
    )
    assert [word for word in words if word not in data.card] == []


def test_a_photo_of_another_size_is_refused(file):
    file(641, 480)
    with pytest.raises(ValueError, match=r"photo: expected 640 by 480 pixels, got \(641, 480\)"):
        cells.load.__wrapped__(FULL)


def test_the_real_file_is_what_the_card_says(full_data):
    card = cells.load.__wrapped__(FULL).card
    for words in (
        "205 train, 87 validation, 72 test",
        "4,153 red cells, 372 white cells, 361 platelets. 2 more",
    ):
        assert words in card


def test_fewer_photos_are_a_part_of_more():
    train = cells.load(POCKET).train
    few, more, other = (cells.draw(train, n, seed=seed) for n, seed in ((5, 0), (20, 0), (5, 1)))
    assert np.array_equal(few.images, more.images[:5])
    assert np.array_equal(few.boxes[4], more.boxes[4])
    assert not np.array_equal(few.images, other.images)


def test_the_rate_is_the_better_one_on_validation_with_seed_0(monkeypatch):
    asked = []

    @functools.cache  # as the one in whose place it stands
    def learn(method, labels, seed, edition, rate):
        asked.append((labels, seed, rate))
        return {"value": -rate, "validation": -abs(rate - 0.02), "rate": rate}

    monkeypatch.setattr(cells, "_learn", learn)
    assert [cells.measure("colours", n, seed=2)["rate"] for n in cells.SIZES] == [0.02] * 3
    assert [n for n, seed, _ in asked if seed == 0] == [20] * 3
    assert cells.measure("colours", 5, seed=2)["choice"] == "0.006: -0.0140; 0.02: -0.0000; 0.06: -0.0400"
    assert [cells.measure(method, 160, seed=2)["rate"] for method in cells.ASIDE] == [0.02, 0.03, 0.02]
    # As in the table, without another search.
    asked.clear()
    row = {"method": "frozen", "labels": 5, "seed": 1, "rate": 0.5}
    assert cells.STUDY.again(POCKET, type("Row", (), row)) == (-0.5, None)
    assert asked == [(5, 1, 0.5)]


def test_a_row_comes_out_again():
    def learn():
        cells._learn.cache_clear()
        row = cells.measure("colours", 5, seed=0, edition=POCKET, rate=0.01)
        row.pop("cpu_seconds")
        return row

    first, again = learn(), learn()
    assert first == again
    assert len(first["by_photo"].split()) == 6
    assert list(first)[:3] == ["value", "validation", "rate"]


def test_grids_that_a_head_reads_and_what_trains():
    images = cells.load(POCKET).test.images[:2]
    shapes = {
        method: [each.shape[1:] for each in cells._features(method, POCKET, 0, images)]
        for method in ("frozen", "one cut", "colours")
    }
    assert [shape[:2] for shape in shapes["frozen"]] == [(12, 12), (6, 6)]
    assert shapes["one cut"] == shapes["frozen"][1:]
    assert shapes["colours"] == [(12, 12, 7 * 7 * 6)]
    head = cells.new_head(shapes["frozen"])
    assert {name: each.shape[1:] for name, each in head.output.items()} == {
        "what": (12, 12, 4),
        "where": (12, 12, 4),
    }
    whole = cells._from_scratch(POCKET, 0)
    assert whole.output["what"].shape[1:] == (6, 6, 4)
    assert len(whole.trainable_variables) > 100


def test_colours_are_those_of_the_squares_around():
    image = np.zeros((1, 72, 96, 3), np.uint8)
    image[0, 6:12, 8:16, 1] = 255  # the second square of the second row is green
    image[0, 0:3, 0:8, 0] = 255  # half of the first one is red
    seen = cells._colours(image, 12)[0].reshape(12, 12, 6, 7, 7)
    assert seen[1, 1, :, 3, 3].tolist() == [0, 1, 0, 0, 0, 0]
    assert seen[0, 0, :, 3, 3].tolist() == [0.5, 0, 0, 0.5, 0, 0]
    assert np.argwhere(seen[4, 4, 1]).tolist() == [[0, 0]]
