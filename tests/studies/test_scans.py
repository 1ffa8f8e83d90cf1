"""Marking scans: pairs stay together, validation chooses, a seed draws scans, copies and weights."""

import keras
import numpy as np
import pytest

from tlhelpers import _formats, downloads, page
from tlhelpers.studies import scans

FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    monkeypatch.setattr(scans, "STEPS", 2)
    monkeypatch.setattr(scans, "LOOKS", dict.fromkeys(scans.METHODS, 2))
    for kept in (scans._learn, scans._extractor, scans._compiled):
        kept.cache_clear()


def test_the_table_is_the_grid_and_no_rate_is_at_the_edge():
    table = page.measured("scans")
    rows = table[list(scans.STUDY.keys)].itertuples(index=False, name=None)
    assert {*rows} == {*scans.STUDY.grid(FULL)}
    assert {*scans.STUDY.grid(POCKET)} == set()
    shares = table.by_scan.str.split().map(lambda each: np.array(each, float))
    assert {*shares.map(len)} == {100}
    assert shares.map(np.mean).to_numpy() == pytest.approx(table.value, abs=1e-4)
    for method, rates in scans.RATES.items():
        kept = {*table[table.method == method].rate}
        assert len(kept) == 1
        assert kept <= {*sorted(rates)[1:-1]}


def test_no_pair_is_in_two_parts_and_of_none_two_scans_are_tested():
    numbers = [n for n in range(1, 341) if n <= 180 or n % 2]  # ninety pairs, eighty alone
    parts = scans._parts(numbers)
    assert [len(part) for part in parts] == [100, 40, 100]
    people = [{(n + 1) // 2 for n in part} for part in parts]
    assert [len(each) for each in people] == [50, 20, 100]
    assert len(set.union(*people)) == 170


def test_the_middle_slice_stands_upright_in_the_middle():
    scan, mask = np.zeros((4, 3, 6), np.float32), np.zeros((4, 3, 6), np.uint8)
    scan[:, 1] = np.arange(6)
    scan[0, 1, 5], mask[0, 1, 5] = 9, 2
    image, marked = scans._slice(scan, mask)
    assert image.shape == marked.shape == (48, 48)
    assert np.argwhere(marked).tolist() == [[21, 22]]  # the top is up
    assert image[21, 22] == image.max() == 255
    assert image[26, 22] == 0
    assert not image[:21].any()


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        (np.ones((4, 3, 6), np.float32), "scan: expected voxels that differ, got 1.0"),
        (np.arange(50, dtype="f4").reshape(50, 1, 1), r"at most 48 by 48 pixels, got \(50, 1\)"),
    ],
)
def test_scans_of_other_forms_are_refused(scan, message):
    with pytest.raises(ValueError, match=message):
        scans._slice(scan, np.zeros(scan.shape, np.uint8))


def test_the_card_says_what_is_read(monkeypatch):
    numbers = [n for n in range(1, 341) if n <= 180 or n % 2]
    scan = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    found = dict.fromkeys(numbers, (scan, np.ones((2, 2, 2), np.uint8)))
    monkeypatch.setattr(downloads, "fetch", lambda name: name)
    monkeypatch.setattr(downloads, "describe", lambda name: "as it is")
    monkeypatch.setattr(_formats, "hippocampus_scans", {"Task04_Hippocampus.tar": found}.__getitem__)
    data = scans.load.__wrapped__(FULL)
    assert data.test.masks.sum() == 400
    words = "100 train, 40 validation, 100 test", "CC BY-SA 4.0; the slices", "no pair", "as it is"
    assert [each for each in words if each not in data.card] == []


def test_the_real_file(full_data):
    data = scans.load.__wrapped__(FULL)
    assert "100 train, 40 validation, 100 test" in data.card
    assert all(part.masks.any(axis=(1, 2)).all() for part in (data.train, data.validation, data.test))


def test_dice():
    one, two = np.zeros((3, 2, 2), bool), np.zeros((3, 2, 2), bool)
    one[0, 0], two[0, :, 0] = True, True
    two[1] = True
    assert scans.dice(one, two).tolist() == [0.5, 0, 1]
    for wrong in (one[:2], one * 0.5):
        with pytest.raises(ValueError, match="marked, truth: expected masks of one shape, bool, got"):
            scans.dice(wrong, two)


def test_copies_move_image_and_mask_alike():
    whole = scans.Scans(np.zeros((2, 32, 32), np.uint8), np.zeros((2, 32, 32), bool))
    whole.images[:, 10:20, 12:24], whole.masks[:, 10:20, 12:24] = 200, True
    copies = scans.moved(whole, 5, seed=0)
    assert copies.images.shape == copies.masks.shape == (5, 32, 32)
    for image, mask in zip(copies.images, copies.masks, strict=True):
        assert scans.dice((image > image.max() / 2)[None], mask[None]) > 0.95
    assert len({copy.tobytes() for copy in copies.masks}) == 5
    assert np.array_equal(scans.moved(whole, 5, seed=0).images, copies.images)
    assert not np.array_equal(scans.moved(whole, 5, seed=1).images, copies.images)


def test_fewer_scans_are_a_part_of_more():
    train = scans.load(POCKET).train
    few, more, other = (scans.draw(train, n, seed=seed) for n, seed in ((5, 0), (20, 0), (5, 1)))
    assert np.array_equal(few.images, more.images[:5])
    assert not np.array_equal(few.images, other.images)


def test_the_rate_is_the_best_on_validation_with_seed_0(monkeypatch):
    asked = []

    def learn(method, labels, seed, edition, rate):
        asked.append((method, labels, seed))
        return {"value": -rate, "validation": -abs(rate - 0.01), "rate": rate}

    monkeypatch.setattr(scans, "_learn", learn)
    assert scans.measure("features and pixels", 5, seed=2)["rate"] == 0.01
    assert asked == [("features and pixels", 20, 0)] * 3 + [("features and pixels", 5, 2)]
    assert scans.measure("features", 100, seed=1)["rate"] == 0.01
    asked.clear()
    scans.measure("fine-tuned", 5, seed=1)
    assert asked == [("fine-tuned", 100, 0)] * 3 + [("fine-tuned", 5, 1)]
    row = {"method": "pixels", "labels": 5, "seed": 1, "rate": 0.5}
    assert scans.STUDY.again(POCKET, type("Row", (), row)) == (-0.5, None)


def test_a_row_comes_out_again_also_after_another():
    def learn(seed):
        scans._learn.cache_clear()
        row = scans.measure("pixels", 5, seed=seed, edition=POCKET, rate=0.01)
        row.pop("cpu_seconds")
        return row

    first, other, again = learn(0), learn(1), learn(0)
    assert first == again
    assert first["by_scan"] != other["by_scan"]
    assert len(first["by_scan"].split()) == 12


def test_the_weights_of_the_best_look_stay(monkeypatch):
    data = scans.load(POCKET)
    model = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
    scores = iter([0.2, 0.5, 0.1])
    monkeypatch.setattr(scans, "dice", lambda *_: np.array([next(scores)]))
    kept, x = [], [data.train.images[..., None]]
    monkeypatch.setattr(scans, "marked", lambda model, _: kept.append(model.get_weights()))
    how = {"rate": 0.01, "looks": 3, "seed": 0}
    assert scans.train(model, x, data.train.masks, x, data.train.masks, **how) == [0.2, 0.5, 0.1]
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), kept[1], strict=True))


def test_what_each_way_reads_and_trains():
    images = scans.load(POCKET).test.images[:2]
    shapes = {m: [each.shape[1:] for each in scans._maps(m, POCKET, 0, images)] for m in scans.METHODS}
    assert shapes["U-Net from scratch"] == shapes["fine-tuned"] == [(32, 32, 1)]
    assert shapes["pixels"] == [(32, 32, 1), (32, 32, 5)]
    assert [each[:2] for each in shapes["features"]] == [(16, 16), (8, 8), (4, 4)]
    assert shapes["features and pixels"] == [*shapes["features"], *shapes["pixels"]]
    for method in ("U-Net from scratch", "features", "fine-tuned"):
        model = scans._new(method, POCKET, shapes[method], 0)
        assert model.output.shape[1:] == (32, 32, 1)
    names = {each.path for each in model.trainable_variables}
    assert any("block_3_depthwise" in name for name in names)
    assert not any("block_3" in name and "BN" in name for name in names)
