"""Telling people apart: who is asked for, who chooses, and that nobody who is tested is learned from."""

import functools

import numpy as np
import pytest

from tlhelpers import page
from tlhelpers.studies import faces, intervals

FULL = page.Edition("full", "mnist", "mobilenet_v2_imagenet", "a test")
POCKET = page.Edition("pocket", "digits", "mobilenet_v2_glyphs", "a test")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing is remembered from another test."""
    for name in ("load", "_views", "features"):
        fresh = functools.lru_cache(getattr(faces, name).__wrapped__)
        monkeypatch.setattr(faces, name, fresh)


def some(spread=0.0):
    """Four people, ten photos each, along four axes."""
    rng = np.random.default_rng(0)
    return np.eye(4)[:, None] + rng.normal(0, spread, (4, 10, 4))


def test_the_nearest_labelled_photo_names():
    assert faces.named(some(), 1, seed=0).all()
    assert faces.named(some(), 1, seed=0).shape == (4, 5)
    confused = some()
    confused[1] = confused[0]  # two people who look alike: the first one's name is taken
    right = faces.named(confused, 2, seed=0)
    assert right.mean(axis=1).tolist() == [1, 0, 1, 1]
    noisy = some(0.5)
    one, five = (np.mean([faces.named(noisy, n, seed=s) for s in range(5)]) for n in (1, 5))
    assert 0.25 < one < five
    assert not np.array_equal(faces.named(noisy, 1, seed=0), faces.named(noisy, 1, seed=1))


def test_no_photo_is_both_labelled_and_asked_for():
    each_its_own = np.eye(40).reshape(4, 10, 40)  # any photo is like itself alone
    assert faces.named(each_its_own, 5, seed=0).mean() < 0.6


def test_same_person_is_an_area_for_each_person():
    assert faces.same_person(some()).tolist() == [1, 1, 1, 1]
    twins = some()
    twins[1] = twins[0]
    # Of thirty strangers' photos ten are alike: half of those pairs count as lost.
    assert faces.same_person(twins) == pytest.approx([5 / 6, 5 / 6, 1, 1])
    alike, same = faces.pairs(some())
    assert alike.shape == same.shape == (4, 10, 40)
    assert same.sum() == 4 * 10 * 10


@pytest.mark.parametrize("method", ["eigenfaces", "Fisherfaces"])
def test_those_who_are_tested_are_not_learned_from(monkeypatch, method):
    before = faces.features(method, POCKET, 0)
    photos = faces.load(POCKET).copy()
    tested, others = faces.folds(POCKET)[0]
    assert not set(tested) & set(others)
    photos[tested[0]] = 255 - photos[tested[0]]
    monkeypatch.setattr(faces, "load", lambda _edition: photos)
    faces.features.cache_clear()
    after = faces.features(method, POCKET, 0)
    assert after[0] == before[0]
    changed = [not np.allclose(new, old) for new, old in zip(after[1], before[1], strict=True)]
    assert np.flatnonzero(changed).tolist() == [tested[0]]


def test_others_choose_where_the_network_is_read(monkeypatch):
    good, bad = np.tile(np.eye(10)[:, None], (1, 10, 1)), np.ones((10, 10, 3))
    monkeypatch.setattr(faces, "_views", lambda *_: {"bad": bad, "good": good, "good too": good})
    choice, numbers = faces.features("ImageNet", POCKET, 1)
    assert choice == "good"
    assert numbers is good


def test_a_row_and_what_the_page_reads_of_it(monkeypatch):
    monkeypatch.setattr(faces, "EACH", (1, 5))
    rows = faces._row(POCKET, "ImageNet, last layer").assign(method="ImageNet, last layer")
    assert list(rows.labels) == [1, 5] * 5
    first = rows.iloc[0]
    assert intervals.right_answers(first.right).mean() == pytest.approx(first.test_accuracy)
    people = faces.by_person(rows, "ImageNet, last layer", 5)
    assert people.shape == (5, 10)
    assert people.mean() == pytest.approx(rows[rows.labels == 5].test_accuracy.mean())
    low, high = intervals.interval(people)
    assert low < people.mean() < high


def test_the_grid_has_the_full_edition_alone():
    assert [key for (key,) in faces.STUDY.grid(FULL)] == list(faces.METHODS)
    assert not list(faces.STUDY.grid(POCKET))


def test_the_official_photos(full_data):
    photos = faces.load(FULL)
    assert photos.shape == (40, 10, 112, 92)
    assert [len(people) for people in faces.folds(FULL)[0]] == [20, 20]
