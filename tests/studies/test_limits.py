"""The part on limits: its draws, its stand-in target, and rows of its table."""

import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import page, studies
from tlhelpers.studies import limits

POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


def test_a_smaller_draw_is_part_of_a_larger_one():
    labels = np.repeat([0, 1, 2], [30, 9, 20])
    small, large = (limits.interleaved(labels, n, seed=1) for n in (7, 24))
    assert list(labels[small]) == [0, 1, 2, 0, 1, 2]
    np.testing.assert_array_equal(large[:6], small)
    assert len(limits.interleaved(labels, 1000, seed=1)) == 3 * 9  # the smallest class has nine
    assert (limits.interleaved(labels, 24, seed=2) != large).any()


def test_patches_are_balanced_enough_and_share_no_pixel():
    data = limits.patches()
    parts = (data.train, data.validation, data.test)
    for part in parts:
        assert part.images.shape[1:] == (32, 32, 3)
        assert np.bincount(part.labels).min() > 100
    pixels = [{square.tobytes() for square in part.images.reshape(-1, 32, 3)} for part in parts]
    assert all(len(one & other) < 0.01 * len(one) for one, other in ((pixels[0], pixels[1]), pixels[1:]))


def there(study, setting, seed, where):
    rows = "edition == 'pocket' and study == @study and setting == @setting and seed == @seed"
    return page.measured("limits").query(rows).query(where).reset_index(drop=True)


@pytest.mark.parametrize("target", limits.TARGETS["pocket"])
def test_a_search_gives_the_tables_rows(target, monkeypatch):
    """Two depths and the smaller draw, which is part of the larger one."""
    monkeypatch.setattr(limits, "DEPTHS", ("block_9_add", "out_relu"))
    monkeypatch.setattr(limits, "LABELS", (100,))
    rows = limits.STUDY.row(POCKET, "search", target, 1)
    table = there("search", target, 1, "labels == 100 and depth in ('block_9_add', 'out_relu', '-')")
    assert ["edition", "study", "setting", "seed", *rows, *page.stamp()] == list(table)
    assert list(rows.way) == list(table.way) == ["pretrained"] * 2 + ["random"] * 2 + ["raw pixels"]
    assert list(rows.depth) == list(table.depth)
    compared = ["val_accuracy", "test_accuracy"]
    np.testing.assert_allclose(rows[compared], table[compared], atol=0.011)


def test_a_race_begins_as_the_table_says(monkeypatch):
    monkeypatch.setattr(limits, "EPOCHS", 2)
    monkeypatch.setenv("TLHELPERS_EDITION", "pocket")
    rows = limits.STUDY.row(POCKET, "race", "frozen", 0)
    table = there("race", "frozen", 0, "epoch <= 2")
    assert list(rows) == list(table)[4:-3]
    compared = ["val_accuracy", "val_loss", "loss"]
    np.testing.assert_allclose(rows[compared], table[compared], rtol=0.05)
    assert 0 < rows.seconds[0] < rows.seconds[1]


@pytest.mark.parametrize(
    ("way", "first", "norms_train"),
    [("frozen", None, False), ("fine-tuned", "block_3_expand", True), ("from scratch", "Conv1", True)],
)
def test_the_ways_train_what_they_say(way, first, norms_train):
    model = limits.classifier(POCKET, way, 0)
    trains = [layer for layer in model.get_layer("backbone").layers if layer.trainable and layer.weights]
    assert (trains[0].name if trains else None) == first
    assert any("BN" in layer.name for layer in trains) == norms_train
    pretrained = studies.recipes.our_model(POCKET).get_layer("backbone").get_weights()
    same = np.array_equal(model.get_layer("backbone").get_weights()[0], pretrained[0])
    assert same == (way != "from scratch")


def test_letters_are_drawn_in_every_font_with_copies():
    images, labels = limits.letters(limits.FONTS[1][:1])
    assert images.shape == (26 * 4, 32, 32)
    assert (images.max(axis=(1, 2)) > 100).all()
    assert tl.datasets.overlap(images[:26], images[26:]) == 0
    np.testing.assert_array_equal(labels, np.tile(np.arange(26), 4))
