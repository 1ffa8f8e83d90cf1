"""Splits are disjoint and complete; bad arrays get one clear error."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tlhelpers import datasets, downloads
from tlhelpers.datasets import check_images, load_dataset, overlap

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Stand in for MNIST: as many images, of 2 by 2 pixels that spell out their own index."""

    def numbered(start, stop):
        return np.arange(start, stop, dtype="<u4").view(np.uint8).reshape(-1, 2, 2)

    path = tmp_path / "mnist.npz"
    np.savez(
        path,
        x_train=numbered(0, 60_000),
        y_train=(np.arange(60_000) % 10).astype(np.uint8),
        x_test=numbered(60_000, 70_000),
        y_test=(np.arange(10_000) % 7).astype(np.uint8),
    )
    monkeypatch.setattr(downloads, "fetch", {"mnist.npz": path}.__getitem__)


def test_digits_are_those_of_scikit_learn(digits):
    images, labels = load_digits(return_X_y=True)
    for name, size in zip(SPLITS, (1000, 297, 500), strict=True):
        split = getattr(digits, name)
        assert len(split) == size
        assert split.images.shape == (size, 8, 8)
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
        raw = images[split.indices].reshape(-1, 8, 8)
        assert np.abs(split.images * (16 / 255) - raw).max() < 0.05
        assert np.array_equal(split.labels, labels[split.indices])
        shares = np.bincount(split.labels, minlength=10) / size
        assert np.abs(shares - 0.1).max() < 0.01
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)


def test_digits_splits_are_disjoint_and_complete(digits):
    indices = np.concatenate([getattr(digits, name).indices for name in SPLITS])
    assert np.array_equal(np.sort(indices), np.arange(1797))


def test_digits_are_split_the_same_way_each_time(digits):
    again = load_dataset("digits")
    assert np.array_equal(again.test.indices, digits.test.indices)
    assert digits.test.indices[:5].tolist() == [87, 1037, 28, 1118, 904]


@pytest.mark.usefixtures("small_mnist")
def test_mnist_is_split_in_order():
    mnist = load_dataset("mnist")
    for name, start, stop in zip(SPLITS, (0, 48_000, 60_000), (48_000, 60_000, 70_000), strict=True):
        split = getattr(mnist, name)
        shown = np.ascontiguousarray(split.images).reshape(len(split), 4).view("<u4")[:, 0]
        assert np.array_equal(shown, np.arange(start, stop))
        assert np.array_equal(split.indices, shown)
    assert np.array_equal(mnist.validation.labels, np.arange(48_000, 60_000) % 10)
    assert np.array_equal(mnist.test.labels, np.arange(10_000) % 7)
    assert mnist.class_names == tuple("0123456789")


@pytest.mark.usefixtures("full_data")
def test_the_real_mnist():
    mnist = load_dataset("mnist")
    assert mnist.train.images.shape == (48_000, 28, 28)
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert [overlap(mnist.train, mnist.test), overlap(mnist.validation, mnist.test)] == [0, 0]


@pytest.mark.usefixtures("small_mnist")
@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_a_limit_keeps_the_first_of_each_split(name):
    whole, part = load_dataset(name), load_dataset(name, limit=7)
    for split in SPLITS:
        assert np.array_equal(getattr(part, split).images, getattr(whole, split).images[:7])
        assert np.array_equal(getattr(part, split).indices, getattr(whole, split).indices[:7])
    assert len(load_dataset(name, limit=20_000).test) == len(whole.test)


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_limit_that_is_none(limit, error):
    with pytest.raises(error, match="limit: expected"):
        load_dataset("digits", limit=limit)


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(LookupError, match=r"unknown data set 'minst': .*did you mean 'mnist'"):
        load_dataset("minst")


def test_splits_can_not_be_written_to(digits):
    for array in (digits.train.images, digits.train.labels, digits.train.indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_split_leaves_its_makers_arrays_alone():
    images, labels = np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64)
    datasets.Split(images, labels, np.arange(2))
    images[0] = 1


def test_a_split_checks_what_it_is_made_of():
    images, labels, indices = np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64), np.arange(2)
    with pytest.raises(ValueError, match="expected at least one image"):
        datasets.Split(images[:0], labels[:0], indices[:0])
    with pytest.raises(ValueError, match="labels: expected one for each"):
        datasets.Split(images, labels[:1], indices)
    with pytest.raises(ValueError, match=r"indices: expected shape \(2,\), got \(1,\)"):
        datasets.Split(images, labels, indices[:1])


def test_the_card_says_what_a_page_needs(digits):
    for words in ("8 by 8", "1,000 train, 297 validation, 500 test", "CC BY 4.0", "Alpaydin", "small set"):
        assert words in digits.card


IMAGES = np.full((4, 8, 8), 200, np.uint8)
LABELS = np.array([0, 1, 2, 2])


def test_good_images_pass():
    check_images(IMAGES, LABELS, n_classes=3)
    check_images(IMAGES[..., None], LABELS.astype(np.uint8), ndim=(3, 4))
    check_images(IMAGES / 255.0, dtype="float", value_range=(0, 1))


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (IMAGES[0], {}, r"expected shape \(n, height, width\), got \(8, 8\); for a single image"),
        (IMAGES[..., None], {}, r"expected shape \(n, height, width\), got \(4, 8, 8, 1\)"),
        (IMAGES.reshape(4, 64), {"ndim": (3, 4)}, r"\(n, height, width\) or \(n, height, width, channels\)"),
        (
            np.zeros((4, 3, 8, 8), np.uint8),
            {"ndim": (4,)},
            "expected 1 or 3 channels on the last axis, got 8",
        ),
        (IMAGES[:0], {}, "expected at least one image, got none"),
        (IMAGES / 255, {}, "expected uint8 values from 0 to 255, got float64; pass the raw"),
        (IMAGES.astype(int), {}, "expected uint8 .* got int64"),
        (IMAGES, {"dtype": "float"}, "expected floating-point values from 0 to 255, got uint8"),
        (IMAGES, {"value_range": (0, 16)}, "expected values from 0 to 16, got 200 to 200"),
        (
            IMAGES / 1.0,
            {"dtype": "float", "value_range": (0, 1)},
            "expected values from 0 to 1, got 200 to 200",
        ),
        (np.full((1, 2, 2), np.nan), {"dtype": "float"}, "expected finite values, got NaN"),
        (np.array([[[0, np.inf]]]), {"dtype": "float"}, "expected finite values"),
        (IMAGES, {"labels": LABELS[:3]}, "labels: expected one for each of the 4 images, got 3"),
        (IMAGES, {"labels": LABELS, "n_classes": 2}, "labels: expected 0 to 1, got 0 to 2"),
        (IMAGES, {"labels": LABELS - 1}, "labels: expected 0 or more, got -1 to 1"),
        (IMAGES, {"labels": np.eye(4)}, r"labels: expected shape \(n,\), got \(4, 4\); for one-hot rows"),
        (IMAGES, {"labels": LABELS / 2}, "labels: expected integers, got float64"),
    ],
)
def test_bad_images_get_one_clear_error(images, options, message):
    with pytest.raises(ValueError, match=message):
        check_images(images, **options)


def test_a_kind_of_values_that_does_not_exist():
    with pytest.raises(LookupError, match="unknown kind of values 'floats'"):
        check_images(IMAGES, dtype="floats")


def test_overlap_counts_pictures_and_indices():
    images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    assert overlap(images[:3], images[3:]) == 0
    assert overlap(images[:3], images[2:]) == 1
    assert overlap(images[[0, 0, 1]], images[[1, 0, 0]]) == 2
    first = datasets.Split(images[:3], np.zeros(3, int), np.arange(3))
    second = datasets.Split(images[1:4], np.zeros(3, int), np.arange(3) + 10)
    assert overlap(first, second) == 2
    assert overlap(first.indices, second.indices) == 0
    assert overlap([1, 2, 2, 3], [2, 3, 4]) == 2


def test_overlap_of_things_that_can_not_be_compared():
    images = np.zeros((2, 3, 3), np.uint8)
    for other in (np.arange(2), images[:, :2], images.astype(float)):
        with pytest.raises(ValueError, match="expected two of a kind"):
            overlap(images, other)
